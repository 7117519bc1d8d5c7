"""Texts that name a period or a zone: weeks, months, quarters and half-years as statistics offices and spreadsheets
write them, and the short names of European zones."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from isoform.timeseries.data.clock import FIRST_YEAR, LAST_YEAR, UNIT

_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_YEAR = r"(?P<year>\d{4})"
_NUMBER = r"(?P<number>\d{1,2})"
# Months of a period, and how it is written: 2024Q1, Q1 2024, 2008M01, 01/2008, 2008-S1, ...
_FORMS = tuple(
    (months, re.compile(form))
    for months, form in (
        (3, rf"{_YEAR}[-:/ ]?[Qq](?P<number>[1-4])"),
        (3, rf"[Qq](?P<number>[1-4])[-:/ ]?{_YEAR}"),
        (3, rf"(?P<number>[1-4])[Qq][-:/ ]?{_YEAR}"),
        (6, rf"{_YEAR}[-:/ ]?[SsHh](?P<number>[12])"),
        (6, rf"[SsHh](?P<number>[12])[-:/ ]?{_YEAR}"),
        (1, rf"{_YEAR}[-: ]?[Mm]{_NUMBER}"),
        (1, rf"{_YEAR}[./]{_NUMBER}"),
        (1, rf"{_NUMBER}[-./]{_YEAR}"),
    )
)
_WEEK = re.compile(r"(\d{4})[- ]?[Ww](\d{2})(?:-?([1-7]))?")
_MONTH_AND_YEAR = re.compile(r"([A-Za-z]{3,9})[-. ']+(\d{2})")  # Jan-80
_ZONES = {
    "WET": ("Europe/Lisbon", 0), "WEST": ("Europe/Lisbon", 1), "CET": ("Europe/Berlin", 1),
    "CEST": ("Europe/Berlin", 2), "MEZ": ("Europe/Berlin", 1), "MESZ": ("Europe/Berlin", 2),
    "EET": ("Europe/Athens", 2), "EEST": ("Europe/Athens", 3),
}  # fmt: skip
_ZONE = re.compile(r"(.*\d)\s*([A-Z]{3,5})", re.DOTALL)
_OTHERS_READ = ("UTC", "GMT")


def start_of(text: str) -> np.datetime64 | None:
    """When the period that a text names begins; None where it names none."""
    week = _WEEK.fullmatch(text)
    if week is not None:
        return _day(int(week[1]), int(week[2]), int(week[3] or 1))
    short = _MONTH_AND_YEAR.fullmatch(text)
    if short is not None and short[1][:3].lower() in _NAMES:
        year = int(short[2])
        return _month(1900 + year if year > 68 else 2000 + year, _NAMES.index(short[1][:3].lower()))
    for months, form in _FORMS:
        match = form.fullmatch(text)
        if match is not None:
            return _month(int(match["year"]), months * (int(match["number"]) - 1))
    return None


def _day(year: int, week: int, weekday: int) -> np.datetime64 | None:
    """A day of an ISO week, Monday is 1."""
    if not FIRST_YEAR <= year <= LAST_YEAR:
        return None
    try:
        return np.datetime64(datetime.date.fromisocalendar(year, week, weekday), UNIT)
    except ValueError:
        return None


def _month(year: int, number: int) -> np.datetime64 | None:
    """The first day of a month, counted from 0."""
    if not (FIRST_YEAR <= year <= LAST_YEAR and 0 <= number < 12):
        return None
    return np.datetime64(f"{year:04d}-{number + 1:02d}-01", UNIT)


def without_zone(text: str) -> tuple[str, str | None]:
    """("2024-01-01 00:00", "CET") of a stamp that ends in the short name of a zone; (the text, None) of others."""
    match = _ZONE.fullmatch(text) if text[-1:].isupper() else None
    return (match[1], match[2]) if match is not None and match[2] in _ZONES else (text, None)


def hours_ahead(name: str) -> int:
    """Of UTC, in the zone of that short name."""
    return _ZONES[name][1]


def zone_of(time: np.ndarray, names: Sequence[str]) -> str:
    """The IANA zone of UTC instants beside each of which stands the short name of a zone.

    Where the clock of that part of Europe would have shown another one, it is a clock that never changes.
    """
    places = {_ZONES[name] for name in names}
    zone = min(places)[0]
    local = pd.DatetimeIndex(time).tz_localize("UTC").tz_convert(zone).tz_localize(None)
    ahead = (local.to_numpy() - time).astype("m8[m]").astype(np.int64)
    if (ahead == [60 * hours_ahead(name) for name in names]).all():
        return zone
    fixed = {hours for _, hours in places}
    return f"Etc/GMT-{fixed.pop()}" if len(fixed) == 1 else "UTC"


def how_to_write(text: str) -> str:
    """What to write in place of a stamp that can't be read."""
    match = _ZONE.fullmatch(" ".join(text.split()))
    if match is not None and ":" in match[1] and match[2] not in (*_ZONES, *_OTHERS_READ):
        return (
            f"{match[2]} stands for several zones, or for none: write the offset from UTC, as in "
            "2024-01-31 13:00-05:00"
        )
    return (
        "write stamps as 2024-01-31 13:00, days as 2024-01-31, weeks as 2024-W05, months as 2024-01, "
        "quarters as 2024Q1"
    )
