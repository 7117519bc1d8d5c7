"""From what a source holds to what the user asked for: settings weighed, tables and kernels carried to other sizes."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import ValidationError
from torch import Tensor

from isoform.core.config.schema import BackboneConfig, Table
from isoform.core.errors import UserError
from isoform.core.pretrained import Loaded
from isoform.vision.config import VisionApp
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.model import ViT, build_vit
from isoform.vision.vit.pretrained.found import Found
from isoform.vision.vit.resize import change_channels, resize_patch_kernel, resize_position_table
from isoform.vision.vit.tokeniser import VitTokeniser

SCHEMAS: dict[str, type[Table]] = {"tokeniser": VitTokeniserConfig, "backbone": BackboneConfig, "head": VitHeadConfig}
# What a setting may change about a checkpoint; every other difference is a contradiction.
CHANGEABLE = {
    "tokeniser": {"image", "patch", "channels", "position_resize", "dropout", "patch_dropout"},
    "backbone": {"drop_path", "dropout", "mlp_dropout", "attention_dropout", "recompute", "attention", "final_norm"},
    "head": {"task", "pool", "pool_prefix", "pool_heads", "pool_mlp", "norm", "dropout", "outputs"},
}
Trio = tuple[VitTokeniserConfig, BackboneConfig, VitHeadConfig]


def settings_of(config: VisionApp | None, table: str) -> dict[str, Any]:
    """The keys of a table that somebody set."""
    if config is None or table not in config.model_fields_set:
        return {}
    values = getattr(config, table)
    return {key: getattr(values, key) for key in values.model_fields_set}


def settle(found: Found, config: VisionApp | None) -> tuple[Trio, Trio]:
    """The tables of the checkpoint and those wanted. Raises UserError for a setting that contradicts the checkpoint."""
    source, target = [], []
    for table, schema in SCHEMAS.items():
        known, wanted = found.known.get(table, {}), settings_of(config, table)
        for key, value in wanted.items():
            have = _plain(known.get(key, value))
            if key not in CHANGEABLE[table] and have != _plain(value):
                raise UserError(
                    f"{table}.{key} = {_plain(value)!r} is set, but the checkpoint has {have!r}: leave it out"
                )
        free = {key: value for key, value in wanted.items() if key not in known}
        own = {**found.assumed.get(table, {}), **free, **known}
        if table == "backbone" and "heads" not in own:
            raise UserError(
                "the number of heads can't be told from this checkpoint: give it with --set backbone.heads=N"
            )
        try:
            source.append(schema.model_validate(own))
            target.append(schema.model_validate({**own, **wanted}))
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"{table}.{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    return (source[0], source[1], source[2]), (target[0], target[1], target[2])  # type: ignore[return-value]


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def build(tables: Trio, device: str = "cpu") -> ViT:
    """A ViT, fresh from a fixed seed. Raises UserError for tables that contradict each other."""
    try:
        with torch.random.fork_rng(devices=[]), torch.device(device):
            torch.manual_seed(0)
            return build_vit(*tables)
    except ValueError as error:
        raise UserError(str(error)) from None


def load(found: Found, source: Trio, target: Trio, where: str) -> Loaded:
    """The target model's weights, whole, with notes on whatever was changed, dropped or is fresh."""
    original = build(source, "meta")
    loaded = found.rules(source[1]).read(found.state, original.state_dict(), where=where)
    if source == target:
        return loaded
    model = build(target)
    weights, notes = dict(loaded.weights), list(loaded.notes)
    _carry(weights, original.tokeniser, model.tokeniser, notes)
    wanted = model.state_dict()
    dropped = [n for n in weights if n not in wanted or weights[n].shape != wanted[n].shape]
    stray = [n for n in dropped if not n.startswith(("head.", "backbone.norm."))]
    if stray:
        raise UserError(f"{where}: {', '.join(stray)} don't fit the settings; leave out those that change the trunk")
    fresh = [n for n in wanted if n not in weights or n in dropped]
    if dropped:
        notes.append(f"left out, since the settings have no place for them: {', '.join(dropped)}")
    if fresh:
        notes.append(f"fresh, not from the checkpoint: {', '.join(fresh)}")
    kept = {n: wanted[n] if n in fresh else weights[n] for n in wanted}
    return Loaded(kept, loaded.ignored, tuple(notes))


def _carry(weights: dict[str, Tensor], old: VitTokeniser, new: VitTokeniser, notes: list[str]) -> None:
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
        notes.append(f"position table: {_by(old.grid)} resized to {_by(new.grid)} patches, in the way of {mode!r}")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def preprocessing(found: Found, target: Trio, config: VisionApp | None) -> dict[str, Any]:
    """The data table's keys that describe how an image is prepared: the checkpoint's, unless set."""
    keep = {"mean", "std", "crop_pct", "interpolation", "resize"}
    fields = {key: value for key, value in found.preprocessing.items() if key in keep}
    channels = target[0].channels
    for key in ("mean", "std"):
        values: tuple[float, ...] = tuple(fields[key])
        fields[key] = values if len(values) == channels else (sum(values) / len(values),) * channels
    return {**fields, **{k: v for k, v in settings_of(config, "data").items() if k in keep}}


def classes_of(found: Found, target: Trio) -> list[str]:
    """Class names, as long as the head still has those outputs."""
    return list(found.classes) if len(found.classes) == target[2].outputs else []


__all__ = ["Trio", "build", "classes_of", "load", "preprocessing", "settings_of", "settle"]
