"""Our errors beside somebody else's on the same values, and whether one's are smaller by more than luck.

T origins in order of time, H steps, V variates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.timeseries.significance import Comparison, diebold_mariano, holm

SURE = 0.05
COLUMNS = ("forecaster", "values", "skill", "skill (rms)", "Diebold-Mariano", "p", "p (Holm)")


@dataclass(frozen=True)
class ComparisonResult:
    """What came out of a comparison on the cells that both forecast."""

    cells: int
    mae: float  # ours and theirs, each variate by its deviation
    their_mae: float
    skill_mae: float  # 1 - our error / theirs; infinite or NaN where they make none
    skill_rmse: float
    pooled: Comparison  # of absolute errors, mean over variates
    variates: tuple[Comparison, ...]
    adjusted: np.ndarray  # [V] Holm's p-values

    def sentences(self, name: str) -> list[str]:
        """What a person should know."""
        lines = [self._errors(name)]
        test = self.pooled
        if np.isnan(test.p):
            return [
                *lines,
                f"{test.n} origins are too few for a test (it needs more, or a smaller --step)",
            ]
        lines.append(_luck(test))
        sure = self.adjusted < SURE
        signs = np.array([one.statistic for one in self.variates])
        smaller, larger = int((sure & (signs < 0)).sum()), int((sure & (signs > 0)).sum())
        lines.append(
            f"by variate, beyond luck (5 %, Holm): smaller in {smaller}, larger in {larger} of {len(self.variates)}"
        )
        return lines

    def _errors(self, name: str) -> str:
        where = f"on {self.cells:,} values that both forecast"
        if self.mae == self.their_mae:
            both = (
                "both are without any error"
                if self.mae == 0
                else f"the absolute error is the same as that of {name}"
            )
            return f"{both}, {where}"
        if self.their_mae == 0:
            return (
                f"{name} is without any error {where}; this run is off by {self.mae:.4g} deviations on average. Does "
                "the file hold what came?"
            )
        if self.mae == 0:
            return f"this run is without any error {where}, {name} is off by {self.their_mae:.4g} deviations on average"
        return (
            f"the absolute error is {_size(self.mae / self.their_mae)} that of {name} (skill {self.skill_mae:.3g}; "
            f"{self.skill_rmse:.3g} by root mean square), {where}, each variate by its own deviation"
        )

    def row(self, name: str) -> list[Any]:
        """One line of a table of `COLUMNS`, without Holm's p; None where there is no such number."""
        test = self.pooled
        figures = self.skill_mae, self.skill_rmse, test.statistic, test.p
        return [name, self.cells, *(value if np.isfinite(value) else None for value in figures)]

    def to_json(self, variates: Sequence[str]) -> dict[str, Any]:
        """The same as JSON."""
        by_variate = {}
        for name, one, p in zip(variates, self.variates, self.adjusted, strict=True):
            by_variate[name] = {**_json(one), "p_holm": float(p)}
        figures = {
            "values": self.cells,
            "mae": self.mae,
            "their_mae": self.their_mae,
            "skill_mae": self.skill_mae,
            "skill_rmse": self.skill_rmse,
        }
        return {**figures, **_json(self.pooled), "by_variate": by_variate}


def rows_of(found: Mapping[str, ComparisonResult]) -> list[list[Any]]:
    """Lines of `COLUMNS`, one a forecaster; Holm's p is for all of them together."""
    adjusted = holm([one.pooled.p for one in found.values()])
    return [
        [*one.row(name), float(p) if np.isfinite(p) else None]
        for (name, one), p in zip(found.items(), adjusted, strict=True)
    ]


def _size(ratio: float) -> str:
    """ "12.3 % smaller than", "8.21 times": our error beside theirs."""
    if ratio >= 2:
        return f"{ratio:.3g} times"
    share = 100 * abs(1 - ratio)
    how = f"{share:.3g} %" if share >= 0.001 else "less than 0.001 %"
    return f"{how} {'smaller' if ratio < 1 else 'larger'} than"


def _luck(test: Comparison) -> str:
    if np.isinf(test.statistic):
        return f"the difference is the same at every one of {test.n} origins: more than luck would explain"
    verdict = "more than luck would explain" if test.p < SURE else "luck may explain it"
    p = f"p = {test.p:.2g}" if test.p >= 1e-6 else "p < 1e-6"
    return f"Diebold-Mariano {test.statistic:.2f}, {p} over {test.n} origins: {verdict}"


def _json(one: Comparison) -> dict[str, Any]:
    return {
        "diebold_mariano": one.statistic,
        "p": one.p,
        "origins": one.n,
        "lags": one.lags,
        "mean_difference": one.mean,
    }


class PairedComparison:
    """Sums over windows of our errors and theirs, on the values that both forecast and that came."""

    def __init__(self, origins: int, spread_V: np.ndarray) -> None:
        self.spread_V = spread_V
        shape = (origins, len(spread_V))
        self.difference_TV = np.zeros(shape)
        self.count_TV = np.zeros(shape, np.int64)
        self.sums = np.zeros((2, 2))  # ours and theirs; absolute and squared, scaled

    def add(
        self, origin: int, ours_HV: np.ndarray, theirs_HV: np.ndarray, truth_HV: np.ndarray
    ) -> None:
        """One window in units, NaN where there is nothing."""
        both = np.isfinite(ours_HV) & np.isfinite(theirs_HV) & np.isfinite(truth_HV)
        errors = [
            np.where(both, np.abs(one - truth_HV), 0) / self.spread_V
            for one in (ours_HV, theirs_HV)
        ]
        self.difference_TV[origin] += (errors[0] - errors[1]).sum(0)
        self.count_TV[origin] += both.sum(0)
        self.sums += [[error.sum(), (error**2).sum()] for error in errors]

    def result(self, name: str, lags: int) -> ComparisonResult:
        """Raises UserError where nothing was forecast by both; `name` says who they are."""
        cells = int(self.count_TV.sum())
        if not cells:
            raise UserError(
                f"--against {name}: no forecast there is of a stamp, variate and origin that was forecast here"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            each_TV = self.difference_TV / self.count_TV
            pooled_T = self.difference_TV.sum(1) / self.count_TV.sum(1)
            skill_mae, skill_mse = 1 - self.sums[0] / self.sums[1]
        variates = tuple(diebold_mariano(column, lags) for column in each_TV.T)
        return ComparisonResult(
            cells=cells,
            mae=float(self.sums[0, 0] / cells),
            their_mae=float(self.sums[1, 0] / cells),
            skill_mae=float(skill_mae),
            skill_rmse=float(1 - np.sqrt(np.maximum(1 - skill_mse, 0))),
            pooled=diebold_mariano(pooled_T, lags),
            variates=variates,
            adjusted=holm([one.p for one in variates]),
        )
