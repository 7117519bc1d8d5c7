"""Somebody else's forecasts of the same stamps, in the forms that people and libraries write them in.

    stamp, variate, value               one a line; with id (or the run's own columns of ids) where there are several
                                        series, and origin where it is known
    stamp, north, south                 wide: a column a variate, or a series
    unique_id, ds, cutoff, y, AutoETS   Nixtla's: a column a model (and its MODEL-lo-80, MODEL-hi-80), y is the truth
    ds, yhat, yhat_lower, yhat_upper    Prophet's

H steps, V variates, n forecasts of a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.clock import NAT, instants
from isoform.timeseries.data.ids import JOINT
from isoform.timeseries.data.names import find_time
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.read import kind_of
from isoform.timeseries.data.stamps import parse_stamps
from isoform.timeseries.data.table import Table, read_columns

# Names that a column may have, ours first.
_VARIATE = ("variate", "variable", "series", "unique_id", "target", "name")
_VALUE = ("value", "mean", "forecast", "prediction", "yhat", "y_hat")
_ORIGIN = ("origin", "cutoff", "issued", "forecast_origin")
_ID = ("id", "item_id")
_UNIQUE = "unique_id"
_STEP = ("lead", "step", "horizon", "h", "fold", "window")
_TRUTH = "y"  # beside the models of Nixtla
_INDEX = re.compile(r"column \d+|index|level_\d+|unnamed: \d+")  # what pandas writes unasked
_BOUND = re.compile(r"-(lo|hi|ql?)-?[\d.]+$|_(lower|upper)$")  # of an interval: no forecast
_SHOWN = 8  # columns in a sentence


def read_forecasts(
    path: str | Path, panel: Panel, ids: Sequence[str] = ()
) -> dict[str, ExternalForecasts]:
    """{name of a model, or of the file where it doesn't say: its forecasts}, in the file's order.

    `ids` are the columns that name the panel's series in a file of its own, which this one may have too.
    `origin` is the last stamp that a forecast knew; a forecast without one is compared with each of ours of that stamp.
    Raises UserError for a file without the columns of any form, or of which nothing meets the panel's stamps and names.
    """
    path = Path(path)
    table = _with_one_name(_table(path), panel, ids)
    origin = _named(table, _ORIGIN)
    time = find_time(
        [name for name in table.names if name != origin], DataConfig(path=str(path)), table.where
    )
    if not time:
        raise UserError(
            f"{path}: no column is called stamp, date or time; it has {join_names(table.names, _SHOWN)}"
        )
    return {
        name or path.name: ExternalForecasts(
            panel, _meeting(path, name, panel, table, long, time, origin)
        )
        for name, long in _as_long(table, panel, {*time, origin}).items()
    }


class ExternalForecasts:
    """One forecaster's values: a table of series, variate, row, origin (a row, -1: none) and value."""

    def __init__(self, panel: Panel, placed: pd.DataFrame) -> None:
        self.panel = panel
        self.by_origin = bool((placed["origin"] >= 0).any())
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


def _table(path: Path) -> Table:
    if not path.exists():
        raise UserError(f"{path}: no such file (--against)")
    if kind_of(path) in ("netcdf", "zarr"):
        raise UserError(f"{path}: --against reads .csv, .parquet and .xlsx")
    return read_columns(path, DataConfig(path=str(path)))


def _with_one_name(table: Table, panel: Panel, ids: Sequence[str]) -> Table:
    """The table with a column id, or variate where ids are variates, in place of its columns of ids, if it has them."""
    if not ids or not set(ids) <= set(table.names):
        return table
    named = [JOINT.join(cells) for cells in zip(*(_texts(table, one) for one in ids), strict=True)]
    kept, column = table.frame.drop(columns=list(ids)), _named(table, _VARIATE)
    if len(panel.series) > 1:
        kept["id"] = named
    else:
        more = named if column is None else _texts(table, column)
        kept["variate"] = [
            one if one in panel.variates else f"{one}{JOINT}{other}"
            for one, other in zip(named, more, strict=True)
        ]
    return replace(read_columns(kept, DataConfig()), where=table.where)


def _meeting(
    path: Path,
    name: str,
    panel: Panel,
    table: Table,
    long: _Long,
    time: Sequence[str],
    origin: str | None,
) -> pd.DataFrame:
    """series, variate, row, origin (-1: none) and value of the forecasts that meet the panel."""
    placed = _place(table, panel, long, time, origin)
    known = (placed[["series", "variate", "row"]] >= 0).all(axis=1) & np.isfinite(placed["value"])
    if origin is not None:
        known &= placed["origin"] >= 0
    who = f"{path} ({name})" if name else str(path)
    if not known.any():
        raise UserError(_meets_nothing(who, panel, len(placed)))
    placed = placed[known]
    _refuse_doubles(who, panel, placed, origin is not None)
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
        sure = np.where(issued.first == issued.second, issued.first, NAT)
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


def _as_long(table: Table, panel: Panel, taken: set[str | None]) -> dict[str, _Long]:
    """{name of a model, "" where the file has none: its forecasts}."""
    value, one_series = _named(table, _VALUE), len(panel.series) == 1
    nameless = one_series and len(panel.variates) > 1 and _named(table, _VARIATE) is None
    if value is not None and not nameless:
        return {"": _of_column(table, panel, value)}
    columns = [
        name for name in table.names if name not in taken and not _INDEX.fullmatch(name.lower())
    ]
    wide = [name for name in columns if name in _wide_names(table, panel)]
    models = [name for name in columns if name not in wide and _is_model(table, name)]
    truth = {_TRUTH}
    if len(panel.variates) == 1 and _named(table, (_UNIQUE,)) is not None:
        truth |= {*panel.variates}
    if models and set(wide) <= truth:
        return {name: _of_column(table, panel, name) for name in models}
    if not wide:
        raise UserError(
            f"{table.where}: needs the columns stamp, variate and value, or a column for each variate of "
            f"{panel.name}, or for each model beside unique_id and ds; it has {join_names(table.names, _SHOWN)}"
        )
    return {"": _of_wide(table, panel, wide)}


def _is_model(table: Table, name: str) -> bool:
    """Whether a column holds the forecasts of the model that it is called by."""
    label = name.strip().lower()
    named = label in (_TRUTH, *_VARIATE, *_ID, *_ORIGIN, *_STEP) or _BOUND.search(label) is not None
    return not named and pd.api.types.is_numeric_dtype(table.frame[name].dtype)


def _of_column(table: Table, panel: Panel, value: str) -> _Long:
    """Of a file with one forecast a row."""
    series, variate = _places_of_rows(table, panel)
    return _Long(np.arange(len(series)), series, variate, _values(table, value))


def _of_wide(table: Table, panel: Panel, wide: Sequence[str]) -> _Long:
    """Of a file with a forecast of every variate, or series, in a row."""
    rows = np.arange(len(table.frame))
    names = _wide_names(table, panel)
    ids = None if len(panel.series) == 1 else _named(table, (*_ID, _UNIQUE))
    if ids is None:
        series = np.repeat([names[name][0] for name in wide], len(rows))
    else:
        series = np.tile(_numbers_in(table, ids, _ids_of(panel)), len(wide))
    variates = np.repeat([names[name][1] for name in wide], len(rows))
    values = np.concatenate([_values(table, name) for name in wide])
    return _Long(np.tile(rows, len(wide)), series, variates, values)


def _wide_names(table: Table, panel: Panel) -> Mapping[str, tuple[int, int]]:
    """(series, variate) that a column of a wide file is of, by its name."""
    if len(panel.series) > 1 and _named(table, (*_ID, _UNIQUE)) is not None:
        return {name: (0, place) for place, name in enumerate(panel.variates)}
    return _names_of(panel)


def _names_of(panel: Panel) -> dict[str, tuple[int, int]]:
    """{what may be called a series of one variate: (series, variate)}: variate, id, or id/variate."""
    if len(panel.series) == 1:
        return {name: (0, place) for place, name in enumerate(panel.variates)}
    found = {
        f"{id}/{name}": (number, place)
        for id, number in _ids_of(panel).items()
        for place, name in enumerate(panel.variates)
    }
    if len(panel.variates) == 1:
        found |= {id: (number, 0) for id, number in _ids_of(panel).items()}
    return found


def _ids_of(panel: Panel) -> dict[str, int]:
    return {str(one.attrs.get("id", "")): number for number, one in enumerate(panel)}


def _places_of_rows(table: Table, panel: Panel) -> tuple[np.ndarray, np.ndarray]:
    """The numbers [n] of the series and variate of every row of the file, -1 for one that the panel doesn't have."""
    ids, column = _named(table, _ID), _named(table, _VARIATE)
    variates = {name: place for place, name in enumerate(panel.variates)}
    if len(panel.series) > 1 and ids is not None and (column is not None or len(variates) == 1):
        variate = np.zeros(len(table.frame), int)
        if len(variates) > 1 and column is not None:
            variate = _numbers_in(table, column, variates)
        return _numbers_in(table, ids, _ids_of(panel)), variate
    places = _names_of(panel)
    only = len(places) == 1
    column = ids if column is None else column
    if only and (column is None or len(set(_texts(table, column))) == 1):
        return np.zeros(len(table.frame), int), np.zeros(len(table.frame), int)
    if column is None:
        raise UserError(_lacks_names(table, panel))
    found = [places.get(text, (-1, -1)) for text in _texts(table, column)]
    both = np.array(found, int).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _lacks_names(table: Table, panel: Panel) -> str:
    if len(panel.series) > 1:
        return f"{table.where}: has no column id, and {panel.name} holds {len(panel.series)} series"
    return f"{table.where}: has no column variate, and {panel.name} holds {len(panel.variates)} of them"


def _instants_of(table: Table, panel: Panel, long: _Long, columns: Sequence[str]) -> _Instants:
    """On the panel's clock."""
    stamps = parse_stamps([table.frame[name] for name in columns], table.where, named=True)
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
    return instants(local)


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


def _meets_nothing(path: str, panel: Panel, count: int) -> str:
    firsts = [one.time.values[0] for one in panel]
    lasts = [one.time.values[rows - 1] for one, rows in zip(panel, panel.rows, strict=True)]
    first, last = panel.local(pd.DatetimeIndex([min(firsts), max(lasts)]))
    names = ", ".join(panel.variates[:3])
    return (
        f"{path}: none of its {count:,} forecasts meets a row of {panel.name} ({names}, ...; {first} to {last}); it "
        "needs the same names and stamps"
    )


def _refuse_doubles(path: str, panel: Panel, placed: pd.DataFrame, by_origin: bool) -> None:
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
    return np.array([places.get(text, -1) for text in _texts(table, column)], int)


def _texts(table: Table, column: str) -> list[str]:
    """A column's cells as they are written: 007 is no 7."""
    assert table.source is not None
    return [cell.strip() for cell in table.source.cells(column)]


def _values(table: Table, column: str) -> np.ndarray:
    cells = table.frame[column]
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return np.asarray(cells.to_numpy(dtype=np.float64, na_value=np.nan))
    return table.read_text(column).values
