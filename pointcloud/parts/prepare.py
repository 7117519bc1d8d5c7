"""From an app on clouds and their parts to its data and to settings with nothing left open; and what check says."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isoform.core.domain import CheckReport, Prepared
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError, count, join_names
from isoform.pointcloud.check import check
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.kept import describe_leaks, find_split
from isoform.pointcloud.data.sources import PARTED
from isoform.pointcloud.parts.data import PartData, count_unknown, read_part_records, read_parts
from isoform.pointcloud.parts.table import PartTable
from isoform.pointcloud.prepare import (
    choose_epochs,
    describe_data,
    describe_lost,
    update,
    with_channels,
)
from isoform.pointcloud.recipe import follow_recipe
from isoform.pointcloud.segment_prepare import check_segmenter

NAMED = 12  # classes of clouds, and codes that nobody trained on, in a line


def prepare_parts(
    config: PointcloudApp, kept: KeptSplit | None = None, table: PartTable | None = None
) -> Prepared[PointcloudApp, PartData]:
    """The app with its classes, shapes and outputs, lines to print, and its data.

    kept    the split of a run, which is found again instead of drawn
    table   the parts that a run knows

    Raises UserError for data that are missing or don't fit, and for leakage unless data.allow_leakage.
    """
    if config.data.source not in PARTED:
        raise UserError(
            f'data.source = "{config.data.source}" has no part for every point; set it to {" or ".join(PARTED)}'
        )
    check_segmenter(config, "clouds with parts")
    config = with_channels(config)
    records = read_part_records(config.data)
    own = None if kept is None else find_split(records, kept)
    data = read_parts(config.data, records, own, table)
    if not data.clouds.rows:
        raise UserError(f"{records.origin}: no cloud can be read")
    leaks = describe_leaks(data.clouds)
    if leaks and not config.data.allow_leakage:
        raise UserError(
            f"{records.origin}: {leaks}; remove them (isoform pointcloud check lists all), or set "
            "data.allow_leakage = true"
        )
    config = _fit(config, data)
    config, told = follow_recipe(config)
    if config.train.epochs == "auto":
        config = choose_epochs(config, len(data.clouds.rows.get("train", ())))
    lost = [*describe_lost(data.clouds), *_describe_unknown(data)]
    notes = [*describe_data(config, data.clouds), *_describe_parts(data), *told, *lost]
    notes += [f"warning: {leaks} (data.allow_leakage)"] if leaks else []
    return Prepared(config, notes, data, lost)


def _fit(config: PointcloudApp, data: PartData) -> PointcloudApp:
    """The app with as many shapes and outputs as its data have. Raises UserError where somebody set others."""
    shapes, outputs = len(data.table.shapes), len(data.table.outputs)
    for key, asked, there in (
        ("parts.shapes", config.parts.shapes, f"{shapes} classes of clouds"),
        ("head.outputs", config.head.outputs, f"{outputs} parts"),
    ):
        if asked and not there.startswith(f"{asked} "):
            raise UserError(f"{key} = {asked}, but {data.clouds.records.origin} has {there}")
    return update(
        config,
        data={"classes": data.table.shapes},
        head={"outputs": outputs},
        parts={"shapes": shapes},
    )


def _describe_parts(data: PartData) -> list[str]:
    named = [f"{shape} {len(codes)}" for shape, codes in data.table.codes.items()]
    lines = [f"{len(data.table.outputs)} parts: {join_names(named, NAMED)}"]
    single = [shape for shape, codes in data.table.codes.items() if len(codes) == 1]
    if single:
        lines.append(f"of {join_names(single, NAMED)} there is one part: all of it is right")
    return lines


def _describe_unknown(data: PartData) -> list[str]:
    unknown = count_unknown(data)
    if not unknown:
        return []
    named = [f"{name} ({count(points, 'point')})" for name, points in unknown.items()]
    return [
        f"{len(unknown)} codes that no training cloud of their class has count nothing: {join_names(named, NAMED)}"
    ]


def check_parts(config: PointcloudApp) -> CheckReport:
    """What check says of clouds, and beside it the points of each part by split."""
    return check(config, prepare_parts, read_part_records, _points_of_parts)


def _points_of_parts(data: PartData) -> tuple[list[str], Mapping[str, Mapping[str, int]]]:
    names, rows = data.table.outputs, data.clouds.rows
    found: dict[str, dict[str, int]] = {name: {} for name in names}
    for split, own in rows.items():
        target = np.concatenate([data.targets[row] for row in own.tolist()])
        each = np.bincount(target[target >= 0], minlength=len(names))
        for name, points in zip(names, each.tolist(), strict=True):
            found[name][split] = points
    lines = [f"{len(names)} parts, points of each:"]
    for name, by_split in found.items():
        lines.append(f"  {name}: " + ", ".join(f"{n:,} {split}" for split, n in by_split.items()))
    return lines, found
