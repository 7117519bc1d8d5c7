"""Small series for the tests of metrics and baselines, with windows that a person can count."""

import numpy as np
import pandas as pd
import xarray as xr

from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.windows import WindowData


def panel(*values, freq="h", tz=None, known=None, past=None, start="2024-01-01"):
    """One series an array [rows, V]; `known` [rows + more, K] and `past` [rows, P] covariates."""
    series = []
    for i, value in enumerate(values):
        value = np.asarray(value, np.float64)
        rows = len(value) if known is None else len(known)
        target = np.full((rows, value.shape[1]), np.nan)
        target[: len(value)] = value
        names = {kind: [] if found is None else [f"{kind}{j}" for j in range(found.shape[1])]
                 for kind, found in (("known", known), ("past", past))}  # fmt: skip
        variables = {"target": (("time", "variate"), target)}
        if known is not None:
            variables["known_values"] = ("time", "known"), np.asarray(known, np.float64)
        if past is not None:
            variables["past_values"] = ("time", "past"), np.asarray(past, np.float64)
        coords = {
            "time": pd.date_range(start, periods=rows, freq=freq), "variate": [f"v{j}" for j in range(value.shape[1])],
            "units": ("variate", [""] * value.shape[1]), **{kind: np.array(own, str) for kind, own in names.items()},
        }  # fmt: skip
        series.append(
            xr.Dataset(
                variables, coords, {"id": "" if len(values) == 1 else f"s{i}", "rows": len(value)}
            )
        )
    return Panel(series=tuple(series), freq=freq, tz=tz, name="made")


def app(context=5, horizon=3, **data):
    model = {"context": context, "horizon": horizon}
    return TimeseriesApp.model_validate(
        {"domain": "timeseries", "app": "made", "model": model, "data": data}
    )


def window_data(
    *values,
    context=5,
    horizon=3,
    freq="h",
    tz=None,
    known=None,
    past=None,
    start="2024-01-01",
    **data,
):
    """7 of 10 rows train, the next tenth validates, the last two test."""
    made = panel(*values, freq=freq, tz=tz, known=known, past=past, start=start)
    return WindowData(app(context, horizon, **data), made)
