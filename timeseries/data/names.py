"""Names of columns: the one that a setting means, those of stamps, and the unit that a name carries."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from isoform.core.config.keys import suggest
from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.stamps import UNITS, unit_of

_TIMES = ("datetime", "timestamp", "date_time", "date", "time", "ds", "stamp", "time_period")
PERIODS = ("period", "quarter", "month", "week")  # of stamps where their cells name periods
_UNIT = re.compile(r"(?<!\s)\s*\[([^\[\]]*)\]\s*$")
_SHOWN = 12  # columns in a sentence


def unit_in(name: str) -> str:
    """ "degC" of a header "temp [degC]"; "" where there is none."""
    match = _UNIT.search(name)
    return match[1].strip() if match else ""


def pick(
    name: str,
    columns: Iterable[str],
    where: str,
    key: str,
    groups: Mapping[str, list[str]] | None = None,
) -> list[str]:
    """The columns that a setting means: of that very name, of that name before its [unit], or of that variable.

    Raises UserError with the columns that there are.
    """
    known = list(columns)
    if name in known:
        return [name]
    if groups and name in groups:
        return groups[name]
    bare = [column for column in known if _UNIT.sub("", column) == name]
    if len(bare) == 1:
        return bare
    shown = join_names(known, _SHOWN)
    raise UserError(f'{where}: has no column "{name}" ({key}), only {shown}{suggest(name, known)}')


def find_time(columns: Sequence[str], data: DataConfig, where: str) -> tuple[str, ...]:
    """The columns of stamps: data.time, else those of a telling name, else year, month, day, ...; () if there are none.

    A column date beside one called time or hour gives the day alone, so both are taken.
    """
    if data.time is not None:
        return tuple(
            column for name in data.time for column in pick(name, columns, where, "data.time")
        )
    taken = {_UNIT.sub("", column).strip().lower(): column for column in reversed(columns)}
    roles = {
        *data.past,
        *data.known_future,
        *data.static,
        *data.drop,
        *(data.targets or ()),
        *(data.id or ()),
    }
    plain = next(
        (taken[name] for name in _TIMES if name in taken and taken[name] not in roles), None
    )
    parts = {
        unit: column
        for column in reversed(columns)
        if (unit := unit_of(column)) and column not in roles
    }
    if plain is not None:
        clock = taken.get("time") if plain.lower() == "date" else None
        if clock is not None and clock not in roles:
            return plain, clock
        if plain.lower() == "date" and "hour" in parts:
            return (plain, *(parts[unit] for unit in UNITS[3:] if unit in parts))
        return (plain,)
    if "year" not in parts:
        return ()
    found = []
    for unit in UNITS:
        if unit not in parts:
            break
        found.append(parts[unit])
    return tuple(found)
