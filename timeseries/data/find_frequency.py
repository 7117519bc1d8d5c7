"""The frequency that stamps follow: equal steps, a calendar's, sessions, or equal steps that a clock hits inexactly.

All times here are int64 microseconds of one clock (UTC, or the wall's), since 1970.
"""

from __future__ import annotations

import numpy as np

from isoform.core.errors import UserError
from isoform.timeseries.data.clock import DAY, HOUR, MINUTE, SECOND, STAMP, WEEK
from isoform.timeseries.data.frequency import name_of, sessions_text, usual_phase
from isoform.timeseries.data.sessions import WEEKDAYS, find_sessions

_MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# What people set a clock to: the steps that inexact stamps are compared with.
_ROUND = (
    *(n * SECOND for n in (1, 2, 5, 10, 15, 20, 30)),
    *(n * MINUTE for n in (1, 2, 3, 4, 5, 6, 10, 12, 15, 20, 30)),
    *(n * HOUR for n in (1, 2, 3, 4, 6, 8, 12, 24, 48, 168)),
)
_BUSINESS = 0.75  # of the stamps on a month's first or last business day: holidays move the others


def find_freq(clock: np.ndarray, steps: np.ndarray, where: str) -> str:
    """The most common step of at least half of `steps`, or the calendar's that the instants follow.

    Calendars are told by what is never there: no weekend (B), no day but the first or last of a month, or its first or
    last business day (MS, ME, BMS, BQE-DEC, ...), no weekday but one (W-SUN), no hours but some of the week (sessions).
    Steps that are nearly an hour, 15 minutes, ... with stamps a little off are such. Raises UserError where fewer than
    half of the steps are equal or more than a tenth of the instants lie between the steps.
    """
    if not len(steps):
        raise UserError(
            f"{where}: one stamp tells no frequency; give more rows or set data.freq, for example h"
        )
    if np.median(steps) > 13 * DAY and (named := by_months(clock, steps)) is not None:
        return named
    best, share, off = _regular(clock, steps)
    if share >= 0.5 and off <= 0.1:
        return _name(clock, steps, best)
    least = int(np.gcd.reduce(steps))
    if least >= MINUTE and (sessions := find_sessions(clock, least, int(clock[0] % least))):
        return sessions_text(sessions)
    near = _round(float(np.median(steps)))
    if near >= DAY:  # one row a day, at any time of it
        days = np.unique(clock // DAY * DAY)
        if len(days) > 0.9 * len(np.unique(clock)) and len(days) > 1:
            daily, share_of_days, off_days = _regular(days, np.diff(days))
            if share_of_days >= 0.5 and off_days <= 0.1:
                return _name(days, np.diff(days), daily)
    elif _is_near(clock, steps, near):
        return name_of(near)
    how = (
        f"covers {100 * share:.0f} % of them"
        if share < 0.5
        else f"misses {100 * off:.0f} % of the stamps"
    )
    raise UserError(
        f"{where}: stamps are irregular (the most common step, {name_of(best)}, {how}); "
        f"set data.freq, for example {'MS' if near > WEEK else name_of(near)}, and rows are aggregated to it"
    )


def _regular(clock: np.ndarray, steps: np.ndarray) -> tuple[int, float, float]:
    """(the most common step, the share of steps that are it, the share of instants beside its grid)."""
    lengths, counts = np.unique(steps, return_counts=True)
    best = int(lengths[np.argmax(counts)])  # the shortest of those that are equally common
    return best, float(counts.max() / len(steps)), 1 - usual_phase(clock, best)[1]


def _name(clock: np.ndarray, steps: np.ndarray, best: int) -> str:
    """The frequency of a most common step: its own name, B, W-SUN or sessions."""
    phase = usual_phase(clock, best)[0]
    weekdays = (clock // DAY + 3) % 7
    if best == DAY and (weekdays < 5).all() and (steps == 3 * DAY).any():
        return "B"
    if best == WEEK:
        return f"W-{WEEKDAYS[int(phase // DAY + 3) % 7]}"
    sessions = find_sessions(clock, best, phase)
    return name_of(best) if sessions is None else sessions_text(sessions)


def _round(step: float) -> int:
    """The step of a clock that is nearest, by ratio."""
    return min(_ROUND, key=lambda known: abs(np.log(known / step)))


def _is_near(clock: np.ndarray, steps: np.ndarray, step: int) -> bool:
    """Whether instants lie around whole or half steps, and hardly two around the same."""
    if abs(np.median(steps) / step - 1) > 0.05 or np.mean(steps < step / 2) > 0.05:
        return False
    beside = [
        np.abs((clock - whole + step // 2) % step - step // 2) < step / 4
        for whole in (0, step // 2)
    ]
    return bool(max(near.mean() for near in beside) >= 0.9)


def by_months(clock: np.ndarray, steps: np.ndarray) -> str | None:
    """MS, BME, QS-JAN, YE-DEC, SMS-15, ... where the instants follow the months; None where they don't."""
    days = clock.view(STAMP).astype("M8[D]")
    if np.median(steps) <= 26 * DAY:
        return _twice_a_month(days)
    side = _side(days, steps)
    if side is None:
        return None
    months = np.unique(days.astype("M8[M]").astype(np.int64))  # since January 1970
    apart, counts = np.unique(np.diff(months), return_counts=True)
    if not len(apart):
        return None
    best = int(apart[np.argmax(counts)])
    prefix = side[:-1]
    if best % 3:
        return f"{best if best > 1 else ''}{prefix}M{side[-1]}"
    unit, size = ("Y", 12) if best % 12 == 0 else ("Q", 3)
    span = min(best, 12)
    month = _MONTHS[months[months % span == usual_phase(months, span)[0]][0] % 12]
    return f"{best // size if best > size else ''}{prefix}{unit}{side[-1]}-{month}"


def _side(days: np.ndarray, steps: np.ndarray) -> str | None:
    """S, E, BS or BE: first or last (business) day of the month; S for any day that stands for its month."""
    month = days.astype("M8[M]")
    first, last = month.astype("M8[D]"), (month + 1).astype("M8[D]") - 1
    of_month = (days - first).astype(np.int64)
    same = bool((of_month == of_month[0]).all())
    if (days == last).all() and not (same and of_month[0] == 27):
        return "E"
    if same:
        return "S"
    if len(steps) > 3 and np.unique(steps, return_counts=True)[1].max() >= 0.9 * len(steps):
        return None  # every four weeks, or every 30 days
    shares = {
        "E": np.mean(days == last),
        "S": np.mean(days == first),
        "BE": np.mean(days == np.busday_offset(last, 0, roll="backward")),
        "BS": np.mean(days == np.busday_offset(first, 0, roll="forward")),
    }
    side = max(shares, key=lambda name: shares[name])
    if shares[side] >= _BUSINESS:
        return side
    return "S" if np.mean(steps > 20 * DAY) >= 0.9 else None


def _twice_a_month(days: np.ndarray) -> str | None:
    """SMS-15 or SME-15 where no day occurs but the 15th and the first or last of a month."""
    month = days.astype("M8[M]")
    middle = days == month.astype("M8[D]") + 14
    for name, ends in (
        ("SMS-15", month.astype("M8[D]")),
        ("SME-15", (month + 1).astype("M8[D]") - 1),
    ):
        if (middle | (days == ends)).all() and middle.any() and not middle.all():
            return name
    return None
