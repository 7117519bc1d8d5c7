"""The series of a long file: rows numbered by the columns of data.id, and the names that these make.

A series of several id columns is called by their cells joined with "/": store 7 and item 13 are "7/13".
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries.data.table import Table

JOINT = "/"


def number_series(table: Table, columns: Sequence[str]) -> tuple[np.ndarray | None, list[str]]:
    """(int64 [rows]: number of each row's series, names of the series in order); (None, []) without id columns.

    In the order of the columns, each by value where all its cells are whole numbers, by spelling otherwise. Raises
    UserError for an empty cell, naming its row, and for two series of one name.
    """
    if not columns:
        return None, []
    codes = np.zeros(len(table.frame), np.int64)
    names = [""]
    for place, column in enumerate(columns):
        mine, cells = _number_cells(table, column)
        codes, pairs = _number_pairs(codes, mine, len(cells))
        joined = [(names[one], cells[other]) for one, other in pairs]
        names = [JOINT.join(pair) if place else pair[1] for pair in joined]
    _refuse_equal_names(table, columns, names)
    return codes, names


def _number_cells(table: Table, column: str) -> tuple[np.ndarray, list[str]]:
    """(number of each row's cell, the different cells in order)."""
    cells = table.frame[column]
    codes, found = pd.factorize(cells)
    texts = spelled(found)
    blank = np.append([not text for text in texts], True)  # -1 is a missing cell
    empty = np.flatnonzero(blank[codes])
    if len(empty):
        raise UserError(
            f'{table.where} row {table.numbers[empty[0]]}: column "{column}" (data.id) is empty; '
            "every row needs the name of its series"
        )
    names = list(dict.fromkeys(texts))
    if all(name.isascii() and name.isdigit() for name in names):
        names.sort(key=lambda name: (int(name), name))
    else:
        names.sort()
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[text] for text in texts], np.int64)[codes], names


def spelled(found: object) -> list[str]:
    """Different cells as text without blanks around it; whole numbers without a point, however they are kept."""
    cells = pd.Series(found)
    if pd.api.types.is_float_dtype(cells.dtype) and (cells % 1 == 0).all():
        cells = cells.astype(np.int64)
    return [str(cell).strip() for cell in cells.tolist()]


def spread(frame: pd.DataFrame, columns: Sequence[str], names: Sequence[str]) -> pd.DataFrame:
    """A file with some of the id `columns`, each row once for every series that shares its cells, with all of them.

    names   of the series, or of variates, which begin with them
    """
    cells = (name.split(JOINT)[: len(columns)] for name in names)
    series = pd.DataFrame([*dict.fromkeys(map(tuple, cells))], columns=list(columns), dtype=object)
    have = [column for column in columns if column in frame.columns]
    return frame.assign(**{column: spelled(frame[column]) for column in have}).merge(
        series, on=have
    )


def prefixes(name: str) -> list[str]:
    """Of what may be called ID or ID/COLUMN, all that ID can be: "7", "7/13" of "7/13"."""
    parts = name.split(JOINT)
    return [JOINT.join(parts[:count]) for count in range(1, len(parts) + 1)]


def _number_pairs(
    first: np.ndarray, second: np.ndarray, count: int
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """(number of each row's pair, the different pairs in order) of two numberings; `count` numbers in the second."""
    codes, found = pd.factorize(first * count + second, sort=True)
    return codes.astype(np.int64), [divmod(pair, count) for pair in np.asarray(found).tolist()]


def _refuse_equal_names(table: Table, columns: Sequence[str], names: Sequence[str]) -> None:
    """Raises UserError where the cells of two series, joined, make one name."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UserError(
                f'{table.where}: two series would both be called "{name}", from the columns {", ".join(columns)} '
                f'(data.id) joined by "{JOINT}"; write their cells without "{JOINT}"'
            )
        seen.add(name)
