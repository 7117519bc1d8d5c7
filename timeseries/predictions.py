"""predictions.nc: what a run said of its test windows, beside what happened, in the data's own units."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr

from isoform.timeseries.data.windows import WindowData


def write(path: Path, data: WindowData, outputs: Mapping[str, np.ndarray]) -> None:
    """Writes the windows that the evaluation kept: forecast, truth (NaN where missing), quantiles, inside data.bounds.

    Dimensions window, step, variate (and quantile); `origin` is the last stamp that a window knows, `series` its id.
    Stamps are in UTC where the attribute `time_zone` is set. Written whole or not at all.
    """
    where = outputs["where"]
    truth = data.to_units(outputs["target"], axis=2)
    if "observed" in outputs:
        truth = np.where(outputs["observed"], truth, np.nan)
    dims = ("window", "step", "variate")
    found: dict[str, tuple[tuple[str, ...], np.ndarray]] = {
        "forecast": (dims, data.forecast_units(outputs["forecast"], axis=2).astype(np.float32)),
        "truth": (dims, truth.astype(np.float32)),
    }
    members = data.panel.series
    coords = {
        "origin": ("window", [members[int(s)].time.values[int(r) - 1] for s, r in where]),
        "series": ("window", np.array([str(members[int(s)].attrs["id"]) for s, _ in where], str)),
        "step": np.arange(1, data.horizon + 1),
        "variate": np.array(data.variates, dtype=str),
    }
    if "quantiles" in outputs:
        quantiles = data.forecast_units(outputs["quantiles"], axis=2).astype(np.float32)
        found["quantiles"] = ((*dims, "quantile"), quantiles)
        coords["quantile"] = outputs["levels"]
    made = xr.Dataset(found, coords)
    made.attrs["windows_evaluated"] = int(outputs.get("windows", np.array(len(where))))
    if data.panel.tz is not None:
        made.attrs["time_zone"] = data.panel.tz
    part = path.with_name(f".{path.name}.part")
    try:
        made.to_netcdf(part, engine="h5netcdf")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
