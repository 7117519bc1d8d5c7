"""Panels made by hand, and the windows of one picked out row by row, as slowly and plainly as can be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.panel import Panel


def series(target, *, freq="h", start="2024-01-01", past=None, known=None, static=None, id=""):
    """One Dataset: target [rows, V], past [rows, P], known [rows or more, K], static [S]."""
    target = np.asarray(target)
    rows = len(target)
    total = rows if known is None else len(known)
    dtype = target.dtype if target.dtype.kind == "f" else np.float64
    values = np.full((total, target.shape[1]), np.nan, dtype)
    values[:rows] = target
    variables = {"target": (("time", "variate"), values)}
    coords = {
        "time": pd.date_range(start, periods=total, freq=freq).as_unit("us"),
        "variate": [f"v{i}" for i in range(target.shape[1])],
    }
    for kind, found in (("past", past), ("known", known)):
        if found is not None:
            padded = np.full((total, np.shape(found)[1]), np.nan)
            padded[: len(found)] = found
            variables[f"{kind}_values"] = (("time", kind), padded)
            coords[kind] = [f"{kind[0]}{i}" for i in range(padded.shape[1])]
    if static is not None:
        variables["static_values"] = (("static",), np.asarray(static, np.float64))
        coords["static"] = [f"s{i}" for i in range(len(static))]
    return xr.Dataset(variables, coords, {"id": id, "rows": rows})


def panel(*members, freq="h", tz=None):
    """Datasets of one frequency as a Panel."""
    return Panel(series=tuple(members), freq=freq, tz=tz, name="made")


def app(context, horizon, calendar="past", **data):
    """Settings: look-back, horizon, tokeniser.calendar, and the table `data`."""
    return TimeseriesApp.model_validate({
        "domain": "timeseries", "app": "made", "model": {"context": context, "horizon": horizon},
        "tokeniser": {"calendar": calendar}, "data": data,
    })  # fmt: skip


def walk(rows, columns, seed=0):
    """[rows, columns] that never repeat, far from 0 and of different spread."""
    rng = np.random.default_rng(seed)
    return 100 + np.cumsum(rng.normal(size=(rows, columns)), 0) * np.arange(1, columns + 1)


def with_gaps(values, share, seed=0):
    """The same with that share of the values missing."""
    found = np.array(values, np.float64)
    found[np.random.default_rng(seed).random(found.shape) < share] = np.nan
    return found


def mended(column, rest, method="last"):
    """A list of numbers and NaN without NaN, one value after the other; see data.fill."""
    known = [i for i, value in enumerate(column) if not np.isnan(value)]
    out = []
    for i, value in enumerate(column):
        before = [k for k in known if k <= i]
        after = [k for k in known if k >= i]
        if not np.isnan(value):
            out.append(value)
        elif not before:
            out.append(rest)
        elif method == "linear" and after:
            a, b = before[-1], after[0]
            out.append(column[a] + (column[b] - column[a]) * (i - a) / (b - a))
        else:
            out.append(column[before[-1]])
    return out
