"""`isoform pointcloud check`: what a model would be trained on, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from isoform.core.domain import CheckReport, Prepared
from isoform.core.errors import UserError, count, join_names
from isoform.core.report.check_page import render_check_page
from isoform.pointcloud.config import DataConfig, PointcloudApp
from isoform.pointcloud.data.dataset import CloudData
from isoform.pointcloud.data.kept import find_doubles, find_leaks, splits_by_row
from isoform.pointcloud.data.records import Records
from isoform.pointcloud.data.sources import read_records
from isoform.pointcloud.prepare import prepare, update

NAMED = 10
RARE = 10
LEAKS = "The same cloud is in two splits: a score on it would be too good."


def check(
    config: PointcloudApp,
    prepare: Callable[[PointcloudApp], Prepared[PointcloudApp, Any]] = prepare,
    read: Callable[[DataConfig], Records] = read_records,
    parts: Callable[[Any], tuple[list[str], Any]] | None = None,
) -> CheckReport:
    """Reads the data of an app and reports on them. Leakage: a cloud is in two splits, point for point.

    prepare     reads them; what it makes has `clouds`
    read        their records alone, where that refuses them
    parts       what more is to be said of what was prepared, as lines and for --json, where points have parts

    Raises UserError where there are no data to read.
    """
    refusal = prepared = None
    try:
        prepared = prepare(update(config, data={"allow_leakage": True}))
    except UserError as error:
        refusal = str(error)
    if prepared is not None:
        data = prepared.data.clouds
    else:  # what can't be trained on is described as far as it can be read
        data = CloudData(update(config, data={"on_error": "skip"}).data, read(config.data))
    records = data.records
    splits = splits_by_row(data)
    doubles = find_doubles(data)
    names = records.clouds.names
    leaks = find_leaks(data)
    contradictory = [rows for rows in doubles if len({records.labels[row] for row in rows}) > 1]
    counts = _class_counts(data)
    points = [len(cloud) for cloud in data.clouds if cloud is not None]
    found: dict[str, Any] = {
        "origin": records.origin,
        "clouds": len(records),
        "splits": {split: len(rows) for split, rows in data.rows.items()},
        "classes": counts,
        "points": {"least": min(points, default=0), "most": max(points, default=0)},
        "skipped": [{"file": file, "reason": reason} for file, reason in records.skipped],
        "unreadable": data.unreadable,
        "dominated": data.dominated,
        "duplicates": [[names[row] for row in rows] for rows in doubles],
        "contradictory_labels": [[names[row] for row in rows] for rows in contradictory],
        "leaks": [[f"{splits.get(row, '-')}: {names[row]}" for row in rows] for rows in leaks],
    }
    lines = _lines(found, records.findings)
    if parts is not None and prepared is not None:
        more, found["parts"] = parts(prepared.data)
        lines += more
    page = render_check_page(str(records.origin), lines, LEAKS if leaks else "", [])
    leakage = bool(leaks) and not config.data.allow_leakage
    return CheckReport(lines, found, leakage, page, refusal, prepared)


def _class_counts(data: CloudData) -> dict[str, dict[str, int]]:
    """{class: {split: clouds}}."""
    counts = {name: dict.fromkeys(data.rows, 0) for name in data.classes}
    for split, rows in data.rows.items():
        each = Counter(data.targets[rows].tolist())
        for k, name in enumerate(data.classes):
            counts[name][split] = each[k]
    return counts


def _lines(found: Mapping[str, Any], findings: Sequence[str]) -> list[str]:
    sizes = ", ".join(f"{n} {split}" for split, n in found["splits"].items())
    least, most = found["points"]["least"], found["points"]["most"]
    lines = [
        f"{found['origin']}: {count(found['clouds'], 'cloud')} ({sizes}) of {least:,} to {most:,} points",
        *findings,
    ]
    totals = {name: sum(each.values()) for name, each in found["classes"].items()}
    lines.append(
        f"{len(totals)} classes of {min(totals.values())} to {max(totals.values())} clouds:"
    )
    for name, each in found["classes"].items():
        lines.append(f"  {name}: " + ", ".join(f"{n} {split}" for split, n in each.items()))
    rare = [name for name, n in totals.items() if n < RARE]
    if rare:
        lines.append(f"fewer than {RARE} clouds: {join_names(rare, NAMED)}")
    lines += _list("skipped", [f"{one['file']} ({one['reason']})" for one in found["skipped"]])
    lines += _list("unreadable", list(found["unreadable"].values()))
    lines += _list(
        "clouds with a point far away", [f"{n}: {why}" for n, why in found["dominated"].items()]
    )
    lines += _list("sets of equal clouds", [" = ".join(names) for names in found["duplicates"]])
    lines += _list(
        "equal clouds with different labels", [" = ".join(n) for n in found["contradictory_labels"]]
    )
    lines += _list(
        "LEAKAGE, clouds in several splits", [", ".join(names) for names in found["leaks"]]
    )
    if not found["leaks"]:
        lines.append("no leakage between splits found")
    return lines


def _list(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    lines = [f"{what}: {len(items)}", *(f"  {item}" for item in items[:NAMED])]
    return lines + ([f"  and {len(items) - NAMED} more"] if len(items) > NAMED else [])
