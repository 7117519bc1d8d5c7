"""Rows that come at some hours of a week only: trading hours, shifts, a market's days.

Written as STEP@SPANS/DAYS: "30min@09:30-16:00/B" is every half hour from 9:30 to 16:00 on business days. Spans are
joined by +, days by commas (or B, or D for every day), and days with spans of their own by ;. What repeats is a week:
"h@00:00-23:00/MON,TUE,WED,THU;00:00-21:00/FRI;22:00-23:00/SUN". The time between two sessions is no gap: a row counts
as one step after the row before it, whatever the clock did between them.

All times are int64 microseconds of one clock since 1970.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass

import numpy as np

from isoform.timeseries.data.clock import DAY, SECOND, WEEK

WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")
_MONDAY = 4 * DAY  # the first one since 1970
_SPAN = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?(?:-(\d{1,2}):(\d{2})(?::(\d{2}))?)?")
_GROUPS = {"B": WEEKDAYS[:5], "D": WEEKDAYS}
_LEAST_WEEKS = 2  # that tell what is never there from what is missing
_MOST_SLOTS = 100_000  # a week, that are looked at
_MOST_SPANS = 24  # in a week, beside which a pattern is chance


@dataclass(frozen=True)
class Sessions:
    """The slots of a week that have rows, as microseconds since Monday 0:00, ascending.

    Slots are numbered through all weeks, so that the step from one to the next is always 1.
    """

    slots: tuple[int, ...]

    @property
    def step(self) -> int:
        """The shortest time between two slots."""
        return int(np.diff([*self.slots, self.slots[0] + WEEK]).min())

    @property
    def rows_a_day(self) -> int:
        """From one slot to that of the same time on the next day, as most of them have it; 1 where none has."""
        slots = np.array([*self.slots, *(slot + WEEK for slot in self.slots)])
        later = np.searchsorted(slots, slots[: len(self.slots)] + DAY)
        ahead = (later - np.arange(len(later)))[slots[later] == slots[: len(later)] + DAY]
        return int(np.argmax(np.bincount(ahead))) if len(ahead) else 1

    def at_or_before(self, clock: np.ndarray) -> np.ndarray:
        """The number of the last slot that isn't later than each instant."""
        week, within = np.divmod(clock - _MONDAY, WEEK)
        return week * len(self.slots) + np.searchsorted(self.slots, within, side="right") - 1

    def nearest(self, clock: np.ndarray) -> np.ndarray:
        """The number of the slot next to each instant."""
        before = self.at_or_before(clock)
        later = self.stamps(before + 1) - clock < clock - self.stamps(before)
        return np.asarray(before + later)

    def stamps(self, numbers: np.ndarray) -> np.ndarray:
        """When slots begin."""
        week, slot = np.divmod(numbers, len(self.slots))
        return np.asarray(week * WEEK + np.array(self.slots, np.int64)[slot] + _MONDAY)

    def spans(self) -> str:
        """SPANS/DAYS, ...: what is written behind the step."""
        days: dict[str, list[str]] = {}
        for number, name in enumerate(WEEKDAYS):
            of_day = [slot - number * DAY for slot in self.slots if slot // DAY == number]
            if of_day:
                days.setdefault(_spans_of(of_day, self.step), []).append(name)
        return ";".join(f"{spans}/{_days_of(names)}" for spans, names in days.items())


def _spans_of(slots: list[int], step: int) -> str:
    breaks = [0, *(i + 1 for i, gap in enumerate(np.diff(slots)) if gap != step), len(slots)]
    runs = [slots[a:b] for a, b in itertools.pairwise(breaks)]
    return "+".join(
        _clock(run[0]) if len(run) == 1 else f"{_clock(run[0])}-{_clock(run[-1])}" for run in runs
    )


def _clock(time: int) -> str:
    minutes, seconds = divmod(time // SECOND, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}" + (f":{seconds:02d}" if seconds else "")


def _days_of(names: list[str]) -> str:
    return next((key for key, days in _GROUPS.items() if tuple(names) == days), ",".join(names))


def parse_sessions(step: int, spans: str) -> Sessions | None:
    """The sessions of SPANS/DAYS; None where the text is none. A span may end on the next day."""
    slots: set[int] = set()
    for part in spans.split(";"):
        clocks, slash, days = part.partition("/")
        names = _GROUPS.get(days, tuple(days.split(","))) if slash else WEEKDAYS
        found = [_SPAN.fullmatch(clock) for clock in clocks.split("+")]
        if not all(found) or not set(names) <= set(WEEKDAYS):
            return None
        for match, name in itertools.product(found, names):
            assert match is not None
            first = _seconds(match, 1) * SECOND
            last = first if match[4] is None else _seconds(match, 4) * SECOND
            last += DAY if last < first else 0
            day = WEEKDAYS.index(name) * DAY
            slots |= {(day + time) % WEEK for time in range(first, last + 1, step)}
    return Sessions(tuple(sorted(slots))) if len(slots) > 1 else None


def _seconds(match: re.Match[str], group: int) -> int:
    return int(match[group]) * 3600 + int(match[group + 1]) * 60 + int(match[group + 2] or 0)


def find_sessions(clock: np.ndarray, step: int, phase: int) -> Sessions | None:
    """The sessions that instants `phase + k * step` follow; None where they fill the week, or any hours of it.

    A slot of the week belongs to them where a fifth of its weeks have it. Less than a tenth of the week outside of
    them, more than 1 % of the instants outside, or fewer than three quarters of their slots filled: no sessions.
    """
    if step > DAY or WEEK % step or WEEK // step > _MOST_SLOTS:
        return None
    if int(clock.max()) - int(clock.min()) < _LEAST_WEEKS * WEEK - DAY:
        return None
    a_week = WEEK // step
    since = np.unique((clock - phase + step // 2) // step) + (phase - _MONDAY) // step
    filled = np.bincount(since % a_week, minlength=a_week)
    whole, rest = divmod(int(since[-1] - since[0]) + 1, a_week)
    possible = np.full(a_week, whole)
    possible[(since[0] + np.arange(rest)) % a_week] += 1
    regular = filled > 0.2 * possible
    stray = filled[~regular].sum()
    if regular.sum() > 0.9 * a_week or stray > (0 if step == DAY else 0.01 * len(since)):
        return None
    if filled[regular].sum() < 0.75 * possible[regular].sum() or regular.sum() < 2:
        return None
    slots = (phase - _MONDAY) % step + np.flatnonzero(regular) * step
    found = Sessions(tuple(slots.tolist()))
    return found if len(re.findall(r"[+/]", found.spans())) <= _MOST_SPANS else None
