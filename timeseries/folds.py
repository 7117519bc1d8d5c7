"""The models of a rolling origin as one: all are on the scale of the first fold, and the last has seen most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr
from torch import nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.ensemble import mean_arrays
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.state import TimeseriesState


def join_folds(
    members: Sequence[TrainedModel[TimeseriesApp, TimeseriesState]],
) -> tuple[TimeseriesState, list[nn.Module]]:
    """The last one's state: what it was fitted until, all were. Raises UserError where they learned something else."""
    last = members[-1]
    for other in members[:-1]:
        if _learned(other.state) != _learned(last.state):
            raise UserError(
                f"{other.folder} and {last.folder} learned from different data: forecast with each by itself"
            )
    calibration = mean_arrays([member.state.calibration for member in members])
    state = last.state.model_copy(update={"calibration": calibration or None})
    return state, [member.model for member in members]


def _learned(state: TimeseriesState) -> tuple[object, ...]:
    """What folds of one file have in common."""
    names = (state.variates, state.past, state.known, state.static, state.calendar)
    return names, state.scaling, state.levels, state.season, state.data and state.data.sha256


def join_predictions(
    folders: Sequence[Path],
    out: Path,
) -> None:
    """predictions.nc of all folds along their windows, with the coordinate `fold` (window)."""
    parts = []
    for number, folder in enumerate(folders, 1):
        with xr.open_dataset(folder / "predictions.nc", engine="h5netcdf") as found:
            part = found.load()
        fold = [number] * part.sizes["window"]
        parts.append(part.assign_coords(fold=("window", fold)))
    joined = xr.concat(parts, "window", combine_attrs="drop_conflicts")
    counts = [part.attrs["windows_evaluated"] for part in parts]
    joined.attrs["windows_evaluated"] = sum(counts)
    new = out / ".predictions.nc.part"
    try:
        joined.to_netcdf(new, engine="h5netcdf")
        new.replace(out / "predictions.nc")
    finally:
        new.unlink(missing_ok=True)
