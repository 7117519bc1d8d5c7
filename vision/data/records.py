"""What every source of images gives: readable images, their labels, and what is known of splits, groups and weights."""

from __future__ import annotations

import abc
from collections.abc import (
    Callable,
    Iterable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.digests import content_digest, file_digests, file_mark
from isoform.core.domain.kept_split import Mark
from isoform.core.errors import UserError, join_names, printable
from isoform.vision.data.arrays import AS_STORED, Reading, from_array
from isoform.vision.data.images import from_pil, read_bytes, read_image


class Images(abc.ABC):
    """A sequence of images that can be read one at a time."""

    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @abc.abstractmethod
    def read(
        self,
        row: int,
        channels: int | None,
        at_least: int | None = None,
        reading: Reading = AS_STORED,
    ) -> Tensor:
        """[C, H, W]; see images.read_image. Raises UserError with the image's name."""

    def path(self, row: int) -> Path | None:
        """The file of image `row`; None where it is in none of its own."""
        return None

    @abc.abstractmethod
    def contents(self, known: Mapping[tuple[str, Mark], str]) -> list[str]:
        """A digest of what each image holds; `known`: those of files by name and mark, which aren't read again."""

    def marks(self) -> list[Mark] | None:
        """Of the file of each image, where it is one."""
        return None


class FileImages(Images):
    """Image files below `root`, named by their path relative to it.

    Whatever is read is digested on the way, so that no file is read for its digest alone; `watch` gets its bytes too.
    """

    def __init__(self, root: Path, names: Sequence[str]):
        self.root, self.names = root, names
        self.watch: Callable[[int, bytes], None] | None = None
        self._digests: dict[int, str] = {}

    def path(self, row: int) -> Path:
        """The file of image `row`."""
        return self.root / self.names[row]

    def read(
        self,
        row: int,
        channels: int | None,
        at_least: int | None = None,
        reading: Reading = AS_STORED,
    ) -> Tensor:
        """See Images.read."""
        path = self.path(row)
        if path.suffix.lower() == ".npy":  # its header tells whether to read it at all
            return read_image(path, channels, at_least=at_least, reading=reading)
        data = read_bytes(path, str(path))
        if row not in self._digests:
            self._digests[row] = content_digest(data)
        if self.watch is not None:
            self.watch(row, data)
        return read_image(data, channels, at_least=at_least, name=str(path), reading=reading)

    def contents(self, known: Mapping[tuple[str, Mark], str]) -> list[str]:
        """Of the files' bytes."""
        found = [self._digests.get(row, "") for row in range(len(self))]
        if known:
            keys = zip(map(printable, self.names), self.marks(), strict=True)
            found = [one or known.get(key, "") for one, key in zip(found, keys, strict=True)]
        fresh = [row for row, digest in enumerate(found) if not digest]
        for row, digest in zip(fresh, file_digests([self.path(row) for row in fresh]), strict=True):
            found[row] = digest
        return found

    def marks(self) -> list[Mark]:
        """See Images.marks."""
        return [file_mark(self.path(row)) for row in range(len(self))]


class ArrayImages(Images):
    """Equal images in memory, uint8 [N, C, H, W]."""

    def __init__(self, array_NCHW: np.ndarray, names: Sequence[str]):
        self.array = torch.from_numpy(np.ascontiguousarray(array_NCHW))
        self.names = names

    def read(
        self,
        row: int,
        channels: int | None,
        at_least: int | None = None,
        reading: Reading = AS_STORED,
    ) -> Tensor:
        """See Images.read."""
        if reading != AS_STORED:
            raise UserError(
                "data.window, data.scale, data.layout and data.page are for files of images; these are 8-bit pixels"
            )
        return convert_channels(self.array[row], channels)

    def contents(self, known: Mapping[tuple[str, Mark], str]) -> list[str]:
        """Of the pixels."""
        return [content_digest(image.tobytes()) for image in self.array.numpy()]


class PillowImages(Images):
    """Images that a function gives as Pillow images (torchvision's data sets)."""

    def __init__(self, get: Callable[[int], Any], names: Sequence[str]):
        self.get, self.names = get, names

    def read(
        self,
        row: int,
        channels: int | None,
        at_least: int | None = None,
        reading: Reading = AS_STORED,
    ) -> Tensor:
        """See Images.read."""
        return from_pil(self.get(row), channels, self.names[row], reading)

    def contents(self, known: Mapping[tuple[str, Mark], str]) -> list[str]:
        """Of the pixels, for which each image is decoded once; "" where that fails."""
        return [self._content(row) for row in range(len(self))]

    def _content(self, row: int) -> str:
        try:
            return content_digest(self.read(row, None).numpy().tobytes())
        except UserError:
            return ""


def convert_channels(image_CHW: Tensor, channels: int | None) -> Tensor:
    """Grey to RGB and back; anything else is refused (UserError)."""
    if channels is None or image_CHW.shape[0] == channels:
        return image_CHW
    if image_CHW.shape[0] == 1:
        return image_CHW.expand(channels, -1, -1)
    return from_array(image_CHW.numpy(), channels, reading=Reading(layout="channels_first"))


@dataclass
class Records:
    """The rows of a data set before it is split.

    labels    a name, several names (multi-label) or numbers (regression, NaN = missing) a row; None: nothing is known
    classes   every name that a label may have, sorted (numbers by value); the target columns' names for regression
    split     "train", "val", "test" or "" (not given) a row
    group     what must not be torn apart, or None
    weight    of each row in the loss, or None
    unknown   of several labels, those that a row says nothing about
    skipped   (file, reason) of what lies among the data and was not read
    findings  what was noticed or chosen while reading, a line each
    """

    images: Images
    labels: Sequence[Any]
    classes: list[str]
    kind: str
    split: np.ndarray
    group: np.ndarray | None = None
    weight: np.ndarray | None = None
    unknown: Mapping[int, Sequence[str]] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    origin: str = ""
    licence: str = "unknown"

    def __len__(self) -> int:
        return len(self.labels)

    def names_of(self, row: int) -> Sequence[str]:
        """The classes or labels of a row; none for numbers, and where nothing is known."""
        label = self.labels[row]
        if label is None or isinstance(label, np.ndarray):
            return ()
        return (label,) if isinstance(label, str) else label

    def label_texts(self) -> list[str]:
        """All that is known of each row beside its image: label, and weight where there are weights."""
        texts = []
        for row, label in enumerate(self.labels):
            plain = label.tolist() if isinstance(label, np.ndarray) else label
            unknown = list(self.unknown.get(row, ()))
            weight = [] if self.weight is None else [float(self.weight[row])]
            texts.append(repr([plain, *unknown, *weight]))
        return texts

    def encode(self, classes: Sequence[str]) -> np.ndarray:
        """Targets in the order of `classes`: int64 [N], or float32 [N, K] for multi-label and regression.

        -1 (multiclass) or NaN stands where nothing is known; a label outside `classes` is passed over.
        """
        if self.kind == "regression":
            order = [self.classes.index(name) for name in classes]
            return np.asarray(self.labels, np.float32).reshape(len(self), -1)[:, order]
        place = {name: k for k, name in enumerate(classes)}
        if self.kind == "multiclass":
            return np.array([place.get(label, -1) for label in self.labels], np.int64)
        targets = np.zeros((len(self), len(classes)), np.float32)
        for row, names in enumerate(self.labels):
            if names is None:
                targets[row] = np.nan
                continue
            for name in names:
                if name in place:
                    targets[row, place[name]] = 1
            for name in self.unknown.get(row, ()):
                if name in place:
                    targets[row, place[name]] = np.nan
        return targets


UNLABELLED = "has no label"  # the reason of an image that is left out for that


def leave_out_unlabelled(records: Records) -> Records:
    """The records of whose labels or numbers at least one is known; the others are in `skipped`.

    An image that is known to have none of several labels is labelled. Raises UserError where none is left.
    """
    targets = records.encode(records.classes)
    known = targets >= 0 if targets.ndim == 1 else ~np.isnan(targets).all(1)
    images = records.images
    if known.all() or not isinstance(images, FileImages):
        return records
    if not known.any():
        raise UserError(f"{records.origin}: no image has a label ({join_names(records.classes)})")
    rows = np.flatnonzero(known).tolist()
    gone = [(images.names[row], UNLABELLED) for row in np.flatnonzero(~known).tolist()]
    return replace(
        records,
        images=FileImages(images.root, [images.names[row] for row in rows]),
        labels=[records.labels[row] for row in rows],
        split=records.split[rows],
        group=None if records.group is None else records.group[rows],
        weight=None if records.weight is None else records.weight[rows],
        unknown={k: records.unknown[row] for k, row in enumerate(rows) if row in records.unknown},
        skipped=[*records.skipped, *gone],
    )


def sorted_classes(names: Iterable[str]) -> list[str]:
    """By value where all are whole numbers ("2" before "10"), by spelling otherwise."""
    different = set(names)
    if all(name.isascii() and name.isdigit() for name in different):
        return sorted(different, key=lambda name: (int(name), name))
    return sorted(different)


def array_records(
    pixels_NCHW: np.ndarray,
    codes_N: np.ndarray,
    classes: Sequence[str],
    split_N: np.ndarray,
    *,
    names: Sequence[str],
    origin: str,
    licence: str,
) -> Records:
    """Records of images that come as one uint8 array with the numbers of their classes."""
    return Records(
        images=ArrayImages(pixels_NCHW, names),
        labels=[classes[code] for code in codes_N],
        classes=list(classes),
        kind="multiclass",
        split=split_N,
        origin=origin,
        licence=licence,
    )
