"""Conformal calibration: quantiles that hold what they promise, learned from the errors on validation.

Split conformal prediction (Vovk et al. 2005), of each level by itself, on the model's own quantiles where it has them
(conformalised quantile regression, Romano et al. 2019, the form that treats both tails separately) and on its point
forecast where it has none. Of n validation residuals "truth minus forecast", in order, the offset of a level q above
one half is the ceil((n + 1) q)-th, of one below the floor((n + 1) q)-th, of one half the median. If validation and what
comes are exchangeable, a value lies at or below the upper quantile with probability at least q, whatever the model and
n. Windows of one series overlap and drift, so there it is a good approximation, no guarantee.

A level at a step of a variate uses that step's and variate's residuals if at least 5 of them are expected beyond it
(n min(q, 1 - q) >= 5); else those of all the variate's steps; if that is still too few, of all steps and variates,
which are comparable because data are scaled. A missing target leaves no residual. Intervals of fewer than 20 windows
are called rough wherever they are shown (`Calibration.note`).

n windows, H steps, V variates, Q levels, R levels of the model's own quantiles.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isoform.core.errors import UserError
from isoform.core.supervised.conformal import ROUNDING, residual_quantile

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
BEYOND = 5  # residuals that should lie beyond a level
FEW = 20  # validation windows below which intervals are called rough


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is added to a model's quantiles, or to its point forecast; nothing where validation taught nothing."""

    levels: tuple[float, ...]  # ascending
    offsets_QHV: np.ndarray  # of scaled data
    pooled_QH: np.ndarray  # over the variates: for one that validation didn't have
    base: tuple[
        float, ...
    ]  # levels of the model's own quantiles; empty: the point forecast is calibrated
    windows: int | None = None  # that taught it; 0: none, None: not known (an older run)

    @classmethod
    def of(cls, arrays: Mapping[str, np.ndarray]) -> Calibration:
        """From what `arrays` gave: RunState.calibration."""
        levels, base = (
            tuple(float(level) for level in arrays[name]) for name in ("levels", "base")
        )
        windows = int(arrays["windows"]) if "windows" in arrays else None
        return cls(levels, arrays["offsets"], arrays["pooled"], base, windows)

    @classmethod
    def none(cls, levels: Sequence[float], steps: int) -> Calibration:
        """A model's own quantiles of `levels` at H steps as they are, of any variates."""
        shape = (len(levels), steps)
        zero_QH0, zero_QH = np.zeros((*shape, 0), np.float32), np.zeros(shape, np.float32)
        return cls(tuple(levels), zero_QH0, zero_QH, tuple(levels), 0)

    @property
    def note(self) -> str | None:
        """What a person should know of the intervals before trusting them; None where nothing is wrong."""
        if self.windows == 0:
            return (
                "this run has no calibration (no validation windows, stopped before its end, or calibration.npz is "
                "gone): the quantiles are the model's own"
            )
        if self.windows is not None and self.windows < FEW:
            return (
                f"the intervals were calibrated on {self.windows} validation window"
                f"{'' if self.windows == 1 else 's'}, fewer than {FEW}: take them as rough"
            )
        return None

    def arrays(self) -> dict[str, np.ndarray]:
        """Plain arrays: "levels" [Q], "offsets" [Q, H, V], "pooled" [Q, H], "base" [R], "windows" []."""
        found = {
            "levels": np.array(self.levels),
            "offsets": self.offsets_QHV,
            "pooled": self.pooled_QH,
            "base": np.array(self.base, dtype=np.float64),
        }
        return found if self.windows is None else found | {"windows": np.array(self.windows)}

    def of_variates(self, known: Sequence[str], wanted: Sequence[str]) -> Calibration:
        """For other variates than those validated (`known`), by name; one it doesn't know gets the pooled offsets."""
        place = {name: i for i, name in enumerate(known)} if self.offsets_QHV.shape[2] else {}
        columns = [
            self.offsets_QHV[:, :, place[name]] if name in place else self.pooled_QH
            for name in wanted
        ]
        return replace(self, offsets_QHV=np.stack(columns, 2))

    def refuse_outside(self, levels: Sequence[float]) -> None:
        """Raises UserError for a level beyond the outermost ones."""
        low, high = self.levels[0], self.levels[-1]
        for level in levels:
            if not low - 1e-9 <= level <= high + 1e-9:
                raise UserError(
                    f"quantile {level:g}: this run's quantiles go from {low:g} to {high:g}; ask for one between"
                )

    def apply(
        self,
        forecast_nHV: np.ndarray,
        quantiles_nHVR: np.ndarray | None = None,
        levels: Sequence[float] | None = None,
    ) -> np.ndarray:
        """[n, H, V, Q] calibrated quantiles (scaled) in ascending order; H may be shorter than what was calibrated.

        `levels`: others than its own are interpolated between theirs. Raises UserError for one that lies outside.
        """
        steps = forecast_nHV.shape[1]
        self.refuse_outside(levels or ())
        found = np.empty((*forecast_nHV.shape, len(self.levels)), np.float32)
        for i, level in enumerate(self.levels):
            found[..., i] = (
                _base(forecast_nHV, quantiles_nHVR, self.base, level) + self.offsets_QHV[i, :steps]
            )
        _uncross(found, self.levels)
        return found if levels is None else _interpolated(found, self.levels, levels)


def calibrate(
    outputs: Mapping[str, np.ndarray], base: Sequence[float] = (), levels: Sequence[float] = LEVELS
) -> dict[str, np.ndarray]:
    """The arrays of a `Calibration` at `levels` and at those of `base`, from the outputs of a validation.

    `outputs` are ForecastAccumulator's; its quantiles are of the levels `base`. Empty where nothing was observed.
    """
    found = fit(outputs, base, sorted({*levels, *base}))
    return {} if found is None else found.arrays()


def fit(
    outputs: Mapping[str, np.ndarray], base: Sequence[float] = (), levels: Sequence[float] = LEVELS
) -> Calibration | None:
    """A calibration at `levels`, ascending; None where nothing was observed."""
    target = outputs.get("target")
    if target is None or not target.size or not outputs.get("observed", np.True_).any():
        return None
    truth = np.where(outputs["observed"], target, np.nan) if "observed" in outputs else target
    windows = int(np.isfinite(truth - outputs["forecast"]).any((1, 2)).sum())
    if not windows:
        return None
    forecast, quantiles = outputs["forecast"], outputs.get("quantiles")
    base = tuple(base) if quantiles is not None else ()
    offsets, pooled = [], []
    residuals: _Residuals | None = None
    for level in levels:
        if residuals is None or base:  # one set of residuals serves all levels of a point forecast
            residuals = _Residuals(truth - _base(forecast, quantiles, base, level))
        at_HV, pooled_H = residuals.offsets(level)
        offsets.append(at_HV)
        pooled.append(pooled_H)
    return Calibration(
        tuple(levels),
        np.stack(offsets).astype(np.float32),
        np.stack(pooled).astype(np.float32),
        base,
        windows,
    )


class _Residuals:
    """Residuals [n, H, V], NaN where missing, in order: of each cell, each step, each variate, and all."""

    def __init__(self, residual_nHV: np.ndarray) -> None:
        steps = residual_nHV.shape[1]
        self.cell = np.sort(residual_nHV, axis=0)
        self.step = np.sort(self.cell.transpose(0, 2, 1).reshape(-1, steps), axis=0)

    @functools.cached_property
    def variate(self) -> np.ndarray:
        """[n * H, V]."""
        return np.sort(self.cell.reshape(-1, self.cell.shape[2]), axis=0)

    @functools.cached_property
    def all(self) -> np.ndarray:
        """[n * H * V, 1]."""
        return np.sort(self.cell.reshape(-1, 1), axis=0)

    def offsets(self, level: float) -> tuple[np.ndarray, np.ndarray]:
        """([H, V] of each cell, [H] for a variate that isn't among these), pooled where there are too few."""
        cell_HV, few_HV = _offset(self.cell, level)
        step_H, few_H = _offset(self.step, level)
        if few_HV.any():
            variate_V, few_V = _offset(self.variate, level)
            cell_HV = np.where(few_HV & ~few_V, variate_V, cell_HV)
            few_HV &= few_V
        if few_HV.any() or few_H.any():
            all_1, _ = _offset(self.all, level)
            cell_HV, step_H = np.where(few_HV, all_1, cell_HV), np.where(few_H, all_1, step_H)
        return cell_HV, step_H


def _offset(ordered: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """(The offset of a level along the first axis, True where too few residuals stand there to tell); NaN of none."""
    count = (~np.isnan(ordered)).sum(0)
    beyond = count * min(level, 1 - level)
    return residual_quantile(ordered, level), beyond < BEYOND - ROUNDING


def _base(
    forecast: np.ndarray, quantiles: np.ndarray | None, base: Sequence[float], level: float
) -> np.ndarray:
    """What an offset is added to: the model's quantile of the level, else between or beside its neighbours."""
    if not base:
        return forecast
    assert quantiles is not None and quantiles.shape[-1] == len(base), (
        "the quantiles are not those of the levels"
    )
    above = int(np.searchsorted(base, level - 1e-9))
    if above == 0 or above == len(base):
        return quantiles[..., min(above, len(base) - 1)]
    return _between(quantiles, base, above, level)


def _between(values: np.ndarray, levels: Sequence[float], above: int, level: float) -> np.ndarray:
    """Linear between the values of levels[above - 1] and levels[above]."""
    share = (level - levels[above - 1]) / (levels[above] - levels[above - 1])
    if abs(share - 1) < 1e-6:
        return values[..., above]
    return values[..., above - 1] * np.float32(1 - share) + values[..., above] * np.float32(share)


def _uncross(found: np.ndarray, levels: Sequence[float]) -> None:
    """Outwards from the middle no quantile turns back: that only widens intervals, where sorting could narrow one."""
    middle = int(np.argmin(np.abs(np.array(levels) - 0.5)))
    for i in range(middle + 1, len(levels)):
        np.maximum(found[..., i], found[..., i - 1], out=found[..., i])
    for i in range(middle - 1, -1, -1):
        np.minimum(found[..., i], found[..., i + 1], out=found[..., i])


def _interpolated(found: np.ndarray, known: Sequence[float], wanted: Sequence[float]) -> np.ndarray:
    result = np.empty((*found.shape[:-1], len(wanted)), np.float32)
    for i, level in enumerate(wanted):
        above = max(1, int(np.searchsorted(known, level - 1e-9)))
        result[..., i] = (
            found[..., 0] if above > len(known) - 1 else _between(found, known, above, level)
        )
    return result
