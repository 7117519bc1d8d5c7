"""Which rows train, validate and test, and the windows that begin in them. A row's number counts from 0."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from isoform.core.data.folds import block_of_fold
from isoform.core.data.splits import SPLITS
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.calendar import stamps_of
from isoform.timeseries.data.clock import UNIT
from isoform.timeseries.data.panel import Panel

_MONTH = 30 * 24  # rows an hour long
_OFFICIAL = (
    "ett-hour",
    "ett-minute",
    "custom",
    "solar",
    "pems",
)  # sources with borders of their own

Borders = dict[str, tuple[int, int]]


def borders(
    data: DataConfig, rows: int, stamps: pd.DatetimeIndex | None = None, tz: str | None = None
) -> Borders:
    """{split: (first row, row after the last)} of the rows that a window of that split forecasts.

    With data.folds, test is the fold's block of time (core/data/folds.py), and val, data.val_fraction of the rows up to
    its end, lies before it; later rows are in no split.

    Benchmarks as their official loaders cut them: ett-hour 12, 4 and 4 months of 30 days (ett-minute: of four rows an
    hour), custom int(0.7 rows) and, at the end, int(0.2 rows), solar int(0.7 rows), int(0.1 rows) and, at the end,
    int(0.2 rows), pems at int(0.6 rows) and int(0.8 rows). Other data by data.val_from and data.test_from, first rows
    at or behind that time on the local clock, or by data.val_fraction and data.test_fraction of the rows, test last.

    `stamps` are the local ones of the rows; only dates need them, and `tz` only a date with an offset.
    Raises UserError for too few rows of a benchmark, and for dates that are none or the wrong way round.
    """
    if data.folds is not None and data.fold is not None:
        test, stop = block_of_fold(rows, data.folds, data.fold)
        val = max(0, test - round(stop * data.val_fraction))
        return {"train": (0, val), "val": (val, test), "test": (test, stop)}
    if data.source in ("ett-hour", "ett-minute"):
        return _ett_borders(data, rows)
    if data.source not in _OFFICIAL:
        val, test = _chosen_borders(data, rows, stamps, tz)
        return {"train": (0, val), "val": (val, test), "test": (test, rows)}
    if data.source == "pems":
        train, val = int(0.6 * rows), int((0.6 + 0.2) * rows)
        return {"train": (0, train), "val": (train, val), "test": (val, rows)}
    train, test = int(rows * 0.7), rows - int(rows * 0.2)
    val = test if data.source == "custom" else train + int(rows * 0.1)
    return {"train": (0, train), "val": (train, val), "test": (test, rows)}


def _ett_borders(data: DataConfig, rows: int) -> Borders:
    month = _MONTH * (4 if data.source == "ett-minute" else 1)
    train, val, test = 12 * month, 16 * month, 20 * month
    if rows < test:
        raise UserError(
            f"{data.path or data.source}: has {rows} rows where the borders of ETT need {test}; give the whole file, "
            'or split another one by fractions with data.source = "file"'
        )
    return {"train": (0, train), "val": (train, val), "test": (val, test)}


def _chosen_borders(
    data: DataConfig, rows: int, stamps: pd.DatetimeIndex | None, tz: str | None
) -> tuple[int, int]:
    """The first rows of validation and test, by dates or fractions."""
    test = rows - round(rows * data.test_fraction)
    if data.test_from is not None:
        test = _row_of("test_from", data.test_from, stamps, tz)
    val = max(0, test - round(rows * data.val_fraction))
    if data.val_from is None:
        return val, test
    val = min(test, _row_of("val_from", data.val_from, stamps, tz))
    if data.test_from is not None and val == test:
        early, late = (
            _moment("val_from", data.val_from, tz),
            _moment("test_from", data.test_from, tz),
        )
        if early >= late:
            raise UserError(
                f"data.val_from = {data.val_from} must lie before data.test_from = {data.test_from}: test comes last"
            )
    return val, test


def _row_of(key: str, text: str, stamps: pd.DatetimeIndex | None, tz: str | None) -> int:
    """The first row at or behind a time on the local clock; the number of rows where there is none."""
    moment = _moment(key, text, tz)
    assert stamps is not None, "a split by date needs stamps"
    behind = np.asarray(stamps >= moment)
    return int(behind.argmax()) if behind.any() else len(stamps)


def _moment(key: str, text: str, tz: str | None) -> pd.Timestamp:
    """A date or time on the local clock."""
    try:
        moment = pd.Timestamp(text)
    except ValueError:
        moment = pd.NaT
    if moment is pd.NaT:
        raise UserError(
            f'data.{key} = "{text}" is no date; write one such as 2024-07-01 or 2024-07-01T12:00'
        )
    if moment.tzinfo is None:
        return moment
    if tz is None:
        raise UserError(
            f'data.{key} = "{text}" has an offset and the stamps have none: leave it out, or set data.tz'
        )
    return moment.tz_convert(tz).tz_localize(None)


def origins(
    data: DataConfig, cut: Mapping[str, tuple[int, int]], context: int, horizon: int
) -> dict[str, range]:
    """The rows at which a window's horizon may begin: every one whose look-back exists and whose horizon stays inside.

    A look-back reaches back over the border of its split, but for pems, whose official loader cuts the file in three.
    """
    found = {}
    for split, (start, stop) in cut.items():
        first = max(start, (start if data.source == "pems" else 0) + context)
        found[split] = range(first, max(first, stop - horizon + 1))
    return found


def borders_of(data: DataConfig, panel: Panel) -> list[Borders]:
    """The borders of every series of a panel; with data.split = "date" at the same instants in all of them.

    Raises UserError where data.val_from or data.test_from leaves a split without a row in all of them.
    """
    if data.folds is not None and (data.val_from or data.test_from):
        raise UserError(
            "data.val_from and data.test_from cut time once and data.folds several times: leave one of them out"
        )
    together = data.split == "date" and (data.source not in _OFFICIAL or data.folds is not None)
    found = _by_date(data, panel) if together else _by_rows(data, panel)
    for key, split in (("val_from", "val"), ("test_from", "test")):
        if getattr(data, key) is not None and all(cut[split][0] >= cut[split][1] for cut in found):
            ends = [
                panel.local(pd.DatetimeIndex(s["time"].values[[0, int(s.attrs["rows"]) - 1]]))
                for s in panel
            ]
            raise UserError(
                f"data.{key} = {getattr(data, key)} leaves no row for {split}: {panel.name} goes from "
                f"{min(end[0] for end in ends)} to {max(end[1] for end in ends)}"
            )
    return found


def _by_rows(data: DataConfig, panel: Panel) -> list[Borders]:
    dated = data.val_from is not None or data.test_from is not None
    return [
        borders(data, rows, stamps_of(panel, number, 0, rows) if dated else None, panel.tz)
        for number, rows in enumerate(panel.rows)
    ]


def _by_date(data: DataConfig, panel: Panel) -> list[Borders]:
    """The borders of all stamps together, as instants, in the rows of each series."""
    times = [one["time"].values[:rows] for one, rows in zip(panel, panel.rows, strict=True)]
    # On one grid, equal ends mean equal stamps: most panels have few different ones.
    apart = {(time[0], time[-1], len(time)): time for time in times if len(time)}
    joint = np.unique(np.concatenate([*apart.values()]))
    cut = borders(data, len(joint), panel.local(pd.DatetimeIndex(joint)), panel.tz)
    instants = np.append(joint, joint[-1] + np.timedelta64(1, UNIT))
    ends = instants[[cut["val"][0], *cut["test"]]]
    found = []
    for time in times:
        val, test, stop = np.searchsorted(time, ends).tolist()
        found.append({"train": (0, val), "val": (val, test), "test": (test, stop)})
    return found


def overlap_of(panel: Panel, windows: Sequence[Mapping[str, range]], cuts: list[Borders]) -> str:
    """A sentence where test windows of one series lie at times that train another; "" where none does.

    `windows` and `cuts` are the origins and the borders of each series.
    """

    def moment(number: int, row: int) -> np.datetime64:
        found: np.datetime64 = panel.series[number]["time"].values[row]
        return found

    trains = [n for n, one in enumerate(windows) if len(one["train"])]
    tests = [n for n, one in enumerate(windows) if len(one["test"])]
    if not trains or not tests:
        return ""
    late = max(trains, key=lambda n: moment(n, cuts[n]["train"][1] - 1))
    until = moment(late, cuts[late]["train"][1] - 1)
    begins = {n: moment(n, windows[n]["test"].start) for n in tests}
    inside = [n for n, begin in begins.items() if begin <= until]
    if not inside:
        return ""
    early = min(inside, key=lambda n: begins[n])
    first, last = panel.local(pd.DatetimeIndex([begins[early], until]))
    return (
        f"test times of {len(inside):,} of {len(panel.series):,} series lie in the training times of others "
        f"({panel.series[early].attrs['id']} is tested from {first} on, {panel.series[late].attrs['id']} trains until "
        f'{last}): data.split = "date" cuts all of them at the same time'
    )


def window_counts(data: DataConfig, panel: Panel, context: int, horizon: int) -> dict[str, int]:
    """{split: windows} of a panel, those that data.max_missing leaves out included; splits without any are absent."""
    each = [origins(data, cut, context, horizon) for cut in borders_of(data, panel)]
    counts = {split: sum(len(found[split]) for found in each) for split in SPLITS}
    return {split: count for split, count in counts.items() if count}


class Index:
    """Windows numbered through all series, in order of series and row: from a number to (series, row), by arithmetic.

    n windows. `kept`: the rows of the windows that are left where some were left out, one array a series.
    """

    def __init__(self, rows: Sequence[range], kept: Sequence[np.ndarray] | None = None) -> None:
        lengths = [len(one) for one in (rows if kept is None else kept)]
        self.first = np.array([one.start for one in rows], np.int64)
        self.ends = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        self.kept = None if kept is None else np.concatenate([np.zeros(0, np.int64), *kept])

    def __len__(self) -> int:
        return int(self.ends[-1])

    def where(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(series, row of the horizon's first step), int64 [n] each. Raises IndexError behind the last window."""
        numbers = np.asarray(indices, np.int64)
        if numbers.size and (numbers.min() < 0 or numbers.max() >= len(self)):
            raise IndexError(f"window {numbers.max()} of {len(self)}")
        series = np.searchsorted(self.ends, numbers, side="right") - 1
        if self.kept is not None:
            return series, self.kept[numbers]
        return series, self.first[series] + numbers - self.ends[series]

    def groups(self, rows: int) -> np.ndarray:
        """[groups + 1]: the windows of a group, from one number to the next, begin in the same `rows` rows."""
        edges: list[np.ndarray] = [np.zeros(1, np.int64)]
        for series, (start, stop) in enumerate(zip(self.ends[:-1], self.ends[1:], strict=True)):
            if start == stop:
                continue
            first, last = self.where([start, stop - 1])[1]
            marks = np.arange(first // rows + 1, last // rows + 1) * rows
            if self.kept is None:
                inner = start + marks - self.first[series]
            else:
                inner = start + np.searchsorted(self.kept[start:stop], marks)
            edges += [inner, np.array([stop])]
        return np.unique(np.concatenate(edges))
