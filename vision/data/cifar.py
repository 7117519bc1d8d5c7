"""CIFAR-10 and CIFAR-100, the python or the binary version as unpacked; CIFAR-100 with its fine labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import read_plain_pickle
from isoform.vision.config import DataConfig
from isoform.vision.data.records import Records, array_records
from isoform.vision.data.sources import SOURCES, folder_of

SIDE = 32
PIXELS = 3 * SIDE * SIDE  # bytes of an image


@dataclass(frozen=True)
class Layout:
    """How one of the two lies in its folder.

    parts    split -> its files; those of the binary version end in .bin
    folders  what the archives unpack to
    labels   the key of the labels in a python batch
    lead     bytes of labels before the pixels of a binary image; the last one counts
    classes  names; None: they are read from the folder
    """

    source: str
    parts: Mapping[str, Sequence[str]]
    folders: tuple[str, str]
    labels: str
    lead: int
    classes: Sequence[str] | None = None


CIFAR10 = Layout(
    source="cifar10",
    parts=MappingProxyType(
        {"train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}
    ),
    folders=("cifar-10-batches-py", "cifar-10-batches-bin"),
    labels="labels",
    lead=1,
    classes=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
)
CIFAR100 = Layout(
    source="cifar100",
    parts=MappingProxyType({"train": ["train"], "test": ["test"]}),
    folders=("cifar-100-python", "cifar-100-binary"),
    labels="fine_labels",
    lead=2,  # coarse, then fine label
)


def read_cifar(data: DataConfig, layout: Layout) -> Records:
    """The images below data.root. Raises UserError naming a missing or damaged file and where it comes from."""
    known = SOURCES[layout.source]
    root = _find_folder(folder_of(data, known.origin), layout)
    pixels, codes, split = [], [], []
    for part, names in layout.parts.items():
        for name in names:
            images, labels = _read_batch(root / name, layout)
            pixels.append(images)
            codes.append(labels)
            split += [part] * len(labels)
    classes = layout.classes or _read_classes(root, known.origin)
    every = np.concatenate(codes)
    if every.max(initial=0) >= len(classes):
        raise UserError(f"{root}: a label beyond {len(classes) - 1}; the files are damaged")
    return array_records(
        np.concatenate(pixels),
        every,
        classes,
        np.array(split),
        names=[f"{layout.source}/{part}/{row:05d}" for row, part in enumerate(split)],
        origin=known.origin,
        licence=known.licence,
    )


def _find_folder(top: Path, layout: Layout) -> Path:
    """Where the test images are; the python version's folder where they are nowhere."""
    first = layout.parts["test"][0]
    places = [top, *(top / name for name in layout.folders)]
    for place in places:
        if (place / first).is_file() or (place / f"{first}.bin").is_file():
            return place
    return places[1]


def _read_batch(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """(pixels [N, 3, 32, 32], labels [N]) of a file of either version."""
    binary = path.with_name(f"{path.name}.bin")
    if binary.is_file():
        return _read_binary(binary, layout)
    if path.is_file():
        return _read_pickle(path, layout)
    origin = SOURCES[layout.source].origin
    raise UserError(f"{path}: missing; it is part of {origin}, python or binary version")


def _read_binary(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    raw = np.fromfile(path, np.uint8)
    size = layout.lead + PIXELS
    if len(raw) == 0 or len(raw) % size:
        raise UserError(
            f"{path}: {len(raw)} bytes are no whole number of images; download it again"
        )
    raw = raw.reshape(-1, size)
    return raw[:, layout.lead :].reshape(-1, 3, SIDE, SIDE), raw[:, layout.lead - 1].astype(
        np.int64
    )


def _read_pickle(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(path)
    try:
        pixels = np.asarray(content["data"]).reshape(-1, 3, SIDE, SIDE)
        codes = np.asarray(content[layout.labels], np.int64)
        if pixels.dtype != np.uint8 or codes.shape != (len(pixels),):
            raise ValueError(f"{pixels.dtype} pixels and {codes.shape} labels")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no CIFAR batch ({error}); download it again") from None
    return pixels, codes


def _read_classes(root: Path, origin: str) -> list[str]:
    """The names of CIFAR-100's fine labels, from either version."""
    listed = root / "fine_label_names.txt"
    if listed.is_file():
        return listed.read_text(encoding="utf-8").split()
    if (root / "meta").is_file():
        return [str(_text(name)) for name in _unpickle(root / "meta")["fine_label_names"]]
    raise UserError(f"{root / 'meta'}: missing; it is part of {origin}")


def _unpickle(path: Path) -> dict[str, Any]:
    content = read_plain_pickle(path, encoding="bytes")
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no CIFAR batch; download it again")
    return {str(_text(key)): value for key, value in content.items()}


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
