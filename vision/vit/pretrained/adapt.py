"""From what a source holds to what the user asked for: settings weighed, tables and kernels carried to other sizes."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig, Table
from isoform.core.errors import UserError
from isoform.core.pretrained import Loaded
from isoform.core.pretrained.settings import (
    TRAINING_KEYS,
    refuse_other,
    settings_of,
    table,
)
from isoform.vision.config import VisionApp
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.model import ViT, build_vit
from isoform.vision.vit.pretrained.foreign_model import ForeignModel
from isoform.vision.vit.resize import change_channels, resize_patch_kernel, resize_position_table
from isoform.vision.vit.tokeniser import VitTokeniser

SCHEMAS: Mapping[str, type[Table]] = MappingProxyType(
    {"tokeniser": VitTokeniserConfig, "backbone": BackboneConfig, "head": VitHeadConfig}
)
# Keys that may change without another function coming out in evaluation.
TRAINING = MappingProxyType(
    {
        "tokeniser": TRAINING_KEYS | {"patch_dropout", "position_resize"},
        "backbone": TRAINING_KEYS,
        "head": TRAINING_KEYS,
    }
)
# What a setting may change about a checkpoint besides: tables and kernels are carried over, a head starts fresh.
ADAPTABLE = MappingProxyType(
    {
        "tokeniser": frozenset({"image", "patch", "channels"}),
        "backbone": frozenset({"final_norm"}),
        "head": frozenset({"pool", "pool_prefix", "pool_heads", "pool_mlp", "norm", "outputs"}),
    }
)
Trio = tuple[VitTokeniserConfig, BackboneConfig, VitHeadConfig]


def merge_settings(model: ForeignModel, config: VisionApp | None) -> tuple[Trio, Trio]:
    """The tables of the checkpoint and those wanted. Raises UserError for a setting that contradicts the checkpoint."""
    source: dict[str, Any] = {}
    target: dict[str, Any] = {}
    for name, schema in SCHEMAS.items():
        known, asked = model.known.get(name, {}), settings_of(config, name)
        refuse_other(name, asked, known, "the checkpoint", TRAINING[name] | ADAPTABLE[name])
        own = {**model.assumed.get(name, {}), **asked, **known}
        if name == "backbone" and "heads" not in own:
            raise UserError(
                "the number of heads can't be told from this checkpoint: give it with --set backbone.heads=N"
            )
        source[name] = table(schema, own, name)
        target[name] = table(schema, {**own, **asked}, name)
    return _trio(source), _trio(target)


def _trio(tables: Mapping[str, Any]) -> Trio:
    return tables["tokeniser"], tables["backbone"], tables["head"]


def build(tables: Trio, device: str = "cpu") -> ViT:
    """A ViT, fresh from a fixed seed. Raises UserError for tables that contradict each other."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            return build_vit(*tables)
    except ValueError as error:
        raise UserError(str(error)) from None


def load(foreign: ForeignModel, source: Trio, target: Trio, where: str) -> Loaded:
    """The target model's weights, whole, with notes on whatever was changed, dropped or is fresh."""
    original = build(source, "meta")
    loaded = foreign.rules(source[1]).read(foreign.state, original.state_dict(), where=where)
    if source == target:
        return loaded
    model = build(target)
    weights, notes = dict(loaded.weights), list(loaded.notes)
    _carry(weights, original.tokeniser, model.tokeniser, notes)
    wanted = model.state_dict()
    dropped = [n for n in weights if n not in wanted or weights[n].shape != wanted[n].shape]
    stray = [n for n in dropped if not n.startswith(("head.", "backbone.norm."))]
    if stray:
        raise UserError(
            f"{where}: {', '.join(stray)} don't fit the settings; leave out those that change the trunk"
        )
    fresh = [n for n in wanted if n not in weights or n in dropped]
    if dropped:
        notes.append(f"left out, since the settings have no place for them: {', '.join(dropped)}")
    if fresh:
        notes.append(f"fresh, not from the checkpoint: {', '.join(fresh)}")
    kept = {n: wanted[n] if n in fresh else weights[n] for n in wanted}
    return Loaded(kept, loaded.ignored, tuple(notes))


def _carry(
    weights: dict[str, Tensor],
    old: VitTokeniser,
    new: VitTokeniser,
    notes: list[str],
) -> None:
    """Position table and patch kernel to another image, patch and number of channels."""
    kernel, channels = weights["tokeniser.patch.weight"], new.config.channels
    if channels != old.config.channels:
        kernel = change_channels(kernel, channels)
        how = "summed" if channels == 1 else "summed and spread evenly"
        notes.append(f"patch kernel: {old.config.channels} input channels {how} to {channels}")
    if new.patch_size != old.patch_size:
        kernel = resize_patch_kernel(kernel, new.patch_size)
        notes.append(f"patch kernel: {_by(old.patch_size)} resized to {_by(new.patch_size)} pixels")
    weights["tokeniser.patch.weight"] = kernel.contiguous()
    if new.grid != old.grid and "tokeniser.position" in weights:
        mode = new.config.position_resize
        prefix = old.prefix if old.config.position_prefix else 0
        weights["tokeniser.position"] = resize_position_table(
            weights["tokeniser.position"], old.grid, new.grid, prefix=prefix, mode=mode
        ).contiguous()
        notes.append(
            f"position table: {_by(old.grid)} resized to {_by(new.grid)} patches, in the way of {mode!r}"
        )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def preprocessing(
    foreign: ForeignModel,
    target: Trio,
    config: VisionApp | None,
) -> dict[str, Any]:
    """The data table's keys that describe how an image is prepared: the checkpoint's, unless set."""
    keep = {"mean", "std", "crop_pct", "interpolation", "resize"}
    fields = {key: value for key, value in foreign.preprocessing.items() if key in keep}
    channels = target[0].channels
    for key in ("mean", "std"):
        values: tuple[float, ...] = tuple(fields[key])
        fields[key] = values if len(values) == channels else (sum(values) / len(values),) * channels
    return {**fields, **{k: v for k, v in settings_of(config, "data").items() if k in keep}}


def classes_of(foreign: ForeignModel, target: Trio) -> list[str]:
    """Class names, as long as the head still has those outputs."""
    return list(foreign.classes) if len(foreign.classes) == target[2].outputs else []


__all__ = ["TRAINING", "Trio", "build", "classes_of", "load", "merge_settings", "preprocessing"]
