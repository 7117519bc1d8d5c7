"""The official checkpoints in isoform's layout, and back.

layout.py has the layouts and their names, official.py the hyper-parameters. An official .ckpt pickles live modules as
its `hyper_parameters`: these are neither built nor run, so what only they tell is a setting of the import.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig, Table
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.ops.shapes import shapes_alone
from isoform.core.pretrained.settings import (
    TRAINING_KEYS,
    differences,
    need,
    refuse_other,
    refuse_unsupported,
    settings_of,
    table,
    widths_of,
)
from isoform.core.pretrained.source import Source, choose_layout, read_source
from isoform.molecules.adit.config import (
    DENOISER_TRUNK,
    TRUNK,
    AditApp,
    AditModelConfig,
    ReconstructionConfig,
)
from isoform.molecules.adit.layout import (
    LAYOUTS,
    PARTS,
    layout_of,
    loss_tensors,
    loss_weights,
)
from isoform.molecules.adit.model import build_model
from isoform.molecules.state import MoleculesState, SourceState

# What a file can't tell of a trunk and a setting may choose.
CHOSEN = TRAINING_KEYS | {"heads", "channel", "order"}
BIASES = ("qkv_bias", "proj_bias", "mlp_bias", "norm_bias")
HEADS, HEAD_DIM = 8, 64  # the official heads of encoder and decoder, and features of a denoiser's
TRUNKS = {
    "autoencoder": ("encoder", "decoder"),
    "denoiser": ("backbone",),
    "both": ("encoder", "decoder", "backbone"),
}


def import_checkpoint(
    source: str | Path | Source, layout: str | None = None, config: AditApp | None = None
) -> ImportedModel[AditApp, MoleculesState]:
    """An official model, whole, in isoform's names, with the app config that rebuilds it.

    source   a checkpoint file
    layout   one of LAYOUTS where a file isn't recognised
    config   settings: what tensors can't tell (heads, activation, place of the norms) is taken from the keys that
             somebody set, else it is the official default and a note says so; a key that contradicts the file is
             refused
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    found = read_source(source)
    kind = choose_layout(found, layout, LAYOUTS, recognise, "the all-atom diffusion transformer")
    app, notes = _app(found, kind, config)
    try:
        with shapes_alone():
            own = build_model(app).state_dict()
    except ValueError as error:
        raise UserError(f"{found.name}: {error}") from None
    loaded = layout_of(app, kind).read(found.state, own, where=found.name)
    state = MoleculesState(source=SourceState(layout=kind))
    return ImportedModel(app, loaded.weights, state, kind, tuple(notes), found.licence)


def settings_for(config: Any) -> AditApp | None:
    """The settings of an import, where they are of this model. Raises UserError for settings of another one."""
    if config is None or isinstance(config, AditApp):
        return config
    other = sorted(config.model_fields_set - {"domain", "app"})
    if other:
        raise UserError(
            f"this is a checkpoint of ADiT, and the settings are Graphormer's ({', '.join(other)}): set "
            "model.family=adit beside them"
        )
    return None


def recognise(source: Source) -> str | None:
    """One of LAYOUTS, or None where the names are another model's."""
    state = source.state
    marks = {
        "adit": ("autoencoder.quant_conv.weight", "denoiser.x_embedder.weight"),
        "adit-vae": ("quant_conv.weight", "encoder.atom_type_embedder.weight"),
        "adit-denoiser": ("x_embedder.weight", "spacegroup_embedder.embedding_table.weight"),
    }
    return next((kind for kind, names in marks.items() if all(n in state for n in names)), None)


def _app(found: Source, kind: str, config: AditApp | None) -> tuple[AditApp, list[str]]:
    """The app of a file, and what was taken for granted. Raises UserError where file and settings disagree."""
    part, notes = PARTS[kind], list[str]()
    tables: dict[str, Table] = {}
    for name in TRUNKS[part]:
        tables[name] = _trunk(found, kind, name, settings_of(config, name), notes)
    have, asked = _model(found, kind), settings_of(config, "model")
    refuse_other("model", asked, have, found.name)
    tables["model"] = table(AditModelConfig, {**asked, **have}, found.name)
    weights = loss_weights(found.state, kind)
    if weights:
        wanted = settings_of(config, "loss")
        rounded = {key: tuple(torch.tensor(value).tolist()) for key, value in wanted.items()}
        refuse_other("loss", rounded, weights, found.name)
        tables["loss"] = table(ReconstructionConfig, {**wanted, **weights}, found.name)
    base = config or AditApp(domain="molecules", app="imported")
    return base.model_copy(update=tables), notes


def _trunk(
    found: Source, kind: str, name: str, asked: Mapping[str, Any], notes: list[str]
) -> BackboneConfig:
    """One trunk's table: what its tensors say, then the settings, then the official defaults."""
    state, where, denoises = found.state, found.name, name == "backbone"
    at = f"{'denoiser' if denoises else 'autoencoder'}." if kind == "adit" else ""
    layers = f"{at}blocks" if denoises else f"{at}{name}.transformer.layers"
    attention, fc1 = ("attn", "mlp.fc1") if denoises else ("self_attn", "linear1")
    depth = 1 + max(
        (int(m[1]) for n in state if (m := re.match(rf"{re.escape(layers)}\.(\d+)\.", n))),
        default=-1,
    )
    first = f"{layers}.0"
    dim = need(state, f"{first}.{attention}.out_proj.weight", 2, where).shape[0]
    hidden = need(state, f"{first}.{fc1}.weight", 2, where).shape[0]
    have: dict[str, Any] = {"dim": dim, "depth": depth, "mlp_dim": hidden}
    if not denoises:
        have.update(dict.fromkeys(BIASES, f"{first}.{attention}.in_proj_bias" in state))
    heads = asked.get("heads") or _official_heads(dim, denoises)
    if heads is None:
        raise UserError(
            f"{where}: doesn't say how many heads {dim} features have; set {name}.heads"
        )
    chosen = {key: value for key, value in asked.items() if key in CHOSEN}
    official = {**(DENOISER_TRUNK if denoises else TRUNK), **chosen, **have, "heads": heads}
    trunk = table(BackboneConfig, official, where)
    refuse_other(name, asked, widths_of(trunk), where, CHOSEN)
    told = {
        "heads": f"{heads} heads",
        "channel": "its activation: the tanh form of GELU",
        "order": "where its norms stand: in front of attention and MLP",
    }
    for key in [key for key in told if key not in asked and not (denoises and key == "order")]:
        notes.append(f"the file doesn't say {told[key]}, as officially ({name}.{key})")
    return trunk


def _official_heads(dim: int, denoises: bool) -> int | None:
    """What the official sizes have; None where it doesn't divide the features."""
    unit = HEAD_DIM if denoises else HEADS
    if dim % unit:
        return None
    return dim // HEAD_DIM if denoises else HEADS


def _model(found: Source, kind: str) -> dict[str, Any]:
    """The table `model`, as far as tensors tell it."""
    state, where, part = found.state, found.name, PARTS[kind]
    have: dict[str, Any] = {"part": part, "index": True}
    if part != "denoiser":
        at = "autoencoder." if kind == "adit" else ""
        have["elements"] = len(need(state, f"{at}encoder.atom_type_embedder.weight", 2, where))
        have["latent"] = need(state, f"{at}post_quant_conv.weight", 2, where).shape[1]
    if part != "autoencoder":
        at = "denoiser." if kind == "adit" else ""
        have["latent"] = len(need(state, f"{at}final_layer.linear.weight", 2, where))
        for key, name in (("kinds", "dataset"), ("spacegroups", "spacegroup")):
            rows = need(state, f"{at}{name}_embedder.embedding_table.weight", 2, where)
            have[key] = len(rows) - 1
    return have


def unsupported_by_official(config: AditApp) -> list[str]:
    """What the official code has no place for in this app, one phrase each."""
    found = [] if config.model.index else ["model.index is False here and True there"]
    for name in TRUNKS[config.model.part]:
        trunk: BackboneConfig = getattr(config, name)
        denoises = name == "backbone"
        free = ["dim", "depth", "heads", "mlp_dim"]
        # PyTorch's fused inference takes the exact GELU: both forms are the official code's.
        free += ["channel"] if trunk.channel in ("gelu", "gelu_tanh", "relu") else []
        free += [] if denoises or trunk.order not in ("pre", "post") else ["order"]
        like = {key: widths_of(trunk)[key] for key in free}
        if not denoises:
            like.update(dict.fromkeys(BIASES, trunk.qkv_bias))
        official = {**(DENOISER_TRUNK if denoises else TRUNK), **like}
        phrases = differences(trunk, BackboneConfig.model_validate(official))
        found += [phrase.replace("backbone", name, 1) for phrase in phrases]
    return found


def export_official(
    config: AditApp,
    weights: Mapping[str, Tensor],
    state: MoleculesState | None = None,
    layout: str | None = None,
) -> dict[str, Tensor]:
    """The weights under official names, those of the losses among them; importing gives them back bit for bit.

    Raises UserError, naming what differs, for a model that the official code can't build, and for a layout that holds
    another part of it.
    """
    refuse_unsupported(unsupported_by_official(config))
    own = next(kind for kind, part in PARTS.items() if part == config.model.part)
    if layout not in (None, own):
        raise UserError(
            f"the layout {layout!r} is not of this model, which is written as {own!r} (model.part)"
        )
    return layout_of(config, own).write(weights, ignored=loss_tensors(config.loss, own))


def write_lightning(
    path: str | Path,
    config: AditApp,
    weights: Mapping[str, Tensor],
    state: MoleculesState | None = None,
) -> None:
    """{"state_dict": weights}, which the official modules load by `load_state_dict`; raises as `export_official`.

    There are no `hyper_parameters`: the official ones are pickled modules of its code.
    """
    torch.save({"state_dict": export_official(config, weights, state)}, path)


def initial_weights(source: str | Path | Source, config: AditApp) -> InitialWeights:
    """The weights of an official checkpoint, as `train.init` names it, for the app's part of the model.

    A file of the first stage fills the autoencoder of an app that has both. Raises UserError as `import_checkpoint`,
    and where the app's tables are another model's.
    """
    opened = read_source(source)
    kind = choose_layout(opened, None, LAYOUTS, recognise, "the all-atom diffusion transformer")
    asked: dict[str, Any] = {
        name: BackboneConfig.model_validate(
            {key: getattr(getattr(config, name), key) for key in CHOSEN}
            | ({"condition": "adaln_zero"} if name == "backbone" else {})
        )
        for name in TRUNKS[PARTS[kind]]
    }
    imported = import_checkpoint(
        opened,
        kind,
        AditApp(domain=config.domain, app=config.app, **asked),
    )
    whole = _prefixed(imported.weights, PARTS[kind])
    at = "" if config.model.part == "both" else f"{config.model.part}."
    weights = {n.removeprefix(at): t for n, t in whole.items() if n.startswith(at)}
    with shapes_alone():
        own = build_model(config).state_dict()
    if not weights:
        raise UserError(
            f"{opened.name}: holds no {config.model.part}, and the app is of nothing else"
        )
    for name, tensor in weights.items():
        if name not in own or own[name].shape != tensor.shape:
            has = list(own[name].shape) if name in own else "nothing"
            raise UserError(
                f"{opened.name}: its {name} has shape {list(tensor.shape)}, and the app's model {has}: set "
                "encoder, decoder, backbone and model as the file has them"
            )
    return InitialWeights(weights, opened.name, config.domain, imported.licence)


def _prefixed(weights: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    at = "" if part == "both" else f"{part}."
    return {at + name: tensor for name, tensor in weights.items()}


__all__ = [
    "LAYOUTS",
    "export_official",
    "import_checkpoint",
    "initial_weights",
    "layout_of",
    "recognise",
    "settings_for",
    "write_lightning",
]
