"""`isoform pointcloud check`: what a model would be trained on, and what is wrong with it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from isoform.core.data.splits import units_of
from isoform.core.domain import CheckReport, Prepared
from isoform.core.errors import UserError, count, join_names
from isoform.core.report.check_page import render_check_page
from isoform.pointcloud.config import DataConfig, PointcloudApp
from isoform.pointcloud.data.dataset import NEAR, CloudData, describe_thinned
from isoform.pointcloud.data.facts import Facts, describe_depths, mixed_depths, mixed_units
from isoform.pointcloud.data.kept import find_doubles, find_leaks, splits_by_row
from isoform.pointcloud.data.near import join_pairs
from isoform.pointcloud.data.records import Records
from isoform.pointcloud.data.sources import read_records
from isoform.pointcloud.prepare import prepare, update

NAMED = 10
RARE = 10  # clouds of a class
UNEVEN = 10  # times as many clouds as another class
MANY = 2000  # clouds up to which shapes are compared unasked: more take minutes
LEAKS = "The same cloud is in two splits: a score on it would be too good."


def check(
    config: PointcloudApp,
    prepare: Callable[[PointcloudApp], Prepared[PointcloudApp, Any]] = prepare,
    read: Callable[[DataConfig], Records] = read_records,
    parts: Callable[[Any], tuple[list[str], Any]] | None = None,
) -> CheckReport:
    """Reads the data of an app and reports on them. Leakage: a cloud is in two splits, point for point.

    Clouds of one shape in two splits (near.py) are named, and stop nothing: data.group = "near" keeps them together.

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
        forgiving = update(config, data={"on_error": "skip", "allow_leakage": True})
        data = CloudData(forgiving.data, read(config.data))
    found = _found(config, data)
    noticed = [*data.records.findings, *describe_thinned(data.thinned), *data.features.notes()]
    lines = _lines(found, noticed)
    if parts is not None and prepared is not None:
        more, found["parts"] = parts(prepared.data)
        lines += more
    leaks = found["leaks"]
    page = render_check_page(found["origin"], lines, LEAKS if leaks else "", [])
    leakage = bool(leaks) and not config.data.allow_leakage
    return CheckReport(lines, found, leakage, page, refusal, prepared)


def _found(config: PointcloudApp, data: CloudData) -> dict[str, Any]:
    """What `check --json` prints."""
    records, splits = data.records, splits_by_row(data)
    names = [str(name) for name in records.clouds.names]
    doubles = find_doubles(data)
    contradictory = [rows for rows in doubles if len({records.labels[row] for row in rows}) > 1]
    points = [len(cloud) for cloud in data.clouds if cloud is not None]

    def called(sets: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[names[row] for row in rows] for rows in sets]

    def placed(sets: Sequence[Sequence[int]]) -> list[list[str]]:
        return [[f"{splits.get(row, '-')}: {names[row]}" for row in rows] for rows in sets]

    searched = len(data.clouds) <= MANY or data.config.group == NEAR
    near = _near(data) if searched else []
    torn = [rows for rows in near if len({splits[row] for row in rows if row in splits}) > 1]
    return {
        "origin": str(records.origin),
        "clouds": len(records),
        "splits": {split: len(rows) for split, rows in data.rows.items()},
        "classes": _class_counts(data),
        "points": {"least": min(points, default=0), "most": max(points, default=0)},
        "skipped": [{"file": file, "reason": reason} for file, reason in records.skipped],
        "unreadable": data.unreadable,
        "dominated": data.dominated,
        **_of_files(config, data, names),
        "duplicates": called(doubles),
        "contradictory_labels": called(contradictory),
        "near_searched": searched,
        "near_duplicates": called(near),
        "leaks": placed(find_leaks(data)),
        "near_leaks": placed(torn),
    }


def _near(data: CloudData) -> list[list[int]]:
    """Sets of rows of one shape, without those whose clouds are all equal, point for point."""
    units = units_of(join_pairs(len(data.clouds), data.near))
    sets = [rows.tolist() for rows in units if len(rows) > 1]
    return [rows for rows in sets if len(set(data.digests_N[rows].tolist())) > 1]


def _of_files(config: PointcloudApp, data: CloudData, names: Sequence[str]) -> dict[str, Any]:
    """What the files hold: units, depths of colours, points that are left out, clouds that say little."""
    facts: Mapping[int, Facts] = data.records.clouds.facts
    few = config.tokeniser.groups
    usable = {k: f.points - f.missing - f.invalid for k, f in facts.items()}
    # A file without points has no sides.
    extents = [one.extent for k, one in facts.items() if usable[k]] or [0.0]
    units = {}
    for label in dict.fromkeys(data.records.labels):
        own = {names[k]: f.extent for k, f in facts.items() if data.records.labels[k] == label}
        mixed = mixed_units(own)
        if mixed is not None:
            units[label or ""] = {"units": mixed[0], "fewer": mixed[1]}

    def named(which: str) -> dict[str, int]:
        return {names[k]: getattr(f, which) for k, f in facts.items() if getattr(f, which)}

    return {
        "extent": {
            "least": min(extents),
            "median": float(np.median(extents)),
            "most": max(extents),
        },
        "mixed_units": units,
        "mixed_colours": mixed_depths({names[k]: f.depth for k, f in facts.items()}),
        "missing": named("missing"),
        "invalid_returns": named("invalid"),
        "all_points_equal": [names[k] for k, f in facts.items() if usable[k] and not f.extent],
        "few_points": {
            names[k]: n for k, n in usable.items() if n < few and _has_no_faces(data, k)
        },
    }


def _has_no_faces(data: CloudData, row: int) -> bool:
    """Whether what a model sees of a cloud are its file's points, not points drawn on a mesh."""
    cloud, facts = data.clouds[row], data.records.clouds.facts[row]
    return cloud is None or len(cloud) <= facts.points


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
    extent = found["extent"]
    lines = [
        f"{found['origin']}: {count(found['clouds'], 'cloud')} ({sizes}) of {least:,} to {most:,} points",
        f"longest sides {extent['least']:.4g} to {extent['most']:.4g} in the files' unit, half of them up to "
        f"{extent['median']:.4g}",
        *findings,
        *_of_classes(found["classes"]),
    ]
    for label, one in found["mixed_units"].items():
        lines.append(f"class {label} mixes {one['units']}: {join_names(one['fewer'], NAMED)}")
    lines += describe_depths(found["mixed_colours"])
    for key, what in (
        ("missing", "points without coordinates, left out"),
        ("invalid_returns", "empty returns at the origin, left out"),
    ):
        lines += _counted(what, found[key])
    lines += _list("clouds all of whose points are equal", found["all_points_equal"])
    lines += _list(
        "clouds of fewer points than tokeniser.groups",
        [f"{name} ({n:,})" for name, n in found["few_points"].items()],
    )
    lines += _list("skipped", [f"{one['file']} ({one['reason']})" for one in found["skipped"]])
    lines += _list("unreadable", list(found["unreadable"].values()))
    lines += _list(
        "clouds with a point far away", [f"{n}: {why}" for n, why in found["dominated"].items()]
    )
    lines += _list("sets of equal clouds", [" = ".join(names) for names in found["duplicates"]])
    lines += _list(
        "equal clouds with different labels", [" = ".join(n) for n in found["contradictory_labels"]]
    )
    if not found["near_searched"]:
        lines.append(
            f'more than {MANY:,} clouds: shapes are compared with data.group = "near" alone'
        )
    lines += _list("shapes of several clouds", [" ~ ".join(n) for n in found["near_duplicates"]])
    lines += _list(
        'shapes in several splits, which data.group = "near" keeps together',
        [", ".join(names) for names in found["near_leaks"]],
    )
    lines += _list(
        "LEAKAGE, clouds in several splits", [", ".join(names) for names in found["leaks"]]
    )
    if not found["leaks"]:
        torn = found["near_leaks"]
        lines.append(
            "no cloud lies in several splits point for point"
            if torn
            else "no leakage between splits found"
        )
    return lines


def _of_classes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    totals = {name: sum(each.values()) for name, each in counts.items()}
    fewest, most = min(totals, key=totals.__getitem__), max(totals, key=totals.__getitem__)
    lines = [f"{len(totals)} classes of {totals[fewest]} to {totals[most]} clouds:"]
    for name, each in counts.items():
        lines.append(f"  {name}: " + ", ".join(f"{n} {split}" for split, n in each.items()))
    rare = [name for name, n in totals.items() if n < RARE]
    if rare:
        lines.append(f"fewer than {RARE} clouds: {join_names(rare, NAMED)}")
    if totals[most] >= UNEVEN * max(totals[fewest], 1):
        times = f"{totals[most] / max(totals[fewest], 1):.0f} times as many clouds as {fewest}"
        lines.append(
            f"uneven classes: {most} has {times}; data.class_weights = balanced weighs rare ones more"
        )
    return lines


def _counted(what: str, found: Mapping[str, int]) -> list[str]:
    if not found:
        return []
    total, names = sum(found.values()), list(found)
    return [f"{what}: {total:,} in {count(len(names), 'file')}: {join_names(names, NAMED)}"]


def _list(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    lines = [f"{what}: {len(items)}", *(f"  {item}" for item in items[:NAMED])]
    return lines + ([f"  and {len(items) - NAMED} more"] if len(items) > NAMED else [])
