"""Stamps -> one regular grid, and the rows of a file -> values on it.

The rules, each of which leaves a sentence in the Findings where it was used:

- Order. Rows may come in any order.
- Zones. Stamps with an offset, and those of a zone that the file names, are converted to UTC; the panel's zone is
  data.tz, else the file's, else "UTC". Stamps without one are localised by data.tz: an hour that the clock shows twice
  in autumn is told apart by order of appearance, the hour that it skips in spring is no gap, and a row in the skipped
  hour is left out. Without data.tz they stay as they are; where an hour is missing in spring and one is doubled in
  autumn, as daylight saving does, the finding suggests data.tz.
- Clock. Steps of up to an hour count in UTC. Longer ones (6 h, days, months) count on the wall's clock where the stamps
  follow that one: a day is a local day of 23 to 25 hours, and the panel then needs no zone.
- Frequency. The most common step, if at least half of all steps are that long, or the calendar's that the stamps
  follow; else data.freq is needed. A stamp between two steps goes to the nearer one. Stamps that all lie a little off
  whole hours, minutes, ... belong to these.
- Sessions. Where rows come at some hours of the week only (trading hours), the next row is the next step, and the time
  between is no gap. They count on the wall's clock.
- Aggregation. Where data.freq is coarser than the file, the rows of one step become their mean, sum or last value,
  missing ones left aside; but a sum needs all rows of its step, else it would be too low and is missing.
- Repeated stamps. All rows of a stamp are aggregated, also those of equal values; `doubles` says which rows are whole
  doubles, and what becomes of them.
- Gaps. A step without a row is a row of missing values.
- Unreadable stamps. Fewer than 1 %: these rows are left out and named; else the file is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.aggregate import bins, differ
from isoform.timeseries.data.clock import (
    DAY,
    FIRST_ZONED,
    HOUR,
    LAST_ZONED,
    STAMP,
    clock_of,
    stamps_at,
)
from isoform.timeseries.data.find_frequency import find_freq
from isoform.timeseries.data.frequency import (
    fixed_step,
    parse_freq,
    shorter_than_a_day,
    usual_length,
)
from isoform.timeseries.data.grid import Grid, differences, make_grid
from isoform.timeseries.data.panel import Findings
from isoform.timeseries.data.periods import how_to_write
from isoform.timeseries.data.stamps import Stamps

NAMED = 5  # rows that a finding names
_GAPPY = 1.1  # steps a row: from here on, gaps may be the time between sessions
_MOST_YEARS = 60  # that are compared with the changes of a clock
# Whose clock changes are compared with missing and doubled hours, to suggest a zone.
_LIKELY = (
    "Europe/Berlin", "Europe/London", "Europe/Athens", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "Australia/Sydney", "Pacific/Auckland", "America/Santiago",
)  # fmt: skip
Get = Callable[[np.ndarray], np.ndarray]  # rows of the file -> their values [rows, C]


@dataclass(frozen=True)
class Axis:
    """A regular grid, and the rows of a file that belong to each of its steps.

    time      the grid, naive: UTC where `tz` is set, else the wall's clock
    order     int64 [kept rows]: rows of the file sorted by series, instant and appearance
    first     int64 [U + 1]: where in `order` each of the U different (series, instant) begins
    place     int64 [U]: index into time
    bounds    int64 [series + 1]: where in `place` each series begins
    needed    int64 [time]: rows that make a whole step, for sums; None where any number does
    repeated  rows whose stamp stood in an earlier row of their series
    differing bool [U]: stamps whose rows differed, as far as values have been read
    """

    time: pd.DatetimeIndex
    freq: str
    tz: str | None
    order: np.ndarray
    first: np.ndarray
    place: np.ndarray
    bounds: np.ndarray
    needed: np.ndarray | None = None
    repeated: int = 0
    differing: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))

    def span(self, series: int = 0) -> tuple[int, int]:
        """First step of a series, and the one after its last."""
        low, high = self.bounds[series], self.bounds[series + 1]
        return (int(self.place[low]), int(self.place[high - 1]) + 1) if high > low else (0, 0)

    def read(self, get: Get, start: int, stop: int, how: str, series: int = 0) -> np.ndarray:
        """Values of the steps [start, stop) of a series, [stop - start, C], NaN where there is no row.

        `how` is "mean", "sum" or "last". Only the rows of these steps are asked for, so `get` may read from a disk.
        """
        low, high = self.bounds[series], self.bounds[series + 1]
        u0, u1 = low + np.searchsorted(self.place[low:high], [start, stop])
        base = self.first[u0]
        rows = self.order[base : self.first[u1]]
        values = get(rows)
        place = self.place[u0:u1] - start
        needed = None if self.needed is None or how != "sum" else self.needed[start:stop]
        if not self.repeated:
            return bins(values, place, stop - start, how, needed)
        first = self.first[u0 : u1 + 1] - base
        self.differing[u0:u1] |= differ(values, first)
        return bins(values, place, stop - start, how, needed, first)

    def without(self, doubles: np.ndarray) -> Axis:
        """The same without some rows, bool [kept rows] along `order`; none of them is the first of its instant."""
        instants = np.repeat(np.arange(len(self.place)), np.diff(self.first))[~doubles]
        repeated = len(instants) - len(self.place)
        return replace(
            self,
            order=self.order[~doubles],
            first=np.searchsorted(instants, np.arange(len(self.place) + 1)),
            repeated=repeated,
            differing=np.zeros(len(self.place) if repeated else 0, bool),
        )


def taker(values: np.ndarray) -> Get:
    """`Get` of values in memory [rows, C]; a run of rows is a view."""

    def get(rows: np.ndarray) -> np.ndarray:
        if len(rows) and rows[-1] - rows[0] + 1 == len(rows) and (np.diff(rows) == 1).all():
            return values[rows[0] : rows[-1] + 1]
        return values[rows]

    return get


def make_axis(
    stamps: Stamps,
    data: DataConfig,
    findings: Findings,
    where: str,
    series: np.ndarray | None = None,
    numbers: np.ndarray | None = None,
) -> Axis:
    """The axis of a file's rows; the module's text has the rules.

    `series` [rows] numbers the series of a long file from 0; `numbers` [rows] are what a person calls the rows. Raises
    UserError naming the row of the first stamp that can't be read, where there are too many, an unknown zone, and for
    what `make_grid` refuses.
    """
    where = f"{where} {stamps.source}"
    codes = np.zeros(len(stamps.time), np.int64) if series is None else series
    _refuse_unreadable(stamps, findings, where, numbers)
    if stamps.note:
        findings.say(stamps.note)
    time, tz, kept = _zoned(stamps, data, codes, findings, where)
    if not kept.any():
        raise UserError(
            f"{where}: no row is left; every stamp lies in an hour that {tz} skips, check data.tz"
        )
    rows, instant, code = _sorted(np.flatnonzero(kept), time, codes, findings)
    new = np.ones(len(rows), bool)
    new[1:] = (np.diff(instant) != 0) | (np.diff(code) != 0)
    first = np.append(np.flatnonzero(new), len(rows))
    unique, owner = instant[new], code[new]
    repeated = len(rows) - len(unique)
    if tz is None and repeated and not stamps.zoned:
        _suggest_zone(unique, instant[~new], findings)
    grid, tz = _grid(unique, owner, tz, data, findings, where)
    _say_grid(grid, len(unique), data, findings)
    needed = None
    if grid.coarse and data.aggregate == "sum":
        needed = _needed(grid, unique, owner, tz, stamps, data)
    # On the wall's clock an instant may lie before an earlier one: keep places ascending within a series.
    offset = owner * len(grid.time)
    place = np.maximum.accumulate(grid.place + offset) - offset
    count = 1 if series is None else int(codes[kept].max()) + 1
    return Axis(
        time=grid.time,
        freq=grid.freq,
        tz=tz,
        order=rows,
        first=first,
        place=place,
        bounds=np.searchsorted(owner, np.arange(count + 1)),
        needed=needed,
        repeated=repeated,
        differing=np.zeros(len(unique) if repeated else 0, bool),
    )


def _sorted(
    rows: np.ndarray, time: np.ndarray, codes: np.ndarray, findings: Findings
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rows, their instants in microseconds, their series) by series, instant and appearance."""
    instant, code = time.view(np.int64)[rows], codes[rows]
    backwards = bool((np.diff(instant)[np.diff(code) == 0] < 0).any())
    if backwards:
        findings.say("rows were not in the order of time: sorted", unsorted=True)
    if not backwards and (np.diff(code) >= 0).all():
        return rows, instant, code
    order = np.lexsort((np.arange(len(rows)), instant, code))
    return rows[order], instant[order], code[order]


def _say_grid(grid: Grid, instants: int, data: DataConfig, findings: Findings) -> None:
    if "@" in grid.freq and data.freq is None:
        findings.say(
            f"rows come in sessions, {grid.freq}: one follows the other, and the time between two is no gap; set "
            "data.freq where it is one",
            sessions=grid.freq,
        )
    elif shorter_than_a_day(grid.freq) and len(grid.time) > 1.5 * len(np.unique(grid.place)):
        findings.say(
            f"more than a third of the steps of {grid.freq} have no row; where rows come in sessions, set data.freq "
            f"to these, for example {grid.freq}@09:00-17:00/B"
        )
    if grid.coarse:
        findings.say(
            f"rows of one {grid.freq} step are aggregated ({data.how})",
            aggregated=data.how,
        )
    elif grid.moved:
        findings.say(
            f"{grid.moved:,} of {instants:,} stamps lie between steps of {grid.freq}: moved to the nearest",
            moved=grid.moved,
        )


def _refuse_unreadable(
    stamps: Stamps, findings: Findings, where: str, numbers: np.ndarray | None
) -> None:
    bad = np.flatnonzero(np.isnat(stamps.time))
    if not len(bad):
        return
    called = np.arange(1, len(stamps.time) + 1) if numbers is None else numbers
    shown = [f'row {called[row]} ("{_short(stamps.show(row))}")' for row in bad[:NAMED].tolist()]
    hint = how_to_write(stamps.show(int(bad[0])))
    if len(bad) == len(stamps.time):
        raise UserError(
            f"{where}: no cell is a stamp ({shown[0]}); name the column of stamps in data.time, or {hint}"
        )
    if len(bad) * 100 >= len(stamps.time):
        raise UserError(
            f"{where}: {len(bad):,} of {len(stamps.time):,} stamps can't be read, the first in {shown[0]}; {hint}"
        )
    more = f" and {len(bad) - NAMED:,} more" if len(bad) > NAMED else ""
    findings.say(
        f"rows without a stamp that can be read are left out: {', '.join(shown)}{more}",
        unreadable_stamps=len(bad),
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 40 else text[:37] + "..."


def _zoned(
    stamps: Stamps, data: DataConfig, codes: np.ndarray, findings: Findings, where: str
) -> tuple[np.ndarray, str | None, np.ndarray]:
    """(datetime64[us] in UTC or naive, zone, which rows have one)."""
    if data.tz is not None:
        try:
            ZoneInfo(data.tz)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise UserError(
                f'data.tz = "{data.tz}": no such time zone; write it as Europe/Berlin or UTC'
            ) from None
    readable = ~np.isnat(stamps.time)
    if stamps.zoned:
        zone = data.tz or stamps.zone or "UTC"
        _refuse_ends(stamps.time, zone, where)
        findings.say(f"stamps carry their offset from UTC; zone {zone}", tz=zone)
        return stamps.time, zone, readable
    if data.tz is None:
        return stamps.time, None, readable
    _refuse_ends(stamps.time, data.tz, where)
    time, doubled, skipped = localise(stamps.time, data.tz, codes)
    said = f"stamps are {data.tz}'s clock: {doubled:,} rows in hours that it shows twice"
    if skipped:
        said += f", {skipped:,} in hours that it skips left out"
        if not doubled:
            said += "; if the clock of the data never changes, set data.tz to a fixed zone, for example Etc/GMT-1"
    findings.say(said, tz=data.tz, doubled_hours=doubled, skipped_hours=skipped)
    return time, data.tz, ~np.isnat(time)


def _refuse_ends(time: np.ndarray, zone: str, where: str) -> None:
    """Raises UserError for stamps so near the ends of the calendar that another clock may show a year beyond them."""
    if ((time < FIRST_ZONED) | (time > LAST_ZONED)).any():
        raise UserError(
            f"{where}: the clock of {zone} is known from {FIRST_ZONED.astype('M8[D]')} to "
            f"{LAST_ZONED.astype('M8[D]')}; leave out earlier and later rows"
        )


def localise(time: np.ndarray, zone: str, codes: np.ndarray) -> tuple[np.ndarray, int, int]:
    """Stamps of a zone's clock in UTC; (datetime64[us] with NaT in skipped hours, rows in doubled, in skipped hours).

    Of rows of one series with the same doubled stamp, the first half in order of appearance is before the clock was
    set back; in a file that runs backwards, the last half. A stamp that is there once is before.
    """
    wall = pd.DatetimeIndex(time)
    before, after = _both_ways(wall, zone)
    found = before.tz_convert("UTC").tz_localize(None).to_numpy().astype(STAMP, copy=True)
    doubled = np.flatnonzero(np.asarray(before != after) & before.notna())
    if len(doubled):
        groups = pd.DataFrame({"code": codes[doubled], "time": time[doubled]}).groupby(
            ["code", "time"]
        )
        rank, size = groups.cumcount().to_numpy(), groups["time"].transform("size").to_numpy()
        steps = np.diff(time)[np.diff(codes) == 0]
        if (steps < np.timedelta64(0)).sum() > (steps > np.timedelta64(0)).sum():
            rank = size - 1 - rank
        late = doubled[(2 * rank >= size) & (size > 1)]
        found[late] = after[late].tz_convert("UTC").tz_localize(None).to_numpy()
    skipped = int((wall.notna() & before.isna()).sum())
    return found, len(doubled), skipped


def _wall(instant: np.ndarray, zone: str) -> np.ndarray:
    """UTC microseconds as the zone's clock shows them."""
    return clock_of(stamps_at(instant).tz_localize("UTC").tz_convert(zone).tz_localize(None))


def _grid(
    unique: np.ndarray,
    owner: np.ndarray,
    tz: str | None,
    data: DataConfig,
    findings: Findings,
    where: str,
) -> tuple[Grid, str | None]:
    """The grid on the clock that the stamps follow, and the zone if that is UTC."""
    freq = parse_freq(data.freq) if data.freq is not None else None
    steps = differences(unique, owner)
    if tz is None:
        return make_grid(unique, steps, freq, 0, where), None
    wall = _wall(unique, tz)
    ahead = int(wall[0] - unique[0])
    if tz == "UTC" or (freq is not None and _is_short(freq)):
        return make_grid(unique, steps, freq, ahead, where), tz
    universal, problem = _try_grid(unique, steps, freq, ahead, where)
    short = universal is not None and _is_short(universal.freq)
    if universal is not None and short and len(universal.time) < _GAPPY * len(unique):
        return universal, tz
    # Steps on the wall's clock may go back by an hour in autumn; only their most common length matters.
    local, _ = _try_grid(wall, differences(wall, owner), freq, 0, where)
    if universal is not None and short and not (local is not None and _keeps(local, wall)):
        return universal, tz
    if local is None and universal is None:
        assert problem is not None
        raise problem
    if local is None or (universal is not None and _prefers_utc(universal, local)):
        assert universal is not None
        return universal, tz
    findings.say(
        f"steps of {local.freq} count on the clock of {tz}, so the length of a day doesn't matter to them",
        clock="wall",
    )
    return local, None


def _keeps(local: Grid, wall: np.ndarray) -> bool:
    """Whether sessions of the wall's clock explain the gaps of UTC: none lies in an hour that is shown twice."""
    return "@" in local.freq and len(np.unique(wall)) == len(wall)


def _try_grid(
    clock: np.ndarray, steps: np.ndarray, freq: str | None, ahead: int, where: str
) -> tuple[Grid | None, UserError | None]:
    """The grid on a clock, or why there is none."""
    try:
        return make_grid(clock, steps, freq, ahead, where), None
    except UserError as error:
        return None, error


def _is_short(freq: str) -> bool:
    step = fixed_step(freq)
    return step is not None and step <= HOUR


def _prefers_utc(universal: Grid, local: Grid) -> bool:
    """False where the stamps follow the wall's clock from midnight, or fit it no worse than UTC."""
    step = fixed_step(local.freq)
    from_midnight = step is None or int(clock_of(local.time[:1])[0]) % min(step, DAY) == 0
    if local.coarse or (local.moved == 0 and from_midnight):
        return False
    return universal.moved < local.moved or universal.moved == 0


def _needed(
    grid: Grid,
    unique: np.ndarray,
    owner: np.ndarray,
    tz: str | None,
    stamps: Stamps,
    data: DataConfig,
) -> np.ndarray | None:
    """Rows of the file's own step that each step of a coarser grid holds; None where the file has no step."""
    steps = differences(unique, owner)
    try:
        fine = fixed_step(find_freq(unique, steps, ""))
    except UserError:
        return None  # single events: their sum is what there is
    if fine is None:
        return None
    if "@" in grid.freq:  # the night is in no step of a session
        return np.full(len(grid.time), usual_length(grid.freq) // fine)
    edges = grid.edges()
    zone = data.tz or stamps.zone
    if tz is None and zone is not None:  # local days: 23 to 25 hours
        ones = np.ones(len(edges), bool)
        edges = (
            edges.tz_localize(zone, ambiguous=ones, nonexistent="shift_forward")
            .tz_convert("UTC")
            .tz_localize(None)
        )
    return np.round(np.diff(clock_of(edges)) / fine).astype(np.int64)


def _suggest_zone(unique: np.ndarray, repeated: np.ndarray, findings: Findings) -> None:
    """Says so where naive stamps lack and repeat just the hours that a zone's clock skips and shows twice."""
    first, last = stamps_at(np.array([unique.min(), unique.max()]))
    if unique.max() - unique.min() > _MOST_YEARS * 366 * DAY:
        return
    hours = pd.date_range(first.floor("h"), last.floor("h"), freq="h")
    there = np.unique(unique // HOUR)
    twice = np.unique(repeated // HOUR)
    for zone in _LIKELY:
        skipped, doubled = _changes(hours, zone)
        if not len(doubled) or not np.isin(doubled, twice).all() or np.isin(skipped, there).any():
            continue
        if len(twice) > 2 * len(doubled):
            continue  # stamps repeat all over
        findings.say(
            f"stamps lack and repeat the hours that the clock of {zone} skips and shows twice; these count as missing "
            f"and as duplicates: set data.tz, for example {zone}",
            suggested_tz=zone,
        )
        return


def _changes(hours: pd.DatetimeIndex, zone: str) -> tuple[np.ndarray, np.ndarray]:
    """(hours that a zone's clock skips, hours that it shows twice), hours since 1970."""
    before, after = _both_ways(hours, zone)
    number = clock_of(hours) // HOUR
    return number[before.isna()], number[np.asarray(before != after) & before.notna()]


def _both_ways(wall: pd.DatetimeIndex, zone: str) -> tuple[pd.DatetimeIndex, pd.DatetimeIndex]:
    """A clock's stamps in its zone, those that it shows twice as before and as after it was set back; NaT: skipped."""
    before = wall.tz_localize(zone, ambiguous=np.ones(len(wall), bool), nonexistent="NaT")
    after = wall.tz_localize(zone, ambiguous=np.zeros(len(wall), bool), nonexistent="NaT")
    return before, after
