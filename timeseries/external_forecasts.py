"""Somebody else's forecasts of the same stamps, and whether ours are better by more than luck.

T origins in order of time, H steps, V variates, n forecasts of a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.names import find_time
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.read import kind_of
from isoform.timeseries.data.stamps import parse_stamps
from isoform.timeseries.data.table import Table, read_columns
from isoform.timeseries.significance import Comparison, diebold_mariano, holm

# Names that a column may have, ours first.
_VARIATE = ("variate", "variable", "series", "unique_id", "target", "name")
_VALUE = ("value", "mean", "forecast", "prediction", "yhat", "y_hat")
_ORIGIN = ("origin", "cutoff", "issued", "forecast_origin")
_ID = ("id", "item_id")
_SURE = 0.05
_SHOWN = 8  # columns in a sentence


class ExternalForecasts:
    """Forecasts in a file: stamp, variate and value; id where there are several series, and origin if it is known.

    A wide file (a column a variate) will do. `origin` is the last stamp that a forecast knew; a forecast without one is
    compared with each of ours of that stamp. Raises UserError for a file without these columns, or of which nothing
    meets the panel's stamps and names.
    """

    def __init__(self, path: str | Path, panel: Panel) -> None:
        placed = _read_placed(Path(path), panel)
        self.panel = panel
        self.by_origin = bool((placed["origin"] >= 0).any())
        self.rows = len(placed)
        # (series, row of the origin; -1 without one) -> rows, variates and values
        self.lookup: dict[tuple[int, int], tuple[np.ndarray, np.ndarray, np.ndarray]] = {}
        for (number, origin), part in placed.groupby(["series", "origin"], sort=False):
            columns = part["row"].to_numpy(), part["variate"].to_numpy(), part["value"].to_numpy()
            self.lookup[int(number), int(origin)] = columns
        self._whole: dict[int, np.ndarray] = {}  # the series asked for last: [rows, V]

    def window(self, series: int, row: int, horizon: int) -> np.ndarray:
        """[H, V] their values for the window whose first step is `row`, NaN where there is none."""
        if not self.by_origin:
            return self._series(series)[row : row + horizon]
        found = np.full((horizon, len(self.panel.variates)), np.nan)
        if (series, row - 1) in self.lookup:
            rows, variates, values = self.lookup[series, row - 1]
            mine = (rows >= row) & (rows < row + horizon)
            found[rows[mine] - row, variates[mine]] = values[mine]
        return found

    def _series(self, series: int) -> np.ndarray:
        if series not in self._whole:
            values = np.full((self.panel.rows[series], len(self.panel.variates)), np.nan)
            if (series, -1) in self.lookup:
                rows, variates, given = self.lookup[series, -1]
                values[rows, variates] = given
            self._whole = {series: values}
        return self._whole[series]


# Reading --------------------------------------------------------------------------------------------------------------


class _Long(NamedTuple):
    """Forecasts [n] of a file, one a line however the file has them.

    at       row of the file                       value   what is forecast
    series, variate   their number in the panel, -1: none of its
    """

    at: np.ndarray
    series: np.ndarray
    variate: np.ndarray
    value: np.ndarray


class _Instants(NamedTuple):
    """Two instants [n] of every forecast, which differ where the panel's clock shows an hour twice."""

    first: np.ndarray
    second: np.ndarray


def _read_placed(path: Path, panel: Panel) -> pd.DataFrame:
    """series, variate, row, origin (-1: none) and value of the forecasts that meet the panel."""
    if not path.exists():
        raise UserError(f"{path}: no such file (--against)")
    if kind_of(path) in ("netcdf", "zarr"):
        raise UserError(f"{path}: --against reads .csv, .parquet and .xlsx")
    settings = DataConfig(path=str(path))
    table = read_columns(path, settings)
    origin = _named(table, _ORIGIN)
    time = find_time([name for name in table.names if name != origin], settings, table.where)
    if not time:
        raise UserError(
            f"{path}: no column is called stamp, date or time; it has {join_names(table.names, _SHOWN)}"
        )
    long = _as_long(table, panel, {*time, origin})
    placed = _place(table, panel, long, time, origin)
    known = (placed[["series", "variate", "row"]] >= 0).all(axis=1) & np.isfinite(placed["value"])
    if origin is not None:
        known &= placed["origin"] >= 0
    if not known.any():
        raise UserError(_meets_nothing(path, panel, len(placed)))
    placed = placed[known]
    _refuse_doubles(path, panel, placed, origin is not None)
    return placed


def _place(
    table: Table, panel: Panel, long: _Long, time: Sequence[str], origin: str | None
) -> pd.DataFrame:
    stamps = _instants_of(table, panel, long, time)
    origins = np.full(len(long.at), -1)
    keys = [long.series, long.variate]
    if origin is not None:
        issued = _instants_of(table, panel, long, [origin])
        # Of an hour that the clock shows twice, a repeated origin doesn't say which: such a forecast is left out.
        sure = np.where(issued.first == issued.second, issued.first, np.datetime64("NaT", "ns"))
        origins = _rows_of(panel, long.series, sure)
        keys.append(issued.first)
    forecast = pd.factorize(pd.MultiIndex.from_arrays(keys))[0]
    rows = _rows_of(
        panel, long.series, _choose_instants(stamps, forecast, origins, long.series, panel)
    )
    columns = {
        "series": long.series,
        "variate": long.variate,
        "value": long.value,
        "origin": origins,
        "row": rows,
    }
    return pd.DataFrame(columns)


def _as_long(table: Table, panel: Panel, taken: set[str | None]) -> _Long:
    rows = np.arange(len(table.frame))
    series = _series_of(table, panel)
    places = {name: place for place, name in enumerate(panel.variates)}
    variate, value = _named(table, _VARIATE), _named(table, _VALUE)
    if value is not None and variate is not None:
        return _Long(rows, series, _numbers_in(table, variate, places), _values(table, value))
    if value is not None and len(places) == 1:
        return _Long(rows, series, np.zeros(len(rows), int), _values(table, value))
    wide = [name for name in table.names if name in places and name not in taken]
    if not wide:
        raise UserError(
            f"{table.where}: needs the columns stamp, variate and value, or a column for each variate of "
            f"{panel.name}; it has {join_names(table.names, _SHOWN)}"
        )
    variates = np.repeat([places[name] for name in wide], len(rows))
    values = np.concatenate([_values(table, name) for name in wide])
    return _Long(np.tile(rows, len(wide)), np.tile(series, len(wide)), variates, values)


def _series_of(table: Table, panel: Panel) -> np.ndarray:
    """The number of the series of every row of the file."""
    if len(panel.series) == 1:
        return np.zeros(len(table.frame), int)
    ids = _named(table, _ID)
    if ids is None:
        raise UserError(
            f"{table.where}: has no column id, and {panel.name} holds {len(panel.series)} series"
        )
    return _numbers_in(
        table, ids, {str(one.attrs.get("id", "")): number for number, one in enumerate(panel)}
    )


def _instants_of(table: Table, panel: Panel, long: _Long, columns: Sequence[str]) -> _Instants:
    """On the panel's clock."""
    stamps = parse_stamps([table.frame[name] for name in columns], table.where)
    if stamps.zoned and panel.tz is None:
        raise UserError(
            f"{table.where}: its stamps have an offset and those of {panel.name} have none"
        )
    time = stamps.time[long.at]
    if panel.tz is None or stamps.zoned:
        return _Instants(time, time)
    wall = pd.DatetimeIndex(time)
    return _Instants(_in_utc(wall, panel.tz, summer=True), _in_utc(wall, panel.tz, summer=False))


def _in_utc(wall: pd.DatetimeIndex, zone: str, *, summer: bool) -> np.ndarray:
    """Of an hour that the clock shows twice, the one before (summer) or after it was set back."""
    local = wall.tz_localize(zone, ambiguous=np.full(len(wall), summer), nonexistent="NaT")
    return local.tz_convert("UTC").tz_localize(None).to_numpy().astype("M8[ns]")


def _choose_instants(
    stamps: _Instants, forecast: np.ndarray, origins: np.ndarray, series: np.ndarray, panel: Panel
) -> np.ndarray:
    """Which of its two instants a stamp means.

    The later one where it is the second of its forecast (`forecast` numbers them), or where the earlier one was known
    already.
    """
    later = np.zeros(len(forecast), bool)
    double = np.flatnonzero(stamps.first != stamps.second)
    if len(double):
        pairs = pd.DataFrame({"forecast": forecast[double], "time": stamps.first[double]})
        later[double] = pairs.duplicated().to_numpy()
    for number, one in enumerate(panel):
        mine = double[(series[double] == number) & (origins[double] >= 0)]
        later[mine] |= stamps.first[mine] <= one.time.values[origins[mine]]
    return np.where(later, stamps.second, stamps.first)


def _rows_of(panel: Panel, series: np.ndarray, time: np.ndarray) -> np.ndarray:
    """The panel's row of every instant [n], -1 for none."""
    found = np.full(len(time), -1)
    for number, one in enumerate(panel):
        mine = series == number
        index = pd.Index(one.time.values[: panel.rows[number]])
        found[mine] = index.get_indexer(pd.Index(time[mine]))
    return found


def _meets_nothing(path: Path, panel: Panel, count: int) -> str:
    firsts = [one.time.values[0] for one in panel]
    lasts = [one.time.values[rows - 1] for one, rows in zip(panel, panel.rows, strict=True)]
    first, last = panel.local(pd.DatetimeIndex([min(firsts), max(lasts)]))
    names = ", ".join(panel.variates[:3])
    return (
        f"{path}: none of its {count:,} forecasts meets a row of {panel.name} ({names}, ...; {first} to {last}); it "
        "needs the same names and stamps"
    )


def _refuse_doubles(path: Path, panel: Panel, placed: pd.DataFrame, by_origin: bool) -> None:
    """Raises UserError where a value is forecast twice, from one origin if there are origins."""
    double = placed.duplicated(["series", "variate", "row", "origin"])
    if not double.any():
        return
    one = placed[double].iloc[0]
    instant = panel.series[int(one["series"])].time.values[int(one["row"])]
    stamp = panel.local(pd.DatetimeIndex([instant]))[0]
    more = "" if by_origin else "; add a column origin, the last stamp that a forecast knew"
    raise UserError(
        f"{path}: holds several forecasts of {panel.variates[int(one['variate'])]} at {stamp}{more}"
    )


def _named(table: Table, names: Sequence[str]) -> str | None:
    """The first column of one of these names, in whatever case."""
    columns = {name.strip().lower(): name for name in reversed(table.names)}
    return next((columns[name] for name in names if name in columns), None)


def _numbers_in(table: Table, column: str, places: dict[str, int]) -> np.ndarray:
    """The number of each cell's text, -1 for an unknown one."""
    return table.frame[column].astype(str).map(places).fillna(-1).to_numpy(int)


def _values(table: Table, column: str) -> np.ndarray:
    cells = table.frame[column]
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return np.asarray(cells.to_numpy(dtype=np.float64, na_value=np.nan))
    return table.read_text(column).values


# Comparing ------------------------------------------------------------------------------------------------------------


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
        word = "smaller" if self.skill_mae >= 0 else "larger"
        how = f"{abs(self.skill_mae):.1%} {word} than that of {name}"
        lines = [
            f"the absolute error is {how} (skill {self.skill_mae:.3f}; {self.skill_rmse:.3f} by root mean square), on "
            f"{self.cells:,} values that both forecast, each variate by its own deviation"
        ]
        test = self.pooled
        if np.isnan(test.p):
            return [
                *lines,
                f"{test.n} origins are too few for a test (it needs more, or a smaller --step)",
            ]
        verdict = "more than luck would explain" if test.p < _SURE else "luck may explain it"
        p = f"p = {test.p:.2g}" if test.p >= 1e-6 else "p < 1e-6"
        lines.append(f"Diebold-Mariano {test.statistic:.2f}, {p} over {test.n} origins: {verdict}")
        sure = self.adjusted < _SURE
        signs = np.array([one.statistic for one in self.variates])
        smaller, larger = int((sure & (signs < 0)).sum()), int((sure & (signs > 0)).sum())
        lines.append(
            f"by variate, beyond luck (5 %, Holm): smaller in {smaller}, larger in {larger} of {len(self.variates)}"
        )
        return lines

    def to_json(self, variates: Sequence[str]) -> dict[str, Any]:
        """The same as JSON."""
        by_variate = {}
        for name, one, p in zip(variates, self.variates, self.adjusted, strict=True):
            by_variate[name] = {**_json(one), "p_holm": float(p)}
        figures = {"values": self.cells, "skill_mae": self.skill_mae, "skill_rmse": self.skill_rmse}
        return {**figures, **_json(self.pooled), "by_variate": by_variate}


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

    def result(self, lags: int) -> ComparisonResult:
        """Raises UserError where nothing was forecast by both."""
        cells = int(self.count_TV.sum())
        if not cells:
            raise UserError(
                "--against: no forecast there is of a stamp, variate and origin that was forecast here"
            )
        with np.errstate(invalid="ignore", divide="ignore"):
            each_TV = self.difference_TV / self.count_TV
            pooled_T = self.difference_TV.sum(1) / self.count_TV.sum(1)
            skill_mae, skill_mse = 1 - self.sums[0] / self.sums[1]
        variates = tuple(diebold_mariano(column, lags) for column in each_TV.T)
        return ComparisonResult(
            cells=cells,
            skill_mae=float(skill_mae),
            skill_rmse=float(1 - np.sqrt(max(1 - skill_mse, 0))),
            pooled=diebold_mariano(pooled_T, lags),
            variates=variates,
            adjusted=holm([one.p for one in variates]),
        )
