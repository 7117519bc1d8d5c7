"""Everything an app leaves open, decided from its data: look-back, horizon, trunk, epochs, and how long a season is."""

from __future__ import annotations

import functools
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from isoform.core.config.schema import AppConfig
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig, TimeseriesApp
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.data.series import Panel

# Rows a season by the unit of the frequency: a day of hours or minutes, a week of days, a year of the rest.
_SEASONS = {"B": 5, "D": 7, "W": 52, "M": 12, "Q": 4, "Y": 1, "A": 1}
_DAY = pd.Timedelta("1D")
# (up to this many training rows, dim, depth, heads)
_SIZES = ((1000, 64, 2, 4), (20_000, 128, 2, 8), (math.inf, 256, 3, 8))
_OPERATIONS = 1.2e13  # of a training: about 5 minutes of one core
_EPOCHS = (5, 60)  # at least and at most


def season_of(data: DataConfig, freq: str) -> int:
    """Rows a season: data.season, else a day of anything finer than a day, a week of days, a year of the rest."""
    if data.season is not None:
        return data.season
    step = step_of(freq)
    if step is not None and step < _DAY:
        return max(1, round(_DAY / step))
    unit = re.sub(r"^[\d.]+", "", freq).upper().removesuffix("S").split("-")[0]
    unit = {"ME": "M", "QE": "Q", "YE": "Y"}.get(unit, unit)
    count = re.match(r"\d+", freq)
    return max(1, _SEASONS.get(unit[:1], 1) // (int(count[0]) if count else 1))


def step_of(freq: str) -> pd.Timedelta | None:
    """The length of one row; None for calendar frequencies (months, business days), whose rows differ."""
    try:
        return pd.Timedelta(pd.tseries.frequencies.to_offset(freq))
    except (ValueError, TypeError):
        return None


def panel_of(data: DataConfig) -> Panel:
    """The data, read once though settling and training both ask for them; again where the file has changed."""
    found: Any = None
    if data.path is not None and Path(data.path).exists():
        about = Path(data.path).stat()
        found = (about.st_mtime_ns, about.st_size)
    return _read(_Asked(repr((data, found)), data))


@dataclass(frozen=True)
class _Asked:
    """What is read, and which version of the file, by its text: a table of settings holds dicts, so it has no hash."""

    text: str
    data: DataConfig = field(compare=False)


@functools.lru_cache(maxsize=2)
def _read(asked: _Asked) -> Panel:
    return read_panel(asked.data)


def settle(config: AppConfig) -> tuple[TimeseriesApp, list[str]]:
    """The config with nothing left open, and what was chosen, as lines to print. Settling twice changes nothing.

    Reads the data where something is open. Raises UserError for data that are missing or too short.
    """
    assert isinstance(config, TimeseriesApp)
    if not _open(config):
        return _whole(config), []
    panel = panel_of(config.data)
    rows = int(max(series.attrs["rows"] for series in panel))
    every = sum(int(series.attrs["rows"]) for series in panel)
    share = 1 - config.data.val_fraction - config.data.test_fraction
    config = _choose_windows(config, panel, rows)
    notes = list(panel.findings.lines)
    if config.auto:
        config = _choose_trunk(config, every * share)
    config = _choose_epochs(config, every * share, len(panel.variates))
    m, b, t = config.model, config.backbone, config.train
    notes.append(
        f"{every} rows of {len(panel.variates)} variate(s), one each {panel.freq}: look-back {m.context}, horizon "
        f"{m.horizon}, {b.depth} blocks of {b.dim} features, {t.epochs} epochs in batches of {t.batch}"
    )
    return _whole(config), notes


def _whole(config: TimeseriesApp) -> TimeseriesApp:
    """The config with the trunk's table written out where the look-back decides it (SAMformer)."""
    if config.model.family != "samformer":
        return config
    from isoform.timeseries.samformer.model import trunk_table

    try:
        backbone = trunk_table(config.backbone, int(config.model.context))
    except ValueError as error:
        raise UserError(str(error)) from None
    return config.model_copy(update={"backbone": backbone})


def _open(config: TimeseriesApp) -> bool:
    if "auto" in (config.model.context, config.model.horizon, config.train.epochs):
        return True
    return config.auto and not config.backbone.model_fields_set >= {"dim", "depth", "heads", "mlp_dim"}


def _choose_windows(config: TimeseriesApp, panel: Panel, rows: int) -> TimeseriesApp:
    """Horizon: a season (at most a tenth of the rows). Look-back: a week of finer rows, four horizons of the rest."""
    season = season_of(config.data, panel.freq)
    model = config.model
    horizon = max(1, min(season if season > 1 else 7, rows // 10)) if model.horizon == "auto" else model.horizon
    if model.context == "auto":
        step = step_of(panel.freq)
        wanted = 7 * season if step is not None and step < _DAY else 4 * max(season, horizon)
        context = max(2, min(wanted, 1024, rows // 4))
    else:
        context = model.context
    if rows < 2 * (context + 3 * horizon):
        raise UserError(
            f"{panel.origin}: {rows} rows are too few for a look-back of {context} and three splits with a horizon of "
            f"{horizon}; shorten model.context and model.horizon"
        )
    return config.model_copy(update={"model": model.model_copy(update={"context": context, "horizon": horizon})})


def _choose_trunk(config: TimeseriesApp, rows: float) -> TimeseriesApp:
    _, dim, depth, heads = next(row for row in _SIZES if rows <= row[0])
    wanted = {"dim": dim, "depth": depth, "heads": heads, "mlp_dim": 2 * dim}
    given = config.backbone.model_fields_set
    backbone = config.backbone.model_copy(update={k: v for k, v in wanted.items() if k not in given})
    return config.model_copy(update={"backbone": backbone})


def _choose_epochs(config: TimeseriesApp, rows: float, variates: int) -> TimeseriesApp:
    """As many epochs as the model's cost allows, and patience to stop earlier."""
    if config.train.epochs != "auto":
        return config
    b = config.backbone
    weights = b.depth * (4 * b.dim**2 + 2 * b.dim * (b.mlp_dim or 4 * b.dim)) + b.dim * (
        int(config.model.context) + int(config.model.horizon)
    )
    cost = 6 * weights * (variates + 4) * max(rows, 1)
    epochs = int(max(_EPOCHS[0], min(_EPOCHS[1], _OPERATIONS / cost)))
    patience = config.train.patience or max(5, epochs // 6)
    return config.model_copy(update={"train": config.train.model_copy(update={"epochs": epochs, "patience": patience})})
