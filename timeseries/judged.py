"""What `isoform timeseries eval` judges: a run's own splits, or the windows of other data that it was not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isoform.core.errors import UserError, join_names
from isoform.timeseries import inputs_for_run, origin
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.kept import borders_kept
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.data.scaling import Scaling
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.state import TimeseriesState

_OWN = ("file", "pedestrians")  # sources without official borders


@dataclass(frozen=True)
class Judged:
    """The windows of an evaluation, the app they are cut by, and what a person should know of them."""

    config: TimeseriesApp
    windows: WindowData
    which: Mapping[str, str] = field(default_factory=dict)  # split -> its windows, in words
    notes: tuple[str, ...] = ()  # of reading the data


def windows_to_judge(
    config: TimeseriesApp, state: TimeseriesState, path: Path | None = None
) -> Judged:
    """Of a run's own data its splits; of the data at `path`, as "test", what the run has not seen.

    Other data are read as for a forecast and judged from behind the row, series by series, up to which the run was
    trained and validated; series and variates that are new to it are judged whole. A benchmark's file keeps its
    official borders. Raises UserError where the data don't fit the run, or hold no such window.
    """
    scaling = None if state.scaling is None else Scaling.of_record(state.scaling)
    if path is None:
        return _own(config, state, scaling)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", UserWarning)
        if config.data.source in _OWN:
            found = _unseen(path, config, state, scaling)
        else:
            panel = inputs_for_run.read_benchmark(path, config, state)
            windows = WindowData(config, panel, scaling)
            official = f"split of {panel.name} by the official borders of {config.data.source}"
            which = {split: f"the {split} {official}" for split in windows.sizes()}
            found = Judged(config, windows, which)
    notes = dict.fromkeys(
        [*found.windows.panel.findings.lines, *(str(one.message) for one in said)]
    )
    return Judged(found.config, found.windows, found.which, tuple(notes))


def _own(config: TimeseriesApp, state: TimeseriesState, scaling: Scaling | None) -> Judged:
    """The stretches that the run keeps, of its own columns in its own order; of an older run, its data cut anew."""
    panel = read_panel(config.data)
    if state.kept is None:
        return Judged(config, WindowData(config, panel, scaling))
    notes: tuple[str, ...] = ()
    if state.variates and panel.variates != state.variates:
        new = [name for name in panel.variates if name not in set(state.variates)]
        panel = inputs_for_run.read_for_run(panel, config, state)
        if new:
            said = join_names(new, inputs_for_run.SHOWN)
            notes = (f"columns that were added since the training aren't judged: {said}",)
    cuts = borders_kept(panel, state.kept.spans)
    return Judged(config, WindowData(config, panel, scaling, cuts), notes=notes)


def _unseen(
    path: Path, config: TimeseriesApp, state: TimeseriesState, scaling: Scaling | None
) -> Judged:
    panel = inputs_for_run.read_for_run(path, config, state)
    config = inputs_for_run.settings(config)
    cuts = [
        {"train": (0, first), "val": (first, first), "test": (first, rows)}
        for first, rows in (
            (origin.first_judged(panel, number, state), rows)
            for number, rows in enumerate(panel.rows)
        )
    ]
    windows = WindowData(config, panel, scaling, cuts)
    if not windows.sizes().get("test"):
        last = max(one.time.values[rows - 1] for one, rows in zip(panel, panel.rows, strict=True))
        raise UserError(
            f"{panel.name}: ends at {origin.text_of(panel, last)} and holds no window of {windows.context} rows of "
            f"look-back and {windows.horizon} ahead{_behind(panel, state)}; give later rows, or judge earlier ones "
            "with `isoform timeseries backtest --from STAMP`"
        )
    which = {
        "test": _which(panel, state),
        "train": f"those of {panel.name} that this run was trained and validated on",
    }
    return Judged(config, windows, which)


def _ends(panel: Panel, state: TimeseriesState) -> list[np.datetime64]:
    """Where what the run was fitted on ends, of every series that isn't new to it."""
    found = (origin.fitted_end(panel, number, state) for number in range(len(panel.series)))
    return [stamp for stamp in found if stamp is not None]


def _which(panel: Panel, state: TimeseriesState) -> str:
    if state.fitted_until is None:
        return f"every one of {panel.name}; what this run was trained on isn't known and may be among them"
    known = _ends(panel, state)
    if not known:
        return f"every one of {panel.name}, of which this run has seen nothing"
    said = f"every one of {panel.name}{_behind(panel, state)}"
    new = len(panel.series) - len(known)
    return f"{said}, and of {new:,} series that are new to it every one" if new else said


def _behind(panel: Panel, state: TimeseriesState) -> str:
    """Where what the run was fitted on ends, in words."""
    ends = sorted(set(_ends(panel, state)))
    if not ends:
        return ""
    first, last = (origin.text_of(panel, stamp) for stamp in (ends[0], ends[-1]))
    until = first if first == last else f"{first} to {last} (by series)"
    return f" behind {until}, up to where this run was trained and validated"
