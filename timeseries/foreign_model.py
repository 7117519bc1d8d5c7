"""What importing iTransformer and SAMformer have in common: what a file tells, and settings weighed against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.ops.shapes import shapes_alone
from isoform.core.pretrained import Layout, strip_prefix
from isoform.core.pretrained.settings import (
    TRAINING_KEYS,
    refuse_other,
    settings_of,
    table,
    widths_of,
)
from isoform.core.pretrained.source import Source
from isoform.timeseries.config import ModelConfig, TimeseriesApp, TokeniserConfig
from isoform.timeseries.sizes import Sizes
from isoform.timeseries.state import CheckpointRecord, TimeseriesState

COVARIATES = ("known_future", "static", "holidays")


@dataclass(frozen=True)
class ForeignModel:
    """A foreign model: its names, its tables, and what of them its code base's defaults had to fill in.

    variates   how many it is bound to; 0: any number
    calendars  what its embedding can take of tokeniser.calendar
    ignored    tensors that the model has and doesn't use, which an export puts back
    """

    rules: Layout
    model: Mapping[str, Any]
    backbone: BackboneConfig
    variates: int = 0
    calendars: tuple[str, ...] = ("none",)
    notes: tuple[str, ...] = ()
    ignored: Mapping[str, Tensor] = field(default_factory=dict)


def state_of(source: Source) -> dict[str, Tensor]:
    """The tensors without what wrappers put in front of their names."""
    return strip_prefix(source.state, "network.", "model.")


def refuse_family(config: TimeseriesApp | None, family: str, where: str) -> None:
    """Raises UserError where model.family is set to another one."""
    refuse_other("model", settings_of(config, "model"), {"family": family}, where)


def assemble(
    found: ForeignModel,
    layout: str,
    build: Callable[[TimeseriesApp, Sizes], nn.Module],
    source: Source,
    config: TimeseriesApp | None,
) -> ImportedModel[TimeseriesApp, TimeseriesState]:
    """The model in isoform's names. Raises UserError for settings that contradict it."""
    where = source.name
    _refuse_contradictions(found, config, where)
    app = _app(found, config)
    variates = _variates(found, app, where)
    try:
        with shapes_alone():
            own = build(app, Sizes(variates=found.variates)).state_dict()
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    loaded = found.rules.read(state_of(source), own, where=where)
    unused = {name: tensor.tolist() for name, tensor in found.ignored.items()}
    state = TimeseriesState(
        variates=variates,
        past=list(app.data.past),
        context=int(app.model.context),
        horizon=int(app.model.horizon),
        source=CheckpointRecord(layout=layout, unused=unused or None),
    )
    return ImportedModel(
        app, loaded.weights, state, layout, (*found.notes, *loaded.notes), source.licence
    )


def _refuse_contradictions(found: ForeignModel, config: TimeseriesApp | None, where: str) -> None:
    asked = {key: value for key, value in settings_of(config, "model").items() if value != "auto"}
    refuse_other("model", asked, found.model, where)
    trunk = settings_of(config, "backbone")
    wanted = widths_of(found.backbone.model_copy(update=trunk))
    refuse_other(
        "backbone",
        {key: wanted[key] for key in trunk},
        widths_of(found.backbone),
        where,
        TRAINING_KEYS,
    )
    if settings_of(config, "head").get("quantiles"):
        raise UserError(
            f"head.quantiles is set, but {where} forecasts the mean alone: leave it out, or train from it"
        )
    for key in COVARIATES:
        if settings_of(config, "data").get(key):
            raise UserError(
                f"data.{key} is set, but {where} has no place for such covariates: leave it out"
            )
    calendar = settings_of(config, "tokeniser").get("calendar", "none")
    if calendar not in found.calendars:
        raise UserError(
            f"tokeniser.calendar = {calendar!r} is set, but {where} has no place for it: leave it out"
        )


def _app(found: ForeignModel, config: TimeseriesApp | None) -> TimeseriesApp:
    """The settings, or those of no app, with the tables that rebuild the model."""
    base = config or TimeseriesApp(domain="timeseries", app="imported")
    model = {**settings_of(config, "model"), **found.model}
    trunk = {
        key: value for key, value in settings_of(config, "backbone").items() if key in TRAINING_KEYS
    }
    tokeniser = settings_of(config, "tokeniser")
    if found.calendars == ("none",):
        tokeniser["calendar"] = "none"
    return base.model_copy(
        update={
            "model": table(ModelConfig, model, "the checkpoint"),
            "backbone": found.backbone.model_copy(update=trunk),
            "tokeniser": table(TokeniserConfig, tokeniser, "the checkpoint"),
        }
    )


def _variates(found: ForeignModel, app: TimeseriesApp, where: str) -> list[str]:
    """Names of the variates that the weights are bound to: data.targets where they are set, else numbers."""
    targets = list(app.data.targets or ())
    if not found.variates:
        return targets
    if targets and len(targets) != found.variates:
        raise UserError(
            f"data.targets names {len(targets)} variates, but {where} is of {found.variates}"
        )
    return targets or [f"variate {number}" for number in range(1, found.variates + 1)]


def settings_to_start(config: TimeseriesApp) -> TimeseriesApp:
    """What to import initial weights with: another horizon, quantiles and covariates are no contradiction."""
    model: dict[str, Any] = {"family": config.model.family}
    if config.model.normalise == "none":
        model["normalise"] = "none"
    backbone = BackboneConfig(heads=config.backbone.heads, channel=config.backbone.channel)
    return TimeseriesApp(
        domain=config.domain, app=config.app, model=ModelConfig(**model), backbone=backbone
    )


def start_from(
    imported: ImportedModel[TimeseriesApp, TimeseriesState], source: Source, config: TimeseriesApp
) -> InitialWeights:
    """An imported model's weights to start the app's training from."""
    return InitialWeights(imported.weights, source.name, config.domain, imported.licence)
