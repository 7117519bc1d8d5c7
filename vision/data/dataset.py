"""Records split, encoded and, where they fit, held in memory at the model's size.

A resident image went through the same `Preprocess.fit` as one that `predict` reads later, so that a stored prediction
and a new one of the same file agree.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError, join_names
from isoform.vision.config import VisionApp
from isoform.vision.data.arrays import AS_STORED
from isoform.vision.data.kept import known_contents
from isoform.vision.data.records import ArrayImages, Records
from isoform.vision.data.transforms import Fitted, Preprocess, resize
from isoform.vision.data.values import Statistics, measure, pixel_digests, to_float

CACHE_BYTES = 2**30
STATISTICS_IMAGES = 2000


@dataclass
class Held:
    """Decoded images: `resident` [rows, C, H, W] at the model's size, `wide` larger ones for random crops, by row."""

    resident: Tensor | None = None
    wide: dict[int, Tensor] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)


class ImageData:
    """The images of an app.

    rows        {split: rows}: sample i of a split is row rows[split][i] of the records
    targets     of every row, see Records.encode
    unreadable  {row: why} of the images that were left out (data.on_error = "skip")
    """

    def __init__(
        self,
        config: VisionApp,
        records: Records,
        splits: Mapping[str, np.ndarray],
    ) -> None:
        self.records = records
        self.classes = _classes(
            records,
            config.data.classes,
        )
        self.targets = records.encode(self.classes)
        self._contents: list[str] | None = None
        self.preprocess = preprocessing(config)
        self.held = _hold(records, splits, self.preprocess, config)
        bad = self.held.unreadable
        self.rows: dict[str, np.ndarray] = {}
        for split, members in splits.items():
            readable = np.array([row for row in members if row not in bad], np.int64)
            if len(readable):
                self.rows[split] = readable
        if not self.rows:
            raise UserError(
                f"{records.origin}: no image can be read; the first: {next(iter(bad.values()), 'none')}"
            )
        _refuse_unknown_classes(records, self.rows, self.classes)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of all images' contents and labels, whatever their order, names and times."""
        held = zip(self.contents(), self.records.label_texts(), strict=True)
        lines = sorted(f"{content} {label}\n" for content, label in held)
        return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()

    def contents(self, before: KeptSplit | None = None) -> list[str]:
        """A digest of what each image holds, worked out once; files that a run kept one of aren't read again."""
        if self._contents is None:
            self._contents = self.records.images.contents(known_contents(before))
        return self._contents

    @property
    def unreadable(self) -> dict[str, str]:
        """{name: why} of the images that were left out."""
        return {self.records.images.names[row]: why for row, why in self.held.unreadable.items()}

    def fitted(self, row: int) -> Fitted:
        """[C, H, W] at the model's size, as evaluation and prediction see it."""
        if self.held.resident is None:
            return self.preprocess.fit(self._read(row))
        return self.held.resident[row].as_subclass(Fitted)

    def raw(self, row: int) -> Tensor:
        """[C, H, W] for a random crop: larger than the model's size where the file is."""
        return self.held.wide[row] if row in self.held.wide else self._read(row)

    def _read(self, row: int) -> Tensor:
        return _read(self.records, row, self.preprocess)

    def digests(self, split: str) -> np.ndarray | None:
        """uint64 [n, 1] of a split's images, of their pixels at the model's size.

        None where they aren't held in memory: to read all of a large data set again would take too long.
        """
        resident, rows = self.held.resident, self.rows[split].tolist()
        if resident is None:
            return None
        return pixel_digests(resident[row] for row in rows)[:, None]

    def complete_rows(self, rows: np.ndarray) -> np.ndarray:
        """Those of the rows whose every target is known."""
        targets = self.targets[rows]
        if self.records.kind == "multiclass":
            return rows[targets >= 0]
        return rows[~np.isnan(targets).any(1)]

    @cached_property
    def statistics(self) -> Statistics:
        """Of (at most 2,000 evenly spaced) training images."""
        rows = spread(self.rows.get("train", next(iter(self.rows.values()))), STATISTICS_IMAGES)
        names = self.records.images.names
        images = ((names[row], self.fitted(row)) for row in rows.tolist())
        return measure(images, self.preprocess.window is not None)


def _read(records: Records, row: int, preprocess: Preprocess) -> Tensor:
    return records.images.read(row, preprocess.channels, preprocess.at_least, preprocess.reading)


def preprocessing(config: VisionApp) -> Preprocess:
    """What the app does to an image before the tokeniser; mean 0 and std 1 while they aren't known."""
    data, channels = config.data, config.tokeniser.channels
    if data.window is not None and data.scale != "auto":
        raise UserError("data.window and data.scale both say what values become: set one of them")
    for name in ("mean", "std", "lowest", "highest"):
        values = getattr(data, name)
        if values is not None and len(values) not in (1, channels):
            raise UserError(
                f"data.{name} has {len(values)} values where the images have {channels} channels"
            )
        if name == "std" and values is not None and min(values) <= 0:
            raise UserError("data.std: every value must be above 0")
    if data.resize == "border" and data.mean is None:
        raise UserError(
            "data.resize = border is a border of data.mean, which isn't set; set it, or take data.resize = pad"
        )
    mean, std = data.mean or (0.0,), data.std or (1.0,)
    return Preprocess(
        size=config.image_size,
        channels=channels,
        resize=data.resize,
        crop_pct=data.crop_pct,
        interpolation=data.interpolation,
        window=data.window,
        scale=data.scale,
        layout=data.layout,
        page=data.page,
        lowest=_each(data.lowest, channels),
        highest=_each(data.highest, channels),
        mean=mean * channels if len(mean) == 1 else mean,
        std=std * channels if len(std) == 1 else std,
    )


def _each(values: Sequence[float] | None, channels: int) -> tuple[float, ...]:
    """A value for each channel; none where none is known."""
    values = tuple(values or ())
    return values * channels if len(values) == 1 else values


def shrink(image_CHW: Tensor, shorter: int) -> Tensor:
    """At most `shorter` pixels along the shorter side, proportions kept."""
    height, width = image_CHW.shape[1:]
    ratio = shorter / min(height, width)
    if ratio >= 1:
        return image_CHW.clone()
    return resize(
        image_CHW, (max(1, round(height * ratio)), max(1, round(width * ratio))), "bilinear"
    )


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spaced."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def _hold(
    records: Records,
    splits: Mapping[str, np.ndarray],
    preprocess: Preprocess,
    config: VisionApp,
) -> Held:
    """Decodes once what fits in memory; images that lie there at the model's size already are used as they are."""
    images, data, random_crop = records.images, config.data, config.augment.crop == "resized"
    shape = (preprocess.channels, *preprocess.size)
    if (
        isinstance(images, ArrayImages)
        and tuple(images.array.shape[1:]) == shape
        and preprocess.reading == AS_STORED
        and preprocess.crop_pct == 1
    ):
        return Held(images.array)
    used = np.sort(np.concatenate(list(splits.values()))) if splits else np.zeros(0, np.int64)
    copies = 7 if random_crop else 1  # a wide image is 2 x 2 sizes, and oblong
    fits = len(used) * int(np.prod(shape)) * copies <= CACHE_BYTES
    keep = data.cache == "memory" or (data.cache == "auto" and fits)
    if not keep and data.on_error == "fail":
        return Held()
    train = set(splits["train"].tolist()) if random_crop and "train" in splits else set()
    return _decode(records, used, train, preprocess, keep, data.on_error)


def _decode(
    records: Records,
    used: np.ndarray,
    train: set[int],
    preprocess: Preprocess,
    keep: bool,
    on_error: str,
) -> Held:
    held = Held()
    fitted: dict[int, Tensor] = {}
    for row in used.tolist():
        try:
            image = _read(records, row, preprocess)
        except UserError as error:
            if on_error == "fail":
                raise UserError(
                    f'{error}, or leave such images out with --set data.on_error="skip"'
                ) from None
            held.unreadable[row] = str(error)
            continue
        if keep:
            fitted[row] = preprocess.fit(image)
            if row in train:
                held.wide[row] = shrink(image, preprocess.at_least)
    if fitted:
        dtypes = {image.dtype for image in fitted.values()}
        shape = next(iter(fitted.values())).shape
        mixed = len(dtypes) > 1
        held.resident = torch.zeros(
            (len(records), *shape), dtype=torch.float32 if mixed else dtypes.pop()
        )
        for row, image in fitted.items():
            held.resident[row] = to_float(image) if mixed else image
    return held


def _classes(records: Records, wanted: Sequence[str] | None) -> list[str]:
    missing = sorted(set(wanted or ()) - set(records.classes))
    if records.kind == "regression" and missing:
        raise UserError(f"{records.origin}: has no target column {', '.join(missing)}")
    return list(wanted) if wanted is not None else records.classes


def _refuse_unknown_classes(
    records: Records,
    splits: Mapping[str, np.ndarray],
    classes: Sequence[str],
) -> None:
    foreign = set(records.classes) - set(classes)
    if records.kind == "regression" or not foreign:
        return
    for split, rows in splits.items():
        for row in rows.tolist():
            unknown = foreign.intersection(records.names_of(row))
            if unknown:
                raise UserError(
                    f'{records.origin}: {split} has the class "{min(unknown)}", the model knows {join_names(classes)}'
                )
