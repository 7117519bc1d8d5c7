"""Pictures of forecasts in time: what was, what is said, how sure, and what came if it is known already."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from isoform.core.report.drawing import INK, label, short
from isoform.timeseries.data.clock import FIRST, LAST_ZONED, instants
from isoform.timeseries.data.panel import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from isoform.timeseries.data.windows import WindowData

MOST = 8  # pictures of one variate each
HISTORY = 3  # horizons of the past that are drawn
SAID, WAS = "#2f5bd0", "#83868f"


@dataclass(frozen=True)
class Curve:
    """One variate around one forecast. Stamps as numpy datetimes, in UTC where there is a zone."""

    title: str
    unit: str
    past: tuple[np.ndarray, np.ndarray]  # stamps, values
    stamps: np.ndarray  # [H] of the forecast
    mean: np.ndarray  # [H]
    truth: np.ndarray  # [H], NaN where not known
    quantiles: np.ndarray  # [H, Q]
    levels: tuple[float, ...] = ()


def curves(forecasts: xr.Dataset, panel: Panel, most: int = MOST) -> list[Curve]:
    """The first variates of the first series of `TimeseriesPredictor.forecast`'s result, with what `panel` knows."""
    found: list[Curve] = []
    levels = (
        tuple(float(q) for q in forecasts["quantile"].values) if "quantiles" in forecasts else ()
    )
    ids = (
        {str(name): i for i, name in enumerate(forecasts["id"].values)}
        if "id" in forecasts.dims
        else {}
    )
    for series in panel:
        who = str(series.attrs.get("id", ""))
        if ids and who not in ids:
            continue  # too short to be forecast
        mine = forecasts.isel(id=ids[who]) if ids else forecasts
        mine = mine.isel(time=np.flatnonzero(mine["step"].values > 0))
        stamps = mine.time.values
        start = int(np.searchsorted(series.time.values, stamps[0]))
        before = slice(max(0, start - HISTORY * len(stamps)), start)
        after = series.target.isel(
            time=slice(start, min(start + len(stamps), int(series.attrs["rows"])))
        ).values
        past = series.target.isel(time=before).values
        for v, name in enumerate(panel.variates):
            if len(found) == most:
                return found
            truth = np.full(len(stamps), np.nan)
            truth[: len(after)] = after[:, v]
            found.append(
                Curve(
                    title=f"{short(who)} · {short(name, 40)}" if who else short(name, 40),
                    unit=str(mine["units"].values[v]),
                    past=(series.time.values[before], past[:, v]),
                    stamps=stamps,
                    mean=mine["mean"].values[:, v],
                    truth=truth,
                    quantiles=mine["quantiles"].values[:, v]
                    if levels
                    else np.zeros((len(stamps), 0)),
                    levels=levels,
                )
            )
    return found


def window_curves(
    windows: WindowData,
    chosen: Sequence[tuple[int, int]],
    pairs: np.ndarray,
    mean_nHV: np.ndarray,
    quantiles_nHVQ: np.ndarray | None = None,
    levels: Sequence[float] = (),
) -> list[Curve]:
    """Curves of some (window, variate) of forecasts in units, whose windows are `pairs` [n, 2] (series, row)."""
    units = windows.panel.units or [""] * len(windows.variates)
    found = []
    horizon = mean_nHV.shape[1]
    for n, v in chosen:
        number, row = (int(one) for one in pairs[n])
        low = max(0, row - HISTORY * horizon)
        held = windows.reader.stored(number, "target", low, row + horizon)[:, v]
        stamps = windows.stamps(number, low, row + horizon, aware=True)
        time = instants(stamps)
        who = str(windows.panel.series[number].attrs.get("id", ""))
        name = short(windows.variates[v], 40)
        found.append(
            Curve(
                f"{short(who)} · {name}" if who else name,
                units[v],
                (time[: row - low], held[: row - low]),
                time[row - low :],
                mean_nHV[n, :, v],
                held[row - low :],
                np.zeros((horizon, 0)) if quantiles_nHVQ is None else quantiles_nHVQ[n, :, v],
                () if quantiles_nHVQ is None else tuple(levels),
            )
        )
    return found


def intervals(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Indices of the pairs of levels around the middle, the widest first."""
    low = [i for i, level in enumerate(levels) if level < 0.5 - 1e-9]
    return [
        (i, j) for i in low for j, other in enumerate(levels) if abs(levels[i] + other - 1) < 1e-9
    ]


def draw(found: Sequence[Curve], tz: str | None = None, columns: int = 2, onto: Any = None) -> Any:
    """A matplotlib figure (or `onto`, a part of one), one picture a curve, with a clock on the wall (`tz`) below it."""
    from matplotlib.figure import Figure as Plot

    columns = min(columns, len(found))
    rows = -(-len(found) // columns)
    size = (5.2 * columns if columns > 1 else 8, 2.5 * rows + 0.4)
    plot = onto if onto is not None else Plot(figsize=size, layout="constrained")
    axes = np.atleast_1d(plot.subplots(rows, columns, squeeze=False)).ravel()
    for place in axes[len(found) :]:
        place.set_axis_off()
    for place, curve in zip(axes, found, strict=False):
        _draw_one(place, curve, tz)
    handles, names = axes[0].get_legend_handles_labels()
    plot.legend(
        handles,
        names,
        loc="outside upper center",
        ncols=len(names),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
    )
    return plot


def _draw_one(axes: Axes, curve: Curve, tz: str | None) -> None:
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    locator = AutoDateLocator(tz=tz, maxticks=7)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=tz, show_offset=True))
    axes.plot(*curve.past, color=WAS, lw=1, label="history")
    for low, high in intervals(curve.levels):
        axes.fill_between(
            curve.stamps,
            curve.quantiles[:, low],
            curve.quantiles[:, high],
            color=SAID,
            alpha=0.22,
            lw=0,
            label=f"{100 * (curve.levels[high] - curve.levels[low]):.4g} % interval",
        )
    if np.isfinite(curve.truth).any():
        axes.plot(curve.stamps, curve.truth, color=INK, lw=1, marker=".", ms=2.5, label="what came")
    single = len(curve.stamps) == 1
    axes.plot(
        curve.stamps,
        curve.mean,
        color=SAID,
        lw=1.6,
        marker="o" if single else "",
        ms=4,
        label="forecast",
    )
    axes.set_title(curve.title, fontsize=9, color=INK, parse_math=False, loc="left")
    label(axes, "", curve.unit)
    axes.tick_params(labelsize=8)
    axes.xaxis.get_offset_text().set(fontsize=8, color=INK)
    axes.margins(x=0.01)
    axes.set_xlim(*np.clip(axes.get_xlim(), *date2num([FIRST, LAST_ZONED])))
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
