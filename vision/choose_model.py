"""What an `auto` app leaves open of its model: from the run that it starts from, else from the number of images."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from isoform.core.config.schema import Table
from isoform.core.errors import UserError, join_names
from isoform.core.runs.exported import as_run
from isoform.vision.config import VisionApp
from isoform.vision.data.arrays import Reading
from isoform.vision.data.dataset import spread
from isoform.vision.data.images import look
from isoform.vision.data.records import ArrayImages, FileImages, Records
from isoform.vision.data.transforms import COLOURS
from isoform.vision.initial import Imported, holds_own_names, import_initial
from isoform.vision.vit.parameter_count import token_count, vit_size

# (up to this many training images, dim, depth, heads)
SIZES = ((2000, 96, 6, 3), (20_000, 128, 6, 4), (100_000, 192, 9, 3), (math.inf, 384, 12, 6))
OPERATIONS = 1.6e13  # of a training: about 5 minutes of one core (with 1,000 images 70 epochs), and reading the images
EPOCHS = (20, 200)  # from scratch, at least and at most; from other weights 3 may be enough
NO_COLOUR = {"randaugment": "", "jitter": 0.0, "hue": 0.0}  # the changes of colour, switched off
LOOKED_AT = 50  # images, to choose the model's size and channels
# Of the data table of the run that a training starts from, what its weights were trained with.
INHERITED = {"mean", "std", "resize", "crop_pct", "interpolation", "window", "scale"}


@dataclass(frozen=True)
class Start:
    """Keys of tokeniser, backbone, head and data that decide whether the weights of train.init fit; their source."""

    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    imported: Imported | None = None


def read_start(init: str | None) -> Start:
    """What train.init tells of its model.

    From the config.toml of a run folder or of an export, or from whatever else `isoform vision import` reads; of
    another domain's run, the backbone alone. Weights in isoform's names without settings don't tell.
    """
    if init is None:
        return Start()
    with as_run(Path(init).expanduser()) as path:
        if (path / "config.toml").is_file():
            read = _read_config(path)
            if read.get("domain", "vision") != "vision":
                return Start({"backbone": read.get("backbone", {})})
            return Start(_deciding(read))
        if holds_own_names(path):
            return Start()
    imported = import_initial(init)
    return Start(_deciding(imported.config.model_dump(exclude_unset=True)), imported)


def _read_config(run: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((run / "config.toml").read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise UserError(
            f"{run}: its config.toml can't be read ({error}); name another run with --init"
        ) from None


def _deciding(tables: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    found = {name: dict(tables.get(name, {})) for name in ("tokeniser", "backbone", "head", "data")}
    for key in ("outputs", "task"):
        found["head"].pop(key, None)
    found["data"] = {key: value for key, value in found["data"].items() if key in INHERITED}
    return found


def choose_model(
    config: VisionApp,
    records: Records,
    images: int,
    start: Start,
) -> tuple[VisionApp, list[str]]:
    """Fills the keys of the model and of the training that nobody set, for that many training images."""
    if not config.auto:
        config = _choose_epochs(config, images)
        return config, [f"{images} training images: {config.train.epochs} epochs"]
    notes = []
    if start.tables:
        tables = start.tables
        notes.append(f"model, image size and normalisation as in {config.train.init}")
    else:
        tables = _tables_for(records, Reading.of(config.data), images)
    config = update(
        config, **{name: _unset(getattr(config, name), values) for name, values in tables.items()}
    )
    batch = 16 if images < 500 else 32 if images < 2000 else 64
    config = update(config, train=_unset(config.train, {"batch": batch}))
    config = _choose_epochs(config, images)
    backbone, tokeniser = config.backbone, config.tokeniser
    chosen = (
        f"{images} training images: {backbone.depth} blocks of {backbone.dim} features, {tokeniser.image} px images "
        f"of {tokeniser.channels} channel(s) in patches of {tokeniser.patch} px, {config.train.epochs} epochs in "
        f"batches of {config.train.batch}"
    )
    return config, [chosen, *notes]


def leave_out_augmentations(config: VisionApp) -> tuple[VisionApp, list[str]]:
    """Of an `auto` app, the changes of colour switched off where the images have channels that they don't know."""
    channels, augment = config.tokeniser.channels, config.augment
    if not config.auto or channels in COLOURS:
        return config, []
    off = {name: value for name, value in NO_COLOUR.items() if getattr(augment, name) != value}
    if not off:
        return config, []
    names = join_names(f"augment.{name}" for name in off)
    note = f"off, as they need images of 1 or 3 channels and these have {channels}: {names}"
    return update(config, augment=off), [note]


def _tables_for(records: Records, reading: Reading, images: int) -> dict[str, dict[str, Any]]:
    side, channels = _median_size(records, reading)
    image, patch = (64, 8) if side >= 48 else (4 * math.ceil(side / 4), 4)
    _, dim, depth, heads = next(row for row in SIZES if images <= row[0])
    return {
        "tokeniser": {"image": image, "patch": patch, "channels": channels},
        "backbone": {"dim": dim, "depth": depth, "heads": heads},
    }


def _choose_epochs(config: VisionApp, images: int) -> VisionApp:
    """As many epochs as the model's cost allows."""
    if config.train.epochs != "auto":
        return config
    weights = vit_size(config.tokeniser, config.backbone, config.head, 1)
    # Forward, and twice as much backward, each 2 a weight and token.
    passes = 2 if config.train.freeze == "trunk" else 6
    cost = passes * weights * token_count(config.tokeniser) * max(images, 1)
    least, most = EPOCHS
    if config.train.init is not None:
        least = 3
    epochs = int(max(least, min(most, OPERATIONS / cost)))
    patience = config.train.patience or max(10, epochs // 4)
    return update(config, train={"epochs": epochs, "patience": patience})


def _median_size(records: Records, reading: Reading) -> tuple[int, int]:
    """(median shorter side, channels) of about 50 images, by their headers."""
    if isinstance(records.images, ArrayImages):
        _, depth, height, width = records.images.array.shape
        return min(height, width), depth
    sides: list[int] = []
    channels: set[int] = set()
    for row in spread(np.arange(len(records)), LOOKED_AT).tolist():
        try:
            side, depth = _size_of(records, row, reading)
        except UserError:  # unreadable images are named when all are read
            continue
        sides.append(side)
        channels.add(depth)
    if not sides:
        return 64, 3
    return int(np.median(sides)), channels.pop() if len(channels) == 1 else 3


def _size_of(records: Records, row: int, reading: Reading) -> tuple[int, int]:
    """(shorter side, channels) of an image."""
    images = records.images
    if isinstance(images, FileImages):
        header = look(images.path(row), None, reading)
        return min(header.height, header.width), header.channels
    depth, height, width = images.read(row, None, None, reading).shape
    return min(height, width), depth


def _unset(table: Table, values: Mapping[str, Any]) -> dict[str, Any]:
    """The values for the keys that nobody set."""
    return {key: value for key, value in values.items() if key not in table.model_fields_set}


def update(config: VisionApp, **tables: Mapping[str, Any]) -> VisionApp:
    """The config with some keys changed, validated again."""
    made = {}
    for name, changes in tables.items():
        table = getattr(config, name)
        values = {key: getattr(table, key) for key in table.model_fields_set}
        for key, value in changes.items():
            values[key] = None if value == "none" and _may_be_none(table, key) else value
        try:
            made[name] = type(table).model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"]))
            raise UserError(f"{name}.{key}: {first['msg']} (taken over from --init)") from None
    return config.model_copy(update=made)


def _may_be_none(table: Table, key: str) -> bool:
    field = type(table).model_fields.get(key)
    return field is not None and "None" in str(field.annotation)
