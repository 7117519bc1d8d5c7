"""What a calendar says of each row: marks in [-0.5, 0.5], and the stamps of rows behind the end of the data.

The marks are the time features of GluonTS (Alexandrov et al., JMLR 21(116), 2020), which Informer, Autoformer and
iTransformer use: a field of the local stamp, less its smallest value, over its range, less one half.

n rows, M marks.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from pandas.tseries import offsets

from isoform.core.errors import UserError
from isoform.timeseries.data.frequency import offset_of, parse_freq, stamps_after
from isoform.timeseries.data.panel import Panel

# Mark -> (field of a DatetimeIndex, its smallest value, its range)
_FIELDS = {
    "second_of_minute": ("second", 0, 59),
    "minute_of_hour": ("minute", 0, 59),
    "hour_of_day": ("hour", 0, 23),
    "day_of_week": ("day_of_week", 0, 6),
    "day_of_month": ("day", 1, 30),
    "day_of_year": ("day_of_year", 1, 365),
    "week_of_year": ("week", 1, 52),
    "month_of_year": ("month", 1, 11),
}
_DAY = ("day_of_week", "day_of_month", "day_of_year")
_HOUR = ("hour_of_day", *_DAY)
_MINUTE = ("minute_of_hour", *_HOUR)
_SECOND = ("second_of_minute", *_MINUTE)
# Which marks differ from row to row: those of the first line whose kinds of offset hold the frequency's.
_MARKS: tuple[tuple[tuple[Any, ...], tuple[str, ...]], ...] = (
    ((offsets.Micro, offsets.Milli, offsets.Second), _SECOND),
    ((offsets.Minute,), _MINUTE),
    ((offsets.Hour, offsets.BusinessHour, offsets.CustomBusinessHour), _HOUR),
    ((offsets.Day, offsets.BusinessDay, offsets.CustomBusinessDay), _DAY),
    ((offsets.Week,), ("day_of_month", "week_of_year")),
    ((offsets.YearBegin, offsets.YearEnd, offsets.BYearBegin, offsets.BYearEnd), ()),
)
_MONTH = ("month_of_year",)  # of all other calendar frequencies: months, quarters, weeks of a month


def names(spec: str, freq: str) -> tuple[str, ...]:
    """The marks of data.calendar: those of a frequency, "auto" of the data's own `freq`, "none" without any.

    Raises UserError for a text that is none of these.
    """
    if spec == "none":
        return ()
    try:
        offset = offset_of(parse_freq(freq if spec == "auto" else spec))
    except UserError:
        raise UserError(
            f'data.calendar = "{spec}" is no frequency; write one such as "h", "15min" or "D", or "auto" or "none"'
        ) from None
    return next((marks for kinds, marks in _MARKS if isinstance(offset, kinds)), _MONTH)


def marks(stamps: pd.DatetimeIndex, wanted: tuple[str, ...]) -> np.ndarray:
    """[n, M] float32 in [-0.5, 0.5] of local stamps, in the order of `wanted` (see `names`)."""
    found = np.empty((len(stamps), len(wanted)), np.float32)
    for i, name in enumerate(wanted):
        field, least, span = _FIELDS[name]
        values = stamps.isocalendar().week if field == "week" else getattr(stamps, field)
        found[:, i] = (np.asarray(values, np.float64) - least) / span - 0.5
    return found


def stamps_of(
    panel: Panel, series: int, start: int, stop: int, aware: bool = False
) -> pd.DatetimeIndex:
    """Stamps of the rows [start, stop) of a series as the local clock shows them; rows may lie behind the data's end.

    There the stamps go on by the panel's frequency on the clock of its grid: UTC where it has a zone, so that the
    local clock jumps on a change of daylight saving. `aware`: with their zone, where the panel has one.
    """
    time = panel.series[series]["time"].values
    found = pd.DatetimeIndex(time[start:stop])
    if stop > len(time):
        ahead = stamps_after(panel.freq, time[-1], stop - len(time))[max(start - len(time), 0) :]
        found = pd.DatetimeIndex(np.concatenate([found.values, ahead.values.astype(time.dtype)]))
    if aware and panel.tz is not None:
        return found.tz_localize("UTC").tz_convert(panel.tz)
    return panel.local(found)
