"""Cells -> instants: text, numbers or several columns become datetime64[us], zoned or as a clock showed them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries.data import periods
from isoform.timeseries.data.clock import FIRST_YEAR, LAST_YEAR, NAT, STAMP, within

UNITS = ("year", "month", "day", "hour", "minute", "second")
_SPELLINGS = {
    **{unit: unit for unit in UNITS}, "yr": "year", "yyyy": "year", "mon": "month", "hr": "hour", "hh": "hour",
    "h": "hour", "min": "minute", "sec": "second",
}  # fmt: skip
_ISO = re.compile(r"\d{4}[-/]\d{1,2}(?!\d)")
_PARTS = re.compile(
    r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})"
    r"(?:[T ,]+(\d{1,2})(?::(\d{2}))?(?::(\d{2})(?:[.,](\d{1,9}))?)?\s*([AaPp])?(?:\.?[Mm]\.?)?)?"
    r"\s*(Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)?"
)
_OFFSET = re.compile(
    r"[T ]\d{1,2}(?::?\d{2}){0,2}(?:[.,]\d+)?\s*(?:Z|z|UTC|GMT|[+-]\d{2}(?::?\d{2})?)$"
)
_WORDY = re.compile(r"(?=.*\d{4})(?=.*[A-Za-z]{3})[\w ,:./+-]{6,40}")  # 3 Jan 2024 13:00
_CLOCK = re.compile(
    r"(\d{1,2}):(\d{2})(?::(\d{2})(?:[.,]\d+)?)?\s*([AaPp])?(?:\.?[Mm]\.?)?(?:\s*[-\u2013].*)?"
)
_LONGEST = 64  # characters of a stamp
# Digits alone: (how many, smallest, largest) of a date written without separators, and how to take it apart.
_COMPACT = {6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_SERIAL = (25569, 73415)  # a spreadsheet's 1 January of 1970 and of 2101
# Since 1970: (smallest, largest, microseconds) of seconds, milliseconds and microseconds; nanoseconds lie beyond.
_EPOCHS = ((1e8, 1e11, 10**6), (1e11, 1e14, 10**3), (1e14, 1e17, 1))
_NANOSECONDS = (1e17, 9.2e18)
_BY_CONTENT = (1600, 2261)  # whole numbers that are years wherever they stand
_TOO_FINE = re.compile(r"(?<=[.,]\d{6})\d+")  # digits of a second behind the microsecond's


@dataclass(frozen=True)
class Stamps:
    """The instants of the rows of a file.

    time    datetime64[us] [rows], NaT where a row has none; in UTC if `zoned`, else as a clock on the wall showed it
    zone    the IANA zone that the file itself names (a parquet column has one), or None
    show    row -> what the file says there, for messages
    source  "column date", for messages
    note    how the cells were understood, where that isn't plain; "" else
    """

    time: np.ndarray
    zoned: bool
    show: Callable[[int], str]
    source: str
    zone: str | None = None
    note: str = ""


def unit_of(name: str) -> str | None:
    """ "hour" for a column called hour, Hr or HH; None for any other name."""
    return _SPELLINGS.get(name.strip().lower())


def parse_stamps(columns: Sequence[pd.Series], where: str, named: bool = False) -> Stamps:
    """One column of stamps, a date and a clock, or year, month, day, hour, minute, second.

    Text may be ISO 8601 with or without offset, numbers joined by - / or . with the day or the month first (whichever
    fits every row), with AM or PM, 24:00, months by name, or periods, which stand for their first instant: weeks
    (2024-W05), months (2024M01, 01/2024), quarters (2024Q1, Q1 2024); with a short name of a European zone (CET) or
    without. Digits alone are 20240131, 202401311300, seconds, milliseconds, ... since 1970 (UTC), or a spreadsheet's
    days since 1900 with the time as a fraction. Whole numbers from 1600 to 2261 are years, those from 1 to 9999 in a
    column that is called year, or that a person `named` as the one of stamps. A clock is 13:00, an hour 0 to 24, 1300
    or a span 6:00-6:59, which counts from its start. Raises UserError where day and month can't be told apart, some
    stamps have offsets and others don't, or numbers are no stamps.
    """
    names = ", ".join(str(column.name) for column in columns)
    source = f"column {names}" if len(columns) == 1 else f"columns {names}"

    def show(row: int) -> str:
        return " ".join(
            "" if pd.isna(cell) else str(cell) for cell in (column.iloc[row] for column in columns)
        )

    if len(columns) == 1 or not _is_component(columns[0]):
        years = named or unit_of(str(columns[0].name)) == "year"
        time, zoned, zone, note = _instants(columns[0], f"{where} {source}", years)
        for place, column in enumerate(columns[1:], 3):
            time = time + _clock(
                column, unit_of(str(column.name)) or (UNITS[place] if place < 6 else "second")
            )
    else:
        units = [unit_of(str(column.name)) for column in columns]
        if None in units or len(set(units)) < len(units):
            units = list(UNITS[: len(columns)])  # data.time gives them in this order
        time = _components(dict(zip(units, columns, strict=False)))
        zoned, zone, note = False, None, ""
    return Stamps(time, zoned, show, source, zone, note)


def _is_component(column: pd.Series) -> bool:
    """True where the first of several columns is a year and not a date."""
    if unit_of(str(column.name)) == "year":
        return True
    numbers = _numbers(column)
    return numbers is not None and not (np.nan_to_num(np.abs(numbers), nan=0) > 9999).any()


def _numbers(column: pd.Series) -> np.ndarray | None:
    """The cells as float64, or int64 where all are whole, if every filled one is a number; else None."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        return None
    found = pd.to_numeric(column, errors="coerce")
    if found.dtype.kind == "i" and not found.isna().any():
        return found.to_numpy(dtype=np.int64)
    numbers = np.asarray(found.to_numpy(dtype=np.float64, na_value=np.nan))
    text = column.to_numpy()[np.isnan(numbers)]
    filled = [cell for cell in text.tolist() if isinstance(cell, str) and cell.strip()]
    return None if filled or np.isnan(numbers).all() else numbers


def _instants(
    column: pd.Series, where: str, years: bool
) -> tuple[np.ndarray, bool, str | None, str]:
    """(datetime64[us], zoned, zone, note) of one column; `years`: small whole numbers are such."""
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        zone = getattr(column.dtype, "tz", None)
        if zone is None:
            return within(column.to_numpy()), False, None, ""
        named = str(zone) if "/" in str(zone) else None  # an offset such as +01:00 is no zone
        return within(column.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy()), True, named, ""
    numbers = _numbers(column)
    if numbers is not None:
        time, zoned, note = _from_numbers(numbers, where, years)
        return time, zoned, None, note
    # A long file repeats its stamps for every series: each text is parsed once.
    codes, unique = pd.factorize(column)
    texts = [str(text).strip() for text in unique]
    time, offsets, zone = _from_zoned_texts(texts, where)
    mixed = offsets.any() and not offsets[~np.isnat(time)].all()
    if mixed:
        without = texts[int(np.flatnonzero(~offsets & ~np.isnat(time))[0])]
        raise UserError(
            f'{where}: "{without}" has no offset from UTC where others have one; write all stamps the same way'
        )
    time = np.append(time, NAT)  # code -1: an empty cell
    return time[codes], bool(offsets.any()), zone, ""


def _from_zoned_texts(
    texts: Sequence[str], where: str
) -> tuple[np.ndarray, np.ndarray, str | None]:
    """(datetime64[us], True where the text had an offset or the short name of a zone, the zone of those names)."""
    parts = [periods.without_zone(text) for text in texts]
    time, offsets = _from_texts([text for text, _ in parts], where)
    named = [place for place, (_, name) in enumerate(parts) if name and not np.isnat(time[place])]
    if not named:
        return time, offsets, None
    names = [name for _, name in (parts[place] for place in named) if name]
    time[named] -= np.array([periods.hours_ahead(name) for name in names], "m8[h]")
    offsets[named] = True
    return time, offsets, periods.zone_of(time[named], names)


def _from_numbers(numbers: np.ndarray, where: str, years: bool) -> tuple[np.ndarray, bool, str]:
    filled = numbers[~np.isnan(numbers)]
    whole = bool((filled == np.floor(filled)).all())
    low, high = float(filled.min()), float(filled.max())
    plain = _BY_CONTENT[0] <= low and high <= _BY_CONTENT[1]
    if whole and (plain or (years and low >= FIRST_YEAR and high <= LAST_YEAR)):
        note = "" if plain else f"stamps are years: {low:.0f} to {high:.0f}"
        return _components({"year": pd.Series(numbers)}), False, note
    time = np.full(len(numbers), NAT)
    there = ~np.isnan(numbers)
    compact = _from_compact(filled) if whole else None
    if compact is not None:
        time[there] = compact
        return time, False, ""
    if _SERIAL[0] <= low and high < _SERIAL[1]:
        time[there] = _from_serial(filled)
        first = str(time[there][0].astype("M8[s]")).replace("T", " ")
        return (
            time,
            False,
            f"stamps are days since 1900, as spreadsheets count: {filled[0]:.10g} is {first}",
        )
    since_1970 = _from_epoch(filled)
    if since_1970 is None:
        if whole and low >= FIRST_YEAR and high <= LAST_YEAR:
            how = "if they are years, name it in data.time, else another column"
        else:
            how = f"name another column in data.time (years are {FIRST_YEAR} to {LAST_YEAR})"
        raise UserError(
            f"{where}: holds numbers from {low:g} to {high:g}, which are no stamps; {how}"
        )
    time[there] = since_1970
    return time, True, ""


def _from_serial(days: np.ndarray) -> np.ndarray:
    """Days since 1900 as spreadsheets count them: to the minute, or to the second where they lie between minutes."""
    seconds = (days - _SERIAL[0]) * 86400
    minutes = np.round(seconds / 60) * 60
    near = minutes if (np.abs(seconds - minutes) < 5).all() else np.round(seconds)
    return near.astype(np.int64).astype("M8[s]").astype(STAMP)


def _from_compact(whole: np.ndarray) -> np.ndarray | None:
    """Dates without separators, 20240131; None where the numbers are none."""
    digits = len(f"{whole.min():.0f}")
    form = _COMPACT.get(digits)
    if form is None or digits != len(f"{whole.max():.0f}"):
        return None
    texts = pd.Series(whole.astype(np.int64)).astype(str)
    parsed = pd.to_datetime(texts, format=form, errors="coerce")
    if parsed.isna().any() or not parsed.dt.year.between(1800, 2200).all():
        return None
    return within(parsed.to_numpy())


def _from_epoch(numbers: np.ndarray) -> np.ndarray | None:
    """Seconds, milliseconds, ... since 1970; None where the numbers are too small or too large for either."""
    low, high = float(numbers.min()), float(numbers.max())
    for least, most, factor in _EPOCHS:
        if low >= least and high < most:
            count = np.floor(numbers)
            rest = np.round((numbers - count) * factor)  # 0.25 s of a float
            return (count.astype(np.int64) * factor + rest.astype(np.int64)).view(STAMP)
    if _NANOSECONDS[0] <= low and high < _NANOSECONDS[1]:
        exact = numbers.dtype.kind == "i"  # a float misses some microsecond by a hair
        count = numbers // 1000 if exact else np.round(numbers / 1000)
        return count.astype(np.int64).view(STAMP)
    return None


def _from_texts(texts: Sequence[str], where: str) -> tuple[np.ndarray, np.ndarray]:
    """(datetime64[us], True where the text had an offset) of different texts; NaT where one is no stamp."""
    time = np.full(len(texts), NAT)
    short = [place for place, text in enumerate(texts) if text and len(text) <= _LONGEST]
    offsets = np.zeros(len(texts), bool)
    offsets[[place for place in short if _OFFSET.search(texts[place])]] = True
    iso = [place for place in short if _ISO.match(texts[place])]
    if iso:
        time[iso] = _parse([texts[place] for place in iso], "ISO8601")
    rest = [place for place in short if np.isnat(time[place])]
    matches = {
        place: match for place in rest if (match := _PARTS.fullmatch(texts[place])) is not None
    }
    if matches:
        time[list(matches)] = _from_parts(list(matches.values()), where)
    for place in rest:
        start = periods.start_of(texts[place]) if np.isnat(time[place]) else None
        if start is not None:
            time[place] = start
    wordy = [place for place in rest if np.isnat(time[place]) and _WORDY.fullmatch(texts[place])]
    if wordy:
        time[wordy] = _parse([texts[place] for place in wordy], "mixed")
    return time, offsets


def _parse(texts: Sequence[str], form: str) -> np.ndarray:
    """What pandas makes of texts; NaT where it makes nothing."""
    cut = [_TOO_FINE.sub("", text) for text in texts]  # else pandas reads all in nanoseconds
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that the form was guessed
        parsed = pd.to_datetime(
            pd.Series(cut, dtype=object), errors="coerce", format=form, utc=True
        )
    return within(parsed.dt.tz_localize(None).to_numpy())


def _from_parts(found: list[re.Match[str]], where: str) -> np.ndarray:
    """Instants of dates such as 31.1.2024 13:00, 1/31/2024 1 PM or 2024-1-31 24:00; offsets are taken off."""

    def part(group: int) -> np.ndarray:
        return np.array([int(match[group] or 0) for match in found])

    first, second, third = part(1), part(3), part(4)
    year_first = np.array([len(match[1]) > 2 for match in found])
    short = np.array([len(match[4]) < 3 for match in found])
    day_first = _is_day_first(found, ~year_first, first, second, where)
    century = np.where(third > 68, 1900, 2000)  # as POSIX reads two digits
    late = np.where(~year_first & short, third + century, third)
    month, day = (second, first) if day_first else (first, second)
    year = np.where(year_first, first, late)
    month = np.where(year_first, second, month)
    day = np.where(year_first, late, day)
    halves = np.array([(match[9] or "").lower() for match in found])
    hour = part(5).astype(np.float64)
    hour = np.where(halves == "p", hour % 12 + 12, hour)
    hour = np.where(halves == "a", hour % 12, hour)
    values = (year, month, day, hour, part(6), part(7))
    time = _components({unit: pd.Series(value) for unit, value in zip(UNITS, values, strict=True)})
    fraction = np.array([int((match[8] or "")[:6].ljust(6, "0")) for match in found], "m8[us]")
    shift = np.array([_shift(match[10]) for match in found], "m8[m]")
    return time + fraction - shift


def _is_day_first(
    found: list[re.Match[str]],
    turned: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    where: str,
) -> bool:
    """Whether the dates that end in the year (`turned`) begin with the day, which one order fits all of.

    Raises UserError where nothing tells.
    """
    if not turned.any():
        return False
    dotted = all(found[place][2] == "." for place in np.flatnonzero(turned))
    first, second = first[turned], second[turned]
    days, months = int((first > 12).sum()), int((second > 12).sum())
    if not dotted and days == months == 0 and (first != second).any():
        text = found[int(np.flatnonzero(turned)[0])].group()
        raise UserError(
            f'{where}: day and month of "{text}" can\'t be told apart; write stamps as 2024-01-31'
        )
    return days > months or (dotted and days >= months)


def _shift(offset: str | None) -> int:
    """Minutes of an offset such as +01:00."""
    if not offset or offset[0] not in "+-":
        return 0
    minutes = int(offset[1:3]) * 60 + int(offset[3:].strip(":") or 0)
    return -minutes if offset[0] == "-" else minutes


def _components(columns: dict[str | None, pd.Series]) -> np.ndarray:
    """datetime64[us] of numbers in columns year, month, day, hour, ...; NaT where one is missing or out of range."""
    parts = {unit: _as_float(column) for unit, column in columns.items()}
    length = len(next(iter(parts.values())))
    year = parts.get("year", np.full(length, np.nan))
    month = parts.get("month", np.ones(length))
    day = parts.get("day", np.ones(length))
    good = np.ones(length, bool)
    for value, least, most in ((year, FIRST_YEAR, LAST_YEAR), (month, 1, 12), (day, 1, 31)):
        good &= (value >= least) & (value <= most) & (value == np.floor(value))
    for unit, most in (("hour", 24), ("minute", 59), ("second", 60)):
        if unit in parts:
            good &= (parts[unit] >= 0) & (parts[unit] <= most)
    months = (np.where(good, year, 1970) - 1970) * 12 + np.where(good, month, 1) - 1
    base = months.astype(np.int64).astype("M8[M]")
    date = base.astype("M8[D]") + (np.where(good, day, 1) - 1).astype(np.int64)
    good &= date.astype("M8[M]") == base  # 31 April
    seconds = np.zeros(length)
    for unit, length_of in (("hour", 3600), ("minute", 60), ("second", 1)):
        if unit in parts:
            seconds = seconds + np.where(good, parts[unit], 1) * length_of
    time = date.astype(STAMP) + np.round(seconds * 1e3).astype("m8[ms]")
    return within(np.where(good, time, NAT))


def _as_float(column: pd.Series) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    return np.asarray(numbers.to_numpy(dtype=np.float64, na_value=np.nan))


def _clock(column: pd.Series, unit: str) -> np.ndarray:
    """timedelta64[us] since midnight of a column of clocks, hours, minutes or seconds; NaT where a cell is neither."""
    numbers = _numbers(column)
    if numbers is not None:
        return _clock_of_numbers(numbers, unit)
    codes, unique = pd.factorize(column)
    found = np.full(len(unique) + 1, NAT - NAT)
    for place, text in enumerate(unique):
        seconds = _seconds_of(str(text).strip())
        if seconds is not None:
            found[place] = np.timedelta64(seconds, "s")
    return found[codes]


def _clock_of_numbers(numbers: np.ndarray, unit: str) -> np.ndarray:
    if (
        unit == "hour" and np.nanmax(numbers) > 24 and (np.nan_to_num(numbers) % 100 < 60).all()
    ):  # 1300
        numbers, unit = numbers // 100 * 60 + numbers % 100, "minute"
    limit, factor = {"hour": (24, 3600), "minute": (1440, 60)}.get(unit, (86400, 1))
    good = (numbers >= 0) & (numbers <= limit)
    seconds = np.where(good, numbers, 0) * factor
    return np.where(good, np.round(seconds * 1e3).astype("m8[ms]"), NAT - NAT)


def _seconds_of(text: str) -> int | None:
    """Since midnight, of a clock such as 13:00, 1:00 PM or 6:00-6:59; None for anything else."""
    match = _CLOCK.fullmatch(text) if len(text) <= _LONGEST else None
    if match is None:
        return None
    hour, minutes, seconds = int(match[1]), int(match[2]), int(match[3] or 0)
    if match[4]:
        hour = hour % 12 + (12 if match[4].lower() == "p" else 0)
    if hour > 24 or minutes > 59 or seconds > 60:
        return None
    return hour * 3600 + minutes * 60 + seconds
