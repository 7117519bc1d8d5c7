"""Checkpoints of thuml/iTransformer and of the Time-Series-Library, which calls the last layer by another name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, Rule, join, rename, squeeze
from isoform.core.pretrained.settings import (
    differences,
    need,
    refuse_unsupported,
    settings_of,
    table,
)
from isoform.core.pretrained.source import Source, choose_layout, read_source
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.foreign_model import (
    ForeignModel,
    assemble,
    refuse_family,
    settings_to_start,
    start_from,
    state_of,
)
from isoform.timeseries.itransformer.model import ITransformer
from isoform.timeseries.state import TimeseriesState

# layout -> name of the layer from a token to its horizon
HEADS = MappingProxyType({"itransformer": "projector", "tslib": "projection"})
LAYOUTS = tuple(HEADS)
DEFAULT_HEADS = 8  # of both code bases
ACTIVATIONS = ("gelu", "relu")
EMBEDDING = "enc_embedding.value_embedding.weight"
LAYER = re.compile(r"encoder\.attn_layers\.(\d+)\.")


def _named(foreign: str, own: str) -> Rule:
    return rename(foreign + ".{p}", own + ".{p}")


def trunk_layout(foreign: str = "encoder", own: str = "") -> Layout:
    """The encoder's names beside the Backbone's; its MLP is made of convolutions of width 1."""
    layer, block = f"{foreign}.attn_layers.{{i}}", f"{own}blocks.{{i}}"
    projections = [f"{layer}.attention.{n}_projection.{{p}}" for n in ("query", "key", "value")]
    rules = (
        join(projections, f"{block}.mixer.inner.qkv.{{p}}"),
        _named(f"{layer}.attention.out_projection", f"{block}.mixer.inner.proj"),
        rename(f"{layer}.conv1.weight", f"{block}.channel.inner.fc1.weight", squeeze(-1)),
        rename(f"{layer}.conv2.weight", f"{block}.channel.inner.fc2.weight", squeeze(-1)),
        rename(f"{layer}.conv1.bias", f"{block}.channel.inner.fc1.bias"),
        rename(f"{layer}.conv2.bias", f"{block}.channel.inner.fc2.bias"),
        _named(f"{layer}.norm1", f"{block}.norms.mixer"),
        _named(f"{layer}.norm2", f"{block}.norms.channel"),
        _named(f"{foreign}.norm", f"{own}norm"),
    )
    return Layout("itransformer trunk", rules)


def layout_of(
    config: TimeseriesApp | None, layout: str, state: TimeseriesState | None = None
) -> Layout:
    """The rules of the layout "itransformer" or "tslib", the same for every app and run."""
    rules = (
        _named("enc_embedding.value_embedding", "tokeniser.value"),
        *trunk_layout(own="backbone.").rules,
        _named(HEADS[layout], "head.point"),
    )
    return Layout(layout, rules)


def recognise(source: Source) -> str | None:
    """ "itransformer", "tslib" or None."""
    state = state_of(source)
    if EMBEDDING not in state:
        return None
    return next((layout for layout, head in HEADS.items() if f"{head}.weight" in state), None)


def import_checkpoint(
    source: str | Path | Source, layout: str | None = None, config: TimeseriesApp | None = None
) -> ImportedModel[TimeseriesApp, TimeseriesState]:
    """An official iTransformer; see timeseries.pretrained."""
    opened = read_source(source)
    name = choose_layout(opened, layout, LAYOUTS, recognise, "an iTransformer")
    refuse_family(config, "itransformer", opened.name)
    found = read_model(state_of(opened), config, opened.name, name)
    return assemble(found, name, ITransformer, opened, config)


def read_model(
    state: Mapping[str, Tensor], config: TimeseriesApp | None, where: str, layout: str
) -> ForeignModel:
    """What a state dict tells; the rest is as set, or the official default with a note.

    The file says nothing of heads, activation and normalisation. Raises UserError for shapes that make no iTransformer.
    """
    embed = need(state, EMBEDDING, 2, where)
    head = need(state, f"{HEADS[layout]}.weight", 2, where)
    query = need(state, "encoder.attn_layers.0.attention.query_projection.weight", 2, where)
    hidden = need(state, "encoder.attn_layers.0.conv1.weight", 3, where)
    dim, context = embed.shape
    if head.shape[1] != dim:
        raise UserError(
            f"{where}: {HEADS[layout]} reads {head.shape[1]} features where a token has {dim}, so it makes no forecast "
            "(a classifier?)"
        )
    notes: list[str] = []
    heads = _heads(config, dim, query.shape[0], notes)
    channel = _channel(config, notes)
    normalise = _normalise(config, layout, notes)
    numbers = [int(match[1]) for name in state if (match := LAYER.match(name))]
    backbone = official_table(dim, 1 + max(numbers), heads, hidden.shape[0], channel)
    if "encoder.norm.weight" not in state:
        backbone = backbone.model_copy(update={"final_norm": False})
    model = {
        "family": "itransformer",
        "context": context,
        "horizon": head.shape[0],
        "normalise": normalise,
    }
    rules = layout_of(config, layout)
    return ForeignModel(rules, model, backbone, calendars=("none", "past"), notes=tuple(notes))


def _heads(config: TimeseriesApp | None, dim: int, queries: int, notes: list[str]) -> int:
    asked = settings_of(config, "backbone")
    heads: int = asked.get("heads", DEFAULT_HEADS)
    if dim // heads * heads != queries or dim < heads:
        said = "is set" if "heads" in asked else "is the official default"
        raise UserError(
            f"backbone.heads = {heads} {said}, but queries of {queries} features out of {dim} can't be of so many "
            "heads: give the number with --set backbone.heads=N"
        )
    if "heads" not in asked:
        notes.append(
            f"the file doesn't say how many heads: {heads}, the official default (backbone.heads)"
        )
    return heads


def _channel(config: TimeseriesApp | None, notes: list[str]) -> str:
    channel = settings_of(config, "backbone").get("channel")
    if channel is None:
        notes.append(
            "the file doesn't name its activation: gelu, the official default (backbone.channel)"
        )
        return "gelu"
    if channel not in ACTIVATIONS:
        raise UserError(
            f"backbone.channel = {channel!r} is set, and iTransformer has {' or '.join(ACTIVATIONS)}"
        )
    return str(channel)


def _normalise(config: TimeseriesApp | None, layout: str, notes: list[str]) -> str:
    asked = settings_of(config, "model").get("normalise")
    if asked is None and layout != "tslib":
        notes.append(
            "the file doesn't say whether windows are normalised: they are, by default (model.normalise)"
        )
    # A setting that says otherwise than the file is refused with the others.
    return "none" if asked == "none" and layout != "tslib" else "window"


def official_table(dim: int, depth: int, heads: int, hidden: int, channel: str) -> BackboneConfig:
    """The trunk of the official code: post-norm, heads of dim // heads features even where that leaves some over."""
    values = {
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "mlp_dim": hidden,
        "channel": channel,
        "order": "post",
        "eps": 1e-5,
        "head_dim": None if dim % heads == 0 else dim // heads,
        "init": "torch",
    }
    return table(BackboneConfig, values, "iTransformer")


def export_official(
    config: TimeseriesApp,
    weights: Mapping[str, Tensor],
    state: TimeseriesState | None = None,
    layout: str | None = None,
) -> dict[str, Tensor]:
    """See timeseries.pretrained. The Time-Series-Library always normalises; a model that doesn't is thuml's."""
    refuse_unsupported(unsupported_by_official(config))
    origin = None if state is None else state.source
    name = layout or ("itransformer" if origin is None else origin.layout)
    if name not in LAYOUTS or config.model.normalise == "none":
        name = "itransformer"
    return layout_of(config, name).write(weights)


def initial_weights(source: str | Path | Source, config: TimeseriesApp) -> InitialWeights:
    """Every weight of an official checkpoint."""
    opened = read_source(source)
    return start_from(import_checkpoint(opened, None, settings_to_start(config)), opened, config)


def unsupported_by_official(config: TimeseriesApp) -> list[str]:
    """What the official code has no place for in this app, one phrase each."""
    b = config.backbone
    channel = b.channel if b.channel in ACTIVATIONS else "gelu"
    found = differences(b, official_table(b.dim, b.depth, b.heads, b.mlp_dim or 4 * b.dim, channel))
    if config.model.normalise == "revin":
        found.append('model.normalise is "revin"')
    if config.head.quantiles:
        found.append("it forecasts quantiles too")
    return found
