"""What a backtest found: errors summed by step, variate and series, tables of them, and every forecast where kept.

n windows, H steps from the first that counts on, V variates, S series, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from isoform.core.errors import join_names
from isoform.timeseries import plots
from isoform.timeseries.comparison import ComparisonResult
from isoform.timeseries.data.clock import STAMP
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.forecast import cells, texts_of
from isoform.timeseries.metrics import groups_by_unit
from isoform.timeseries.origin import text_of
from isoform.timeseries.predictor import Forecasts
from isoform.timeseries.rolling import Origins, ids_of

GROUPS = 8  # of steps in the table by lead, where there are more steps than that
_UNITS = 2  # figures in units have columns in a table of several variates where there are no more units than that
_NAMES = 5  # in a sentence
_ALL = slice(None)

Sums = Mapping[str, np.ndarray]  # name -> [any, V]


class Settings(NamedTuple):
    """Of a walk along a file."""

    step: int
    lead: int
    refit: int | None
    levels: tuple[float, ...]
    keep: bool
    season: int  # rows, of the seasonal naive forecast


class Kept(NamedTuple):
    """Forecasts of n windows that are held, from the first step that counts on, in units."""

    part: np.ndarray  # [n, 3] number of the instant, series and row
    mean_nHV: np.ndarray
    quantiles_nHVQ: np.ndarray | None
    truth_nHV: np.ndarray


@dataclass
class Backtest:
    """Sums by step and variate and by series and variate, the comparisons, and the forecasts."""

    panel: Panel
    windows: WindowData
    settings: Settings
    walked: Origins
    units: Sequence[str]
    comparisons: dict[str, ComparisonResult] = field(default_factory=dict)
    judged: int = 0  # windows
    sums: dict[str, np.ndarray] = field(default_factory=dict)  # [H, V]
    series_sums: dict[str, np.ndarray] = field(default_factory=dict)  # [S, V]
    kept: list[Kept] = field(default_factory=list)
    early: int = 0  # windows whose season before begins before the file
    apart: Backtest | None = None  # the same without the windows that the run was trained on

    def __post_init__(self) -> None:
        variates = len(self.panel.variates)
        self.spread_V = self.windows.spread_units()
        self.windows_S = np.zeros(len(self.panel.series), np.int64)
        self.empty_V = np.zeros(variates, np.int64)  # windows without a value to look back on

    @property
    def origins(self) -> int:
        """How many instants it was forecast from."""
        return len(self.walked.times)

    # Adding up --------------------------------------------------------------------------------------------------------

    def add(
        self,
        part: np.ndarray,
        made: Forecasts,
        usual_nHV: np.ndarray,
        truth_nHV: np.ndarray,
        empty_nV: np.ndarray,
    ) -> None:
        """Windows [n, 3] with their forecasts, the seasonal naive ones, and what came, in units.

        What has no value in its look-back (`empty_nV`) isn't forecast and doesn't count.
        """
        counted = slice(self.settings.lead - 1, None)
        series = part[:, 1]
        self.judged += len(part)
        self.early += int((part[:, 2] < self.settings.season).sum())
        np.add.at(self.windows_S, series, 1)
        self.empty_V += empty_nV.sum(0)
        empty = empty_nV[:, None]
        truth, mean = truth_nHV[:, counted], np.where(empty, np.nan, made.mean_nHV[:, counted])
        quantiles = None
        if made.quantiles_nHVQ is not None:
            quantiles = np.where(empty[..., None], np.nan, made.quantiles_nHVQ[:, counted])
        seen = np.isfinite(truth) & ~empty
        error = np.where(seen, mean - truth, 0)
        usual = np.where(seen, usual_nHV[:, counted] - truth, 0)
        self._sum("count", seen, series)
        self._sum("absolute", np.abs(error), series)
        self._sum("squared", error**2, series)
        self._sum("bias", error, series)
        self._sum("usual", np.abs(usual), series)
        if quantiles is not None and self.interval is not None:
            low, high = (quantiles[..., q] for q in self.interval)
            self._sum("inside", seen & (low <= truth) & (truth <= high), series)
        if self.settings.keep:
            self.kept.append(Kept(part, mean, quantiles, truth))

    def _sum(self, name: str, value_nHV: np.ndarray, series: np.ndarray) -> None:
        total = value_nHV.sum(0, dtype=np.float64)
        self.sums[name] = self.sums[name] + total if name in self.sums else total
        shape = (len(self.panel.series), value_nHV.shape[-1])
        np.add.at(
            self.series_sums.setdefault(name, np.zeros(shape)),
            series,
            value_nHV.sum(1, dtype=np.float64),
        )

    @property
    def interval(self) -> tuple[int, int] | None:
        """The outermost pair of levels around the middle."""
        pairs = plots.intervals(self.settings.levels)
        return pairs[0] if pairs else None

    # Figures ----------------------------------------------------------------------------------------------------------

    def _figures(self, sums: Sums, variates: slice = _ALL) -> dict[str, float]:
        """Of some sums. A skill is 1 - our absolute error / the seasonal naive one's, both scaled.

        Figures in units are by unit where there are several, see metrics.py. A skill over no error is NaN.
        """
        sums = {name: value[:, variates] for name, value in sums.items()}
        spread_V = self.spread_V[variates]
        found: dict[str, float] = {}
        count = sums["count"].sum()
        with np.errstate(invalid="ignore", divide="ignore"):
            means = {
                end: [
                    sums[name][:, mine].sum() / sums["count"][:, mine].sum() for name in _IN_UNITS
                ]
                for end, mine in groups_by_unit(self.units[variates]).items()
            }
            found |= {f"unit_mae{end}": mae for end, (mae, _, _) in means.items()}
            found |= {f"unit_rmse{end}": np.sqrt(mse) for end, (_, mse, _) in means.items()}
            found |= {f"unit_bias{end}": bias for end, (_, _, bias) in means.items()}
            ours = (sums["absolute"] / spread_V).sum()
            usual = (sums["usual"] / spread_V).sum()
            found["mae"] = ours / count
            found["skill_seasonal_naive"] = 1 - ours / usual if usual else np.nan
            if self.interval is not None and "inside" in sums:
                low, high = (self.settings.levels[q] for q in self.interval)
                found[f"coverage_{100 * (high - low):.4g}"] = sums["inside"].sum() / count
        return {name: float(value) for name, value in found.items()}

    def figures(self) -> dict[str, float]:
        """Over everything that counts."""
        return self._figures(self.sums)

    def figures_by_step(self) -> dict[int, dict[str, float]]:
        """Of every step ahead."""
        return {
            self.settings.lead + i: self._figures(_part(self.sums, slice(i, i + 1)))
            for i in range(len(self.sums["count"]))
        }

    def figures_by_variate(self) -> dict[str, dict[str, float]]:
        """Of every variate."""
        return {
            name: self._figures(self.sums, slice(v, v + 1))
            for v, name in enumerate(self.panel.variates)
        }

    def figures_by_series(self) -> dict[str, dict[str, float]]:
        """Of every series that is judged, the one first whose skill is the least; with its `windows`."""
        found = {
            id: {
                "windows": int(self.windows_S[number]),
                **self._figures(_part(self.series_sums, slice(number, number + 1))),
            }
            for number, id in enumerate(ids_of(self.panel))
            if self.windows_S[number]
        }
        return dict(sorted(found.items(), key=lambda one: worst_first(one[1])))

    # Tables and sentences ---------------------------------------------------------------------------------------------

    def table_by_lead(self) -> tuple[list[str], list[list[Any]]]:
        """Columns and lines by steps ahead, and a last line over all of them."""
        first = self.settings.lead
        steps = np.arange(first, self.windows.horizon + 1)
        found = {}
        for part in np.array_split(steps, min(GROUPS, len(steps))):
            low, high = int(part[0]), int(part[-1])
            name = str(low) if low == high else f"{low} to {high}"
            found[name] = self._figures(_part(self.sums, slice(low - first, high - first + 1)))
        return _table(["steps ahead"], {**found, "all": self.figures()})

    def table_by_variate(self) -> tuple[list[str], list[list[Any]]]:
        """Columns and lines."""
        head, rows = _table(["variate"], self.figures_by_variate())
        units = zip(rows, self.units, strict=True)
        return [head[0], "unit", *head[1:]], [[row[0], unit, *row[1:]] for row, unit in units]

    def table_by_series(self) -> tuple[list[str], list[list[Any]]]:
        """Columns and lines, the least skill first."""
        return _table(["series"], self.figures_by_series())

    def headline(self) -> str:
        """What was done."""
        walk, all_of_them = self.settings, len(self.panel.series)
        again = f", trained on before every {walk.refit} of them" if walk.refit else ""
        series = (
            f" in {int((self.windows_S > 0).sum()):,} of {all_of_them:,} series"
            if all_of_them > 1
            else ""
        )
        return (
            f"{self.judged:,} windows from {self.origins:,} origins{series}, one each {walk.step} rows{again}; steps "
            f"{walk.lead} to {self.windows.horizon} ahead count"
        )

    def remarks(self) -> list[str]:
        """What is judged and what isn't, for a person."""
        lines, many, walked = [], len(self.panel.series), self.walked
        if walked.left_out:
            reasons = [f"{id} ({why})" for id, why in walked.left_out.items()]
            left = join_names(reasons, _NAMES)
            lines.append(f"{many - len(reasons):,} of {many:,} series judged; left out: {left}")
        if walked.unseen:
            new = join_names(list(walked.unseen), _NAMES)
            lines.append(f"new to this run, so judged from their first possible row: {new}")
        if walked.held_from is not None:
            lines.append(
                f"{walked.held_back:,} windows in times that this run was fitted on in other series are left out: it "
                f"may know what moved them all; --from {text_of(self.panel, walked.held_from)} judges all from there on"
            )
        if walked.overlapping:
            lines.append(self._overlap())
        if self.apart is not None:
            lines.append(self._known(self.apart))
        if self.empty_V.any():
            each = [
                f"{name} in {count:,}"
                for name, count in zip(self.panel.variates, self.empty_V.tolist(), strict=True)
                if count
            ]
            lines.append(
                f"no value in the {self.windows.context} rows of look-back ({join_names(each, _NAMES)} of "
                f"{self.judged:,} windows): there is no forecast, and none counts"
            )
        if self.early:
            lines.append(
                f"{self.early:,} of {self.judged:,} windows begin in the first season of the file "
                f"({self.settings.season:,} rows): where the value a season before lies in front of it, the seasonal "
                "naive forecast is the last value, which is easier to beat; rows in front of these mend it"
            )
        if self.sums["count"].any() and not self.sums["usual"].any():
            lines.append("the seasonal naive forecast is without any error here: no skill over it")
        return lines

    def _known(self, apart: Backtest) -> str:
        said = f"{self.judged - apart.judged:,} of {self.judged:,} windows forecast rows that this run was trained on"
        figures = apart.figures() if apart.judged else {}
        named = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        return f"{said}; the others alone: {named}" if named else said

    def _overlap(self) -> str:
        count, clear = self.walked.overlapping, self.walked.clear_from
        said = (
            f"{count:,} of {self.judged:,} windows lie in times that this run was fitted on in other series, and may "
            "know what moved them all"
        )
        if clear is None:
            return said
        behind = int((self.walked.times[self.walked.windows[:, 0]] >= clear).sum())
        others = "the other " if behind + count == self.judged else ""
        return f"{said}; --from {text_of(self.panel, clear)} judges {others}{behind:,}"

    def to_json(self) -> dict[str, Any]:
        """Every figure by name."""
        walk, names = self.settings, self.panel.variates
        against = {name: one.to_json(names) for name, one in self.comparisons.items()}
        found: dict[str, Any] = {
            "windows": self.judged,
            "origins": self.origins,
            "step": walk.step,
            "lead": walk.lead,
            "refit": walk.refit,
            "metrics": self.figures(),
            "by_step": {str(step): row for step, row in self.figures_by_step().items()},
            "by_variate": self.figures_by_variate(),
            "without_look_back": dict(zip(names, self.empty_V.tolist(), strict=True)),
            "against": against or None,
        }
        if self.apart is not None:
            found["trained_on"] = self.judged - self.apart.judged
            found["metrics_without"] = self.apart.figures() if self.apart.judged else {}
        if len(self.panel.series) > 1:
            found |= {
                "by_series": self.figures_by_series(),
                "left_out": dict(self.walked.left_out),
                "unseen": list(self.walked.unseen),
                "held_back": self.walked.held_back,
                "overlapping": self.walked.overlapping,
            }
        return found

    # Every forecast ---------------------------------------------------------------------------------------------------

    def columns(self, *, texts: bool = True) -> dict[str, Any]:
        """id, origin (the last stamp known), stamp, variate, lead, mean, q0.1, ..., truth (what came) of each one kept.

        Stamps as text, or as pandas' with their zone; what wasn't forecast or didn't come is None (NaN without texts).
        """
        part = np.concatenate([one.part for one in self.kept])
        series, first = part[:, 1], part[:, 2]
        leads = np.arange(self.settings.lead, self.windows.horizon + 1)
        ids = np.array(ids_of(self.panel), dtype=object)
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
        }
        numbers = {"mean": np.concatenate([one.mean_nHV for one in self.kept])}
        quantiles = [one.quantiles_nHVQ for one in self.kept if one.quantiles_nHVQ is not None]
        for q, level in enumerate(self.settings.levels):
            numbers[f"q{level:g}"] = np.concatenate([one[..., q] for one in quantiles])
        numbers["truth"] = np.concatenate([one.truth_nHV for one in self.kept])
        for name, value in numbers.items():
            columns[name] = cells(value.ravel()) if texts else value.ravel()
        return columns

    def _stamps(
        self,
        series: np.ndarray,
        rows: np.ndarray,
        texts: bool,
    ) -> Any:
        instants = np.empty(len(rows), STAMP)
        for number in np.unique(series):
            mine = series == number
            instants[mine] = self.panel.series[number].time.values[rows[mine]]
        unique, at = np.unique(instants, return_inverse=True)
        stamps = pd.DatetimeIndex(unique)
        if self.panel.tz is not None:
            stamps = stamps.tz_localize("UTC").tz_convert(self.panel.tz)
        return np.array(texts_of(stamps), dtype=object)[at] if texts else stamps[at]


_IN_UNITS = ("absolute", "squared", "bias")


def worst_first(figures: Mapping[str, float]) -> tuple[bool, float]:
    """What to sort series by: the least skill first, those without one last."""
    skill = figures["skill_seasonal_naive"]
    return np.isnan(skill), skill


def _part(sums: Sums, rows: slice) -> Sums:
    return {name: value[rows] for name, value in sums.items()}


def _table(
    head: list[str], figures: Mapping[str, Mapping[str, float]]
) -> tuple[list[str], list[list[Any]]]:
    """A line each, None where there is no number; figures by unit are left out where there are many units."""
    names = list(next(iter(figures.values())))
    by_unit = [name for name in names if name.endswith("]")]
    if len(by_unit) > _UNITS * len(_IN_UNITS):
        names = [name for name in names if name not in by_unit]
    rows = [
        [label, *(row[name] if np.isfinite(row[name]) else None for name in names)]
        for label, row in figures.items()
    ]
    return [*head, *names], rows
