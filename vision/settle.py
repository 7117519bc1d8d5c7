"""Everything an app leaves open, decided from its data: classes, channel statistics, and for `auto` apps the model."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from isoform.core.config.schema import AppConfig, Table
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.data.dataset import ImageData, spread
from isoform.vision.data.images import open_image
from isoform.vision.data.records import ArrayImages, FileImages, Records
from isoform.vision.data.sources import read_records
from isoform.vision.data.splits import split_rows
from isoform.vision.initial import foreign
from isoform.vision.vit.size import token_count, vit_size

FEW_IMAGES = 5000  # below this, starting from pretrained weights is worth more than any setting
# (up to this many training images, dim, depth, heads)
_SIZES = ((2000, 96, 6, 3), (20_000, 128, 6, 4), (100_000, 192, 9, 3), (math.inf, 384, 12, 6))
_OPERATIONS = 1.6e13  # of a training: about 5 minutes of one core (with 1,000 images 70 epochs), and reading the images
_EPOCHS = (20, 200)  # from scratch, at least and at most; from other weights 3 may be enough


def settle(config: AppConfig) -> tuple[VisionApp, list[str]]:
    """The config with nothing left open, and what was chosen, as lines to print. Settling twice changes nothing.

    Reads the data. Raises UserError for data that are missing or don't fit the config.
    """
    assert isinstance(config, VisionApp)
    notes: list[str] = []
    if _open(config):
        records = read_records(config.data, config.head.task)
        config, notes = _choose_model(config, records, len(split_rows(records, config.data).get("train", ())))
    if _settled(config):
        return config, notes
    data = ImageData(config)
    classes = len(data.classes)
    if config.head.outputs not in (0, classes):
        raise UserError(
            f"head.outputs = {config.head.outputs}, but {data.records.origin} has {classes} classes or targets"
        )
    changes: dict[str, Any] = {"classes": tuple(data.classes)}
    if config.data.mean is None or config.data.std is None:
        mean, std = data.statistics()
        changes |= {"mean": config.data.mean or mean, "std": config.data.std or std}
    if config.head.task == "regression":
        train = data.targets[data.rows.get("train", next(iter(data.rows.values())))].astype(np.float64)
        mean, std = train.mean(0), train.std(0)
        changes["target_mean"] = config.data.target_mean or tuple(map(float, mean))
        changes["target_std"] = config.data.target_std or tuple(float(s) or 1.0 for s in std)
    notes += _describe(data)
    if config.auto and config.train.init is None and len(data.records) < FEW_IMAGES:
        notes.append(
            f"{len(data.records)} images are few for a transformer from scratch: pretrained weights usually do better "
            "(isoform vision import timm:NAME --out DIR, then train with --init DIR)"
        )
    return _update(config, data=changes, head={"outputs": classes}), notes


def _open(config: VisionApp) -> bool:
    chosen = config.tokeniser.model_fields_set | config.backbone.model_fields_set
    whole = chosen >= {"image", "patch", "channels", "dim", "depth", "heads"}
    return config.train.epochs == "auto" or (config.auto and not whole)


def _settled(config: VisionApp) -> bool:
    data = config.data
    known = data.classes is not None and data.mean is not None and data.std is not None
    scaled = config.head.task != "regression" or (data.target_mean is not None and data.target_std is not None)
    return known and scaled and config.head.outputs == len(data.classes or ())


def _choose_model(config: VisionApp, records: Records, images: int) -> tuple[VisionApp, list[str]]:
    """Fills the keys of the model that nobody set: from the run that it starts from, else from the number of images."""
    if not config.auto:
        config = _choose_epochs(config, images)
        return config, [f"{images} training images: {config.train.epochs} epochs"]
    first = initial_tables(config.train.init)
    if first:
        tables = {name: _unset(getattr(config, name), found) for name, found in first.items()}
        notes = [f"model, image size and normalisation as in {config.train.init}"]
    else:
        side, channels = _look(records)
        size, patch = (64, 8) if side >= 48 else (4 * math.ceil(side / 4), 4)
        _, dim, depth, heads = next(row for row in _SIZES if images <= row[0])
        backbone = {"dim": dim, "depth": depth, "heads": heads}
        tokeniser = {"image": size, "patch": patch, "channels": channels}
        tables = {"tokeniser": _unset(config.tokeniser, tokeniser), "backbone": _unset(config.backbone, backbone)}
        notes = []
    batch = 16 if images < 500 else 32 if images < 2000 else 64
    config = _update(config, **tables)
    config = _choose_epochs(_update(config, train=_unset(config.train, {"batch": batch})), images)
    b, t = config.backbone, config.tokeniser
    notes.insert(0, (
        f"{images} training images: {b.depth} blocks of {b.dim} features, {t.image} px images of {t.channels} "
        f"channel(s) in patches of {t.patch} px, {config.train.epochs} epochs in batches of {config.train.batch}"
    ))  # fmt: skip
    return config, notes


def _choose_epochs(config: VisionApp, images: int) -> VisionApp:
    """As many epochs as the model's cost allows."""
    if config.train.epochs != "auto":
        return config
    weights = vit_size(config.tokeniser, config.backbone, config.head, 1)
    passes = (
        2 if config.train.freeze == "trunk" else 6
    )  # forward, and twice as much backward, each 2 a weight and token
    cost = passes * weights * token_count(config.tokeniser) * max(images, 1)
    least, most = _EPOCHS if config.train.init is None else (3, _EPOCHS[1])
    epochs = int(max(least, min(most, _OPERATIONS / cost)))
    patience = config.train.patience or max(10, epochs // 4)
    return _update(config, train={"epochs": epochs, "patience": patience})


def initial_tables(init: str | None) -> dict[str, dict[str, Any]]:
    """The keys of tokeniser, backbone, head and data that decide whether the weights of train.init fit.

    From a run folder's config.toml, or from a checkpoint that `isoform vision import` reads; of another domain's run,
    the backbone alone. A file in isoform's own names does not tell.
    """
    if init is None:
        return {}
    path = Path(init).expanduser()
    if (path / "config.toml").is_file():
        try:
            read = tomllib.loads((path / "config.toml").read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise UserError(f"{path}: its config.toml can't be read ({error}); name another run with --init") from None
        if read.get("domain", "vision") != "vision":
            return {"backbone": read.get("backbone", {})}
    elif ":" in init or (path.is_file() and path.suffix != ".safetensors") or path.is_dir():
        read = foreign(init).config.model_dump(exclude_unset=True)
    else:
        return {}
    keep = {"data": {"mean", "std", "resize", "crop_pct", "interpolation"}}
    drop = {"head": {"outputs", "task"}}
    return {
        name: {
            k: v for k, v in read.get(name, {}).items() if k in keep.get(name, {k}) and k not in drop.get(name, set())
        }
        for name in ("tokeniser", "backbone", "head", "data")
    }


def _look(records: Records) -> tuple[int, int]:
    """(median shorter side, channels) of about 50 images, by their headers."""
    if isinstance(records.images, ArrayImages):
        _, depth, height, width = records.images.array.shape
        return min(height, width), depth
    sides: list[int] = []
    channels: list[int] = []
    for row in spread(np.arange(len(records)), 50):
        try:
            if isinstance(records.images, FileImages) and not records.images.names[row].endswith(".npy"):
                image = open_image(records.images.path(int(row)))
                sides.append(min(image.size))
                channels.append(1 if image.mode in ("1", "L", "F") or image.mode.startswith("I") else 3)
            else:
                shape = records.images.read(int(row), None).shape
                sides.append(min(shape[1:]))
                channels.append(shape[0])
        except UserError:  # unreadable images are named when all are read
            continue
    if not sides:
        return 64, 3
    return int(np.median(sides)), channels[0] if len(set(channels)) == 1 else 3


def _unset(table: Table, values: dict[str, Any]) -> dict[str, Any]:
    """The values for the keys that nobody set."""
    return {key: value for key, value in values.items() if key not in table.model_fields_set}


def _update(config: VisionApp, **tables: dict[str, Any]) -> VisionApp:
    """The config with some keys changed, validated again."""
    made = {}
    for name, changes in tables.items():
        table = getattr(config, name)
        values = {key: getattr(table, key) for key in table.model_fields_set} | {
            key: None if value == "none" and _may_be_none(table, key) else value for key, value in changes.items()
        }
        try:
            made[name] = type(table).model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(
                f"{name}.{'.'.join(map(str, first['loc']))}: {first['msg']} (taken over from --init)"
            ) from None
    return config.model_copy(update=made)


def _may_be_none(table: Table, key: str) -> bool:
    field = type(table).model_fields.get(key)
    return field is not None and "None" in str(field.annotation)


def _describe(data: ImageData) -> list[str]:
    sizes = ", ".join(f"{len(rows)} {split}" for split, rows in data.rows.items())
    what = "targets" if data.records.kind == "regression" else "classes"
    lines = [f"{data.records.origin}: {sizes}; {len(data.classes)} {what}"]
    if data.unreadable:
        name, why = next(iter(data.unreadable.items()))
        lines.append(f"{len(data.unreadable)} unreadable image(s) left out, such as {name}: {why}")
    if data.records.skipped:
        name, why = data.records.skipped[0]
        lines.append(
            f"{len(data.records.skipped)} other file(s) left out, such as {name} ({why}); see isoform vision check"
        )
    return lines
