"""The pictures of a time-series report: forecasts against what came, errors by step and hour, what looks at what.

n windows, H steps, V variates.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import nn

from isoform.core.domain import Figure
from isoform.core.inference.attention_maps import last_attention
from isoform.core.report.drawing import INK, label, short, to_svg, to_table
from isoform.timeseries import plots
from isoform.timeseries.baselines.chunks import portions
from isoform.timeseries.baselines.naive import SeasonalNaive
from isoform.timeseries.data.frequency import offset_of
from isoform.timeseries.sizes import INPUTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from isoform.timeseries.data.windows import WindowData
    from isoform.timeseries.task import TimeseriesTask

MOST_ROWS = 100  # in the table of variates
MOST_SERIES = 20
MOST_UNITS = 2  # in the table of series
MOST_VARIATES = 40  # in the map
_LOOKED = 64  # windows whose attention is averaged
_BLUE = plots.SAID
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def figures(
    task: TimeseriesTask, model: nn.Module, outputs: Mapping[str, np.ndarray]
) -> list[Figure]:
    """Pictures of the test windows that were kept."""
    found = [_forecasts(task, outputs), _errors(task, outputs), _variates(task, outputs)]
    if len(task.panel.series) > 1:
        found.append(_series(task, outputs))
    if len(task.data.variates) > 1:
        found.append(_map(task.data, model))
    return found


def spread(count: int, most: int) -> np.ndarray:
    """At most `most` of `count` numbers, evenly spread from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def _forecasts(task: TimeseriesTask, outputs: Mapping[str, np.ndarray]) -> Figure:
    data = task.data
    n, variates = len(outputs["where"]), len(data.variates)
    windows, columns = spread(n, 6), spread(variates, 6)
    chosen = [
        (int(windows[i % len(windows)]), int(columns[i % len(columns)]))
        for i in range(6 if n > 1 else 1)
    ]
    chosen = list(dict.fromkeys(chosen))
    quantiles, levels = outputs.get("quantiles"), outputs.get("levels", ())
    calibration: Any = getattr(task, "calibration", None)
    if quantiles is None and calibration is not None:
        quantiles, levels = calibration.apply(outputs["forecast"]), calibration.levels
    drawn = plots.window_curves(
        data,
        chosen,
        outputs["where"],
        data.forecast_units(outputs["forecast"], axis=2),
        None if quantiles is None else data.forecast_units(quantiles, axis=2),
        [float(level) for level in levels],
    )
    return Figure(
        f"Forecasts of {len(chosen)} test windows, evenly spaced, and what came",
        to_svg(plots.draw(drawn, data.panel.tz)),
    )


def _errors(task: TimeseriesTask, outputs: Mapping[str, np.ndarray]) -> Figure:
    """By step ahead over all test windows, and by the clock over those kept."""
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(9, 2.9), layout="constrained")
    left, right = plot.subplots(1, 2)
    by_step = outputs["by_step/mae"]
    steps = np.arange(1, len(by_step) + 1)
    left.plot(steps, by_step, color=_BLUE, marker="." if len(steps) < 40 else "")
    left.set_ylim(bottom=0)
    label(left, f"steps of {task.panel.freq} ahead", "absolute error, scaled")
    name, ticks, mean = by_clock(task.data, outputs)
    right.bar(np.arange(len(mean)), mean, color=_BLUE, width=0.8)
    shown = np.arange(0, len(ticks), max(1, len(ticks) // 12))
    right.set_xticks(shown, [ticks[i] for i in shown])
    label(right, name, "")
    for axes in (left, right):
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return Figure(
        "Absolute error by step ahead (all test windows) and by the clock when it came true (windows kept), each "
        "variate by its own deviation",
        to_svg(plot),
    )


def by_clock(
    data: WindowData, outputs: Mapping[str, np.ndarray]
) -> tuple[str, list[str], np.ndarray]:
    """(what is told apart, its ticks, mean absolute scaled error): hours of a day, days of a week, or months."""
    offset = offset_of(data.panel.freq)
    unit = pd.tseries.offsets
    if isinstance(offset, unit.Tick) and not isinstance(offset, unit.Day):
        name, ticks, field = "hour of the day", [str(hour) for hour in range(24)], "hour"
    elif isinstance(offset, unit.Day | unit.BusinessDay):
        name, ticks, field = "day of the week", list(_DAYS), "day_of_week"
    else:
        name, ticks, field = "month", [str(month) for month in range(1, 13)], "month"
    error = np.abs(data.inside_bounds(outputs["forecast"], axis=2) - outputs["target"])
    error = error.astype(np.float64)
    seen = outputs.get("observed", np.ones(error.shape, bool)) & np.isfinite(error)
    error = np.where(seen, error, 0)
    sums, counts = np.zeros((2, len(ticks)))
    steps = error.shape[1]
    for (number, row), one, there in zip(outputs["where"], error, seen, strict=True):
        at = np.asarray(getattr(data.stamps(int(number), int(row), int(row) + steps), field)) - (
            field == "month"
        )
        np.add.at(sums, at, (one * there).sum(1))
        np.add.at(counts, at, there.sum(1))
    with np.errstate(invalid="ignore"):
        return name, ticks, sums / counts


def _variates(task: TimeseriesTask, outputs: Mapping[str, np.ndarray]) -> Figure:
    data = task.data
    units = data.panel.units or [""] * len(data.variates)
    coverage = sorted(name for name in outputs if name.startswith("by_variate/coverage_"))
    names = [
        "by_variate/unit_mae",
        "by_variate/unit_rmse",
        "by_variate/mase",
        "by_variate/mae",
        *coverage[-1:],
    ]
    names = [name for name in names if name in outputs]
    order = np.argsort(-np.nan_to_num(outputs["by_variate/mae"]), kind="stable")[:MOST_ROWS]
    rows = [
        [data.variates[v], str(units[v]), *(_number(float(outputs[name][v])) for name in names)]
        for v in order
    ]
    more = (
        f", the {MOST_ROWS} worst of {len(data.variates)}" if len(data.variates) > MOST_ROWS else ""
    )
    head = ["variate", "unit", *map(_label, names)]
    return Figure(
        f"Variates on test, the largest scaled error first{more}", html=to_table(head, rows)
    )


def _series(task: TimeseriesTask, outputs: Mapping[str, np.ndarray]) -> Figure:
    """Of a panel: every series by itself, those first that fall behind the seasonal naive forecast the most."""
    ids = [str(one.attrs.get("id", "")) for one in task.panel]
    with np.errstate(invalid="ignore", divide="ignore"):
        ours_S = outputs["by_series/mae"] * outputs["by_series/count"]
        skill_S = 1 - ours_S / naive_error(task)
    skill_S[~np.isfinite(skill_S)] = np.nan
    names = sorted(name for name in outputs if name.startswith("by_series/unit_mae"))[:MOST_UNITS]
    coverage = sorted(name for name in outputs if name.startswith("by_series/coverage_"))
    columns = {
        **{_label(name): outputs[name] for name in names},
        "skill over seasonal naive": skill_S,
        **{_label(name): outputs[name] for name in coverage[-1:]},
    }
    windows_S = outputs["by_series/windows"].astype(int)
    judged = np.flatnonzero(windows_S)
    order = judged[np.argsort(skill_S[judged], kind="stable")]  # NaN comes last
    rows = [
        [ids[s], str(windows_S[s]), *(_number(float(value[s])) for value in columns.values())]
        for s in order[:MOST_SERIES]
    ]
    more = f", the {MOST_SERIES} worst of {len(order)}" if len(order) > MOST_SERIES else ""
    left = f" ({len(ids) - len(order)} have no test window)" if len(order) < len(ids) else ""
    return Figure(
        f"Series on test, the least skill first{more}{left}",
        html=to_table(["series", "windows", *columns], rows),
    )


def naive_error(task: TimeseriesTask) -> np.ndarray:
    """[S] absolute scaled error of the seasonal naive forecast, summed over the test windows of each series."""
    data, naive = task.data, SeasonalNaive(task.season)
    found = np.zeros(len(data.panel.series))
    for part in portions(data, np.arange(data.sizes()["test"])):
        batch = data.batch("test", part)
        where = batch["where"].numpy()
        usual = data.inside_bounds(naive.predict(data, where), axis=2)
        counts = ~data.without_past(where)[:, None]
        if "observed" in batch:
            counts = counts & batch["observed"].numpy()
        error = np.where(counts, np.abs(usual - batch["target"].numpy()), 0)
        np.add.at(found, where[:, 0], error.sum((1, 2), dtype=np.float64))
    return found


def _label(name: str) -> str:
    return name.partition("/")[2].replace("_", " ")


def attention_of(data: WindowData, model: nn.Module, split: str) -> tuple[np.ndarray, float]:
    """([V, V] each variate's attention to the variates, rows sum to 1, what share goes to marks and covariates).

    Of the last block, mean over heads and at most 64 windows.
    """
    batch = data.batch(split, spread(data.sizes()[split], _LOOKED))
    device = next(model.parameters()).device
    inputs = {name: batch[name].to(device) for name in INPUTS if name in batch}
    shares = last_attention(model, lambda: model(**inputs)).mean((0, 1)).cpu().numpy()
    v = len(data.variates)
    own = shares[:v, :v]
    return own / own.sum(1, keepdims=True), float(1 - own.sum(1).mean())


def correlation_of(data: WindowData, split: str) -> np.ndarray:
    """[V, V] of the values in the look-backs of at most 256 windows, spread over the split."""
    context = data.batch(split, spread(data.sizes()[split], 256))["context"].numpy()
    flat = context.reshape(-1, context.shape[-1]).astype(np.float64)
    flat = flat - flat.mean(0)
    norm = np.sqrt((flat**2).sum(0))
    return (flat.T @ flat) / np.maximum(np.outer(norm, norm), 1e-12)


def _map(data: WindowData, model: nn.Module) -> Figure:
    from matplotlib.figure import Figure as Plot

    v = min(len(data.variates), MOST_VARIATES)
    plot = Plot(figsize=(4.6 + 0.22 * v, 2.6 + 0.1 * v), layout="constrained")
    other = draw_map(plot, data, model, "test" if "test" in data.sizes() else "val")
    more = f" ({v} of {len(data.variates)} variates)" if v < len(data.variates) else ""
    told = f"; {other:.0%} of it goes to calendar and covariates" if other > 0.005 else ""
    return Figure(
        f"What each variate (row) looks at in the last block{told}, beside the data's own correlation{more}",
        to_svg(plot),
    )


def draw_map(plot: Any, data: WindowData, model: nn.Module, split: str) -> float:
    """Attention and correlation side by side onto a figure; what share of attention goes to no variate."""
    chosen = spread(len(data.variates), MOST_VARIATES)
    attention, other = attention_of(data, model, split)
    correlation = correlation_of(data, "train" if "train" in data.sizes() else split)
    names = [short(data.variates[i], 14) for i in chosen]
    left, right = plot.subplots(1, 2)
    _grid(left, attention[np.ix_(chosen, chosen)], names, "attention", {"cmap": "Blues", "vmin": 0})
    _grid(
        right,
        correlation[np.ix_(chosen, chosen)],
        [],
        "correlation",
        {"cmap": "RdBu_r", "vmin": -1, "vmax": 1},
    )
    return other


def _grid(
    axes: Axes, values: np.ndarray, names: list[str], title: str, colours: dict[str, Any]
) -> None:
    drawn = axes.imshow(values, interpolation="nearest", **colours)
    assert axes.figure is not None
    bar = axes.figure.colorbar(drawn, ax=axes, shrink=0.8)
    bar.ax.tick_params(colors=INK, labelsize=7)
    axes.set_xticks([])
    axes.set_yticks(range(len(names)), names, fontsize=7, parse_math=False)
    axes.set_title(title, fontsize=9, color=INK)
    label(axes, "", "")


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.4g}"
