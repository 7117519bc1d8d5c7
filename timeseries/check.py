"""`isoform timeseries check`: what a model would be trained on, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from isoform.core.data.splits import SPLITS
from isoform.core.domain import CheckReport
from isoform.core.errors import UserError, join_names
from isoform.core.report.band import Band, draw_band
from isoform.core.report.check_page import Group, Picture, render_check_page
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.leakage import describe_leak, describe_repeated, find_leaks, is_leakage
from isoform.timeseries.data.limits import bounds_of
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.data.splits import Borders, borders_of, window_counts
from isoform.timeseries.data.survey import (
    BINS,
    Survey,
    equal_variates,
    repeated_windows,
    survey,
)
from isoform.timeseries.prepare import prepare_panel

LISTED = 20  # variates with a line of their own
NAMED = 10  # of each kind of finding, in the text
_STUCK = 0.02  # of a variate's rows: a longer run of equal values is named
_SHADES = {"val": 0.2, "test": 0.4}  # of a picture's background
_HEADING = "Values along time: training, validation (light), test (dark); a red mark where values are missing"
_LEAKS = (
    "What is to be forecast can be read off elsewhere: a score on these data would be too good."
)


def check(config: TimeseriesApp) -> CheckReport:
    """Reads the data of an app and reports on them: grid, zones, gaps, ranges, units, splits and windows.

    Leakage is a column that is a target to be forecast (data/leakage.py), or test horizons (1 % of them) that stand
    word for word among the training rows, unless data.allow_leakage. Raises UserError where the data can't be read;
    what else stops a training is the refusal.
    """
    panel = read_panel(config.data)
    refusal, prepared, notes = None, None, list(panel.findings.lines)
    try:
        prepared = prepare_panel(config, panel)
        config, notes = prepared.config, list(prepared.notes)
    except UserError as error:
        refusal = str(error)
    low, high = bounds_of(config.data, panel.variates)
    found = survey(panel, low, high)
    data = _facts(panel, found) | {"findings": notes}
    cuts = _borders(config, panel)
    data |= _about_windows(config, panel, cuts)
    leaks = find_leaks(panel, data.get("horizon", 1))
    data["leaks"] = [
        {"target" if role == "target" else "covariate": name, "variate": variate, "lead": lead}
        for role, name, variate, lead in leaks
    ]
    data["equal_variates"] = equal_variates(panel)
    lines = _lines(panel, found, data, [describe_leak(leak) for leak in leaks])
    copies = data.get("repeated_windows", 0)
    found_some = is_leakage(leaks, copies, data.get("test_windows", 0))
    lines.append("LEAKAGE: see above" if found_some else "no leakage found")
    leakage = found_some and not config.data.allow_leakage
    page = _page(panel, found, lines, leakage, cuts)
    return CheckReport(lines, data, leakage, page, refusal, prepared)


def app_of_path(path: Path) -> TimeseriesApp:
    """What `itransformer-own` would make of a file."""
    return TimeseriesApp.model_validate(
        {
            "domain": "timeseries",
            "app": "check",
            "auto": True,
            "data": {"source": "file", "path": str(path)},
            "model": {"context": "auto", "horizon": "auto"},
            "train": {"epochs": "auto"},
        }
    )


def _borders(config: TimeseriesApp, panel: Panel) -> list[Borders]:
    """None where there are no windows to be split, or no borders (which is the report's refusal then)."""
    if "auto" in (config.model.context, config.model.horizon):
        return []
    try:
        return borders_of(config.data, panel)
    except UserError:
        return []


def _about_windows(config: TimeseriesApp, panel: Panel, cuts: list[Borders]) -> dict[str, Any]:
    """Look-back, horizon, splits and windows as JSON; without borders, that there are no windows."""
    if not cuts:
        return {"windows": {}}
    context, horizon = int(config.model.context), int(config.model.horizon)
    repeated, total = repeated_windows(panel, cuts, horizon)
    return {
        "context": context,
        "horizon": horizon,
        "windows": window_counts(config.data, panel, context, horizon),
        "splits": _spans(panel, cuts),
        "repeated_windows": repeated,
        "test_windows": total,
    }


def _facts(panel: Panel, found: Survey) -> dict[str, Any]:
    """Everything as JSON."""
    times = [
        panel.local(pd.DatetimeIndex(series["time"].values[[0, int(series.attrs["rows"]) - 1]]))
        for series in panel
    ]
    units = panel.units or [""] * len(panel.variates)
    columns = zip(
        panel.variates,
        units,
        found.least,
        found.most,
        found.mean,
        found.deviation,
        found.missing,
        found.stuck,
        found.outside,
        strict=True,
    )
    return {
        "origin": panel.name,
        "licence": panel.licence,
        "sha256": panel.sha256,
        "freq": panel.freq,
        "tz": panel.tz,
        "series": len(panel.series),
        "rows": found.rows,
        "first": str(min(one[0] for one in times)),
        "last": str(max(one[1] for one in times)),
        "past": panel.names("past"),
        "known": panel.names("known"),
        "static": panel.names("static"),
        "known_ahead": max(series.sizes["time"] - int(series.attrs["rows"]) for series in panel),
        "variates": {
            name: {
                "unit": str(unit),
                "min": _number(low),
                "max": _number(high),
                "mean": _number(mean),
                "std": _number(std),
                "missing": round(float(gone), 6),
                "longest_run": int(run),
                "outside": int(out),
            }
            for name, unit, low, high, mean, std, gone, run, out in columns
        },
        "constant": [n for n, same in zip(panel.variates, found.constant, strict=True) if same],
        "empty": [n for n, count in zip(panel.variates, found.count, strict=True) if not count],
        "reading": dict(panel.findings.data),
    }


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _spans(panel: Panel, cuts: Sequence[Borders]) -> dict[str, list[str]]:
    """{split: [first, last] local stamp} of the rows of horizons, over all series."""
    spans = {}
    for split in SPLITS:
        ends = [
            panel.local(pd.DatetimeIndex(series["time"].values[[cut[split][0], cut[split][1] - 1]]))
            for series, cut in zip(panel, cuts, strict=True)
            if cut[split][1] > cut[split][0]
        ]
        if ends:
            spans[split] = [str(min(one[0] for one in ends)), str(max(one[1] for one in ends))]
    return spans


def _lines(panel: Panel, found: Survey, data: Mapping[str, Any], leaks: Sequence[str]) -> list[str]:
    series = f"{data['series']:,} series of " if data["series"] > 1 else ""
    zone = f" ({panel.tz})" if panel.tz else ""
    lines = [
        f"{panel.name}: {series}{_count(len(panel.variates), 'variate')}, {found.rows:,} rows, one each "
        f"{panel.freq}, from {data['first']} to {data['last']}{zone}",
        *data["findings"],
    ]
    for kind, said in (
        ("past", "past covariates"),
        ("known", "known-future covariates"),
        ("static", "static values"),
    ):
        if data[kind]:
            lines.append(f"{said}: {join_names(data[kind], NAMED)}")
    if data["known"]:
        lines.append(
            f"known-future covariates go on for {data['known_ahead']:,} rows behind the last target"
        )
    lines += _by_variate(data["variates"], found)
    if data["empty"]:
        lines.append(f"without any value: {join_names(data['empty'], NAMED)}")
    if data["constant"]:
        lines.append(f"always the same value: {join_names(data['constant'], NAMED)}")
    limit = max(24, _STUCK * found.rows / max(1, data["series"]))
    stuck = {
        n: v["longest_run"]
        for n, v in data["variates"].items()
        if v["longest_run"] > limit and n not in data["constant"]
    }
    if stuck:
        worst = sorted(stuck, key=lambda name: -stuck[name])
        lines.append(
            "the same value for long: "
            + join_names([f"{name} ({stuck[name]:,} rows)" for name in worst], NAMED)
        )
    outside = [
        f"{name} ({v['outside']:,} values)" for name, v in data["variates"].items() if v["outside"]
    ]
    if outside:
        lines.append(f"outside data.bounds: {join_names(outside, NAMED)}")
    for members in data["equal_variates"][:NAMED]:
        lines.append(f"equal in every row: {' = '.join(members[:NAMED])}")
    for split, (first, last) in data.get("splits", {}).items():
        lines.append(
            f"{split}: {first} to {last}, {_count(data['windows'].get(split, 0), 'window')}"
        )
    if "context" in data:
        lines.append(f"windows: look-back {data['context']}, horizon {data['horizon']}")
        absent = [split for split in SPLITS if not data["windows"].get(split)]
        if "train" in absent:
            lines.append(
                f"no window for {', '.join(absent)}: shorten model.context or model.horizon, or give more rows"
            )
    lines += leaks
    if data.get("repeated_windows"):
        lines.append(describe_repeated(data["repeated_windows"], data["test_windows"]))
    return lines


def _by_variate(variates: Mapping[str, Mapping[str, Any]], found: Survey) -> list[str]:
    """A line a variate; of many, the share of missing values and those with most."""
    names = list(variates)
    lines = []
    if len(names) > LISTED:
        gone = found.missing
        lines.append(
            f"missing values: {100 * gone.mean():.2f} % in all, median {100 * np.median(gone):.2f} %, "
            f"most {100 * gone.max():.2f} % of a variate"
        )
        if not gone.max():
            return lines
        names = [names[i] for i in np.argsort(-gone, kind="stable")[:NAMED] if gone[i] > 0]
    for name in names:
        v = variates[name]
        unit = f" [{v['unit']}]" if v["unit"] else ""
        if v["min"] is None:
            lines.append(f"  {name}{unit}: no value")
            continue
        gaps = f", {100 * v['missing']:.2g} % missing" if v["missing"] else ""
        lines.append(
            f"  {name}{unit}: {v['min']:.6g} to {v['max']:.6g}, mean {v['mean']:.4g}, deviation {v['std']:.4g}{gaps}"
        )
    return lines


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _page(
    panel: Panel, found: Survey, lines: list[str], leakage: bool, cuts: Sequence[Borders]
) -> str:
    pictures = []
    for (number, variate), drawn in found.pictures.items():
        who = str(panel.series[number].attrs.get("id", ""))
        caption = f"{who} · {panel.variates[variate]}" if who else panel.variates[variate]
        svg = _svg(panel, number, drawn, cuts[number] if cuts else {})
        pictures.append(Picture(caption, drawn=svg))
    group = Group(_HEADING, pictures, "curves")
    return render_check_page(panel.name, lines, _LEAKS if leakage else "", [group])


def _svg(
    panel: Panel,
    number: int,
    picture: tuple[np.ndarray, np.ndarray, np.ndarray],
    cut: Mapping[str, tuple[int, int]],
) -> str:
    """Least and most value along the rows, the splits behind them."""
    series = panel.series[number]
    rows = int(series.attrs["rows"])
    bins = np.arange(min(rows, BINS)) * BINS // min(rows, BINS)  # those with a row
    low, high, missing = (values[bins] for values in picture)
    places = (bins + 0.5) / BINS if rows >= BINS else np.arange(rows) / max(1, rows - 1)
    shades = [
        (cut[split][0] / rows, cut[split][1] / rows, opacity)
        for split, opacity in _SHADES.items()
        if cut and cut[split][1] > cut[split][0]
    ]
    ends = panel.local(pd.DatetimeIndex(series["time"].values[[0, rows // 2, rows - 1]]))
    written = "%Y-%m-%d" if ends[-1] - ends[0] > pd.Timedelta("7D") else "%Y-%m-%d %H:%M"
    first, middle, last = ends.strftime(written)
    gaps = places[missing > 0.5].tolist()
    return draw_band(
        Band(places.tolist(), low.tolist(), high.tolist(), gaps, shades, (first, middle, last))
    )
