"""How good forecasts are: sums over windows as they come by, so that no split has to fit into memory.

    windows         how many were judged
    mse, mae        squared and absolute error of the scaled data, as papers report them
    unit_mae        absolute error in the data's own units
    unit_rmse       root of the mean squared error in the data's own units
    mase            absolute error over that of the seasonal naive forecast on the training rows of the same series and
                    variate (Hyndman and Koehler 2006); a variate that never changes there doesn't count
    smape           2 |y - f| / (|y| + |f|), from 0 to 2; 0 where both are 0
    crps            twice the mean pinball loss over the quantile levels, in the data's own units: the continuous ranked
                    probability score seen at these levels (Gneiting and Raftery 2007); scaled_crps of the scaled data
    coverage_80     share of values inside the interval of levels .1 and .9 (its ends count), for every symmetric pair
    width_80        mean width of that interval, in the data's own units

Every mean is over all values observed, whichever window, step and variate they belong to; a missing target never
counts, nor does a variate without any value in its look-back, which has no forecast. Forecasts are judged inside
data.bounds, as they are given. A figure that nothing was observed for is NaN.

Kilowatt hours and degrees have no mean. Where the variates are of several units, a figure in units (unit_mae,
unit_rmse, crps, width_80) is given for each unit by itself, as unit_mae[kWh], and the one without a unit in its name is
absent; unit_mae[?] is of those whose unit isn't known. Where no unit is known at all, as in most benchmarks, all are
taken for one. What has no unit (mse, mae, mase, smape, scaled_crps, coverage) is over all variates either way.

n windows, H steps, V variates, Q quantile levels, S series.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.domain import MetricAccumulator
from isoform.timeseries.blocks import BlockSums
from isoform.timeseries.conformal import Calibration

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData
    from isoform.timeseries.state import TimeseriesState

KEPT = 64 << 20  # bytes of windows that outputs() holds at most
FEWEST = 8  # windows that it holds even where they are larger than that
_CHUNK = 1 << 18  # values that are worked on at a time: as many as fit into a processor's cache
_BLOCK = 64 << 20  # bytes of rows that are read at a time
_EVERY = slice(None)


def groups_by_unit(units: Sequence[str]) -> dict[str, slice | np.ndarray]:
    """{end of a figure's name: which variates it is a mean over}, of the units of all variates, "" for an unknown one.

    "" for all of them where they are of one unit or none is known (`units` may be empty then), else "[kWh]" and so on,
    and "[?]" for those of unknown units.
    """
    names = np.array([unit.strip() for unit in units], dtype=object)
    if len(set(names)) < 2:
        return {"": slice(None)}
    return {f"[{unit or '?'}]": names == unit for unit in dict.fromkeys(names)}


class ForecastAccumulator(MetricAccumulator):
    """Errors by step and variate of one split's windows.

    `levels` are those of the quantiles that are added, `season` the rows a season of MASE and `scale_units` [S, V] its
    denominators in the data's units, from the training rows if None. With a `calibration` the intervals judged are
    those that it makes of what is added, at its own levels. `resampled`: outputs hold what a bootstrap of the figures
    draws, see blocks.py.
    """

    def __init__(
        self,
        data: WindowData,
        split: str,
        levels: Sequence[float] = (),
        season: int = 1,
        scale_units: np.ndarray | None = None,
        *,
        calibration: Calibration | None = None,
        limit: int = KEPT,
        resampled: bool = False,
    ) -> None:
        self.data, self.season, self.calibration, self.limit = data, season, calibration, limit
        self.given = tuple(levels)
        self.size = data.sizes().get(split, 0)
        self.std = np.asarray(data.spread_units(), np.float64)
        self.std32 = self.std.astype(np.float32)
        self.mean32 = np.asarray(data.to_units(np.zeros(len(data.variates))), np.float32)
        scale_SV = (
            seasonal_scale(data, season)
            if scale_units is None
            else np.asarray(scale_units, np.float64)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled_SV = self.std / scale_SV
        self.per_mase_SV = np.where(np.isfinite(scaled_SV), scaled_SV, 0.0)
        self.windows = 0
        self.units = groups_by_unit(data.panel.units)
        self.sums: dict[str, np.ndarray] = {}  # [H, V]
        self.series_sums: dict[str, np.ndarray] = {}  # [S, V], where there are several series
        count = len(data.panel.series)
        self.blocks = BlockSums(count, max(data.horizon, season)) if resampled else None
        self.below_Q = np.zeros(0)
        self.kept: dict[str, list[np.ndarray]] = {}
        self.kept_indices: list[int] = []
        self._chosen: np.ndarray | None = None
        self._block_n: np.ndarray | None = None  # of the windows of the part that is summed

    @property
    def levels(self) -> tuple[float, ...]:
        """Of the quantiles that are judged."""
        return self.given if self.calibration is None else self.calibration.levels

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """Scaled "forecast" and "target" [n, H, V], "where" [n, 2]; "observed" [n, H, V], "quantiles" [n, H, V, Q]."""
        n, steps, variates = outputs["forecast"].shape
        size = max(1, _CHUNK // (steps * variates))
        for start in range(0, n, size):
            part = {
                name: np.asarray(value[start : start + size]) for name, value in outputs.items()
            }
            if self.calibration is not None:
                part["quantiles"] = self.calibration.apply(part["forecast"], part.get("quantiles"))
            part["empty"] = self.data.without_past(part["where"])  # [n, V]
            self._sum(part)
            self._keep(indices[start : start + size], part)

    def _sum(self, part: Mapping[str, np.ndarray]) -> None:
        """Differences in float32, as forecasts and targets are; everything that adds up in float64."""
        target, forecast = part["target"].astype(np.float32), part["forecast"].astype(np.float32)
        forecast = self.data.inside_bounds(forecast)
        seen = _judged(part)
        error = forecast - target
        if seen is not None:
            target, error = np.where(seen, target, 0), np.where(seen, error, 0)
        absolute = np.abs(error)
        series = part["where"][:, 0]
        self._block_n = None if self.blocks is None else self.blocks.of(part["where"])
        self.windows += len(target)
        count = np.ones_like(error, bool) if seen is None else seen
        self._up("count", count)
        self._up("mse", error * error)
        self._up("mae", absolute)
        self._up_series("windows", np.ones_like(error[:, :1], bool), series)
        self._up_series("count", count, series)
        self._up_series("mae", absolute, series)
        for one in np.unique(series):
            mine, per_mase_V = series == one, self.per_mase_SV[one]
            self._up("mase", absolute[mine], per_mase_V, mine)
            self._up("mase_count", count[mine], per_mase_V > 0, mine)
        size = np.abs(target * self.std32 + self.mean32) + np.abs(
            forecast * self.std32 + self.mean32
        )
        self._up("smape", absolute / np.where(size == 0, 1, size), 2 * self.std)
        if "quantiles" in part and self.levels:
            quantiles = self.data.inside_bounds(part["quantiles"].astype(np.float32), axis=2)
            self._sum_quantiles(quantiles, target, seen, series)

    def _sum_quantiles(
        self,
        q_nHVQ: np.ndarray,
        target: np.ndarray,
        seen: np.ndarray | None,
        series: np.ndarray,
    ) -> None:
        aboves = []
        if not self.below_Q.size:
            self.below_Q = np.zeros(len(self.levels))
        for i, level in enumerate(self.levels):
            above = target - q_nHVQ[..., i]
            if seen is not None:
                above = np.where(seen, above, 0)
            self._up("crps", np.maximum(level * above, (level - 1) * above), 2 / len(self.levels))
            self.below_Q[i] += np.count_nonzero(above <= 0 if seen is None else seen & (above <= 0))
            aboves.append(above)
        for name, low, high in self._intervals():
            inside = (aboves[low] >= 0) & (aboves[high] <= 0)
            inside = inside if seen is None else inside & seen
            self._up(f"coverage_{name}", inside)
            self._up_series(f"coverage_{name}", inside, series)
            self._up(f"width_{name}", aboves[low] - aboves[high])

    def _intervals(self) -> list[tuple[str, int, int]]:
        """(percent, index of the lower level, of the upper one) of every symmetric pair of levels."""
        found = []
        for low, level in enumerate(self.levels):
            for high, other in enumerate(self.levels):
                if level < 0.5 and abs(level + other - 1) < 1e-9:
                    found.append((f"{100 * (other - level):.4g}", low, high))
        return found

    def _up(
        self,
        name: str,
        value_nHV: np.ndarray,
        factor: np.ndarray | float = 1.0,
        mine: np.ndarray | slice = _EVERY,
    ) -> None:
        """Adds values, `mine` telling which of the part's windows they are of."""
        total_HV = value_nHV.sum(0, dtype=np.float64) * factor
        self.sums[name] = self.sums[name] + total_HV if name in self.sums else total_HV
        if self.blocks is not None and self._block_n is not None:
            self.blocks.add(name, value_nHV, factor, self._block_n[mine])

    def _up_series(self, name: str, value_nHV: np.ndarray, series: np.ndarray) -> None:
        count = len(self.data.panel.series)
        if count > 1:
            each_nV = value_nHV.sum(1, dtype=np.float64)
            total_SV = self.series_sums.setdefault(name, np.zeros((count, each_nV.shape[1])))
            np.add.at(total_SV, series, each_nV)

    # ------------------------------------------------------------------ what comes out

    def metrics(self) -> dict[str, float]:
        """The figures that the module's text names, over everything added."""
        found = {name: float(v) for name, v in self._means(None).items()}
        return found | {"windows": float(self.windows)}

    def _means(self, axis: int | None) -> dict[str, np.ndarray]:
        """Means over steps (axis 0: each variate has its own, whatever its unit), variates (1) or both."""
        pairs = self._pairs(self.sums, by_unit=axis != 0)
        with np.errstate(invalid="ignore"):
            found = {
                name: np.asarray(top.sum(axis) / n.sum(axis)) for name, (top, n) in pairs.items()
            }
        return {
            name: np.sqrt(value) if name.startswith("unit_rmse") else value
            for name, value in found.items()
        }

    def _pairs(
        self, s: Mapping[str, np.ndarray], *, by_unit: bool = True
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Of every figure what its mean is over: (sum, count), both [H, V], or [K, V] of blocks.

        With `by_unit` a figure in units is a pair for every unit, as several variates come into one mean.
        """
        if not s:
            return {}

        def in_units(name: str, value: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
            groups = self.units if by_unit else {"": slice(None)}
            return {
                f"{name}{end}": (value[:, mine], s["count"][:, mine])
                for end, mine in groups.items()
            }

        pairs = {name: (s[name], s["count"]) for name in ("mse", "mae")}
        pairs |= in_units("unit_mae", s["mae"] * self.std)
        pairs |= in_units("unit_rmse", s["mse"] * self.std**2)
        pairs |= {"mase": (s["mase"], s["mase_count"]), "smape": (s["smape"], s["count"])}
        if "crps" in s:
            pairs |= in_units("crps", s["crps"] * self.std)
            pairs["scaled_crps"] = s["crps"], s["count"]
        for name, _, _ in self._intervals() if "crps" in s else ():
            pairs[f"coverage_{name}"] = s[f"coverage_{name}"], s["count"]
            pairs |= in_units(f"width_{name}", s[f"width_{name}"] * self.std)
        return pairs

    def _series_means(self) -> dict[str, np.ndarray]:
        """[S] of every series: windows, count, mae, unit_mae, mase and coverage."""
        if not self.series_sums:
            return {}
        s, count = self.series_sums, self.series_sums["count"]
        pairs = {"mae": (s["mae"], count)}
        for end, mine in self.units.items():
            pairs[f"unit_mae{end}"] = (s["mae"] * self.std)[:, mine], count[:, mine]
        pairs["mase"] = s["mae"] * self.per_mase_SV, count * (self.per_mase_SV > 0)
        pairs |= {name: (s[name], count) for name in s if name.startswith("coverage_")}
        with np.errstate(invalid="ignore"):
            means = {name: top.sum(1) / n.sum(1) for name, (top, n) in pairs.items()}
        return {"windows": s["windows"][:, 0], "count": count.sum(1), **means}

    def outputs(self) -> dict[str, np.ndarray]:
        """Some of the windows, evenly spread, as the model gave them (before data.bounds), and tables.

        A variate without any value in its look-back has NaN for a forecast.
        "where" [k, 2], "forecast", "target" [k, H, V] (scaled), "observed" [k, H, V] where a target is missing,
        "quantiles" [k, H, V, Q] and "levels" [Q]: at most `limit` bytes, but 8 windows in any case. "windows": how many
        were judged. "by_variate/NAME" [V] and "by_step/NAME" [H] for every metric and for "count", the values that it
        is a mean of; "by_level/below" [Q]: share of values at or below each quantile. Of several series
        "by_series/NAME" [S] for windows, count, mae, unit_mae, mase and coverage. Resampled ones also have
        "by_block/NAME" [K, 2], sum and count of each block of windows.
        """
        order = np.argsort(self.kept_indices, kind="stable")
        found = {name: np.concatenate(parts)[order] for name, parts in self.kept.items()}
        if "observed" in found and found["observed"].all():
            del found["observed"]
        found["windows"] = np.array(self.windows)
        for table, axis in (("by_variate", 0), ("by_step", 1)):
            found |= {f"{table}/{name}": value for name, value in self._means(axis).items()}
            if self.sums:
                found[f"{table}/count"] = self.sums["count"].sum(axis)
        found |= {f"by_series/{name}": value for name, value in self._series_means().items()}
        if self.blocks is not None:
            for name, (top, n) in self._pairs(self.blocks.table()).items():
                found[f"by_block/{name}"] = np.stack([top.sum(1), n.sum(1)], 1)
        if "crps" in self.sums:
            found["levels"] = np.array(self.levels)
            found["by_level/below"] = self.below_Q / max(1, self.sums["count"].sum())
        return found

    def _keep(self, indices: Sequence[int], part: Mapping[str, np.ndarray]) -> None:
        if self._chosen is None:
            self._chosen = self._spread(part["forecast"].shape[1:])
        numbers = np.asarray(indices, np.int64)
        mine = np.flatnonzero(self._chosen[numbers])
        if not len(mine):
            return
        self.kept_indices += numbers[mine].tolist()
        few = {name: value[mine] for name, value in part.items()}
        seen = _seen(few)
        observed = np.ones(few["target"].shape, bool) if seen is None else seen
        kept = {
            "where": few["where"],
            "forecast": few["forecast"].astype(np.float32),
            "target": np.where(observed, few["target"], 0).astype(np.float32),
            "observed": observed,
        }
        if "quantiles" in few and self.levels:
            kept["quantiles"] = few["quantiles"].astype(np.float32)
        empty_n1V = few["empty"][:, None]
        if empty_n1V.any():
            kept["forecast"] = np.where(empty_n1V, np.float32(np.nan), kept["forecast"])
        if empty_n1V.any() and "quantiles" in kept:
            kept["quantiles"] = np.where(
                empty_n1V[..., None], np.float32(np.nan), kept["quantiles"]
            )
        for name, value in kept.items():
            self.kept.setdefault(name, []).append(value)

    def _spread(self, shape: tuple[int, ...]) -> np.ndarray:
        """[windows of the split] True for those that outputs() will hold."""
        window = int(np.prod(shape)) * (4 + 4 + 1 + 4 * len(self.levels))
        count = min(self.size, max(FEWEST, self.limit // window))
        chosen = np.zeros(self.size, bool)
        chosen[np.linspace(0, self.size - 1, count).round().astype(np.int64)] = True
        return chosen


def _seen(part: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """[n, H, V] True where there is a target; None where all are there."""
    missing = np.isnan(part["target"])
    if "observed" in part:
        return part["observed"].astype(bool) & ~missing
    return ~missing if missing.any() else None


def _judged(part: Mapping[str, np.ndarray]) -> np.ndarray | None:
    """[n, H, V] True where there is a target, and a look-back to forecast it from; None where all are there."""
    seen, empty_n1V = _seen(part), part["empty"][:, None]
    if not empty_n1V.any():
        return seen
    return np.broadcast_to(~empty_n1V, part["target"].shape) & (True if seen is None else seen)


def seasonal_scale(
    data: WindowData, season: int, state: TimeseriesState | None = None
) -> np.ndarray:
    """[S, V] mean |y(t) - y(t - season)| over the training rows, in the data's units: the denominators of MASE.

    Of a series and variate that a run with this `state` was trained on, the run's own, so that a forecast has one
    MASE whatever file it is judged by; else they are read through. Pairs with a missing value don't count; NaN where
    there is no pair. A series with no more training rows than a season is compared with the row before; one without
    any, of which all is judged, by all its rows.
    """
    found = np.full((len(data.panel.series), len(data.variates)), np.nan)
    for series, stop in training_rows(data):
        name = str(data.panel.series[series].attrs.get("id", ""))
        known = {} if state is None else state.scale_of(name)
        if not known.keys() >= set(data.variates):
            found[series] = _scale_of(data, series, stop or data.reader.rows[series], season)
        for place, variate in enumerate(data.variates):
            found[series, place] = known.get(variate, found[series, place])
    return found


def training_rows(data: WindowData) -> list[tuple[int, int]]:
    """(series, row where its training ends) for every series."""
    return [(series, cut["train"][1]) for series, cut in enumerate(data.cuts)]


def _scale_of(data: WindowData, series: int, stop: int, season: int) -> np.ndarray:
    variates = len(data.variates)
    lag = season if stop > season else 1
    rows = max(1, _BLOCK // (8 * variates))
    total, count = np.zeros(variates), np.zeros(variates)
    for start in range(lag, stop, rows):
        block = data.reader.stored(series, "target", start - lag, min(stop, start + rows)).astype(
            np.float64
        )
        change = np.abs(block[lag:] - block[:-lag])
        total += np.nansum(change, 0)
        count += (~np.isnan(change)).sum(0)
    with np.errstate(invalid="ignore"):
        return total / count
