"""Checkpoints of romilbert/samformer (its PyTorch code)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, Rule, ignore, join, rename
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
from isoform.timeseries.samformer.model import TRUNK, SAMformer, trunk_table
from isoform.timeseries.state import TimeseriesState

LAYOUTS = ("samformer",)


def layout_of(config: TimeseriesApp, layout: str, state: TimeseriesState | None = None) -> Layout:
    """The rules for the app's look-back, width of the queries, and use of RevIN."""
    context = int(config.model.context)
    keys = trunk_table(config.backbone, context).head_dim or context
    return _rules(context, keys, revin=config.model.normalise == "revin")


def _rules(context: int, keys: int, *, revin: bool) -> Layout:
    """For look-backs of `context` rows and queries of `keys` features.

    The file has RevIN's scale and shift even where the model is built without.
    """
    projections = [f"compute_{n}.{{p}}" for n in ("queries", "keys", "values")]
    affine: tuple[Rule, ...]
    if revin:
        affine = (
            rename("revin.affine_weight", "normalise.weight"),
            rename("revin.affine_bias", "normalise.bias"),
        )
    else:
        affine = (ignore("revin.affine_{*}", "RevIN's scale and shift, unused without RevIN"),)
    rules = (
        *affine,
        join(projections, "backbone.blocks.0.mixer.inner.qkv.{p}", sizes=(keys, keys, context)),
        rename("linear_forecaster.{p}", "head.point.{p}"),
    )
    return Layout("samformer", rules)


def recognise(source: Source) -> str | None:
    """ "samformer" or None."""
    return "samformer" if "compute_keys.weight" in state_of(source) else None


def import_checkpoint(
    source: str | Path | Source, layout: str | None = None, config: TimeseriesApp | None = None
) -> ImportedModel[TimeseriesApp, TimeseriesState]:
    """An official SAMformer; see timeseries.pretrained."""
    opened = read_source(source)
    name = choose_layout(opened, layout, LAYOUTS, recognise, "a SAMformer")
    refuse_family(config, "samformer", opened.name)
    return assemble(
        read_model(state_of(opened), config, opened.name), name, SAMformer, opened, config
    )


def read_model(
    state: Mapping[str, Tensor], config: TimeseriesApp | None, where: str
) -> ForeignModel:
    """What a state dict tells; whether RevIN is used it doesn't. Raises UserError for shapes that make no SAMformer."""
    keys, context = need(state, "compute_keys.weight", 2, where).shape
    horizon = need(state, "linear_forecaster.weight", 2, where).shape[0]
    scale = need(state, "revin.affine_weight", 1, where)
    normalise = settings_of(config, "model").get("normalise")
    notes: tuple[str, ...] = ()
    if normalise is None:
        notes = ("the file doesn't say whether RevIN is used: it is, by default (model.normalise)",)
    revin = normalise != "none"
    return ForeignModel(
        rules=_rules(context, keys, revin=revin),
        model={
            "family": "samformer",
            "context": context,
            "horizon": horizon,
            "normalise": "revin" if revin else "none",
        },
        backbone=official_table(context, keys),
        variates=len(scale),
        notes=notes,
        ignored={}
        if revin
        else {name: t for name, t in state.items() if name.startswith("revin.affine_")},
    )


def official_table(context: int, keys: int) -> BackboneConfig:
    """The trunk of the official code."""
    return table(
        BackboneConfig,
        {**TRUNK, "dim": context, "value_dim": context, "head_dim": keys},
        "SAMformer",
    )


def export_official(
    config: TimeseriesApp,
    weights: Mapping[str, Tensor],
    state: TimeseriesState | None = None,
    layout: str | None = None,
) -> dict[str, Tensor]:
    """See timeseries.pretrained. What the official model has and doesn't use is as it was imported, else fresh."""
    refuse_unsupported(unsupported_by_official(config))
    source = None if state is None else state.source
    ignored: dict[str, Tensor] = {}
    if config.model.normalise != "revin":
        if source is not None and source.unused:
            ignored = {name: torch.tensor(values) for name, values in source.unused.items()}
        elif state is not None and state.variates:
            ignored = fresh_scale(len(state.variates))
        else:
            raise UserError(
                "the official SAMformer has a scale for each variate, and how many there are isn't known"
            )
    return layout_of(config, layout or "samformer", state).write(weights, ignored=ignored)


def initial_weights(source: str | Path | Source, config: TimeseriesApp) -> InitialWeights:
    """Every weight of an official checkpoint."""
    opened = read_source(source)
    return start_from(import_checkpoint(opened, None, settings_to_start(config)), opened, config)


def unsupported_by_official(config: TimeseriesApp) -> list[str]:
    """What the official code has no place for in this app, one phrase each."""
    context = int(config.model.context)
    trunk = trunk_table(config.backbone, context)
    found = differences(trunk, official_table(context, trunk.head_dim or context))
    if config.model.normalise == "window":
        found.append('model.normalise is "window", without RevIN\'s scale and shift')
    if config.head.quantiles:
        found.append("it forecasts quantiles too")
    return found


def fresh_scale(variates: int) -> dict[str, Tensor]:
    """RevIN's fresh scale and shift, which the official model has even where it isn't used."""
    return {"revin.affine_weight": torch.ones(variates), "revin.affine_bias": torch.zeros(variates)}
