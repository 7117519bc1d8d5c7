"""A table as a pandas DataFrame, for a domain that works on frames: numbers where a column holds nothing else."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import pandas as pd

from isoform.core.data.missing import MISSING
from isoform.core.data.table import Table

_WHOLE = 2**53  # up to here float64 holds every whole number


def to_frame(table: Table, text: Collection[str] = ()) -> pd.DataFrame:
    """The columns of a table: numbers, or text with None where it is missing.

    text   columns that stay text, in which only an empty cell is missing ("NA" may be the name of a series)

    A column is numbers where every filled cell is one: int64 where all are whole and none is missing, bool where all
    are True or False, else float64; otherwise its cells stay as they are written. Typed sources keep their types.
    """
    columns = {}
    for name in table.names:
        typed = table.typed(name)
        if typed is not None and not (name in text and typed.numeric):
            columns[name] = typed.series()
        elif name in text:
            columns[name] = pd.Series([cell or None for cell in table.cells(name)], dtype=object)
        else:
            columns[name] = _series(table, name)
    return pd.DataFrame(columns)


def _series(table: Table, name: str) -> pd.Series:
    cells = table.cells(name)
    words = set(cells)
    if words and words <= {"True", "False"}:
        return pd.Series([cell == "True" for cell in cells], dtype=bool)
    found = table.numbers(name)
    if not found.unread and not found.censored and not found.infinite and np.isfinite(found.values).any():
        whole = (found.values == np.floor(found.values)).all() and (np.abs(found.values) < _WHOLE).all()
        if whole and not any("." in cell or "e" in cell.lower() for cell in words):
            return pd.Series(found.values.astype(np.int64))
        return pd.Series(found.values)
    return pd.Series([None if cell.lower() in MISSING else cell for cell in cells], dtype=object)
