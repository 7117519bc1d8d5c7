"""From where a backtest forecasts: the windows of every series that the run was not fitted on.

T origins, n windows.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from isoform.core.errors import UserError
from isoform.timeseries import origin
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.predictor import TimeseriesPredictor


@dataclass(frozen=True)
class Origins:
    """Where windows begin.

    times        [T] instants that are forecast first      windows   [n, 3] number of the instant, series and row
    left_out     id -> why none of its windows is judged   unseen    ids of series that the run never saw
    held_back    windows behind what the run was fitted on of their series that aren't judged, for it was fitted on
                 another one then
    held_from    the first instant that these forecast, None where there are none
    overlapping  windows in such times that are judged all the same (see origin.first_judged)
    clear_from   the first instant forecast behind all those times, None where there is none
    """

    times: np.ndarray
    windows: np.ndarray
    left_out: dict[str, str]
    unseen: list[str]
    held_back: int
    held_from: np.datetime64 | None
    overlapping: int
    clear_from: np.datetime64 | None


def find_origins(
    predictor: TimeseriesPredictor, panel: Panel, step: int, start: str | pd.Timestamp | None
) -> Origins:
    """Of every series by itself, in order of time: from `start` on, else behind what the run was fitted on.

    Raises UserError where there is none.
    """
    ids, known = ids_of(panel), predictor.state.fitted_until is not None
    pairs, left_out, held = [], {}, []
    for number, id in enumerate(ids):
        rows = panel.rows[number]
        first = origin.first_judged(panel, number, predictor.state, start)
        stop = rows - predictor.horizon + 1
        at = np.arange(max(first, predictor.context), stop, step)
        own = origin.first_of_its_own(panel, number, predictor.state)
        if start is None and own < first:
            before = np.arange(max(own, predictor.context), min(first, stop), step)
            held += list(panel.series[number].time.values[before])
        pairs.append(np.stack([np.full(len(at), number), at], 1))
        if not len(at):
            left_out[id] = _too_short(predictor, panel, number, start)
    numbered = np.concatenate(pairs)
    if not len(numbered):
        raise UserError(_no_origin(panel, left_out))
    if start is None and not known:
        warnings.warn(
            "which rows this run was trained on isn't known: some of these may be among them",
            stacklevel=3,
        )
    unseen = [
        id
        for number, id in enumerate(ids)
        if start is None and known and id not in left_out
        if origin.fitted_end(panel, number, predictor.state) is None
    ]
    instants = np.array([panel.series[number].time.values[row] for number, row in numbered])
    times, at = np.unique(instants, return_inverse=True)
    order = np.lexsort((numbered[:, 0], at))
    windows = np.concatenate([at[:, None], numbered], 1)[order]
    ends = origin.fitted_elsewhere(panel, predictor.state)
    inside = instants <= ends[numbered[:, 0]]  # NaT: nothing is known of others
    behind = times[times > instants[inside].max()] if inside.any() else times[:0]
    return Origins(
        times,
        windows,
        left_out,
        unseen,
        len(held),
        min(held, default=None),
        int(inside.sum()),
        behind[0] if len(behind) else None,
    )


def _too_short(
    predictor: TimeseriesPredictor, panel: Panel, number: int, start: str | pd.Timestamp | None
) -> str:
    """Why a series has no window."""
    rows, context, horizon = panel.rows[number], predictor.context, predictor.horizon
    if rows < context + horizon:
        return (
            f"has {rows} of the {context} + {horizon} rows that a backtest looks back on and judges"
        )
    fitted = origin.fitted_end(panel, number, predictor.state)
    where = ""
    if start is not None:
        where = f" from {start} on"
    elif fitted is not None:
        until = origin.text_of(panel, fitted)
        where = f" behind {until}, up to where this run was trained and validated (--from STAMP judges earlier rows)"
    last = origin.text_of(panel, panel.series[number].time.values[rows - 1])
    return f"ends at {last}; a backtest needs {context} rows of look-back and then {horizon} rows{where}"


def _no_origin(panel: Panel, left_out: Mapping[str, str]) -> str:
    id, why = next(iter(left_out.items()))
    if len(panel.series) == 1:
        return f"{panel.name}: {why}"
    return f"{panel.name}: none of its {len(panel.series):,} series can be judged; {id}: {why}"


def ids_of(panel: Panel) -> list[str]:
    """Of its series."""
    return [str(one.attrs.get("id", "")) for one in panel]
