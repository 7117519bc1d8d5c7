"""From an app on labelled scans to its data and to settings with nothing left open."""

from __future__ import annotations

from typing import Any

import numpy as np

from isoform.core.domain import Prepared
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError, count, join_names
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import describe_thinned
from isoform.pointcloud.data.features import FeatureReader
from isoform.pointcloud.data.scans import (
    Scan,
    ScanData,
    build_data,
    describe_equal_scans,
    read_scans,
)
from isoform.pointcloud.data.scenes import CLASSES
from isoform.pointcloud.data.sources import PARTED, SCANS
from isoform.pointcloud.prepare import describe_start, update, with_channels
from isoform.pointcloud.recipe import follow_recipe


def prepare_scans(
    config: PointcloudApp, kept: KeptSplit | None = None, *, alone: bool = False
) -> Prepared[PointcloudApp, Any]:
    """The app with its classes and outputs, lines to print, and a `ScanData`.

    kept   the split of a run: other scans are left out
    alone  the data are for an evaluation, and need not be split

    Raises UserError for data that are missing or don't fit, and for leakage unless data.allow_leakage.
    """
    _check_settings(config)
    config, _ = follow_recipe(with_channels(config))  # refuses one
    reader = FeatureReader(config.data)
    scans, skipped = read_scans(config.data, reader, alone=alone)
    if kept is not None:
        rows = kept.rows_among([scan.name for scan in scans])
        scans = [scans[row] for part in rows.values() for row in part]
    splits = {scan.split for scan in scans}
    for split in () if alone else ("train", "val"):
        if split not in splits:
            raise UserError(f"{_origin(config)}: has no folder {split} with scans")
    leaks = describe_equal_scans(scans)
    if leaks and not config.data.allow_leakage:
        raise UserError(f"{_origin(config)}: {leaks}; remove one, or set data.allow_leakage = true")
    classes = config.data.classes or _classes(config, scans)
    outputs = config.head.outputs
    if outputs not in (0, len(classes)):
        raise UserError(f"head.outputs = {outputs}, but there are {len(classes)} classes")
    made = config.data.source == "scenes"
    licence = "made, free of rights" if made else "the data owner's"
    data = build_data(config.data, scans, classes, _origin(config), licence, skipped)
    config = update(config, data={"classes": tuple(classes)}, head={"outputs": len(classes)})
    samples = len(data.draws.get("train", ()))
    if config.train.epochs == "auto":
        epochs = max(3, min(60, 20_000 // max(samples, 1)))
        patience = config.train.patience or max(3, epochs // 4)
        config = update(config, train={"epochs": epochs, "patience": patience})
    lost = _lost(data)
    large = {scan.name: scan.points.thinned for scan in scans if scan.points.thinned is not None}
    notes = [*_describe(data, samples), *describe_thinned(large), *reader.notes()]
    notes += [*describe_start(config), *lost]
    notes += [f"warning: {leaks} (data.allow_leakage)"] if leaks else []
    return Prepared(config, notes, data, lost)


def _check_settings(config: PointcloudApp) -> None:
    data = config.data
    if data.source not in SCANS:
        raise UserError(
            f'data.source = "{data.source}" has no class for every point; set it to {" or ".join(SCANS)}, or of '
            f"parts of clouds to {' or '.join(PARTED)}"
        )
    if data.source == "scenes" and data.up != "z":
        raise UserError("data.up: made scenes have z upwards; leave it out")
    if config.parts.shapes:
        raise UserError(
            f"parts.shapes = {config.parts.shapes}: a scan has no class beside it; set it to 0"
        )
    if data.group is not None:
        raise UserError("data.group: scans lie in train, val and test; leave it out")
    check_segmenter(config, "scans")


def check_segmenter(config: PointcloudApp, what: str) -> None:
    """Raises UserError for settings that contradict each other in any segmentation; `what` it is of."""
    tokeniser, parts, data = config.tokeniser, config.parts, config.data
    if data.folds is not None:
        raise UserError(f"data.folds: {what} aren't folded; leave it out")
    if data.table is not None:
        raise UserError(f"data.table: {what} are read from folders; leave it out")
    if tokeniser.class_token is False:
        raise UserError("tokeniser.class_token: a segmentation has none; leave it as it is")
    if not parts.blocks or max(parts.blocks) >= config.backbone.depth:
        raise UserError(
            f"parts.blocks = {list(parts.blocks)}: the blocks of a trunk of depth {config.backbone.depth} are numbered "
            f"0 to {config.backbone.depth - 1}"
        )
    if data.points < tokeniser.groups:
        raise UserError(
            f"data.points = {data.points} are fewer than tokeniser.groups = {tokeniser.groups}"
        )


def _origin(config: PointcloudApp) -> str:
    return "made scenes" if config.data.source == "scenes" else str(config.data.root)


def _classes(config: PointcloudApp, scans: list[Scan]) -> tuple[str, ...]:
    """The codes of the training scans, or the made scenes' names."""
    if config.data.source == "scenes":
        return CLASSES
    own = [np.unique(scan.code[scan.code >= 0]) for scan in scans if scan.split == "train"]
    found = np.unique(np.concatenate(own)) if own else np.zeros(0, np.int64)
    if len(found) < 2:
        raise UserError(
            f"{config.data.root}: the training scans hold {len(found)} codes in {config.data.label!r} beside those "
            "without a label (data.unlabelled); a segmentation needs two"
        )
    return tuple(str(code) for code in found.tolist())


def _describe(data: ScanData, samples: int) -> list[str]:
    parts = []
    for split in dict.fromkeys(scan.split for scan in data.scans):
        own = data.rows(split)
        points = sum(len(data.scans[k].xyz) for k in own)
        parts.append(f"{count(len(own), 'scan')} of {points:,} points {split}")
    lines = [
        f"{data.origin}: {', '.join(parts)}; {len(data.classes)} classes: {join_names(data.classes, 12)}"
    ]
    if samples:
        lines.append(f"{samples:,} draws from tiles an epoch")
    for split in ("val", "test"):
        own = data.rows(split)
        seen = {k for row in own for k in np.unique(data.targets[row]).tolist()}
        absent = [name for k, name in enumerate(data.classes) if k not in seen]
        if own and absent:
            lines.append(f"{split} holds no point of {join_names(absent)}, which has no IoU there")
    return lines


def unknown_codes(data: ScanData) -> dict[int, int]:
    """{code: points} of labels that the model has no output for."""
    unknown: dict[int, int] = {}
    for scan, target in zip(data.scans, data.targets, strict=True):
        codes, counts = np.unique(scan.code[(scan.code >= 0) & (target < 0)], return_counts=True)
        for code, points in zip(codes.tolist(), counts.tolist(), strict=True):
            unknown[code] = unknown.get(code, 0) + points
    return unknown


def _lost(data: ScanData) -> list[str]:
    """Files that weren't read, and points whose code the model has no output for."""
    lines = []
    if data.skipped:
        name, why = next(iter(data.skipped.items()))
        lines.append(f"{count(len(data.skipped), 'file')} left out, such as {name}: {why}")
    for code, points in sorted(unknown_codes(data).items()):
        lines.append(
            f"code {code} is none of the classes that are trained: its {count(points, 'point')} count nothing"
        )
    return lines
