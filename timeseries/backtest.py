"""`isoform timeseries backtest RUN FILE`: forecasts from one row after another along a file, judged by what came.

T origins, n windows, L rows of look-back, H steps, V variates, Q quantile levels.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from isoform.core import api
from isoform.core.data import writers
from isoform.core.domain import Speaker
from isoform.core.errors import UserError, join_names
from isoform.timeseries import inputs_for_run, judged, origin, plots
from isoform.timeseries.baselines.naive import SeasonalNaive
from isoform.timeseries.data.frequency import rows_a_season
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.external_forecasts import (
    ComparisonResult,
    ExternalForecasts,
    PairedComparison,
)
from isoform.timeseries.forecast import cells, texts_of
from isoform.timeseries.predictor import Forecasts, TimeseriesPredictor
from isoform.timeseries.refit import refitted
from isoform.timeseries.significance import lags_for

GROUPS = 8  # of steps in the table by lead, where there are more steps than that
SHOWN = 20  # variates in the table
_NUMBERS = 1 << 22  # of forecasts that are made at a time
_MOST_ROWS = 20_000_000  # of --out
_ALL = slice(None)


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
    for line in dict.fromkeys([*panel.findings.lines, *(str(one.message) for one in said)]):
        console.warn(line)
    console.result = {**found.to_json(), "out": args.out}
    forecasts = 0
    if args.out is not None:  # before anything is said of it
        columns = found.columns(texts=Path(args.out).suffix.lower() != ".parquet")
        forecasts = len(columns["mean"])
        writers.write_columns(columns, args.out)
    _show(found, args.against, console)
    if args.out is not None:
        console.say(f"{forecasts:,} forecasts: {args.out}")
    return 0


def _show(
    found: Backtest,
    against: str | None,
    console: Speaker,
) -> None:
    variates = len(found.panel.variates)
    console.say(found.headline())
    console.table(["steps ahead", *found.shown], found.rows_by_lead())
    console.table(["variate", "unit", *found.shown], found.rows_by_variate()[:SHOWN])
    if variates > SHOWN:
        console.say(f"the first {SHOWN} of {variates} variates; --json has all")
    if found.comparison is not None and against is not None:
        name = Path(against).name
        first, *more = found.comparison.sentences(name)
        console.say(f"against {name}: {first}", *more)


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
    horizon, variates = predictor.horizon, len(panel.variates)
    step = horizon if step is None else step
    _refuse_settings(step, lead, refit, horizon)
    theirs = None if against is None else ExternalForecasts(against, panel)
    windows = predictor.windows(panel)
    if note := predictor.note_on_intervals():
        warnings.warn(note, stacklevel=2)
    times, origins = _origins(predictor, panel, step, start)
    if keep and len(origins) * (horizon - lead + 1) * variates > _MOST_ROWS:
        raise UserError(f"--out: more than {_MOST_ROWS:,} forecasts; choose a larger --step")
    units = inputs_for_run.units_of(panel, predictor.state)
    found = Backtest(
        panel,
        windows,
        lead,
        step,
        len(times),
        refit,
        predictor.wanted_levels(None),
        units,
        keep,
    )
    naive = SeasonalNaive(
        predictor.state.season or rows_a_season(panel.freq, predictor.config.data.season)
    )
    paired = PairedComparison(len(times), windows.spread_units())
    run = predictor.model
    fitted = 0  # the origin of the last refit
    try:
        for part in track(_parts(origins, horizon * variates, refit), "forecasting"):
            if refit is not None and int(part[0, 0]) // refit * refit != fitted:
                fitted = int(part[0, 0]) // refit * refit
                _refit(predictor, windows, times[fitted])
            forecasts = predictor.run(windows, part[:, 1:], found.levels)
            usual = windows.forecast_units(naive.predict(windows, part[:, 1:]))
            truth = _truth(panel, part, horizon)
            found.add(part, forecasts, usual, truth)
            if theirs is not None:
                _compare(paired, theirs, part, forecasts.mean_nHV, truth, lead)
    finally:
        predictor.use(run)
    if theirs is not None:
        found.comparison = paired.result(lags_for(len(times), horizon, step))
    found.warn_of_empty()
    return found


def _refuse_settings(
    step: int,
    lead: int,
    refit: int | None,
    horizon: int,
) -> None:
    numbers = {"--step": step, "--lead": lead, "--refit": 1 if refit is None else refit}
    for name, value in numbers.items():
        if value < 1:
            raise UserError(f"{name} {value}: should be at least 1")
    if lead > horizon:
        raise UserError(f"--lead {lead}: this run forecasts {horizon} steps; name one of them")


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


def _origins(
    predictor: TimeseriesPredictor, panel: Panel, step: int, start: str | pd.Timestamp | None
) -> tuple[np.ndarray, np.ndarray]:
    """([T] instants that are forecast first, [n, 3] number of the instant, series and row), in order of time."""
    fitted = predictor.state.fitted_until
    context, horizon = predictor.context, predictor.horizon
    found = []
    unseen = judged.first_unseen(panel, predictor.state)
    for number, (one, rows, first) in enumerate(zip(panel, panel.rows, unseen, strict=True)):
        if start is not None:
            first = int(np.searchsorted(one.time.values[:rows], origin.moment_of(start, panel)))
        at = np.arange(max(first, context), rows - horizon + 1, step)
        found.append(np.stack([np.full(len(at), number), at], 1))
    pairs = np.concatenate(found)
    if not len(pairs):
        raise UserError(_no_origin(predictor, panel, start))
    if start is None and fitted is None:
        warnings.warn(
            "which rows this run was trained on isn't known: some of these may be among them",
            stacklevel=3,
        )
    instants = np.array([panel.series[number].time.values[row] for number, row in pairs])
    times, at = np.unique(instants, return_inverse=True)
    order = np.lexsort((pairs[:, 0], at))
    return times, np.concatenate([at[:, None], pairs], 1)[order]


def _no_origin(
    predictor: TimeseriesPredictor,
    panel: Panel,
    start: str | pd.Timestamp | None,
) -> str:
    fitted = predictor.state.fitted_until
    where = ""
    if start is not None:
        where = f" from {start} on"
    elif fitted is not None:
        until = origin.text_of(panel, np.datetime64(fitted, "ns"))
        where = f" behind {until}, up to where this run was trained and validated (--from STAMP judges earlier rows)"
    last = max(one.time.values[rows - 1] for one, rows in zip(panel, panel.rows, strict=True))
    return (
        f"{panel.name}: ends at {origin.text_of(panel, np.datetime64(last))}; a backtest needs {predictor.context} "
        f"rows of look-back and then {predictor.horizon} rows{where}"
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


def _truth(
    panel: Panel,
    part: np.ndarray,
    horizon: int,
) -> np.ndarray:
    """[n, H, V] what came, in units."""
    values = []
    for _, series, row in part.tolist():
        stored = panel.series[series]["target"].variable[row : row + horizon]
        values.append(np.asarray(stored.values, np.float64))
    return np.stack(values)


class Kept(NamedTuple):
    """Forecasts of n windows that are held, from the first step that counts on, in units."""

    part: np.ndarray  # [n, 3] number of the instant, series and row
    mean_nHV: np.ndarray
    quantiles_nHVQ: np.ndarray | None
    truth_nHV: np.ndarray


@dataclass
class Backtest:
    """What a backtest found: sums by step and variate, the comparison, and every forecast where they were kept."""

    panel: Panel
    windows: WindowData
    lead: int
    step: int
    origins: int
    refit: int | None
    levels: tuple[float, ...]
    units: list[str]
    keep: bool = False
    comparison: ComparisonResult | None = None
    judged: int = 0  # windows
    empty_V: Any = 0  # windows of each variate that have no value of it in their look-back
    sums: dict[str, np.ndarray] = field(default_factory=dict)  # [H - lead + 1, V]
    kept: list[Kept] = field(default_factory=list)

    def add(
        self,
        part: np.ndarray,
        made: Forecasts,
        usual_nHV: np.ndarray,
        truth_nHV: np.ndarray,
    ) -> None:
        """Windows [n, 3] with their forecasts, the seasonal naive ones, and what came, in units."""
        counted = slice(self.lead - 1, None)
        self.judged += len(part)
        truth, mean = truth_nHV[:, counted], made.mean_nHV[:, counted]
        quantiles = None if made.quantiles_nHVQ is None else made.quantiles_nHVQ[:, counted]
        empty_nV = self.windows.without_past(part[:, 1:])
        self.empty_V = self.empty_V + empty_nV.sum(0)
        seen = np.isfinite(truth) & ~empty_nV[:, None]
        error = np.where(seen, mean - truth, 0)
        usual = np.where(seen, usual_nHV[:, counted] - truth, 0)
        self._sum("count", seen)
        self._sum("absolute", np.abs(error))
        self._sum("squared", error**2)
        self._sum("bias", error)
        self._sum("usual", np.abs(usual))
        if quantiles is not None and self.interval is not None:
            low, high = (quantiles[..., q] for q in self.interval)
            self._sum("inside", seen & (low <= truth) & (truth <= high))
        if self.keep:
            self.kept.append(Kept(part, mean, quantiles, truth))

    def warn_of_empty(self) -> None:
        """Says which variates could not be forecast everywhere."""
        empty = {
            name: int(count)
            for name, count in zip(self.panel.variates, self.empty_V, strict=True)
            if count
        }
        if empty:
            most = max(empty.values())
            warnings.warn(
                f"{join_names(list(empty), inputs_for_run.SHOWN)}: no value in the {self.windows.context} rows before "
                f"the forecast in up to {most:,} of {self.judged:,} windows, so there is none and they don't count",
                stacklevel=3,
            )

    def _sum(self, name: str, value_nHV: np.ndarray) -> None:
        total = value_nHV.sum(0, dtype=np.float64)
        self.sums[name] = self.sums[name] + total if name in self.sums else total

    @property
    def interval(self) -> tuple[int, int] | None:
        """The outermost pair of levels around the middle."""
        pairs = plots.intervals(self.levels)
        return pairs[0] if pairs else None

    @property
    def shown(self) -> list[str]:
        """Names of the figures in a table."""
        return list(self._figures())

    def _figures(
        self,
        steps: slice = _ALL,
        variates: slice = _ALL,
    ) -> dict[str, float]:
        """Over some steps and variates. A skill is 1 - our absolute error / the seasonal naive one's, both scaled."""
        sums = {name: value[steps, variates] for name, value in self.sums.items()}
        spread = self.windows.spread_units()[variates]
        count = sums["count"].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            ours = (sums["absolute"] / spread).sum()
            usual = (sums["usual"] / spread).sum()
            found = {
                "unit_mae": sums["absolute"].sum() / count,
                "unit_rmse": np.sqrt(sums["squared"].sum() / count),
                "unit_bias": sums["bias"].sum() / count,
                "mae": ours / count,
                "skill_seasonal_naive": 1 - ours / usual,
            }
            if self.interval is not None and "inside" in sums:
                low, high = (self.levels[q] for q in self.interval)
                found[f"coverage_{100 * (high - low):.4g}"] = sums["inside"].sum() / count
        return {name: float(value) for name, value in found.items()}

    def groups(self) -> list[tuple[int, int]]:
        """First and last step ahead of each line of the table by lead."""
        steps = np.arange(self.lead, self.windows.horizon + 1)
        parts = np.array_split(steps, min(GROUPS, len(steps)))
        return [(int(part[0]), int(part[-1])) for part in parts]

    def rows_by_lead(self) -> list[list[Any]]:
        """The table by steps ahead, and a last line over all of them."""
        rows: list[list[Any]] = []
        for first, last in self.groups():
            steps = slice(first - self.lead, last - self.lead + 1)
            name = str(first) if first == last else f"{first} to {last}"
            rows.append([name, *self._figures(steps).values()])
        rows.append(["all", *self._figures().values()])
        return rows

    def rows_by_variate(self) -> list[list[Any]]:
        """The table by variate."""
        rows: list[list[Any]] = []
        for v, name in enumerate(self.panel.variates):
            rows.append([name, self.units[v], *self._figures(_ALL, slice(v, v + 1)).values()])
        return rows

    def headline(self) -> str:
        """What was done."""
        again = f", trained on before every {self.refit} of them" if self.refit else ""
        return (
            f"{self.judged:,} windows from {self.origins:,} origins, one each {self.step} rows{again}; steps "
            f"{self.lead} to {self.windows.horizon} ahead count"
        )

    def to_json(self) -> dict[str, Any]:
        """Every figure by name."""
        names = self.panel.variates
        steps = range(self.lead, self.windows.horizon + 1)
        return {
            "windows": self.judged,
            "origins": self.origins,
            "step": self.step,
            "lead": self.lead,
            "refit": self.refit,
            "metrics": self._figures(),
            "by_step": {str(step): self._figures(slice(i, i + 1)) for i, step in enumerate(steps)},
            "by_variate": {
                name: self._figures(_ALL, slice(v, v + 1)) for v, name in enumerate(names)
            },
            "against": None if self.comparison is None else self.comparison.to_json(names),
        }

    def columns(self, *, texts: bool = True) -> dict[str, Any]:
        """id, origin (the last stamp known), stamp, variate, lead, mean, q0.1, ..., truth (what came) of each one kept.

        Stamps as text, or as pandas' with their zone.
        """
        part = np.concatenate([one.part for one in self.kept])
        series, first = part[:, 1], part[:, 2]
        leads = np.arange(self.lead, self.windows.horizon + 1)
        ids = np.array([str(one.attrs.get("id", "")) for one in self.panel], dtype=object)
        variates = np.array(self.panel.variates, dtype=object)
        steps, window = len(leads), len(leads) * len(variates)
        rows = first[:, None] + leads - 1
        stamps = self._stamps(series.repeat(steps), rows.ravel(), texts)
        columns: dict[str, Any] = {
            "id": ids[series].repeat(window),
            "origin": self._stamps(series, first - 1, texts).repeat(window),
            "stamp": stamps.repeat(len(variates)),
            "variate": np.tile(variates, len(part) * steps),
            "lead": np.tile(leads.repeat(len(variates)), len(part)),
            "mean": _column([one.mean_nHV for one in self.kept], texts),
        }
        for q, level in enumerate(self.levels):
            quantiles = [one.quantiles_nHVQ for one in self.kept if one.quantiles_nHVQ is not None]
            columns[f"q{level:g}"] = _column([one[..., q] for one in quantiles], texts)
        columns["truth"] = _column([one.truth_nHV for one in self.kept], texts)
        return columns

    def _stamps(
        self,
        series: np.ndarray,
        rows: np.ndarray,
        texts: bool,
    ) -> Any:
        instants = np.empty(len(rows), "datetime64[ns]")
        for number in np.unique(series):
            mine = series == number
            instants[mine] = self.panel.series[number].time.values[rows[mine]]
        unique, at = np.unique(instants, return_inverse=True)
        stamps = pd.DatetimeIndex(unique)
        if self.panel.tz is not None:
            stamps = stamps.tz_localize("UTC").tz_convert(self.panel.tz)
        return np.array(texts_of(stamps), dtype=object)[at] if texts else stamps[at]


def _column(parts: Sequence[np.ndarray], texts: bool) -> Any:
    values = np.concatenate(parts).ravel()
    return cells(values) if texts else values
