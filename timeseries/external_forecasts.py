"""Somebody else's forecasts of the same stamps, and whether ours are better by more than luck.

T origins in order of time, H steps, V variates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data import read
from isoform.timeseries.data.names import find_time
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.stamps import parse_stamps
from isoform.timeseries.data.table import read_columns
from isoform.timeseries.significance import Comparison, diebold_mariano, holm

# Names that a column may have, ours first.
_VARIATE = ("variate", "variable", "series", "unique_id", "target", "name")
_VALUE = ("value", "mean", "forecast", "prediction", "yhat", "y_hat")
_ORIGIN = ("origin", "cutoff", "issued", "forecast_origin")
_ID = ("id", "item_id")
_SURE = 0.05


class ExternalForecasts:
    """Forecasts in a file: stamp, variate and value; id where there are several series, and origin if it is known.

    A wide file (a column a variate) will do. `origin` is the last stamp that a forecast knew; a forecast without one is
    compared with each of ours of that stamp. Raises UserError for a file without these columns, or of which nothing
    meets the panel's stamps and names.
    """

    def __init__(self, path: str | Path, panel: Panel) -> None:
        self.path, self.panel = Path(path), panel
        if not self.path.exists():
            raise UserError(f"{path}: no such file (--against)")
        table = self._table()
        # Rows that can be placed: series, variate, row, value and the row of the origin (-1 without one).
        self.by_origin = bool((table["origin"] >= 0).any())
        self.rows = len(table)
        self.lookup: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for key, part in table.groupby(["series", "origin"], sort=False):
            number, origin = (int(one) for one in key)
            rows, columns, values = (part[name].to_numpy() for name in ("row", "variate", "value"))
            self.lookup[number, origin] = rows, columns, values
        self._dense: dict[int, np.ndarray] = {}

    def of(self, series: int, row: int, horizon: int) -> np.ndarray:
        """[H, V] their values for the window whose first step is `row`, NaN where there is none."""
        variates = len(self.panel.variates)
        if not self.by_origin:
            if series not in self._dense:
                held = np.full((int(self.panel.series[series].attrs["rows"]), variates), np.nan)
                rows, columns, values = self.lookup.get((series, -1), (np.zeros(0, int),) * 3)
                held[rows, columns] = values
                self._dense = {series: held}
            return self._dense[series][row : row + horizon]
        found = np.full((horizon, variates), np.nan)
        if (series, row - 1) in self.lookup:
            rows, columns, values = self.lookup[series, row - 1]
            mine = (rows >= row) & (rows < row + horizon)
            found[rows[mine] - row, columns[mine]] = values[mine]
        return found

    # Reading -----------------------------------------------------------------------------------

    def _table(self) -> pd.DataFrame:
        kind, settings = read.kind_of(self.path), DataConfig(path=str(self.path))
        if kind in ("netcdf", "zarr"):
            raise UserError(f"{self.path}: --against reads .csv, .parquet and .xlsx")
        table = read_columns(self.path, settings)
        frame = table.frame
        origin = _named(frame, _ORIGIN)
        time = find_time([name for name in map(str, frame) if name != origin], settings, table.where)
        if not time:
            raise UserError(f"{self.path}: no column is called stamp, date or time; it has {_few(frame)}")
        rest = frame.drop(columns=list(time))
        long = self._long(rest, origin)
        found = pd.DataFrame({name: long[name] for name in ("series", "variate", "value")})
        stamps = self._instants([frame[name] for name in time], long, table.where)
        found["origin"] = -1
        if origin is not None:
            issued = self._instants([frame[origin]], long, table.where)
            # Of an hour that the clock shows twice, a repeated origin doesn't say which: such a forecast is left out.
            found["origin"] = self._rows(long, np.where(issued[0] == issued[1], issued[0], np.datetime64("NaT", "ns")))
            codes = pd.factorize(pd.MultiIndex.from_arrays([long["series"], long["variate"], issued[0]]))[0]
        else:
            codes = pd.factorize(pd.MultiIndex.from_arrays([long["series"], long["variate"]]))[0]
        found["row"] = self._rows(long, self._in_order(stamps, codes, found["origin"].to_numpy(), long))
        keep = (found["row"] >= 0) & (found["variate"] >= 0) & (found["series"] >= 0) & np.isfinite(found["value"])
        if origin is not None:
            keep &= found["origin"] >= 0
        if not keep.any():
            first, last = (str(self.panel.local(pd.DatetimeIndex([t]))[0]) for t in self._span())
            names = ", ".join(self.panel.variates[:3])
            raise UserError(
                f"{self.path}: none of its {len(found):,} forecasts meets a row of {self.panel.origin} ({names}, ...; "
                f"{first} to {last}); it needs the same names and stamps"
            )
        found = found[keep]
        double = found.duplicated(["series", "variate", "row", "origin"])
        if double.any():
            one = found[double].iloc[0]
            stamp = self.panel.series[int(one["series"])].time.values[int(one["row"])]
            more = "" if origin is not None else "; add a column origin, the last stamp that a forecast knew"
            raise UserError(
                f"{self.path}: holds several forecasts of {self.panel.variates[int(one['variate'])]} at "
                f"{self.panel.local(pd.DatetimeIndex([stamp]))[0]}{more}"
            )
        return found

    def _long(self, frame: pd.DataFrame, origin: str | None) -> dict[str, np.ndarray]:
        """at (row of the file), series, variate (-1: unknown) and value of every forecast."""
        places = {name: i for i, name in enumerate(self.panel.variates)}
        rows = np.arange(len(frame))
        ids = _named(frame, _ID)
        names = {str(one.attrs.get("id", "")): i for i, one in enumerate(self.panel)}
        series = np.zeros(len(frame), int)
        if len(self.panel.series) > 1:
            if ids is None:
                raise UserError(f"{self.path}: has no column id, and {self.panel.origin} holds {len(names)} series")
            series = frame[ids].astype(str).map(names).fillna(-1).to_numpy(int)
        variate, value = _named(frame, _VARIATE), _named(frame, _VALUE)
        if value is not None and (variate is not None or len(places) == 1):
            which = np.zeros(len(frame), int)
            if variate is not None:
                which = frame[variate].astype(str).map(places).fillna(-1).to_numpy(int)
            return {"at": rows, "series": series, "variate": which, "value": _numbers(frame[value])}
        wide = [name for name in map(str, frame) if name in places]
        if not wide:
            raise UserError(
                f"{self.path}: needs the columns stamp, variate and value, or a column for each variate of "
                f"{self.panel.origin}; it has {_few(frame)}"
            )
        return {
            "at": np.tile(rows, len(wide)),
            "series": np.tile(series, len(wide)),
            "variate": np.repeat([places[name] for name in wide], len(rows)),
            "value": np.concatenate([_numbers(frame[name]) for name in wide]),
        }

    def _instants(
        self, columns: Sequence[pd.Series], long: dict[str, np.ndarray], where: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Instants of every forecast on the panel's clock; twice, differing where its clock shows an hour twice."""
        stamps = parse_stamps(columns, where)
        if stamps.zoned and self.panel.tz is None:
            raise UserError(f"{where}: its stamps have an offset and those of {self.panel.origin} have none")
        time = stamps.time[long["at"]]
        if self.panel.tz is None or stamps.zoned:
            return time, time
        wall = pd.DatetimeIndex(time)
        first, second = (
            wall.tz_localize(self.panel.tz, ambiguous=np.full(len(wall), summer), nonexistent="NaT")
            .tz_convert("UTC")
            .tz_localize(None)
            .to_numpy()
            .astype("M8[ns]")
            for summer in (True, False)
        )
        return first, second

    def _in_order(
        self, stamps: tuple[np.ndarray, np.ndarray], codes: np.ndarray, origin: np.ndarray, long: dict[str, np.ndarray]
    ) -> np.ndarray:
        """Which of the two instants a stamp means: the later one where it is the second of its forecast (`codes`), or
        where the earlier one was known already."""
        first, second = stamps
        later = np.zeros(len(first), bool)
        double = np.flatnonzero(first != second)
        if len(double):
            later[double] = pd.DataFrame({"code": codes[double], "time": first[double]}).duplicated().to_numpy()
            for number, one in enumerate(self.panel):
                mine = double[(long["series"][double] == number) & (origin[double] >= 0)]
                later[mine] |= first[mine] <= one.time.values[origin[mine]]
        return np.where(later, second, first)

    def _rows(self, long: dict[str, np.ndarray], time: np.ndarray) -> np.ndarray:
        """The panel's row of every instant, -1 for none."""
        found = np.full(len(time), -1)
        for number, one in enumerate(self.panel):
            mine = long["series"] == number
            index = pd.Index(one.time.values[: int(one.attrs["rows"])])
            found[mine] = index.get_indexer(pd.Index(time[mine]))
        return found

    def _span(self) -> tuple[np.datetime64, np.datetime64]:
        ends = [one.time.values[[0, int(one.attrs["rows"]) - 1]] for one in self.panel]
        return min(end[0] for end in ends), max(end[1] for end in ends)


def _named(frame: pd.DataFrame, names: Sequence[str]) -> str | None:
    taken = {str(name).strip().lower(): str(name) for name in reversed(list(frame))}
    return next((taken[name] for name in names if name in taken), None)


def _numbers(column: pd.Series) -> np.ndarray:
    return np.asarray(pd.to_numeric(column, errors="coerce"), np.float64)


def _few(frame: pd.DataFrame) -> str:
    names = list(map(str, frame))
    return ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")


@dataclass(frozen=True)
class ComparisonResult:
    """What came out of a comparison on the cells that both forecast."""

    cells: int
    skill_mae: float  # 1 - our error / theirs, each variate by its deviation
    skill_rmse: float
    pooled: Comparison  # of absolute errors, mean over variates
    variates: tuple[Comparison, ...]
    adjusted: np.ndarray  # [V] Holm's p-values

    def sentences(self, name: str) -> list[str]:
        """What a person should know."""
        better = self.skill_mae >= 0
        how = f"{abs(self.skill_mae):.1%} {'smaller' if better else 'larger'} than that of {name}"
        lines = [
            f"the absolute error is {how} (skill {self.skill_mae:.3f}; {self.skill_rmse:.3f} by root mean square), on "
            f"{self.cells:,} values that both forecast, each variate by its own deviation"
        ]
        if self.pooled.p != self.pooled.p:
            lines.append(f"{self.pooled.n} origins are too few for a test (it needs more, or a smaller --step)")
            return lines
        verdict = "more than luck would explain" if self.pooled.p < _SURE else "luck may explain it"
        dm = self.pooled
        p = f"p = {dm.p:.2g}" if dm.p >= 1e-6 else "p < 1e-6"
        lines.append(f"Diebold-Mariano {dm.statistic:.2f}, {p} over {dm.n} origins: {verdict}")
        sure = self.adjusted < _SURE
        signs = np.array([one.statistic for one in self.variates])
        lines.append(
            f"by variate, beyond luck (5 %, Holm): smaller in {int((sure & (signs < 0)).sum())}, larger in "
            f"{int((sure & (signs > 0)).sum())} of {len(signs)}"
        )
        return lines

    def to_json(self, variates: Sequence[str]) -> dict[str, Any]:
        """The same as JSON."""
        each = zip(variates, self.variates, self.adjusted, strict=True)
        return {
            "values": self.cells,
            "skill_mae": self.skill_mae,
            "skill_rmse": self.skill_rmse,
            **_json(self.pooled),
            "by_variate": {name: {**_json(one), "p_holm": float(p)} for name, one, p in each},
        }


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
        self.spread = spread_V
        shape = (origins, len(spread_V))
        self.difference, self.count = np.zeros(shape), np.zeros(shape, np.int64)
        self.sums = np.zeros((2, 2))  # ours and theirs; absolute and squared, scaled

    def add(self, origin: int, ours: np.ndarray, theirs: np.ndarray, truth: np.ndarray) -> None:
        """One window, each [H, V] in units, NaN where there is nothing."""
        both = np.isfinite(ours) & np.isfinite(theirs) & np.isfinite(truth)
        errors = [np.where(both, np.abs(one - truth), 0) / self.spread for one in (ours, theirs)]
        self.difference[origin] += (errors[0] - errors[1]).sum(0)
        self.count[origin] += both.sum(0)
        self.sums += [[error.sum(), (error**2).sum()] for error in errors]

    def verdict(self, lags: int) -> ComparisonResult:
        """Raises UserError where nothing was forecast by both."""
        cells = int(self.count.sum())
        if not cells:
            raise UserError("--against: no forecast there is of a stamp, variate and origin that was forecast here")
        with np.errstate(invalid="ignore", divide="ignore"):
            each_TV = self.difference / self.count
            pooled_T = self.difference.sum(1) / self.count.sum(1)
            skill_mae, skill_mse = 1 - self.sums[0] / self.sums[1]
        variates = tuple(diebold_mariano(column, lags) for column in each_TV.T)
        return ComparisonResult(
            cells,
            float(skill_mae),
            float(1 - np.sqrt(max(1 - skill_mse, 0))),
            diebold_mariano(pooled_T, lags),
            variates,
            holm([one.p for one in variates]),
        )
