"""The step between rows: found from the stamps, or as data.freq gives it, and the regular grid that it makes.

All times here are int64 nanoseconds of one clock (UTC, or the wall's), since 1970.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.tseries.frequencies import to_offset

from isoform.core.errors import UserError

DAY = 86_400_000_000_000
HOUR = DAY // 24
# Rows a season by the unit of a frequency of days and more: a week of days, a year of the rest.
_SEASONS = {"B": 5, "D": 7, "W": 52, "M": 12, "Q": 4, "Y": 1, "A": 1}
MOST_EMPTY = 20  # steps a row: beyond it, some stamp is wrong
_SIZES = (
    ("D", DAY),
    ("h", HOUR),
    ("min", HOUR // 60),
    ("s", 10**9),
    ("ms", 10**6),
    ("us", 10**3),
    ("ns", 1),
)
_OLD = {
    "H": "h",
    "T": "min",
    "S": "s",
    "L": "ms",
    "U": "us",
    "N": "ns",
    "M": "ME",
    "Q": "QE",
    "A": "YE",
    "Y": "YE",
}
_DAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")


def parse_freq(text: str) -> str:
    """A pandas offset alias as pandas writes it now: "H" -> "h", "W" -> "W-SUN". Raises UserError for no step."""
    number = text[: len(text) - len(text.lstrip("0123456789"))]
    name, dash, anchor = text[len(number) :].strip().partition("-")
    try:
        offset = to_offset(number + _OLD.get(name, name) + dash + anchor)
    except ValueError:
        offset = None
    if offset is None or offset.n <= 0:
        raise UserError(
            f'data.freq = "{text}": is no step; write h, 15min, D, B, W-SUN or MS, for example'
        )
    return str(offset.freqstr)


def fixed_step(freq: str) -> int | None:
    """Nanoseconds of a step that is always equally long; None for a calendar's (B, W-SUN, MS, ...)."""
    offset = to_offset(freq)
    if isinstance(offset, pd.offsets.Day):
        return int(offset.n) * DAY
    return int(offset.nanos) if isinstance(offset, pd.offsets.Tick) else None


def shorter_than_a_day(freq: str) -> bool:
    """Whether a row is; calendar frequencies (months, business days) are not."""
    step = fixed_step(freq)
    return step is not None and step < DAY


def rows_a_season(freq: str, given: int | None = None) -> int:
    """`given` (data.season), else a day of anything finer than a day, a week of days, a year of the rest."""
    if given is not None:
        return given
    step = fixed_step(freq)
    if step is not None and step < DAY:
        return max(1, round(DAY / step))
    count = re.match(r"\d+", freq)
    unit = re.sub(r"^[\d.]+", "", freq).upper()[:1]
    return max(1, _SEASONS.get(unit, 1) // (int(count[0]) if count else 1))


def name_of(step: int) -> str:
    """The alias of a fixed step: 3,600,000,000,000 ns -> "h"."""
    name, size = next((name, size) for name, size in _SIZES if step % size == 0)
    return name if step == size else f"{step // size}{name}"


def usual_length(freq: str) -> int:
    """Nanoseconds of a step, on average over some years for a calendar's."""
    fixed = fixed_step(freq)
    if fixed is not None:
        return fixed
    days = pd.date_range("2001-01-01", periods=25, freq=freq).as_unit("ns").asi8
    return int((days[-1] - days[0]) // 24)


@dataclass(frozen=True)
class Grid:
    """A regular grid of steps, and on which of them each instant falls.

    time    the steps, ascending, naive
    place   int64 [instants]: index into time
    moved   how many instants lay between steps
    coarse  True where several instants a step are the rule: data.freq is coarser than the file
    """

    freq: str
    time: pd.DatetimeIndex
    place: np.ndarray
    moved: int
    coarse: bool

    def edges(self) -> pd.DatetimeIndex:
        """Where each step begins, and where the last one ends."""
        offset = to_offset(self.freq)
        if fixed_step(self.freq) is not None or not _ends(self.freq):
            return self.time.append(pd.DatetimeIndex([self.time[-1] + offset]))
        return pd.DatetimeIndex([self.time[0] - offset]).append(self.time) + pd.Timedelta(days=1)


def differences(clock: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Steps between one instant and the next of the same series; both arrays are sorted by series, then time."""
    steps = np.diff(clock)
    return steps[(np.diff(series) == 0) & (steps > 0)]


def find_freq(clock: np.ndarray, steps: np.ndarray, where: str) -> str:
    """The most common step of at least half of `steps`, or the calendar's that the instants follow.

    Calendars are told by what is never there: no weekend (B), no day but the first or last of a month (MS, ME, QS-JAN,
    YE-DEC, ...), no weekday but one (W-SUN). Raises UserError where fewer than half of the steps are equal or more
    than a tenth of the instants lie between the steps.
    """
    if not len(steps):
        raise UserError(
            f"{where}: one stamp tells no frequency; give more rows or set data.freq, for example h"
        )
    if np.median(steps) > 26 * DAY and (named := _by_months(clock)) is not None:
        return named
    lengths, counts = np.unique(steps, return_counts=True)
    best = int(lengths[np.argmax(counts)])  # the shortest of those that are equally common
    share = counts.max() / len(steps)
    off = np.mean((clock - _phase(clock, best)) % best != 0)
    if share < 0.5 or off > 0.1:
        how = (
            f"covers {100 * share:.0f} % of them"
            if share < 0.5
            else f"misses {100 * off:.0f} % of the stamps"
        )
        raise UserError(
            f"{where}: stamps are irregular (the most common step, {name_of(best)}, {how}); "
            f"set data.freq, for example {name_of(best)}, and rows are aggregated to it"
        )
    if best % DAY == 0:
        weekdays = (clock // DAY + 3) % 7
        if best == DAY and (weekdays < 5).all() and (steps == 3 * DAY).any():
            return "B"
        if best == 7 * DAY and (weekdays == weekdays[0]).all() and (clock % DAY == 0).all():
            return f"W-{_DAYS[int(weekdays[0])]}"
    return name_of(best)


def _by_months(clock: np.ndarray) -> str | None:
    """MS, ME, QS-JAN, YE-DEC, ... where every instant lies on the first, the last or the same day of its month."""
    days = pd.DatetimeIndex(clock.view("M8[ns]")).normalize()
    if days.is_month_end.all() and not (days.day == 28).all():
        side = "E"
    elif (days.day == days.day[0]).all():
        side = "S"  # the 15th of every month stands for the month
    else:
        return None
    months = np.unique(days.year.to_numpy() * 12 + days.month.to_numpy() - 1)
    apart, counts = np.unique(np.diff(months), return_counts=True)
    best = int(apart[np.argmax(counts)])
    month = _MONTHS[int(months[0] % 12)]
    if best == 3:
        return f"Q{side}-{month}"
    if best == 12:
        return f"Y{side}-{month}"
    return f"M{side}" if best == 1 else f"{best}M{side}"


def make_grid(
    clock: np.ndarray, steps: np.ndarray, freq: str | None, offset: int, where: str
) -> Grid:
    """The grid from the first to the last instant.

    Without `freq` it is found. An instant between two steps goes to the nearer one. Where freq is at least 1.5 times
    the usual step, each instant belongs to the step that it lies in, and these begin at midnight, or at whole minutes
    (`offset`: nanoseconds that the clock on the wall is ahead of `clock`); calendar steps named by their end (ME, QE,
    YE, W) hold the days up to it. Raises UserError where freq is finer than the closest two instants, or the grid
    would have more than 20 steps for every instant.
    """
    found = freq if freq is not None else find_freq(clock, steps, where)
    length = usual_length(found)
    coarse = False
    if freq is not None and len(steps):
        closest, usual = int(steps.min()), float(np.median(steps))
        if length < closest * 0.67:
            raise UserError(
                f"{where}: rows are at least {_length(closest)} apart; data.freq = {freq} is finer, set "
                f"{_length(closest)} or a coarser one"
            )
        coarse = length > 1.5 * usual
    step = fixed_step(found)
    if step is not None:
        if coarse:
            phase, half = -offset % step, 0
        else:
            phase, half = _phase(clock, step), step // 2
        place = (clock - phase + half) // step
        first, last = int(place.min()), int(place.max())
        _refuse_sparse(last - first + 1, clock, found, where)
        ticks = phase + step * np.arange(first, last + 1, dtype=np.int64)
        time = pd.DatetimeIndex(ticks.view("M8[ns]"))
        place = place - first
    else:
        offset_of = to_offset(found)
        days = pd.DatetimeIndex(clock.view("M8[ns]")).normalize().as_unit("ns")
        _refuse_sparse((int(clock.max()) - int(clock.min())) // length + 1, clock, found, where)
        if _ends(found):
            time = pd.date_range(
                offset_of.rollforward(days.min()), offset_of.rollforward(days.max()), freq=offset_of
            )
            place = time.searchsorted(days, side="left")
        else:
            time = pd.date_range(offset_of.rollback(days.min()), days.max(), freq=offset_of)
            place = time.searchsorted(days, side="right") - 1
        time = time.as_unit("ns")
    moved = int((time.asi8[place] != clock).sum())
    return Grid(
        found, pd.DatetimeIndex(time, freq=None), np.asarray(place, np.int64), moved, coarse
    )


def _ends(freq: str) -> bool:
    """True for calendar steps that are named by their last day, as pandas resamples them."""
    return freq.lstrip("0123456789").partition("-")[0] in (
        "ME",
        "QE",
        "YE",
        "W",
        "BME",
        "BQE",
        "BYE",
        "SME",
        "CBME",
    )


def _phase(clock: np.ndarray, step: int) -> int:
    """Where between two steps most instants lie."""
    rests, counts = np.unique(clock % step, return_counts=True)
    return int(rests[np.argmax(counts)])


def _length(step: int) -> str:
    return name_of(step) if step % 10**9 == 0 else f"{step / 1e9:g} s"


def _refuse_sparse(steps: int, clock: np.ndarray, freq: str, where: str) -> None:
    if steps > max(10_000, MOST_EMPTY * len(clock)):
        ends = pd.DatetimeIndex(np.array([clock.min(), clock.max()]).view("M8[ns]"))
        raise UserError(
            f"{where}: from {ends[0]} to {ends[1]} there are {steps:,} steps of {freq} for {len(clock):,} stamps; "
            "correct the stamp that is far from the others, or set a coarser data.freq"
        )
