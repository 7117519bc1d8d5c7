"""Official checkpoints in isoform's layout, and back: what `isoform timeseries import` and `export` run.

layout        where it comes from
itransformer  thuml/iTransformer's checkpoint.pth: a bare state dict, perhaps with DataParallel's `module.`
tslib         the Time-Series-Library's iTransformer
samformer     romilbert/samformer's PyTorch code
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.core.pretrained import state_dict_of, strip_prefix
from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.core.pretrained.settings import CHANGEABLE, settings_of, table
from isoform.timeseries.config import ModelConfig, TimeseriesApp, TokeniserConfig
from isoform.timeseries.foreign import Found, refuse_contradictions
from isoform.timeseries.itransformer import pretrained as itransformer
from isoform.timeseries.models import Sizes, build_model
from isoform.timeseries.samformer import pretrained as samformer
from isoform.timeseries.samformer.model import trunk_table
from isoform.timeseries.state import CheckpointRecord, TimeseriesState

LAYOUTS = (*itransformer.HEADS, "samformer")
STATE_KEYS = ("state_dict", "model_state_dict", "model")


def import_checkpoint(
    source: str | Path, layout: str | None = None, config: TimeseriesApp | None = None
) -> ImportedModel[TimeseriesApp, TimeseriesState]:
    """A foreign forecaster, whole, in isoform's names, with the app config that rebuilds it.

    layout   one of LAYOUTS where a file isn't recognised
    config   settings: what the file can't tell (heads, activation, use_norm) is taken from the keys that somebody set,
             else it is the official default and a note says so; a key that contradicts the file is refused
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    where = Path(source).name
    if layout is not None and layout not in LAYOUTS:
        raise UserError(f"--layout {layout}: there is no such layout; there are {', '.join(LAYOUTS)}")
    state = strip_prefix(state_dict_of(read_checkpoint(source), *STATE_KEYS, where=where), "network.", "model.")
    kind = layout or recognise(state, where)
    family = "samformer" if kind == "samformer" else "itransformer"
    refuse_contradictions(config, {"family": family}, None, where)
    read = samformer.read if kind == "samformer" else partial(itransformer.read, name=kind)
    found = read(state, config, where)
    refuse_contradictions(config, found.model, found.backbone, where)
    calendar = settings_of(config, "tokeniser").get("calendar", "none")
    if calendar not in (("none",) if kind == "samformer" else ("none", "past")):
        raise UserError(f"tokeniser.calendar = {calendar!r} is set, but {where} has no place for it: leave it out")
    app = _app(found, config)
    variates = _variates(found, app, where)
    try:
        with torch.device("meta"):
            own = build_model(app, Sizes(variates=found.variates)).state_dict()
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None
    loaded = found.rules.read(state, own, where=where)
    unused = {name: tensor.tolist() for name, tensor in found.ignored.items()}
    state_of_run = TimeseriesState(
        variates=variates, past=list(app.data.past), context=int(app.model.context), horizon=int(app.model.horizon),
        source=CheckpointRecord(layout=kind, unused=unused or None),
    )  # fmt: skip
    return ImportedModel(app, loaded.weights, state_of_run, kind, (*found.notes, *loaded.notes))


def recognise(state: Mapping[str, Tensor], where: str) -> str:
    """The layout of a checkpoint with these names. Raises UserError where none fits."""
    if "compute_keys.weight" in state:
        return "samformer"
    if "enc_embedding.value_embedding.weight" in state:
        for kind, head in itransformer.HEADS.items():
            if f"{head}.weight" in state:
                return kind
    some = ", ".join(list(state)[:4])
    raise UserError(f"{where}: no layout of a forecaster has names such as {some}; name one with --layout")


def _app(found: Found, config: TimeseriesApp | None) -> TimeseriesApp:
    """The settings, or those of no app, with the tables that rebuild the model."""
    base = config or TimeseriesApp(domain="timeseries", app="imported")
    model = {**settings_of(config, "model"), **found.model}
    trunk = {key: value for key, value in settings_of(config, "backbone").items() if key in CHANGEABLE}
    tokeniser = settings_of(config, "tokeniser")
    if found.model["family"] == "samformer":
        tokeniser = {**tokeniser, "calendar": "none"}
    return base.model_copy(
        update={
            "model": table(ModelConfig, model, "the checkpoint"),
            "backbone": found.backbone.model_copy(update=trunk),
            "tokeniser": table(TokeniserConfig, tokeniser, "the checkpoint"),
        }
    )


def _variates(found: Found, app: TimeseriesApp, where: str) -> list[str]:
    """Names of the variates that the weights are bound to: data.targets where they are set, else numbers."""
    targets = list(app.data.targets or ())
    if not found.variates:
        return targets
    if targets and len(targets) != found.variates:
        raise UserError(f"data.targets names {len(targets)} variates, but {where} is of {found.variates}")
    return targets or [f"variate {number}" for number in range(1, found.variates + 1)]


def official_state(
    config: TimeseriesApp, weights: Mapping[str, Tensor], state: TimeseriesState | None = None
) -> dict[str, Tensor]:
    """The weights under the names of the code base that they came from; of thuml/iTransformer if they were born here.

    `state` (a run's task.json) names that code base, and holds what its model has beside ours. Importing gives the
    weights back bit for bit. Raises UserError, naming what differs, for a model that the official code can't build.
    """
    source = None if state is None else state.source
    family = itransformer if config.model.family == "itransformer" else samformer
    other = family.unlike(config)
    if config.head.quantiles:
        other.append("it forecasts quantiles too")
    if other:
        raise UserError(f"the official code has no model like this one ({'; '.join(other)})")
    if config.model.family == "itransformer":
        name = "itransformer" if source is None else source.layout
        name = name if name in itransformer.HEADS and config.model.normalise != "none" else "itransformer"
        return itransformer.layout_of(name).write(weights)
    context = int(config.model.context)
    keys = trunk_table(config.backbone, context).head_dim or context
    revin = config.model.normalise == "revin"
    ignored: dict[str, Tensor] = {}
    if not revin:
        if source is not None and source.unused:
            ignored = {name: torch.tensor(values) for name, values in source.unused.items()}
        elif state is not None and state.variates:
            ignored = samformer.unused(len(state.variates))
        else:
            raise UserError("the official SAMformer has a scale for each variate, and how many there are isn't known")
    return samformer.layout_of(context, keys, revin=revin).write(weights, ignored=ignored)


def initial_weights(source: str, config: TimeseriesApp) -> InitialWeights:
    """The weights of an official checkpoint that `train.init` names.

    Another horizon, quantiles and covariates are no contradiction: what it lacks starts
    fresh.
    """
    said: dict[str, Any] = {"family": config.model.family}
    if config.model.normalise == "none":
        said["normalise"] = "none"
    asked = TimeseriesApp(
        domain=config.domain, app=config.app, model=ModelConfig(**said),
        backbone=BackboneConfig(heads=config.backbone.heads, channel=config.backbone.channel),
    )  # fmt: skip
    imported = import_checkpoint(source, None, asked)
    return InitialWeights(imported.weights, Path(source).name, config.domain, imported.licence)


__all__ = ["LAYOUTS", "import_checkpoint", "initial_weights", "official_state", "recognise"]
