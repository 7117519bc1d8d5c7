"""From an app's settings to its windows: the data are read, and everything that the app leaves open is decided."""

from __future__ import annotations

import math

from isoform.core.domain import Prepared
from isoform.core.errors import UserError
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.frequency import rows_a_season, shorter_than_a_day
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.data.windows import WindowData

# (up to this many training rows, dim, depth, heads)
_SIZES = ((1000, 64, 2, 4), (20_000, 128, 2, 8), (math.inf, 256, 3, 8))
_OPERATIONS = 1.2e13  # of a training: about 5 minutes of one core
_EPOCHS = (5, 60)  # at least and at most
_MOST_CONTEXT = 1024  # rows of a look-back that is chosen


def prepare(config: TimeseriesApp) -> Prepared[TimeseriesApp, WindowData]:
    """Reads the data, once, and prepares them. Raises UserError for data that are missing or too short."""
    return prepare_panel(config, read_panel(config.data))


def prepare_panel(config: TimeseriesApp, panel: Panel) -> Prepared[TimeseriesApp, WindowData]:
    """The config with nothing left open and the panel as its windows; the notes are what was found and chosen.

    Preparing the prepared config again changes nothing. Raises UserError for data too short to train on.
    """
    notes: list[str] = []
    if not is_resolved(config):
        config = _choose(config, panel)
        notes = [*panel.findings.lines, _said(config, panel)]
    config = _with_whole_trunk(config)
    windows = WindowData(config, panel)
    if not windows.sizes().get("train"):
        raise UserError(
            f"{panel.name}: {panel.most_rows} rows hold no training window of {windows.context} rows of look-back "
            f"and {windows.horizon} of horizon; shorten model.context or model.horizon"
        )
    return Prepared(config, notes, windows)


def is_resolved(config: TimeseriesApp) -> bool:
    """Whether nothing is left to be chosen from the data."""
    if "auto" in (config.model.context, config.model.horizon, config.train.epochs):
        return False
    return not config.auto or config.backbone.model_fields_set >= {
        "dim",
        "depth",
        "heads",
        "mlp_dim",
    }


def _choose(config: TimeseriesApp, panel: Panel) -> TimeseriesApp:
    data = config.data
    training_rows = panel.all_rows * (1 - data.val_fraction - data.test_fraction)
    config = _choose_windows(config, panel)
    if config.auto:
        config = _choose_trunk(config, training_rows)
    return _choose_epochs(config, training_rows, len(panel.variates))


def _said(config: TimeseriesApp, panel: Panel) -> str:
    model, trunk, train = config.model, config.backbone, config.train
    return (
        f"{panel.all_rows} rows of {len(panel.variates)} variate(s), one each {panel.freq}: look-back {model.context}, "
        f"horizon {model.horizon}, {trunk.depth} blocks of {trunk.dim} features, {train.epochs} epochs in batches of "
        f"{train.batch}"
    )


def _with_whole_trunk(config: TimeseriesApp) -> TimeseriesApp:
    """The config with the trunk's table written out where the look-back decides it (SAMformer)."""
    if config.model.family != "samformer":
        return config
    from isoform.timeseries.samformer.model import trunk_table

    try:
        backbone = trunk_table(config.backbone, int(config.model.context))
    except ValueError as error:
        raise UserError(str(error)) from None
    return config.model_copy(update={"backbone": backbone})


def _choose_windows(config: TimeseriesApp, panel: Panel) -> TimeseriesApp:
    """Horizon: a season (at most a tenth of the rows). Look-back: a week of finer rows, four horizons of the rest."""
    rows = panel.most_rows
    season = rows_a_season(panel.freq, config.data.season)
    model = config.model
    if model.horizon == "auto":
        wanted = season if season > 1 else 7
        horizon = max(1, min(wanted, rows // 10))
    else:
        horizon = model.horizon
    if model.context == "auto":
        wanted = 7 * season if shorter_than_a_day(panel.freq) else 4 * max(season, horizon)
        context = max(2, min(wanted, _MOST_CONTEXT, rows // 4))
    else:
        context = model.context
    if rows < 2 * (context + 3 * horizon):
        raise UserError(
            f"{panel.name}: {rows} rows are too few for a look-back of {context} and three splits with a horizon of "
            f"{horizon}; shorten model.context and model.horizon"
        )
    chosen = model.model_copy(update={"context": context, "horizon": horizon})
    return config.model_copy(update={"model": chosen})


def _choose_trunk(config: TimeseriesApp, rows: float) -> TimeseriesApp:
    _, dim, depth, heads = next(row for row in _SIZES if rows <= row[0])
    wanted = {"dim": dim, "depth": depth, "heads": heads, "mlp_dim": 2 * dim}
    given = config.backbone.model_fields_set
    open_keys = {key: value for key, value in wanted.items() if key not in given}
    return config.model_copy(update={"backbone": config.backbone.model_copy(update=open_keys)})


def _choose_epochs(config: TimeseriesApp, rows: float, variates: int) -> TimeseriesApp:
    """As many epochs as the model's cost allows, and patience to stop earlier."""
    if config.train.epochs != "auto":
        return config
    trunk, model = config.backbone, config.model
    block = 4 * trunk.dim**2 + 2 * trunk.dim * (trunk.mlp_dim or 4 * trunk.dim)
    weights = trunk.depth * block + trunk.dim * (int(model.context) + int(model.horizon))
    cost = 6 * weights * (variates + 4) * max(rows, 1)
    epochs = int(max(_EPOCHS[0], min(_EPOCHS[1], _OPERATIONS / cost)))
    patience = config.train.patience or max(5, epochs // 6)
    train = config.train.model_copy(update={"epochs": epochs, "patience": patience})
    return config.model_copy(update={"train": train})
