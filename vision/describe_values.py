"""What training and `check` say of images whose values are in a unit of their own."""

from __future__ import annotations

import numpy as np

from isoform.core.errors import UserError, join_names
from isoform.vision.config import DataConfig
from isoform.vision.data.arrays import Reading, describe_layout
from isoform.vision.data.images import look
from isoform.vision.data.records import FileImages, Records
from isoform.vision.data.values import LEAST_DEVIATION, Statistics, bits_of, show_range

SHOWN = 3  # images with far values, in a sentence
UNLIKE = 5.0  # times that a given deviation may differ from the images'


def describe_values(data: DataConfig, found: Statistics) -> list[str]:
    """Lines on the range of the training images, on those far from it, and on a mean and deviation of other values."""
    lines = []
    if found.far:
        lines.append(
            f"{len(found.far)} training image(s) with values far from those of the others "
            f"({join_names(found.far, SHOWN)}): remove them, or set data.window = [low, high]"
        )
    eight_bits = set(found.lowest) == {0.0} and set(found.highest) == {1.0}
    if not eight_bits:
        lines.append(_describe_range(data, found))
    if data.window is not None and max(found.std) <= LEAST_DEVIATION:
        lines.append(
            f"data.window = {list(data.window)} leaves hardly anything of the training images: it is in the files' unit"
        )
    if data.std is not None and not _alike(data.std, found.std):
        lines.append(
            f"data.std is {_numbers(data.std)} where the training images' is {_numbers(found.std)}: they are in "
            "another unit; set data.window or data.scale, or leave data.mean and data.std open"
        )
    return lines


def _describe_range(data: DataConfig, found: Statistics) -> str:
    low, high = min(found.lowest), max(found.highest)
    line = f"values of the training images: {show_range(found.lowest, found.highest)}"
    if data.scale != "auto":
        return f"{line} (divided by data.scale = {data.scale:g})"
    bits = bits_of(high) if low >= 0 else None
    if bits is not None:
        line += f"; of 16-bit files that is {bits} bits, which data.scale = {(1 << bits) - 1} takes to 1"
    return f"{line} (data.scale = auto: 8 bits are divided by 255, 16 bits by 65,535, others are as they are)"


def layout_lines(records: Records, data: DataConfig, channels: int | None) -> list[str]:
    """How the axes of .npy arrays were told apart, where that took more than the number of channels."""
    images = records.images
    if not isinstance(images, FileImages):
        return []
    arrays = (row for row, name in enumerate(images.names) if name.lower().endswith(".npy"))
    row = next(arrays, None)
    if row is None:
        return []
    reading = Reading.of(data)
    try:
        shape = look(images.path(row), channels, reading).shape
    except UserError:  # asked when it is read
        return []
    line = describe_layout(shape, channels, reading)
    return [] if line is None else [line]


def _alike(given: tuple[float, ...], found: tuple[float, ...]) -> bool:
    ratio = np.array(given) / np.array(found)
    return bool(((ratio < UNLIKE) & (ratio > 1 / UNLIKE)).any())


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values[:3]) + (", ..." if len(values) > 3 else "")
