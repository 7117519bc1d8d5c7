"""What a frequency means: its text, how long its steps are, how many make a season, which stamps come next.

A frequency is a pandas offset alias ("h", "15min", "D", "B", "W-SUN", "MS", "BQE-DEC", ...), or sessions
("30min@09:30-16:00/B", see sessions.py). What is derived comes from the offset that pandas makes of the text.

All times here are int64 microseconds of one clock (UTC, or the wall's), since 1970.
"""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from isoform.core.errors import UserError
from isoform.timeseries.data.clock import (
    DAY,
    HOUR,
    LAST_YEAR,
    MINUTE,
    SECOND,
    STAMP,
    UNIT,
    WEEK,
    clock_of,
    stamps_at,
)
from isoform.timeseries.data.sessions import Sessions, parse_sessions

_YEAR = DAY * 1461 // 4
_SIZES = (
    ("D", DAY),
    ("h", HOUR),
    ("min", MINUTE),
    ("s", SECOND),
    ("ms", SECOND // 1000),
    (UNIT, 1),
)
# As pandas wrote them once, and custom calendars, which are those of Monday to Friday where nothing else is said.
_ALSO = {
    "H": "h", "T": "min", "S": "s", "L": "ms", "U": "us", "N": "ns", "M": "ME", "Q": "QE", "A": "YE", "Y": "YE",
    "AS": "YS", "BM": "BME", "BQ": "BQE", "BY": "BYE", "BA": "BYE", "BAS": "BYS", "SM": "SME", "C": "B", "CBM": "BME",
    "CBME": "BME", "CBMS": "BMS", "BH": "bh", "CBH": "bh", "cbh": "bh",
}  # fmt: skip
_BUSINESS_HOURS = "09:00-16:00/B"  # bh: the hours that begin from 9 to 17
_NO_STEP = (
    'data.freq = "{text}": is no step; write h, 15min, D, B, W-SUN or MS, for example, or sessions such as '
    "30min@09:30-16:00/B"
)


def parse_freq(text: str) -> str:
    """A frequency as it is written here: "H" -> "h", "W" -> "W-SUN", "60min" -> "h". Raises UserError for no step."""
    step, at, spans = text.partition("@")
    offset = _offset(step)
    if isinstance(offset, pd.offsets.Tick) and offset.nanos % 1000:
        raise UserError(
            f'data.freq = "{text}": time is counted in whole microseconds; write us or a longer step'
        )
    length = None if offset is None else _fixed(offset)
    if at and length is not None:
        sessions = parse_sessions(length, spans.strip())
        if sessions is not None:
            return sessions_text(sessions)
    if offset is None or at:
        raise UserError(_NO_STEP.format(text=text))
    if isinstance(offset, pd.offsets.BusinessHour):
        return _business_hours(
            offset.n,
            text,
        )
    return str(offset.freqstr) if length is None else name_of(length)


def _offset(text: str) -> pd.offsets.BaseOffset | None:
    """The offset of an alias, also of an old one; None where it is no step forward."""
    number = text[: len(text) - len(text.lstrip("0123456789"))]
    name, dash, anchor = text[len(number) :].strip().partition("-")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that "d" will be "D" one day
            offset = to_offset(number + _ALSO.get(name, name) + dash + anchor)
    except ValueError:
        return None
    return offset if offset is not None and offset.n > 0 else None


def _business_hours(hours: int, text: str) -> str:
    if 8 % hours:
        raise UserError(
            f'data.freq = "{text}": {hours} hours don\'t divide a business day of 8; write bh, 2bh or 4bh, or sessions '
            "such as 30min@09:30-16:00/B"
        )
    sessions = parse_sessions(hours * HOUR, _BUSINESS_HOURS)
    assert sessions is not None
    return sessions_text(sessions)


def sessions_text(sessions: Sessions) -> str:
    """The frequency of sessions: "30min@09:30-16:00/B"."""
    return f"{name_of(sessions.step)}@{sessions.spans()}"


def sessions_of(freq: str) -> Sessions | None:
    """The sessions that a frequency stands for; None for an alias of pandas."""
    step, at, spans = freq.partition("@")
    return parse_sessions(fixed_step(step) or DAY, spans) if at else None


def offset_of(freq: str) -> pd.offsets.BaseOffset:
    """The offset from one row to the next; of sessions, from one row to the next of the same session."""
    return to_offset(freq.partition("@")[0])


def fixed_step(freq: str) -> int | None:
    """Microseconds of a step that is always equally long; None for a calendar's (B, W-SUN, MS, ...) and sessions."""
    return None if "@" in freq else _fixed(to_offset(freq))


def _fixed(offset: pd.offsets.BaseOffset) -> int | None:
    if isinstance(offset, pd.offsets.Day):
        return int(offset.n) * DAY
    return int(offset.nanos) // 1000 if isinstance(offset, pd.offsets.Tick) else None


def shorter_than_a_day(freq: str) -> bool:
    """Whether a row is; calendar frequencies (months, business days) are not."""
    step = _fixed(offset_of(freq))
    return step is not None and step < DAY


def name_of(step: int) -> str:
    """The alias of a fixed step: 3,600,000,000 us -> "h"."""
    name, size = next((name, size) for name, size in _SIZES if step % size == 0)
    return name if step == size else f"{step // size}{name}"


def usual_length(freq: str) -> int:
    """Microseconds of a step: on average for a calendar's, between rows of one session for sessions."""
    offset = offset_of(freq)
    fixed = _fixed(offset)
    if fixed is not None:
        return fixed
    # Weekdays, months and leap years repeat after 28 years.
    stamps = clock_of(pd.date_range("2001-01-01", "2029-01-01", freq=offset))
    if len(stamps) < 2:
        return int(offset.n) * _YEAR
    return int((stamps[-1] - stamps[0]) // (len(stamps) - 1))


def usual_phase(clock: np.ndarray, step: int) -> tuple[int, float]:
    """(where between two steps most instants lie, how many of them do)."""
    rests, counts = np.unique(clock % step, return_counts=True)
    return int(rests[np.argmax(counts)]), float(counts.max() / len(clock))


def rows_a_season(freq: str, given: int | None = None) -> int:
    """`given` (data.season), else a day of anything finer than a day, a week where whole rows make one, else a year.

    Of sessions, the rows of a usual day, or those of a week where a day has one. 1 where no whole number of rows is
    near a year, and for yearly rows.
    """
    return given if given is not None else natural_seasons(freq)[0]


def natural_seasons(freq: str) -> tuple[int, int, int]:
    """(season, a longer one, a year) in rows, 0 where there is none of that kind.

    A day, a week and a year of anything finer than a day, a week and a year of days, a year of the rest. A year of days
    or finer rows is 52 weeks, so that days of the week agree.
    """
    sessions = sessions_of(freq)
    if sessions is not None:
        day, week = sessions.rows_a_day, len(sessions.slots)
        return (day, week, 52 * week) if day > 1 else (week, 0, 52 * week)
    length = usual_length(freq)
    if shorter_than_a_day(freq):
        day = max(1, round(DAY / length))
        return (day, 7 * day, 364 * day) if day > 1 and DAY % length == 0 else (day, 0, 0)
    week = round(WEEK / length)
    if week > 1 and abs(WEEK / length - week) < 0.01:
        return week, 0, 52 * week
    year = max(1, round(_YEAR / length))
    return (year if abs(_YEAR / length / year - 1) < 0.05 else 1), 0, 0


def stamps_after(freq: str, last: np.datetime64, count: int) -> pd.DatetimeIndex:
    """The `count` stamps behind `last`, which may itself lie beside the steps.

    Raises UserError where they lead beyond the year 9999.
    """
    sessions = sessions_of(freq)
    if sessions is not None:
        at = sessions.at_or_before(np.array([last], STAMP).view(np.int64))
        ahead = sessions.stamps(at + np.arange(1, count + 1))
        found = stamps_at(ahead)
    else:
        found = pd.date_range(pd.Timestamp(last), periods=count + 1, freq=freq, unit=UNIT)
        found = found[found > pd.Timestamp(last)][:count]
    if count and found[-1].year > LAST_YEAR:
        raise UserError(
            f"{count} steps of {freq} behind {pd.Timestamp(last)} lead beyond the year {LAST_YEAR}, where calendars end"
        )
    return found
