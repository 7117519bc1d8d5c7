"""Where a forecast starts, and the rows that it needs: the look-back, and what is known of the horizon.

L rows of look-back, H rows of horizon, V variates, K known covariates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import xarray as xr

from isoform.core.errors import UserError, count, join_names
from isoform.timeseries.data.calendar import stamps_of
from isoform.timeseries.data.clock import NAT, UNIT, instants
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.rows import variable_of
from isoform.timeseries.inputs_for_run import SHOWN, columns_of, dataset
from isoform.timeseries.state import TimeseriesState


def origin_of(panel: Panel, number: int, start: str | pd.Timestamp | None, context: int) -> int:
    """The row of a series that a forecast starts with: behind its last row, or at the stamp `start`.

    Raises UserError for a stamp that is none or no row, and where fewer rows than `context` come before it.
    """
    series = panel.series[number]
    rows = int(series.attrs["rows"])
    who = str(series.attrs.get("id") or panel.name)
    if rows < context:
        raise UserError(
            f"{who}: has {count(rows, 'row')}, and this run looks back {context} (model.context); give more rows"
        )
    return rows if start is None else _row_at(panel, number, context, start, who)


def first_judged(
    panel: Panel, number: int, state: TimeseriesState, start: str | pd.Timestamp | None = None
) -> int:
    """The first row of a series that may be judged: at or behind `start`, else behind what the run was fitted on.

    That is what it was fitted on of any series, as something that moved all of them may be known from another; of this
    series alone where the other rule would leave less than half of its rows. 0 for a series that the run never saw.
    """
    time = panel.series[number].time.values[: panel.rows[number]]
    if start is not None:
        return int(np.searchsorted(time, moment_of(start, panel)))
    first = first_of_its_own(panel, number, state)
    if not first:
        return 0
    elsewhere = fitted_elsewhere(panel, state)[number]
    if np.isnat(elsewhere):
        return first
    behind = max(first, int(np.searchsorted(time, elsewhere, side="right")))
    return behind if 2 * (len(time) - behind) >= len(time) - first else first


def first_of_its_own(panel: Panel, number: int, state: TimeseriesState) -> int:
    """The first row of a series behind what the run was fitted on of it alone; 0 where that is nothing."""
    fitted = fitted_end(panel, number, state)
    time = panel.series[number].time.values[: panel.rows[number]]
    return 0 if fitted is None else int(np.searchsorted(time, fitted, side="right"))


def fitted_end(panel: Panel, number: int, state: TimeseriesState) -> np.datetime64 | None:
    """The last stamp of a series that training or validation saw; None for a series, or variates, new to the run."""
    stamp = state.fitted_end(str(panel.series[number].attrs.get("id", "")))
    new = bool(state.variates) and not set(panel.variates) & set(state.variates)
    return None if stamp is None or new else np.datetime64(stamp, UNIT)


def fitted_elsewhere(panel: Panel, state: TimeseriesState) -> np.ndarray:
    """[S] datetime64: the last stamp that training or validation saw of any other series; NaT where there is none."""
    known = state.fitted_until if isinstance(state.fitted_until, dict) else {}
    latest = sorted(known, key=lambda id: np.datetime64(known[id], UNIT))[-2:]
    ids = [str(one.attrs.get("id", "")) for one in panel]
    if len(latest) < 2:
        return np.full(len(ids), NAT)
    second, last = (np.datetime64(known[id], UNIT) for id in latest)
    return np.array([second if id == latest[-1] else last for id in ids])


def _row_at(panel: Panel, number: int, context: int, start: str | pd.Timestamp, who: str) -> int:
    """The row at `start`, with the look-back in front of it."""
    rows = int(panel.series[number].attrs["rows"])
    moment = moment_of(start, panel)
    ahead = instants(stamps_of(panel, number, 0, rows + 1, aware=True))
    row = int(np.searchsorted(ahead, moment))
    if not ahead[context] <= moment <= ahead[rows]:
        first, last = (text_of(panel, ahead[k]) for k in (context, rows))
        reach = f"from {first} to {last}" if context < rows else f"from {first} alone"
        raise UserError(
            f"{who}: --from {start} is out of reach; its {rows} rows allow a forecast {reach}, as this run looks back "
            f"{context} (model.context)"
        )
    if ahead[row] == moment:
        return row
    near = " and ".join(text_of(panel, ahead[k]) for k in (row - 1, row))
    raise UserError(f"{who}: --from {start} is no row; the nearest are {near}")


def moment_of(stamp: str | pd.Timestamp, panel: Panel) -> np.datetime64:
    """A stamp as the panel's time coordinate has it; local in the panel's zone where it has no offset.

    Of an hour that a clock shows twice, the first. Raises UserError for what is no stamp of the panel's clock.
    """
    try:
        moment = pd.Timestamp(stamp)
    except (ValueError, TypeError):
        moment = pd.NaT
    if moment is pd.NaT:
        raise UserError(f"--from {stamp}: is no stamp; write it as 2026-01-31T13:00")
    if panel.tz is None:
        if moment.tzinfo is not None:
            raise UserError(
                f"--from {stamp}: the stamps of {panel.name} have no offset; leave it out here too"
            )
        return np.datetime64(moment.as_unit(UNIT).asm8)
    if moment.tzinfo is None:
        try:
            moment = moment.tz_localize(panel.tz, ambiguous=True)
        except ValueError:
            raise UserError(
                f"--from {stamp}: the clock of {panel.tz} skips that time; name another"
            ) from None
    return np.datetime64(moment.tz_convert("UTC").tz_localize(None).as_unit(UNIT).asm8)


def text_of(panel: Panel, instant: np.datetime64) -> str:
    """An instant of the panel's time coordinate for a person, with its offset."""
    stamp = pd.Timestamp(instant)
    return (
        stamp if panel.tz is None else stamp.tz_localize("UTC").tz_convert(panel.tz)
    ).isoformat()


def cut(
    panel: Panel,
    origins: Sequence[tuple[int, int]],
    context: int,
    horizon: int,
    known: Sequence[str],
    ahead: Panel | None = None,
) -> Panel:
    """The L + H rows around the origins (series, row) in memory, with targets and past covariates of the look-back.

    Known covariates of the horizon are those of `ahead` where it has them, else of the panel's own rows; of the
    look-back the other way round.
    """
    series = []
    kinds = {"past": panel.names("past"), "known": list(known), "static": panel.names("static")}
    for number, row in origins:
        one, low = panel.series[number], row - context
        time = instants(stamps_of(panel, number, low, row + horizon, aware=True))
        arrays = {
            kind: np.full((context + horizon, len(names)), np.nan) for kind, names in kinds.items()
        }
        target = np.full((context + horizon, len(panel.variates)), np.nan)
        target[:context] = one["target"].variable[low:row].values
        arrays["past"][:context] = _values(one, "past", low, row)
        if panel.names("known"):
            have = _values(one, "known", low, row + horizon)
            arrays["known"][: len(have)] = have
        if ahead is not None:
            own, other = arrays["known"], _matched(one, ahead, time, known)
            own[:context] = np.where(np.isnan(own), other, own)[:context]
            own[context:] = np.where(np.isnan(other), own, other)[context:]
        arrays["static"] = _values(one, "static", 0, None)
        series.append(
            dataset(time, target, panel.variates, kinds, arrays, {**one.attrs, "rows": context})
        )
    return replace(panel, series=tuple(series))


def _values(one: xr.Dataset, kind: str, start: int, stop: int | None) -> np.ndarray:
    """Rows of a covariate's kind; without columns where there are none."""
    variable = variable_of(one, kind)
    if variable is None:
        return np.zeros(0) if kind == "static" else np.zeros((len(one.time[start:stop]), 0))
    return np.asarray(variable[start:stop].values, np.float64)


def _matched(one: xr.Dataset, ahead: Panel, time: np.ndarray, known: Sequence[str]) -> np.ndarray:
    """[L + H, K] of the series of the same id, or of the only one; NaN where it says nothing."""
    found = np.full((len(time), len(known)), np.nan)
    mine = str(one.attrs.get("id", ""))
    same = [
        other for other in ahead if len(ahead.series) == 1 or str(other.attrs.get("id", "")) == mine
    ]
    if not same:
        return found
    values = columns_of(same[0], "known", known, ahead.name)
    at = pd.Index(same[0].time.values).get_indexer(pd.Index(time))
    found[at >= 0] = values[at[at >= 0]]
    return found


def refuse_short_future(panel: Panel, number: int, context: int, asked: bool) -> None:
    """Raises UserError where a known covariate ends before the horizon does; a gap inside it is no end."""
    one = panel.series[number]
    values, time = _values(one, "known", context, None), one.time.values
    ends: dict[str, list[str]] = {}
    for name, column in zip(panel.names("known"), values.T, strict=True):
        if np.isnan(column[-1]):
            there = np.flatnonzero(~np.isnan(column))
            until = (
                f"known until {text_of(panel, time[context + there[-1]])}"
                if len(there)
                else "not known"
            )
            ends.setdefault(until, []).append(name)
    if ends:
        who = str(one.attrs.get("id") or panel.name)
        said = "; ".join(f"{join_names(names, SHOWN)}: {until}" for until, names in ends.items())
        how = (
            "the file of --future is too short"
            if asked
            else "give them with --future FILE, or as further rows"
        )
        first, last = (text_of(panel, time[k]) for k in (context, -1))
        raise UserError(
            f"{who}: a forecast from {first} to {last} needs known covariates ({said}); {how}"
        )
