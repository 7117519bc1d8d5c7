"""Limits that the settings give: the rows from data.since to data.until, and the bounds of values (data.bounds).

V variates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from isoform.core.config.keys import suggest
from isoform.core.errors import UserError, join_names
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.panel import Panel

_SHOWN = 10  # names in a sentence


def between(panel: Panel, data: DataConfig) -> Panel:
    """The panel from data.since to data.until, both included; a date means the whole day, on the local clock.

    Raises UserError for a text that is no date, or where nothing is left.
    """
    if data.since is None and data.until is None:
        return panel
    since = None if data.since is None else _ends("since", data.since, panel)[0]
    until = None if data.until is None else _ends("until", data.until, panel)[1]
    kept = []
    for series in panel:
        local = panel.local(pd.DatetimeIndex(series["time"].values))
        inside = np.ones(len(local), bool)
        inside &= True if since is None else np.asarray(local >= since)
        inside &= True if until is None else np.asarray(local <= until)
        there = np.flatnonzero(inside)
        if not len(there) or there[0] >= series.attrs["rows"]:
            continue
        start, stop = int(there[0]), int(there[-1]) + 1
        cut = series.isel(time=slice(start, stop))
        kept.append(cut.assign_attrs(rows=min(int(series.attrs["rows"]), stop) - start))
        kept[-1]["target"].encoding.update(series["target"].encoding)
    if not kept:
        ends = panel.local(pd.DatetimeIndex(panel.first["time"].values[[0, -1]]))
        raise UserError(
            f"{panel.name}: no row lies from data.since = {data.since} to data.until = {data.until}; it goes from "
            f"{ends[0]} to {ends[1]}"
        )
    return replace(panel, series=tuple(kept))


def bounds_of(data: DataConfig, variates: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """The least and the most value [V] that each variate can have, in the data's units; infinite without a bound."""
    usual = data.bounds.get("*", (-np.inf, np.inf))
    pairs_V2 = np.array([data.bounds.get(name, usual) for name in variates]).reshape(-1, 2)
    return pairs_V2[:, 0], pairs_V2[:, 1]


def refuse_wrong_variates(data: DataConfig, variates: Sequence[str]) -> None:
    """Checks the settings that go by variate, all of them, against the variates that the data have.

    Raises UserError for a name that is none of them, and for bounds without a value between them.
    """
    by_variate = {"data.bounds": data.bounds}
    for key, table in by_variate.items():
        for name in table:
            if name != "*" and name not in variates:
                raise UserError(
                    f"{key}: {name} is no variate of these data ({join_names(variates, _SHOWN)})"
                    f"{suggest(name, variates)}"
                )
    for name, (low, high) in data.bounds.items():
        if not low < high:
            raise UserError(
                f"data.bounds: {name} = [{low:g}, {high:g}] holds no range: write the smaller limit first, inf or -inf "
                "where there is none"
            )


def _ends(key: str, text: str, panel: Panel) -> tuple[pd.Timestamp, pd.Timestamp]:
    """The first and the last instant that a date or time means, on the local clock."""
    try:
        moment = pd.Timestamp(text)
        if moment.tzinfo is None and moment is not pd.NaT:
            period = pd.Period(text)
            return period.start_time, period.end_time
    except ValueError:
        moment = pd.NaT
    if moment is pd.NaT:
        raise UserError(
            f'data.{key} = "{text}" is no date; write one such as 2024-07-01 or 2024-07-01T12:00'
        )
    local = moment.tz_convert(panel.tz or "UTC").tz_localize(None)
    return local, local
