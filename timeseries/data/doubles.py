"""Rows that repeat a stamp of their series: which are whole doubles, what becomes of them, and what is said.

A whole double is equal to an earlier row of its stamp and series in every column of the file. Such a row may be the
same event written twice, or two events that happen to be equal, so it counts unless data.doubles = "drop".
"""

from __future__ import annotations

import numpy as np

from isoform.core.data.findings import NAMED
from isoform.core.errors import join_names
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.axis import Axis
from isoform.timeseries.data.panel import Findings
from isoform.timeseries.data.table import Table


def find_doubles(table: Table, axis: Axis, same: set[str]) -> np.ndarray:
    """bool along axis.order: rows that are whole doubles. `same`: columns that are equal within a stamp by nature."""
    found = np.zeros(len(axis.order), bool)
    if axis.repeated:
        sizes = np.diff(axis.first)
        places = np.flatnonzero(np.repeat(sizes > 1, sizes))
        others = [name for name in table.frame if name not in same]
        part = table.frame[others].iloc[axis.order[places]].reset_index(drop=True)
        part.columns = range(part.shape[1])
        part[part.shape[1]] = np.repeat(np.arange(len(sizes)), sizes)[places]
        found[places] = part.duplicated().to_numpy()
    return found


def settle_doubles(
    table: Table, axis: Axis, same: set[str], data: DataConfig, findings: Findings
) -> Axis:
    """The axis with or without whole doubles (data.doubles); says how many there are and names some."""
    doubles = find_doubles(table, axis, same)
    count = int(doubles.sum())
    findings.data |= {"repeated_rows": axis.repeated, "equal_rows": count}
    if not count:
        return axis
    dropped = data.doubles == "drop"
    places = np.flatnonzero(doubles)
    shown = ", ".join(_pair(table, axis, place, same) for place in places[:NAMED].tolist())
    done = "left out" if dropped else 'each counts, data.doubles = "drop" leaves them out'
    findings.say(
        f"{count:,} of {axis.repeated:,} rows that repeat a stamp are equal to an earlier row in every column "
        f"({shown}{' and more' if count > NAMED else ''}): {done}"
    )
    return axis.without(doubles) if dropped else axis


def _pair(table: Table, axis: Axis, place: int, same: set[str]) -> str:
    """ "row 7 like row 3" of the double at a place of axis.order."""
    instant = int(np.searchsorted(axis.first, place, side="right")) - 1
    rows = axis.order[axis.first[instant] : place + 1]
    part = table.frame[[name for name in table.frame if name not in same]].iloc[rows]
    equal = (part == part.iloc[-1]) | (part.isna() & part.iloc[-1].isna())
    early = int(equal.all(axis=1).to_numpy().argmax())
    return f"row {table.numbers[rows[-1]]} like row {table.numbers[rows[early]]}"


def say_repeated(
    axis: Axis, data: DataConfig, findings: Findings, numbers: np.ndarray | None
) -> None:
    """How many rows repeat a stamp, and at how many stamps they differ; `numbers` call the rows, None: not read yet."""
    if axis.repeated:
        said = f"{axis.repeated:,} rows repeat a stamp: all rows of a stamp are aggregated ({data.how})"
        differing = np.flatnonzero(axis.differing)
        if numbers is not None and len(differing):
            one = int(differing[0])
            rows = numbers[axis.order[axis.first[one] : axis.first[one + 1]]]
            shown = join_names([str(row) for row in rows.tolist()], NAMED)
            said += f"; at {len(differing):,} stamps their values differ, for example at "
            said += f"{axis.time[axis.place[one]]} (rows {shown})"
        elif numbers is not None:
            said += "; at each stamp their values are equal"
        findings.say(said)
    findings.data.setdefault("repeated_rows", axis.repeated)
    if numbers is not None:
        findings.data["conflicting_stamps"] = int(axis.differing.sum())
