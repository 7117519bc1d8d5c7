"""From an app to its data, read once, and to settings with nothing left open: classes, scales, an `auto` app's model.

The steps: read the records, split them, choose what the app leaves open of its model, decode what fits in memory, and
take classes, channel statistics and target scales from the images and labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from isoform.core.data.folds import SET_ASIDE
from isoform.core.data.splits import Rows
from isoform.core.domain import Prepared
from isoform.core.errors import UserError, join_names
from isoform.core.supervised.config import resolve_loss_kind
from isoform.core.supervised.metrics import describe_gaps
from isoform.core.supervised.monitors import resolve_monitor
from isoform.core.supervised.scaling import TargetScaling
from isoform.vision.choose_model import (
    choose_model,
    leave_out_augmentations,
    read_start,
    update,
)
from isoform.vision.config import VisionApp
from isoform.vision.data.dataset import ImageData, preprocessing
from isoform.vision.data.records import UNLABELLED, Records
from isoform.vision.data.sources import read_records
from isoform.vision.data.splits import split_rows
from isoform.vision.describe_values import describe_values, layout_lines
from isoform.vision.heads import blocks_of, true_classes
from isoform.vision.impossible import refuse_impossible
from isoform.vision.initial import Imported

FEW_IMAGES = 5000  # below this, starting from pretrained weights is worth more than any setting


@dataclass(frozen=True)
class VisionData:
    """What an app's data are once read."""

    images: ImageData
    imported: Imported | None = (
        None  # the foreign model of train.init, where choosing this one had to open it
    )


def prepare(config: VisionApp) -> Prepared[VisionApp, VisionData]:
    """The app with nothing left open, what was chosen, as lines to print, and its data.

    Raises UserError for data that are missing or don't fit the config.
    """
    return prepare_records(config, read_records(config.data))


def prepare_records(
    config: VisionApp, records: Records, splits: Rows | None = None
) -> Prepared[VisionApp, VisionData]:
    """`prepare` where the records have been read, and where `splits` are given, split already."""
    notes: list[str] = []
    if config.data.task == "regression" and config.loss.label_smoothing:
        config = update(config, loss={"label_smoothing": 0.0})
        notes.append("loss.label_smoothing is for classes and labels: off, as these are numbers")
    resolve_loss_kind(config.loss, config.data.task)
    resolve_monitor(config.train.monitor, config.data.task)
    splits = split_rows(records, config.data) if splits is None else splits
    imported = None
    open_model = _leaves_model_open(config)
    notes += layout_lines(records, config.data, None if open_model else config.tokeniser.channels)
    if open_model:
        start = read_start(config.train.init if config.auto else None)
        imported = start.imported
        config, chosen = choose_model(config, records, len(splits.get("train", ())), start)
        notes += chosen
    config, off = leave_out_augmentations(config)
    notes += off
    refuse_impossible(config)
    data = ImageData(config, records, splits)
    resolved = is_resolved(config)
    if not resolved:
        _refuse_unlearnt(data)
        told = config.data
        all_told = told.mean and told.std and told.lowest and told.highest
        if "train" in data.rows and not all_told:  # to measure them every image is read
            notes += describe_values(config.data, data.statistics)
        config = _resolve(config, data)
        data.preprocess = preprocessing(config)
    lost = _lost(data)
    if config.data.folds is not None and (records.split != "").any():
        notes.append(SET_ASIDE)
    notes += [*_describe(data), *lost, *unscored(data)]
    few = config.auto and config.train.init is None and len(records) < FEW_IMAGES
    if few and not resolved:
        notes.append(
            f"{len(records)} images are few for a transformer from scratch: pretrained weights usually do better "
            "(isoform vision import timm:NAME --out DIR, then train with --init DIR)"
        )
    return Prepared(config, notes, VisionData(data, imported), lost)


def _leaves_model_open(config: VisionApp) -> bool:
    if config.train.epochs == "auto":
        return True
    chosen = config.tokeniser.model_fields_set | config.backbone.model_fields_set
    return config.auto and not chosen >= {"image", "patch", "channels", "dim", "depth", "heads"}


def is_resolved(config: VisionApp) -> bool:
    """True where classes, channel statistics and target scales are known."""
    data = config.data
    if data.classes is None or data.mean is None or data.std is None or not data.lowest:
        return False
    if config.data.task == "regression" and (data.target_mean is None or data.target_std is None):
        return False
    return config.head.outputs == len(data.classes)


def _refuse_unlearnt(data: ImageData) -> None:
    """Raises UserError for a label or target of which no training image has a value: nothing could be learned of it."""
    if data.records.kind == "multiclass" or "train" not in data.rows:
        return
    missing = np.isnan(data.targets[data.rows["train"]]).all(0)
    if missing.any():
        names = [name for name, gone in zip(data.classes, missing, strict=True) if gone]
        raise UserError(
            f"{data.records.origin}: no training image has a value of {join_names(names)}; leave it out of data.labels "
            "or mend the split"
        )


def _resolve(config: VisionApp, data: ImageData) -> VisionApp:
    """Classes, channel statistics and target scales from the data; keys that are set stay."""
    classes = len(data.classes)
    if config.head.outputs not in (0, classes):
        raise UserError(
            f"head.outputs = {config.head.outputs}, but {data.records.origin} has {classes} classes or targets"
        )
    changes: dict[str, Any] = {"classes": tuple(data.classes)}
    own = config.data
    if own.mean is None or own.std is None:
        changes["mean"] = own.mean or data.statistics.mean
        changes["std"] = own.std or data.statistics.std
    if "train" in data.rows:
        changes["lowest"] = own.lowest or data.statistics.lowest
        changes["highest"] = own.highest or data.statistics.highest
    if config.data.task == "regression":
        rows = data.rows.get("train", next(iter(data.rows.values())))
        scaling = TargetScaling.fit(data.targets[rows])
        changes["target_mean"] = config.data.target_mean or scaling.mean
        changes["target_std"] = config.data.target_std or scaling.std
    return update(config, data=changes, head={"outputs": classes})


def _describe(data: ImageData) -> list[str]:
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in data.rows.items())
    what = "targets" if data.records.kind == "regression" else "classes"
    return [f"{data.records.origin}: {sizes}; {len(data.classes)} {what}", *data.records.findings]


def _lost(data: ImageData) -> list[str]:
    """Images and other files that weren't read."""
    lines = []
    if data.unreadable:
        name, why = next(iter(data.unreadable.items()))
        lines.append(f"{len(data.unreadable)} unreadable image(s) left out, such as {name}: {why}")
    skipped = [one for one in data.records.skipped if one[1] != UNLABELLED]
    if unlabelled := len(data.records.skipped) - len(skipped):
        lines.append(f"{unlabelled} image(s) without any label left out")
    if skipped:
        name, why = skipped[0]
        lines.append(
            f"{len(skipped)} other file(s) left out, such as {name} ({why}); see isoform vision check"
        )
    return lines


def unscored(data: ImageData) -> list[str]:
    """Classes, labels or targets that validation or test lacks: over which its metrics run, in sentences."""
    lines = []
    for split in ("val", "test"):
        if split in data.rows:
            target = data.targets[data.rows[split]]
            if data.records.kind == "multihead":
                for block in blocks_of(data.classes).values():
                    mine, names = true_classes(target, block), data.classes[block]
                    lines += describe_gaps(mine, names, split, yes_no=False)
                continue
            yes_no = data.records.kind == "multilabel"
            lines += describe_gaps(target, data.classes, split, yes_no=yes_no)
    return lines
