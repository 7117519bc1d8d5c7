"""From an app to its data, read once, and to settings with nothing left open: the classes and the head's outputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.data.folds import SET_ASIDE
from isoform.core.domain import Prepared
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError, count
from isoform.core.supervised.metrics import describe_gaps
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import NEAR, CloudData, describe_thinned, sizes_of
from isoform.pointcloud.data.features import count_channels
from isoform.pointcloud.data.fewer import describe_episode
from isoform.pointcloud.data.kept import describe_leaks, find_split
from isoform.pointcloud.data.sources import read_records, source_of_path
from isoform.pointcloud.recipe import follow_recipe


@dataclass(frozen=True)
class PointcloudData:
    """What an app's data are once read."""

    clouds: CloudData


def prepare(
    config: PointcloudApp, kept: KeptSplit | None = None
) -> Prepared[PointcloudApp, PointcloudData]:
    """The app with nothing left open, what was chosen, as lines to print, and its data.

    kept  the split of a run, which is found again instead of drawn
    Raises UserError for data that are missing or don't fit the config, and for leakage unless data.allow_leakage.
    """
    config = with_channels(config)
    records = read_records(config.data)
    data = CloudData(config.data, records, None if kept is None else find_split(records, kept))
    if not data.rows:
        raise UserError(f"{data.records.origin}: no cloud can be read")
    leaks = describe_leaks(data)
    if leaks and not config.data.allow_leakage:
        raise UserError(
            f"{records.origin}: {leaks}; remove them (isoform pointcloud check lists all), or set "
            "data.allow_leakage = true"
        )
    classes = len(data.classes)
    if config.model.kind == "classify":
        if config.head.outputs not in (0, classes):
            raise UserError(
                f"head.outputs = {config.head.outputs}, but {data.records.origin} has {classes} classes"
            )
        config = update(config, data={"classes": tuple(data.classes)}, head={"outputs": classes})
    config, told = follow_recipe(config)
    if config.train.epochs == "auto":
        config = choose_epochs(config, len(data.rows.get("train", ())))
    lost = describe_lost(data)
    notes = [*describe_data(config, data), *told, *lost]
    notes += [f"warning: {leaks} (data.allow_leakage)"] if leaks else []
    few = config.data.ways is not None
    if config.data.folds is not None and not few and (data.records.split != "").any():
        notes.append(SET_ASIDE)
    for split in ("val", "test") if config.model.kind == "classify" and not few else ():
        if split in data.rows:
            notes += describe_gaps(
                data.targets[data.rows[split]], data.classes, split, yes_no=False
            )
    return Prepared(config, notes, PointcloudData(data), lost)


def with_channels(config: PointcloudApp) -> PointcloudApp:
    """The channels that data.features make. Raises UserError for others that were asked for."""
    asked, names = config.tokeniser.channels, config.data.features
    channels = count_channels(names)
    if asked not in (3, channels):
        raise UserError(
            f"tokeniser.channels = {asked}: x, y, z{' and ' if names else ''}{', '.join(names)} (data.features) make "
            f"{channels}; leave it out"
        )
    return config if asked == channels else update(config, tokeniser={"channels": channels})


def describe_start(config: PointcloudApp) -> list[str]:
    """What becomes of features that weights of x, y, z don't know."""
    if not config.data.features or config.train.init is None:
        return []
    return [
        "train.init: where its weights read x, y, z alone, those of data.features start at 0: the same answers at first"
    ]


def choose_epochs(config: PointcloudApp, clouds: int) -> PointcloudApp:
    """As many as keep a thousand clouds of the default size within a quarter of an hour on two cores."""
    epochs = max(20, min(150, 60_000 // max(clouds, 1)))
    patience = config.train.patience or max(10, epochs // 4)
    return update(config, train={"epochs": epochs, "patience": patience})


def describe_data(config: PointcloudApp, data: CloudData) -> list[str]:
    """Lines on the clouds, their splits and the training to come."""
    sizes = ", ".join(f"{n} {split}" for split, n in sizes_of(data.rows).items())
    points = [len(cloud) for cloud in data.clouds if cloud is not None]
    lines = [
        f"{data.records.origin}: {sizes}; {len(data.classes)} classes; {min(points):,} to {max(points):,} points a "
        f"cloud, of which a training sees at most {config.data.points:,}",
        *data.records.findings,
        *describe_thinned(data.thinned),
        *data.features.notes(),
        *describe_start(config),
    ]
    if config.data.ways is not None:
        lines.append(describe_episode(data.rows, data.targets, data.classes, config.data))
    elif data.unused:
        lines.append(
            f"data.labels = {config.data.labels:g}: {count(data.unused, 'training cloud')} left out, the same for "
            "every train.seed (data.split_seed draws); validation and test stay whole"
        )
    if config.data.group == NEAR and data.group is not None:
        sizes_N = np.unique(data.group.astype(str), return_counts=True)[1]
        several = sizes_N[sizes_N > 1]
        lines.append(
            f"data.group = near: {several.sum():,} clouds share {count(len(several), 'shape')} and stay together, "
            f"at most {sizes_N.max():,} of one"
        )
    if config.train.epochs and data.rows.get("train") is not None:
        lines.append(
            f"{count(len(data.rows['train']), 'training cloud')}: {count(int(config.train.epochs), 'epoch')}"
        )
    return lines


def describe_lost(data: CloudData) -> list[str]:
    """Clouds and other files that weren't read, and those that one point dominates."""
    lines = []
    for found, what in (
        (data.unreadable, "unreadable cloud"),
        (dict(data.records.skipped), "other file"),
    ):
        if found:
            name, why = next(iter(found.items()))
            lines.append(f"{count(len(found), what)} left out, such as {name}: {why}")
    if data.dominated:
        name, why = next(iter(data.dominated.items()))
        lines.append(
            f"{count(len(data.dominated), 'cloud')} with a point far away, such as {name}: {why}"
        )
    return lines


def update(config: PointcloudApp, **tables: Mapping[str, Any]) -> PointcloudApp:
    """The config with some keys changed."""
    made = {}
    for name, changes in tables.items():
        made[name] = getattr(config, name).model_copy(update=dict(changes))
    return config.model_copy(update=made)


def other_data(config: PointcloudApp, path: str) -> PointcloudApp:
    """The same app on the data at `path`, all of it for evaluation where it is not split itself (`eval --data`)."""
    return update(at_path(config, path), data={"test_fraction": 1.0, "labels": 1.0})


def at_path(config: PointcloudApp, path: str) -> PointcloudApp:
    """The same app on the data at `path`, in their own split or in one that is drawn; without folds and episodes."""
    return update(
        config,
        data={
            "source": source_of_path(Path(path)),
            "path": path,
            "root": None,
            "table": None,
            "group": None,
            "ways": None,
            "folds": None,
            "fold": None,
        },
    )
