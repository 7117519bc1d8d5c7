"""A table as a pandas DataFrame, for a domain that works on frames: numbers where a column holds nothing else."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.data.missing import MISSING
from isoform.core.data.plain import ArrowText
from isoform.core.data.table import Table, Typed

if TYPE_CHECKING:
    import pandas as pd

_WHOLE = 2**53  # up to here float64 holds every whole number


def to_frame(table: Table, text: Collection[str] = ()) -> pd.DataFrame:
    """The columns of a table: numbers, or text with missing values where there is nothing.

    text   columns that stay text, in which only an empty cell is missing ("NA" may be the name of a series)

    A column is numbers where every filled cell is one: int64 where all are whole and none is missing, bool where all
    are True or False, else float64. Where at least half of its filled cells are numbers, it holds these and, as text,
    the cells that are none. Any other keeps its cells as they are written. Typed sources keep their types.
    """
    import pandas as pd

    columns = {}
    for name in table.names:
        typed = table.typed(name)
        if typed is not None and not (name in text and typed.numeric):
            columns[name] = _typed_series(table, name, typed)
        elif name in text:
            columns[name] = _text([cell or None for cell in table.cells(name)])
        else:
            columns[name] = _series(table, name)
    return pd.DataFrame(columns)


def _text(cells: list[str | None]) -> pd.Series:
    """As pandas itself keeps text (its str from version 3 on), also where all of it is missing."""
    import pandas as pd

    return (
        pd.Series(cells)
        if any(cell is not None for cell in cells)
        else pd.Series(cells, dtype=object)
    )


def _typed_series(table: Table, name: str, typed: Typed) -> pd.Series:
    """The column with its own type, without the numbers that data.missing names."""
    series = typed.series()
    if not typed.numeric:
        return series
    table.numbers(name)  # which says what it finds
    gone = series.isin([code for code in table.missing if not isinstance(code, str)])
    return series.mask(gone) if gone.any() else series


def _series(table: Table, name: str) -> pd.Series:
    import pandas as pd

    text = table.columns[name]
    if isinstance(text, ArrowText) and (column := table.numbers(name)).plain:
        whole = _fit_integers(column.values) and not any(map(text.holds, ".eE"))
        return pd.Series(column.values.astype(np.int64) if whole else column.values.copy())
    cells = table.cells(name)
    words = set(cells)
    if words and words <= {"True", "False"}:
        return pd.Series([cell == "True" for cell in cells], dtype=bool)
    column = table.numbers(name)
    values = column.values.copy()
    for row, cell in column.infinite:
        values[row] = float(cell.replace(",", "."))
    odd = [*column.unread, *column.censored]
    if not odd:
        return pd.Series(values.astype(np.int64) if _are_whole(words, values) else values)
    if len(column.unread) > np.isfinite(values).sum():
        return _text([None if cell.lower() in MISSING else cell for cell in cells])
    mixed = pd.Series(values, dtype=object).where(~np.isnan(values), None)
    for row, cell in odd:
        mixed.iloc[row] = cell
    return mixed


def _are_whole(words: Collection[str], values: np.ndarray) -> bool:
    """Whether a column's cells are whole numbers and written as such."""
    written = any("." in cell or "e" in cell.lower() for cell in words)
    return not written and _fit_integers(values)


def _fit_integers(values: np.ndarray) -> bool:
    exact = np.isfinite(values) & (np.abs(values) < _WHOLE)
    return bool(len(values) and (exact & (values == np.floor(values))).all())
