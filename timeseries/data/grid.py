"""The regular grid of a frequency, and where on it each instant of a file falls.

All times here are int64 microseconds of one clock (UTC, or the wall's), since 1970.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries.data.clock import DAY, SECOND, UNIT, clock_of, stamps_at
from isoform.timeseries.data.find_frequency import by_months, find_freq
from isoform.timeseries.data.frequency import (
    fixed_step,
    name_of,
    offset_of,
    sessions_of,
    usual_length,
    usual_phase,
)
from isoform.timeseries.data.sessions import Sessions

MOST_EMPTY = 20  # steps a row: beyond it, some stamp is wrong
_USUAL = 0.9  # of the stamps on steps of a calendar: then the others are late or early ones


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
        """Where each step begins, and where the last one ends; not of sessions, between which there is time."""
        offset = offset_of(self.freq)
        if fixed_step(self.freq) is not None or not _ends(offset):
            return self.time.append(pd.DatetimeIndex([self.time[-1] + offset]))
        return pd.DatetimeIndex([self.time[0] - offset]).append(self.time) + pd.Timedelta(days=1)


def differences(clock: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Steps between one instant and the next of the same series; both arrays are sorted by series, then time."""
    steps = np.diff(clock)
    return steps[(np.diff(series) == 0) & (steps > 0)]


def make_grid(
    clock: np.ndarray, steps: np.ndarray, freq: str | None, offset: int, where: str
) -> Grid:
    """The grid from the first to the last instant.

    Without `freq` it is found. An instant between two steps goes to the nearer one; where hardly any lies on the steps
    of a calendar (the 15th of every month), each belongs to the step that it lies in. Steps begin where most instants
    lie, else at midnight or at whole hours, minutes, ... (`offset`: microseconds that the clock on the wall is ahead of
    `clock`). Where freq is at least 1.5 times the usual step, each instant belongs to the step that it lies in, and
    these begin at midnight, or at whole minutes; calendar steps named by their end (ME, QE, YE, W) hold the days up to
    it. Raises UserError where freq is finer than the closest two instants, drifts from the months that the instants
    follow, or has sessions that they don't follow, or where the grid would have more than 20 steps for every instant.
    """
    found = freq if freq is not None else find_freq(clock, steps, where)
    coarse = False
    if freq is not None and len(steps):
        coarse = _is_coarse(steps, freq, where)
        if not coarse:
            _refuse_drift(clock, steps, freq, where)
    _refuse_sparse(clock, found, where)
    step, sessions = fixed_step(found), sessions_of(found)
    if sessions is not None:
        time, place = _on_sessions(clock, sessions, coarse, found, where)
    elif step is not None:
        time, place = _on_fixed(clock, step, coarse, offset)
    else:
        time, place = _on_calendar(clock, offset_of(found), coarse)
    moved = int((time[place] != clock).sum())
    return Grid(found, stamps_at(time), place, moved, coarse)


def _on_fixed(
    clock: np.ndarray, step: int, coarse: bool, ahead: int
) -> tuple[np.ndarray, np.ndarray]:
    """(times of the steps, index of each instant's) where all steps are equally long."""
    half = 0 if coarse else step // 2
    clock, phase = (clock, -ahead % step) if coarse else _settle(clock, step, ahead)
    place = (clock - phase + half) // step
    first, last = int(place.min()), int(place.max())
    return phase + step * np.arange(first, last + 1, dtype=np.int64), place - first


def _settle(clock: np.ndarray, step: int, ahead: int) -> tuple[np.ndarray, int]:
    """(the instants, where between two steps most of them lie).

    Where no such place has half of them: whole days for steps of days, whole or half steps of the wall's clock else.
    """
    phase, share = usual_phase(clock, step)
    if share >= 0.5:
        return clock, phase
    if step % DAY == 0:
        days = (clock + ahead) // DAY * DAY - ahead
        return days, usual_phase(days, step)[0]
    wholes = (-ahead % step, (step // 2 - ahead) % step)
    beside = [np.abs((clock - whole + step // 2) % step - step // 2).mean() for whole in wholes]
    return clock, wholes[int(np.argmin(beside))]


def _on_sessions(
    clock: np.ndarray, sessions: Sessions, coarse: bool, freq: str, where: str
) -> tuple[np.ndarray, np.ndarray]:
    number = sessions.at_or_before(clock) if coarse else sessions.nearest(clock)
    outside = np.abs(sessions.stamps(number) - clock) >= sessions.step
    if outside.mean() > 0.01:
        stamp = pd.Timestamp(int(clock[np.argmax(outside)]), unit=UNIT)
        raise UserError(
            f"{where}: {int(outside.sum()):,} of {len(clock):,} stamps lie outside the sessions {freq}, the first is "
            f"{stamp}; correct data.freq"
        )
    first = int(number.min())
    return sessions.stamps(np.arange(first, int(number.max()) + 1)), number - first


def _on_calendar(
    clock: np.ndarray, offset: pd.offsets.BaseOffset, coarse: bool
) -> tuple[np.ndarray, np.ndarray]:
    """(times of the steps, index of each instant's) of business days, weeks, months, ...; every n-th of them."""
    n, single = int(offset.n), offset.base
    days = clock // DAY * DAY
    first, last = stamps_at(np.array([days.min(), days.max()]))
    every = pd.date_range(
        single.rollback(first) - offset, single.rollforward(last) + offset, freq=single, unit=UNIT
    )
    time = clock_of(every)
    hour = 0
    after = time.searchsorted(days, side="left")
    if not coarse and np.mean(time[after] == days) >= _USUAL:
        before = np.maximum(after - 1, 0)
        place = np.where(days - time[before] < time[after] - days, before, after)
        hour = _hour(clock)
        phase = usual_phase(place, n)[0]
        place = (place - phase + n // 2) // n
    elif _ends(offset):
        phase = int(after.min())
        place = -((phase - after) // n)
    else:
        inside = time.searchsorted(days, side="right") - 1
        phase = int(inside.min())
        place = (inside - phase) // n
    low, high = int(place.min()), int(place.max())
    return time[phase + n * np.arange(low, high + 1)] + hour, place - low


def _hour(clock: np.ndarray) -> int:
    """The time of day that at least half of the instants have, else 0."""
    hour, share = usual_phase(clock, DAY)
    return hour if share >= 0.5 else 0


def _ends(offset: pd.offsets.BaseOffset) -> bool:
    """True for calendar steps that are named by their last day, as pandas resamples them."""
    name = type(offset).__name__
    return name.endswith("End") or name in ("Week", "FY5253", "FY5253Quarter")


def _is_coarse(steps: np.ndarray, freq: str, where: str) -> bool:
    length, closest = usual_length(freq), int(steps.min())
    if length < closest * 0.67:
        raise UserError(
            f"{where}: rows are at least {_length(closest)} apart; data.freq = {freq} is finer, set "
            f"{_length(closest)} or a coarser one"
        )
    return bool(length > 1.5 * float(np.median(steps)))


def _refuse_drift(clock: np.ndarray, steps: np.ndarray, freq: str, where: str) -> None:
    """Steps of 31 days lose the months that they are meant for."""
    step = fixed_step(freq)
    if step is None or step < 28 * DAY or usual_phase(clock, step)[1] >= _USUAL:
        return
    named = by_months(clock, steps)
    if named is not None and abs(usual_length(named) / step - 1) < 0.1:
        raise UserError(
            f"{where}: stamps follow the months of the calendar, from which steps of {freq} drift; set data.freq = "
            f"{named}"
        )


def _length(step: int) -> str:
    return name_of(step) if step % SECOND == 0 else f"{step / SECOND:g} s"


def _refuse_sparse(clock: np.ndarray, freq: str, where: str) -> None:
    steps = (int(clock.max()) - int(clock.min())) // usual_length(freq) + 1
    if steps > max(10_000, MOST_EMPTY * len(clock)):
        ends = stamps_at(np.array([clock.min(), clock.max()]))
        raise UserError(
            f"{where}: from {ends[0]} to {ends[1]} there are {steps:,} steps of {freq} for {len(clock):,} stamps; "
            "correct the stamp that is far from the others, or set a coarser data.freq"
        )
