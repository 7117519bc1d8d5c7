"""From an app's settings to its windows: the data are read, and everything that the app leaves open is decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from isoform.core.data.splits import SPLITS
from isoform.core.domain import Prepared
from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig, TimeseriesApp
from isoform.timeseries.data import calendar
from isoform.timeseries.data.frequency import rows_a_season, shorter_than_a_day
from isoform.timeseries.data.leakage import describe_leak, describe_repeated, find_leaks, is_leakage
from isoform.timeseries.data.limits import refuse_wrong_variates
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.data.rows import is_streamed
from isoform.timeseries.data.season import choose_season
from isoform.timeseries.data.splits import borders_of, overlap_of
from isoform.timeseries.data.survey import repeated_windows
from isoform.timeseries.data.unseen_texts import without_unseen_texts
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.sizes import Sizes, refuse_contradictions

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

    The one way from data to windows, which `train` and `check` share. Preparing the prepared config again changes
    nothing in it. Raises UserError for data too short to train on and for settings that don't fit the data.
    """
    refuse_wrong_variates(config.data, panel.variates)
    chosen: list[str] = []
    if not is_resolved(config):
        config = _choose(config, panel)
        chosen = [_said(config, panel)]
    if config.data.season is None:
        season, line = choose_season(panel, borders_of(config.data, panel))
        config = _with(config, "data", season=season)
        chosen = [line, *chosen] if line else chosen
    if _origin_without_marks(config, panel):
        config = _with(config, "tokeniser", origin=False)
        chosen.append("tokeniser.origin is off: these data have no time marks (data.calendar)")
    if not is_streamed(panel, config.data.stream):
        panel, unseen = without_unseen_texts(panel, borders_of(config.data, panel))
        chosen += unseen
    windows = WindowData(_with_whole_trunk(config), panel)
    if not windows.sizes().get("train"):
        raise UserError(_no_training(windows))
    chosen += _fold(windows)
    try:
        refuse_contradictions(windows.config, Sizes.of(windows))
    except ValueError as error:
        raise UserError(f"{panel.name}: {error}") from None
    notes = [*panel.findings.lines, *_warned(windows), *chosen]
    return Prepared(windows.config, notes, windows, panel.findings.lost)


def without_leakage(
    prepared: Prepared[TimeseriesApp, WindowData],
) -> Prepared[TimeseriesApp, WindowData]:
    """The same, with what `check` calls leakage as notes where it is allowed or too little to matter.

    Raises UserError where it is neither.
    """
    windows, data = prepared.data, prepared.config.data
    leaks = find_leaks(windows.panel, windows.horizon)
    repeated, total = repeated_windows(windows.panel, windows.cuts, windows.horizon)
    said = [describe_leak(leak) for leak in leaks]
    said += [describe_repeated(repeated, total)] if repeated else []
    if is_leakage(leaks, repeated, total) and not data.allow_leakage:
        raise UserError(
            f"{windows.panel.name}: a score on these data would be too good: {join_names(said, 3, '; ')}; mend them "
            "(isoform timeseries check lists all), or set data.allow_leakage = true"
        )
    return replace(prepared, notes=[*prepared.notes, *(f"warning: {line}" for line in said)])


def _fold(windows: WindowData) -> list[str]:
    """What a fold of time is, as a line. Raises UserError where its block holds no window to test on."""
    data = windows.config.data
    if data.folds is None:
        return []
    if not windows.sizes().get("test"):
        raise UserError(
            f"{windows.panel.name}: {windows.panel.most_rows} rows cut into {data.folds + 1} blocks of time hold no "
            f"horizon of {windows.horizon} to test on; take fewer folds, or a shorter model.horizon"
        )
    return [
        f"fold {data.fold} of {data.folds} by rolling origin: tested on one of {data.folds + 1} blocks of time, "
        "trained on what lies before it; the first block is in no test, and the scale is that of the first fold"
    ]


def _origin_without_marks(config: TimeseriesApp, panel: Panel) -> bool:
    """Whether tokens are to be told time marks that the data don't have (yearly ones, data.calendar = "none")."""
    tokeniser = config.tokeniser
    ahead = tokeniser.origin and tokeniser.calendar == "future"
    return ahead and not calendar.names(config.data.calendar, panel.freq)


def _no_training(windows: WindowData) -> str:
    """Why there is no training window."""
    name = windows.panel.name
    if windows.left_out:
        return (
            f"{name}: all {windows.left_out:,} training windows lack more than data.max_missing = "
            f"{windows.config.data.max_missing:g} of their values; raise it, or give data with fewer gaps"
        )
    return (
        f"{name}: {windows.panel.most_rows} rows are too few for a look-back of {windows.context} and a horizon of "
        f"{windows.horizon}: training has {max(cut['train'][1] for cut in windows.cuts)} of them; shorten "
        "model.context or model.horizon, or give more rows"
    )


def _warned(windows: WindowData) -> list[str]:
    """What a person should know of the splits: those without a window, and times that train and test."""
    empty = [split for split in SPLITS[1:] if not windows.sizes().get(split)]
    names = {"val": "validation", "test": "test"}
    said = [f"no window for {names[split]}: its rows hold no horizon" for split in empty]
    said += windows.unscored()
    overlap = overlap_of(windows.panel, windows.origins, windows.cuts)
    return [*said, overlap] if overlap else said


def _with(config: TimeseriesApp, table: str, **values: Any) -> TimeseriesApp:
    return config.model_copy(update={table: getattr(config, table).model_copy(update=values)})


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
    config = _choose_windows(config, panel)
    data = config.data
    training_rows = panel.all_rows * (1 - data.val_fraction - data.test_fraction)
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
    """Look-back, horizon and splits together, so that training has windows and, where it can be, so have the others.

    Horizon: a season (at most a tenth of the rows). Look-back: a week of finer rows, four horizons of the rest, and
    no more than half of what training can spare.
    """
    model, rows = config.model, panel.most_rows
    if config.auto and isinstance(model.horizon, int):
        config = _with(config, "data", **_wide_enough(config.data, rows, model.horizon))
    cuts = borders_of(config.data, panel)
    held = {split: max(cut[split][1] - cut[split][0] for cut in cuts) for split in SPLITS}
    season = rows_a_season(panel.freq, config.data.season)
    horizon, context = model.horizon, model.context
    if horizon == "auto":
        horizon = _horizon_of(season, rows, held, 2 if context == "auto" else context)
    if context == "auto":
        wanted = 7 * season if shorter_than_a_day(panel.freq) else 4 * max(season, horizon)
        spare = held["train"] - horizon
        context = max(2, min(wanted, _MOST_CONTEXT, rows // 4, (spare + 1) // 2))
    return _with(config, "model", context=context, horizon=horizon)


def _horizon_of(season: int, rows: int, held: Mapping[str, int], context: int) -> int:
    """Validation and test shorten it to what they hold, unless that is less than half: then they go without windows."""
    wanted = min(season if season > 1 else 7, rows // 10, held["train"] - context)
    fits = [held[split] for split in SPLITS[1:] if 2 * held[split] >= wanted]
    return max(1, min([wanted, *fits]))


def _wide_enough(data: DataConfig, rows: int, horizon: int) -> dict[str, float]:
    """Fractions that nobody set, widened to hold a horizon that is given, if half of the rows are left to training."""
    keys = {"val_fraction", "test_fraction"}
    if data.model_fields_set & (keys | {"val_from", "test_from"}) or data.split == "date":
        return {}
    wide = {key: max(getattr(data, key), horizon / rows) for key in sorted(keys)}
    return wide if sum(wide.values()) <= 0.5 else {}


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
