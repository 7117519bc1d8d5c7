"""Checkpoints of thuml/iTransformer and of the Time-Series-Library, which calls the last layer by another name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, Rule, join, rename, squeeze
from isoform.core.pretrained.settings import differences, need, settings_of, switch, table
from isoform.timeseries.config import ModelConfig, TimeseriesApp, TokeniserConfig
from isoform.timeseries.foreign import Found

# layout -> name of the layer from a token to its horizon
HEADS = {"itransformer": "projector", "tslib": "projection"}
DEFAULT_HEADS = 8  # of both code bases
ACTIVATIONS = ("gelu", "relu")
LAYER = re.compile(r"encoder\.attn_layers\.(\d+)\.")
# Arguments of the official code that its model never reads, and those that only describe data.
UNREAD = {
    "embed", "freq", "factor", "class_strategy", "output_attention", "distil", "moving_avg", "label_len", "d_layers",
    "enc_in", "dec_in", "c_out", "channel_independence", "n_variates", "batch",
}  # fmt: skip


def _named(foreign: str, own: str) -> Rule:
    return rename(foreign + ".{p}", own + ".{p}")


def trunk_layout(foreign: str = "encoder", own: str = "") -> Layout:
    """The encoder's names beside the Backbone's; its MLP is made of convolutions of width 1."""
    layer, block = f"{foreign}.attn_layers.{{i}}", f"{own}blocks.{{i}}"
    projections = [f"{layer}.attention.{n}_projection.{{p}}" for n in ("query", "key", "value")]
    return Layout("itransformer trunk", (
        join(projections, f"{block}.mixer.inner.qkv.{{p}}"),
        _named(f"{layer}.attention.out_projection", f"{block}.mixer.inner.proj"),
        rename(f"{layer}.conv1.weight", f"{block}.channel.inner.fc1.weight", squeeze(-1)),
        rename(f"{layer}.conv2.weight", f"{block}.channel.inner.fc2.weight", squeeze(-1)),
        rename(f"{layer}.conv1.bias", f"{block}.channel.inner.fc1.bias"),
        rename(f"{layer}.conv2.bias", f"{block}.channel.inner.fc2.bias"),
        _named(f"{layer}.norm1", f"{block}.norms.mixer"),
        _named(f"{layer}.norm2", f"{block}.norms.channel"),
        _named(f"{foreign}.norm", f"{own}norm"),
    ))  # fmt: skip


def layout_of(name: str) -> Layout:
    """The rules of the layout "itransformer" or "tslib"."""
    return Layout(name, (
        _named("enc_embedding.value_embedding", "tokeniser.value"),
        *trunk_layout(own="backbone.").rules,
        _named(HEADS[name], "head.point"),
    ))  # fmt: skip


def read(state: Mapping[str, Tensor], config: TimeseriesApp | None, where: str, name: str = "itransformer") -> Found:
    """What a state dict tells; the rest is as set, or the official default with a note.

    The file says nothing of heads, activation and normalisation. Raises UserError for shapes that make no iTransformer.
    """
    embed = need(state, "enc_embedding.value_embedding.weight", 2, where)
    head = need(state, f"{HEADS[name]}.weight", 2, where)
    query = need(state, "encoder.attn_layers.0.attention.query_projection.weight", 2, where)
    hidden = need(state, "encoder.attn_layers.0.conv1.weight", 3, where)
    dim, context = embed.shape
    if head.shape[1] != dim:
        raise UserError(
            f"{where}: {HEADS[name]} reads {head.shape[1]} features where a token has {dim}, so it makes no forecast "
            "(a classifier?)"
        )
    set_, notes = settings_of(config, "backbone"), []
    heads = set_.get("heads", DEFAULT_HEADS)
    if dim // heads * heads != query.shape[0] or dim < heads:
        said = "is set" if "heads" in set_ else "is the official default"
        raise UserError(
            f"{where}: backbone.heads = {heads} {said}, but queries of {query.shape[0]} features out of {dim} can't be "
            "of so many heads: give the number with --set backbone.heads=N"
        )
    channel = set_.get("channel", "gelu")
    if channel not in ACTIVATIONS:
        raise UserError(f"backbone.channel = {channel!r} is set, and iTransformer has {' or '.join(ACTIVATIONS)}")
    if "heads" not in set_:
        notes.append(f"the file doesn't say how many heads: {heads}, the official default (backbone.heads)")
    if "channel" not in set_:
        notes.append("the file doesn't name its activation: gelu, the official default (backbone.channel)")
    normalise = settings_of(config, "model").get("normalise", "window")
    if name == "tslib" or normalise not in ("window", "none"):
        normalise = "window"  # a setting that says otherwise is refused
    elif "normalise" not in settings_of(config, "model"):
        notes.append("the file doesn't say whether windows are normalised: they are, by default (model.normalise)")
    depth = 1 + max(int(found[1]) for n in state if (found := LAYER.match(n)))
    backbone = official_table(dim, depth, heads, hidden.shape[0], channel)
    if "encoder.norm.weight" not in state:
        backbone = backbone.model_copy(update={"final_norm": False})
    model = {"family": "itransformer", "context": context, "horizon": head.shape[0], "normalise": normalise}
    return Found(layout_of(name), model, backbone, notes=tuple(notes))


def official_table(dim: int, depth: int, heads: int, hidden: int, channel: str) -> BackboneConfig:
    """The trunk of the official code: post-norm, heads of dim // heads features even where that leaves some over."""
    values = {
        "dim": dim, "depth": depth, "heads": heads, "mlp_dim": hidden, "channel": channel, "order": "post", "eps": 1e-5,
        "head_dim": None if dim % heads == 0 else dim // heads, "init": "torch",
    }  # fmt: skip
    return table(BackboneConfig, values, "iTransformer")


def itransformer_settings(official: Mapping[str, Any]) -> TimeseriesApp:
    """The hyper-parameters of thuml/iTransformer, under their own names, as an app to import with or to train.

    Raises UserError for a name or a value that can't be honoured.
    """
    rest = {name: value for name, value in official.items() if name not in UNREAD}
    model: dict[str, Any] = {"family": "itransformer"}
    backbone: dict[str, Any] = {"order": "post", "eps": 1e-5, "init": "torch"}
    tokeniser: dict[str, Any] = {}
    for name, (values, key) in {
        "seq_len": (model, "context"), "pred_len": (model, "horizon"), "d_model": (backbone, "dim"),
        "n_heads": (backbone, "heads"), "e_layers": (backbone, "depth"), "d_ff": (backbone, "mlp_dim"),
    }.items():  # fmt: skip
        if name in rest:
            values[key] = rest.pop(name)
    if "dropout" in rest:
        tokeniser["dropout"] = backbone["dropout"] = backbone["attention_dropout"] = rest.pop("dropout")
    if "use_norm" in rest:
        model["normalise"] = "window" if switch(rest.pop("use_norm"), "use_norm") else "none"
    if "activation" in rest:
        backbone["channel"] = rest.pop("activation")
        if backbone["channel"] not in ACTIVATIONS:
            raise UserError(f"activation = {backbone['channel']!r}: iTransformer has {' or '.join(ACTIVATIONS)}")
    if rest:
        raise UserError(f"iTransformer's {', '.join(rest)}: not known to this import")
    if {"dim", "heads"} <= backbone.keys() and isinstance(backbone["dim"], int) and isinstance(backbone["heads"], int):
        dim, heads = backbone["dim"], backbone["heads"]
        if heads > 0 and dim % heads:
            backbone["head_dim"] = dim // heads
    where = "iTransformer's hyper-parameters"
    return TimeseriesApp(
        domain="timeseries", app="imported", model=table(ModelConfig, model, where),
        backbone=table(BackboneConfig, backbone, where), tokeniser=table(TokeniserConfig, tokeniser, where),
    )  # fmt: skip


def unlike(config: TimeseriesApp) -> list[str]:
    """What the official code has no place for in this app, one phrase each."""
    b = config.backbone
    channel = b.channel if b.channel in ACTIVATIONS else "gelu"
    found = differences(b, official_table(b.dim, b.depth, b.heads, b.mlp_dim or 4 * b.dim, channel))
    if config.model.normalise == "revin":
        found.append('model.normalise is "revin"')
    return found
