"""`isoform pointcloud check` of scans: codes by split, tiles beside the points' density, and what is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from isoform.core.domain import CheckReport
from isoform.core.errors import count, join_names
from isoform.core.report.check_page import render_check_page
from isoform.pointcloud.config import DataConfig, PointcloudApp
from isoform.pointcloud.data.facts import describe_depths, mixed_depths, mixed_units
from isoform.pointcloud.data.scans import ScanData, describe_equal_scans
from isoform.pointcloud.prepare import update
from isoform.pointcloud.segment_prepare import prepare_scans, unknown_codes

LEAKS = "The same scan is in two splits: a score on it would be too good."
SEEN = 0.25  # share of a tile's points that a draw should show


def check_scans(config: PointcloudApp) -> CheckReport:
    """What a segmentation would be trained on. Leakage: equal scans lie in two splits.

    Raises UserError where there are no scans to read, or too few.
    """
    prepared = prepare_scans(update(config, data={"allow_leakage": True}))
    data: ScanData = prepared.data
    counts = _points_by_class(data)
    leaks = describe_equal_scans(data.scans)
    files, of_files = _of_files(data)
    tiles, of_tiles = _of_tiles(prepared.config.data, data)
    lines = [*prepared.notes, *of_tiles]
    for name, by_split in counts.items():
        parts = ", ".join(f"{points:,} {split}" for split, points in by_split.items())
        lines.append(f"  {name}: {parts} points")
    lines += of_files
    lines.append(f"LEAKAGE, {leaks}" if leaks else "no leakage between splits found")
    found = {
        "origin": data.origin,
        "scans": len(data.scans),
        "points": counts,
        "unseen_codes": {str(code): points for code, points in unknown_codes(data).items()},
        "tiles": tiles,
        **files,
        "skipped": dict(data.skipped),
        "leaks": [leaks] if leaks else [],
    }
    page = render_check_page(data.origin, lines, LEAKS if leaks else "", [])
    return CheckReport(
        lines, found, bool(leaks) and not config.data.allow_leakage, page, None, prepared
    )


def _points_by_class(data: ScanData) -> dict[str, dict[str, int]]:
    """{class: {split: points}}."""
    counts = {name: dict.fromkeys(data.draws, 0) for name in data.classes}
    for scan, target in zip(data.scans, data.targets, strict=True):
        each = np.bincount(target[target >= 0], minlength=len(data.classes))
        for name, points in zip(data.classes, each.tolist(), strict=True):
            counts[name][scan.split] = counts[name].get(scan.split, 0) + points
    return counts


def _of_tiles(config: DataConfig, data: ScanData) -> tuple[dict[str, Any], list[str]]:
    """How many points tiles hold, and what a draw of data.points shows of them."""
    held = np.array([len(tile.index) for tiles in data.tiles for tile in tiles])
    if not len(held):
        return {}, []
    median = float(np.median(held))
    found = {
        "size": config.tile,
        "tiles": len(held),
        "points": {"least": int(held.min()), "median": median, "most": int(held.max())},
    }
    lines = [
        f"{count(len(held), 'tile')} of edge {config.tile:g} hold {held.min():,} to {held.max():,} points, half of "
        f"them up to {median:,.0f}; a draw shows {config.points:,}"
    ]
    fitting = config.tile * np.sqrt(config.points / median)
    if config.points < SEEN * median:
        lines.append(
            f"a draw shows {config.points / median:.1%} of such a tile: data.tile = {fitting:.2g} would hold as "
            "many points as it shows"
        )
    elif median < SEEN * config.points:
        lines.append(
            f"most tiles hold far fewer points than a draw, which repeats them: data.tile = {fitting:.2g} would "
            "hold as many"
        )
    return found, lines


def _of_files(data: ScanData) -> tuple[dict[str, Any], list[str]]:
    """Units by the distance between points, depths of colours, and points that are left out."""
    facts = {scan.name: scan.facts for scan in data.scans if scan.facts is not None}
    spacing = {}
    for scan in data.scans:
        if scan.name in facts and len(scan.xyz) > 1:
            area = float(np.ptp(scan.xyz[:, :2], axis=0).prod())
            spacing[scan.name] = float(np.sqrt(area / len(scan.xyz)))
    units = mixed_units(spacing)
    depths = mixed_depths({name: one.depth for name, one in facts.items()})
    missing = {name: one.missing for name, one in facts.items() if one.missing}
    invalid = {name: one.invalid for name, one in facts.items() if one.invalid}
    lines = []
    if units is not None:
        lines.append(
            f"the scans mix {units[0]}, by how far points lie apart: {join_names(units[1])}"
        )
    lines += describe_depths(depths)
    for what, held in (
        ("points without coordinates", missing),
        ("empty returns at the origin", invalid),
    ):
        if held:
            total = sum(held.values())
            lines.append(
                f"{what}, left out: {total:,} in {count(len(held), 'scan')}: {join_names(held)}"
            )
    found = {
        "mixed_units": None if units is None else {"units": units[0], "fewer": units[1]},
        "mixed_colours": depths,
        "missing": missing,
        "invalid_returns": invalid,
    }
    return found, lines
