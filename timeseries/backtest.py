"""`isoform timeseries backtest RUN FILE`: forecasts from one row after another along a file, judged by what came.

T origins, n windows, L rows of look-back, H steps, V variates, Q quantile levels.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isoform.core import api
from isoform.core.data import writers
from isoform.core.domain import Speaker
from isoform.core.errors import UserError
from isoform.timeseries import comparison, inputs_for_run
from isoform.timeseries.baselines.naive import SeasonalNaive
from isoform.timeseries.comparison import PairedComparison
from isoform.timeseries.data.digests import find_known
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.external_forecasts import ExternalForecasts, read_forecasts
from isoform.timeseries.predictor import TimeseriesPredictor
from isoform.timeseries.refit import refitted
from isoform.timeseries.rolling import Origins, find_origins
from isoform.timeseries.scores import Backtest, Settings
from isoform.timeseries.significance import lags_for

SHOWN = 20  # variates, or series, in a table
_NUMBERS = 1 << 22  # of forecasts that are made at a time
_MOST_ROWS = 20_000_000  # of --out


def run_backtest(args: argparse.Namespace, console: Speaker) -> int:
    """The command."""
    from isoform.timeseries import DOMAIN

    if args.out is not None:
        writers.format_of(args.out, (".csv", ".parquet"))
    predictor: Any = api.load_predictor(DOMAIN, args.run_dir, args.checkpoint)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        panel = predictor.read(args.file)
        found = backtest(
            predictor,
            panel,
            step=args.step,
            lead=args.lead,
            refit=args.refit,
            start=args.start,
            against=args.against,
            keep=args.out is not None,
            track=console.track,
        )
    lines = [*panel.findings.lines, *(str(one.message) for one in said), *found.remarks()]
    for line in dict.fromkeys(lines):
        console.warn(line)
    console.result = {**found.to_json(), "out": args.out}
    forecasts = 0
    if args.out is not None:  # before anything is said of it
        columns = found.columns(texts=Path(args.out).suffix.lower() != ".parquet")
        forecasts = len(columns["mean"])
        writers.write_columns(columns, args.out)
    _show(found, console)
    if args.out is not None:
        console.say(f"{forecasts:,} forecasts: {args.out}")
    return 0


def _show(found: Backtest, console: Speaker) -> None:
    console.say(found.headline())
    console.table(*found.table_by_lead())
    _show_first(found.table_by_variate(), "variates", console)
    if len(found.panel.series) > 1:
        _show_first(found.table_by_series(), "series", console)
    if len(found.comparisons) > 1:
        console.table(comparison.COLUMNS, comparison.rows_of(found.comparisons))
    for name, one in found.comparisons.items():
        first, *more = one.sentences(name)
        console.say(f"against {name}: {first}", *more)


def _show_first(table: tuple[list[str], list[list[Any]]], what: str, console: Speaker) -> None:
    columns, rows = table
    console.table(columns, rows[:SHOWN])
    if len(rows) > SHOWN:
        console.say(f"the first {SHOWN} of {len(rows):,} {what}; --json has all")


def backtest(
    predictor: TimeseriesPredictor,
    data: Any,
    *,
    step: int | None = None,
    lead: int = 1,
    refit: int | None = None,
    start: str | pd.Timestamp | None = None,
    against: str | Path | None = None,
    keep: bool = False,
    track: Callable[[Sequence[Any], str], Iterable[Any]] = lambda parts, doing: parts,
) -> Backtest:
    """Forecasts of `data` (what `predictor.read` takes) from every `step`-th row on, beside what came.

    step     rows from one origin to the next, the horizon if None
    lead     the first step ahead that counts: with 2, the next row is too soon to act on
    refit    train on before every so-many-th origin, see refit.py; None: the run as it is
    start    first stamp that is forecast; None: behind what the run was trained and validated on
    against  forecasts of one's own, see external_forecasts.py
    keep     hold every forecast, for `columns`

    Known-future covariates are what the file says of each row, as they came and not as they were forecast. Every window
    has its whole horizon in the file. Raises UserError where there is no such window, or for settings that make no
    sense.
    """
    panel = predictor.read(data)
    horizon = predictor.horizon
    windows = predictor.windows(panel)
    walk = Settings(
        horizon if step is None else step,
        lead,
        refit,
        predictor.wanted_levels(None),
        keep,
        predictor.state.season or windows.season,  # an imported model has none
    )
    _refuse_settings(walk, horizon)
    theirs = (
        {} if against is None else read_forecasts(against, panel, predictor.config.data.id or ())
    )
    if note := predictor.note_on_intervals():
        warnings.warn(note, stacklevel=2)
    found = find_origins(predictor, panel, walk.step, start)
    each = (horizon - lead + 1) * len(panel.variates)
    if keep and len(found.windows) * each > _MOST_ROWS:
        raise UserError(f"--out: more than {_MOST_ROWS:,} forecasts; choose a larger --step")
    units = inputs_for_run.units_of(panel, predictor.state)
    judged = Backtest(panel, windows, walk, found, units)
    if find_known(panel, found.windows[:, 1:], horizon, predictor.state.seen).any():
        judged.apart = Backtest(panel, windows, walk._replace(keep=False), found, units)
    paired = {name: PairedComparison(len(found.times), windows.spread_units()) for name in theirs}
    run = predictor.model
    try:
        _walk(predictor, judged, found, theirs, paired, track)
    finally:
        predictor.use(run)
    lags = lags_for(len(found.times), horizon, walk.step)
    judged.comparisons = {name: one.result(name, lags) for name, one in paired.items()}
    return judged


def _walk(
    predictor: TimeseriesPredictor,
    judged: Backtest,
    found: Origins,
    theirs: Mapping[str, ExternalForecasts],
    paired: Mapping[str, PairedComparison],
    track: Callable[[Sequence[Any], str], Iterable[Any]],
) -> None:
    """Forecasts from every origin, in order of time, and adds them up."""
    panel, windows, walk = judged.panel, judged.windows, judged.settings
    naive = SeasonalNaive(walk.season)
    fitted = 0  # the origin of the last refit
    each = predictor.horizon * len(panel.variates)
    for part in track(_parts(found.windows, each, walk.refit), "forecasting"):
        if walk.refit is not None and int(part[0, 0]) // walk.refit * walk.refit != fitted:
            fitted = int(part[0, 0]) // walk.refit * walk.refit
            _refit(predictor, windows, found.times[fitted])
        forecasts = predictor.run(windows, part[:, 1:], walk.levels)
        usual = windows.forecast_units(naive.predict(windows, part[:, 1:]))
        truth = _truth(panel, part, predictor.horizon)
        judged.add(part, forecasts, usual, truth, windows.without_past(part[:, 1:]))
        if judged.apart is not None:
            new = ~find_known(panel, part[:, 1:], predictor.horizon, predictor.state.seen)
            kept = (forecasts.of(new), usual[new], truth[new])
            judged.apart.add(part[new], *kept, windows.without_past(part[new, 1:]))
        for name, one in theirs.items():
            _compare(paired[name], one, part, forecasts.mean_nHV, truth, walk.lead)


def _refuse_settings(walk: Settings, horizon: int) -> None:
    refit = 1 if walk.refit is None else walk.refit
    for name, value in {"--step": walk.step, "--lead": walk.lead, "--refit": refit}.items():
        if value < 1:
            raise UserError(f"{name} {value}: should be at least 1")
    if walk.lead > horizon:
        raise UserError(f"--lead {walk.lead}: this run forecasts {horizon} steps; name one of them")


def _refit(
    predictor: TimeseriesPredictor,
    windows: WindowData,
    before: np.datetime64,
) -> None:
    """Has the predictor's model trained on with the rows before an instant."""
    with tempfile.TemporaryDirectory() as folder:
        model = refitted(
            predictor.config,
            predictor.model,
            windows.panel,
            windows.scaling,
            before,
            Path(folder) / "run",
        )
    predictor.use(model)


def _compare(
    paired: PairedComparison,
    theirs: ExternalForecasts,
    part: np.ndarray,
    mean_nHV: np.ndarray,
    truth_nHV: np.ndarray,
    lead: int,
) -> None:
    horizon = mean_nHV.shape[1]
    counted = slice(lead - 1, None)
    for i, (instant, series, row) in enumerate(part.tolist()):
        other_HV = theirs.window(series, row, horizon)
        paired.add(
            instant,
            mean_nHV[i, counted],
            other_HV[counted],
            truth_nHV[i, counted],
        )


def _parts(
    origins: np.ndarray,
    window: int,
    refit: int | None,
) -> list[np.ndarray]:
    """The windows in pieces of at most _NUMBERS forecasts, none of which reaches over a refit."""
    size = max(1, _NUMBERS // window)
    edges = set(range(0, len(origins), size))
    if refit is not None:
        segment = origins[:, 0] // refit
        edges |= {0, *(np.flatnonzero(np.diff(segment)) + 1).tolist()}
    starts = sorted(edges)
    stops = [*starts[1:], len(origins)]
    return [origins[start:stop] for start, stop in zip(starts, stops, strict=True)]


def _truth(panel: Panel, part: np.ndarray, horizon: int) -> np.ndarray:
    """[n, H, V] what came, in units."""
    values = []
    for _, series, row in part.tolist():
        stored = panel.series[series]["target"].variable[row : row + horizon]
        values.append(np.asarray(stored.values, np.float64))
    return np.stack(values)
