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
from typing import Any

import numpy as np
import pandas as pd

from isoform.core import api
from isoform.core.data import writers
from isoform.core.domain import Speaker
from isoform.core.errors import UserError
from isoform.timeseries import inputs_for_run, origin, plots
from isoform.timeseries.baselines.naive import SeasonalNaive
from isoform.timeseries.data.frequency import rows_a_season
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.external_forecasts import ComparisonResult, ExternalForecasts, PairedComparison
from isoform.timeseries.forecast import cells, texts_of
from isoform.timeseries.predictor import Forecasts, TimeseriesPredictor
from isoform.timeseries.refit import refitted
from isoform.timeseries.significance import lags_for

GROUPS = 8  # of steps in the table by lead, where there are more steps than that
SHOWN = 20  # variates in the table
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
    for line in dict.fromkeys([*panel.findings.lines, *(str(one.message) for one in said)]):
        console.warn(line)
    if args.out is not None:
        parquet = Path(args.out).suffix.lower() == ".parquet"
        columns = found.columns(texts=not parquet)
        writers.write_columns(columns, args.out)
    console.say(found.headline())
    console.table(["steps ahead", *found.shown], found.rows_by_lead())
    console.table(["variate", "unit", *found.shown], found.rows_by_variate()[:SHOWN])
    if len(panel.variates) > SHOWN:
        console.say(f"the first {SHOWN} of {len(panel.variates)} variates; --json has all")
    if found.verdict is not None:
        name = Path(args.against).name
        console.say(*(f"against {name}: {line}" if i == 0 else line for i, line in enumerate(found.sentences(name))))
    if args.out is not None:
        console.say(f"{len(columns['mean']):,} forecasts: {args.out}")
    console.result = {**found.to_json(), "out": args.out}
    return 0


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
    against  forecasts of one's own, see against.py
    keep     hold every forecast, for `columns`

    Known-future covariates are what the file says of each row, as they came and not as they were forecast. Every window
    has its whole horizon in the file. Raises UserError where there is no such window, or for settings that make no
    sense.
    """
    panel = predictor.read(data)
    horizon = predictor.horizon
    step = horizon if step is None else step
    for name, value in (("--step", step), ("--lead", lead), ("--refit", 1 if refit is None else refit)):
        if value < 1:
            raise UserError(f"{name} {value}: should be at least 1")
    if lead > horizon:
        raise UserError(f"--lead {lead}: this run forecasts {horizon} steps; name one of them")
    theirs = None if against is None else ExternalForecasts(against, panel)
    windows = predictor.windows(panel)
    times, origins = _origins(predictor, panel, step, start)
    units = inputs_for_run.units_of(panel, predictor.state)
    found = Backtest(panel, windows, lead, step, len(times), refit, predictor.wanted_levels(None), units, keep)
    if keep and len(origins) * (horizon - lead + 1) * len(panel.variates) > _MOST_ROWS:
        raise UserError(f"--out: more than {_MOST_ROWS:,} forecasts; choose a larger --step")
    naive = SeasonalNaive(predictor.state.season or rows_a_season(panel.freq, predictor.config.data.season))
    duel = None if theirs is None else PairedComparison(len(times), windows.spread_units())
    run = predictor.model
    try:
        for part in track(_parts(origins, horizon * len(panel.variates), refit), "forecasting"):
            if refit is not None and part[0, 0] // refit * refit != found.fitted:
                found.fitted = int(part[0, 0]) // refit * refit
                with tempfile.TemporaryDirectory() as folder:
                    predictor.use(
                        refitted(
                            predictor.config,
                            predictor.model,
                            panel,
                            windows.scaling,
                            times[found.fitted],
                            Path(folder) / "run",
                        )
                    )
            pairs = part[:, 1:]
            forecasts = predictor.run(windows, pairs, found.levels)
            usual = windows.to_units(naive.predict(windows, pairs))
            truth = np.stack([_truth(panel, int(number), int(row), horizon) for number, row in pairs])
            found.add(part, forecasts, usual, truth)
            if theirs is not None and duel is not None:
                for i, (at, number, row) in enumerate(part):
                    other = theirs.of(int(number), int(row), horizon)
                    duel.add(int(at), forecasts.mean_nHV[i, lead - 1 :], other[lead - 1 :], truth[i, lead - 1 :])
    finally:
        predictor.use(run)
    if duel is not None:
        found.verdict = duel.verdict(lags_for(len(times), horizon, step))
    return found


def _origins(
    predictor: TimeseriesPredictor, panel: Panel, step: int, start: str | pd.Timestamp | None
) -> tuple[np.ndarray, np.ndarray]:
    """([T] instants that are forecast first, [n, 3] number of the instant, series and row), in order of time."""
    fitted = predictor.state.fitted_until
    context, horizon = predictor.context, predictor.horizon
    found = []
    last = None
    for number, one in enumerate(panel):
        rows = int(one.attrs["rows"])
        time = one.time.values[:rows]
        if start is not None:
            first = int(np.searchsorted(time, origin.moment_of(start, panel)))
        else:
            first = 0 if fitted is None else int(np.searchsorted(time, np.datetime64(fitted, "ns"), side="right"))
        at = np.arange(max(first, context), rows - horizon + 1, step)
        found.append(np.stack([np.full(len(at), number), at], 1))
        last = max(last, time[-1]) if last is not None else time[-1]
    pairs = np.concatenate(found)
    if not len(pairs):
        where = f"from {start} on" if start is not None else ""
        if not where and fitted is not None:
            until = origin.text_of(panel, np.datetime64(fitted, "ns"))
            where = f"behind {until}, up to where this run was trained and validated (--from STAMP judges earlier rows)"
        raise UserError(
            f"{panel.origin}: ends at {origin.text_of(panel, np.datetime64(last))}; a backtest needs {context} rows of "
            f"look-back and then {horizon} rows {where}".rstrip()
        )
    if start is None and fitted is None:
        warnings.warn("which rows this run was trained on isn't known: some of these may be among them", stacklevel=3)
    instants = np.array([panel.series[number].time.values[row] for number, row in pairs])
    times, at = np.unique(instants, return_inverse=True)
    order = np.lexsort((pairs[:, 0], at))
    return times, np.concatenate([at[:, None], pairs], 1)[order]


def _parts(origins: np.ndarray, window: int, refit: int | None) -> list[np.ndarray]:
    """The windows in pieces of at most _NUMBERS forecasts, none of which reaches over a refit."""
    size = max(1, _NUMBERS // window)
    edges = set(range(0, len(origins), size))
    if refit is not None:
        segment = origins[:, 0] // refit
        edges |= {0, *(np.flatnonzero(np.diff(segment)) + 1).tolist()}
    ordered = sorted(edges)
    return [origins[a:b] for a, b in zip(ordered, [*ordered[1:], len(origins)], strict=True)]


def _truth(panel: Panel, number: int, row: int, horizon: int) -> np.ndarray:
    return np.asarray(panel.series[number]["target"].variable[row : row + horizon].values, np.float64)


@dataclass
class Backtest:
    """What a backtest found: sums by step and variate, the verdict, and every forecast where they were kept."""

    panel: Panel
    windows: WindowData
    lead: int
    step: int
    origins: int
    refit: int | None
    levels: tuple[float, ...]
    units: list[str]
    keep: bool = False
    verdict: ComparisonResult | None = None
    fitted: int = 0  # the origin of the last refit
    judged: int = 0  # windows
    sums: dict[str, np.ndarray] = field(default_factory=dict)  # [H - lead + 1, V]
    kept: list[tuple[np.ndarray, Forecasts, np.ndarray]] = field(default_factory=list)

    def add(self, part: np.ndarray, made: Forecasts, usual_nHV: np.ndarray, truth_nHV: np.ndarray) -> None:
        """Windows [n, 3] with their forecasts, the seasonal naive ones, and what came, in units."""
        cut = slice(self.lead - 1, None)
        self.judged += len(part)
        truth, mean = truth_nHV[:, cut], made.mean_nHV[:, cut]
        seen = np.isfinite(truth)
        error = np.where(seen, mean - truth, 0)
        found = {
            "count": seen,
            "absolute": np.abs(error),
            "squared": error**2,
            "bias": error,
            "usual": np.where(seen, np.abs(usual_nHV[:, cut] - truth), 0),
        }
        if made.quantiles_nHVQ is not None and self.interval is not None:
            low, high = (made.quantiles_nHVQ[:, cut, :, q] for q in self.interval)
            found["inside"] = seen & (low <= truth) & (truth <= high)
        for name, value in found.items():
            total = value.sum(0, dtype=np.float64)
            self.sums[name] = self.sums[name] + total if name in self.sums else total
        if self.keep:
            quantiles = None if made.quantiles_nHVQ is None else made.quantiles_nHVQ[:, cut]
            self.kept.append((part, Forecasts(mean, quantiles, made.levels), truth))

    @property
    def interval(self) -> tuple[int, int] | None:
        """The outermost pair of levels around the middle."""
        pairs = plots.intervals(self.levels)
        return pairs[0] if pairs else None

    @property
    def shown(self) -> list[str]:
        """Names of the figures in a table."""
        return list(self._figures(slice(None), slice(None)))

    def _figures(self, steps: Any, variates: Any) -> dict[str, float]:
        """Over some steps and variates. A skill is 1 - our absolute error / the seasonal naive one's, both scaled."""
        s = {name: value[steps][:, variates] for name, value in self.sums.items()}
        spread = self.windows.spread_units()[variates]
        with np.errstate(invalid="ignore", divide="ignore"):
            count = s["count"].sum()
            scaled = (s["absolute"] / spread).sum()
            found = {
                "unit_mae": s["absolute"].sum() / count,
                "unit_rmse": np.sqrt(s["squared"].sum() / count),
                "unit_bias": s["bias"].sum() / count,
                "mae": scaled / count,
                "skill_seasonal_naive": 1 - scaled / (s["usual"] / spread).sum(),
            }
            if self.interval is not None and "inside" in s:
                low, high = (self.levels[q] for q in self.interval)
                found[f"coverage_{100 * (high - low):.4g}"] = s["inside"].sum() / count
        return {name: float(value) for name, value in found.items()}

    def groups(self) -> list[tuple[int, int]]:
        """First and last step ahead of each line of the table by lead."""
        steps = np.arange(self.lead, self.windows.horizon + 1)
        return [(int(part[0]), int(part[-1])) for part in np.array_split(steps, min(GROUPS, len(steps)))]

    def rows_by_lead(self) -> list[list[Any]]:
        """The table by steps ahead, and a last line over all of them."""
        rows: list[list[Any]] = []
        for first, last in self.groups():
            cut = slice(first - self.lead, last - self.lead + 1)
            name = str(first) if first == last else f"{first} to {last}"
            rows.append([name, *self._figures(cut, slice(None)).values()])
        return [*rows, ["all", *self._figures(slice(None), slice(None)).values()]]

    def rows_by_variate(self) -> list[list[Any]]:
        """The table by variate."""
        return [
            [name, self.units[v], *self._figures(slice(None), slice(v, v + 1)).values()]
            for v, name in enumerate(self.panel.variates)
        ]

    def headline(self) -> str:
        """What was done."""
        again = f", trained on before every {self.refit} of them" if self.refit else ""
        return (
            f"{self.judged:,} windows from {self.origins:,} origins, one each {self.step} rows{again}; steps "
            f"{self.lead} to {self.windows.horizon} ahead count"
        )

    def sentences(self, name: str) -> list[str]:
        """The verdict on somebody else's forecasts in words."""
        return [] if self.verdict is None else self.verdict.sentences(name)

    def to_json(self) -> dict[str, Any]:
        """Every figure by name."""
        steps = range(self.lead, self.windows.horizon + 1)
        names = self.panel.variates
        return {
            "windows": self.judged,
            "origins": self.origins,
            "step": self.step,
            "lead": self.lead,
            "refit": self.refit,
            "metrics": self._figures(slice(None), slice(None)),
            "by_step": {str(k): self._figures(slice(i, i + 1), slice(None)) for i, k in enumerate(steps)},
            "by_variate": {name: self._figures(slice(None), slice(v, v + 1)) for v, name in enumerate(names)},
            "against": None if self.verdict is None else self.verdict.to_json(names),
        }

    def columns(self, *, texts: bool = True) -> dict[str, Any]:
        """id, origin (the last stamp known), stamp, variate, lead, mean, q0.1, ..., truth (what came) of each one kept.

        Stamps as text, or as pandas' with their zone.
        """
        parts, made, truth = zip(*self.kept, strict=True)
        part = np.concatenate(parts)
        n, steps, variates = len(part), self.windows.horizon - self.lead + 1, len(self.panel.variates)
        ids = np.array([str(one.attrs.get("id", "")) for one in self.panel], dtype=object)
        rows = part[:, 2, None] + np.arange(self.lead - 1, self.windows.horizon)
        columns: dict[str, Any] = {
            "id": np.repeat(ids[part[:, 1]], steps * variates),
            "origin": self._stamps(part[:, 1], part[:, 2] - 1, texts).repeat(steps * variates),
            "stamp": self._stamps(part[:, 1].repeat(steps), rows.ravel(), texts).repeat(variates),
            "variate": np.tile(np.array(self.panel.variates, dtype=object), n * steps),
            "lead": np.tile(np.arange(self.lead, self.windows.horizon + 1).repeat(variates), n),
            "mean": np.concatenate([one.mean_nHV for one in made]).ravel(),
        }
        for q, level in enumerate(self.levels):
            columns[f"q{level:g}"] = np.concatenate([one.quantiles_nHVQ[..., q] for one in made]).ravel()
        value = np.concatenate(truth).ravel()
        columns["truth"] = cells(value) if texts else value
        return columns

    def _stamps(self, series: np.ndarray, rows: np.ndarray, texts: bool) -> Any:
        instants = np.empty(len(rows), "datetime64[ns]")
        for number in np.unique(series):
            mine = series == number
            instants[mine] = self.panel.series[number].time.values[rows[mine]]
        unique, at = np.unique(instants, return_inverse=True)
        stamps = pd.DatetimeIndex(unique)
        if self.panel.tz is not None:
            stamps = stamps.tz_localize("UTC").tz_convert(self.panel.tz)
        return np.array(texts_of(stamps), dtype=object)[at] if texts else stamps[at]
