"""An array of numbers to one image [C, H, W]: which axis holds the channels, and what its numbers mean.

8-bit numbers stay uint8 (0 to 255) unless a window or a scale is set. All others become float32: 16-bit unsigned ones
divided by 65,535, every other type as it is, in a unit of its own (Hounsfield units, reflectance, degrees).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from isoform.core.errors import UserError

if TYPE_CHECKING:
    from isoform.vision.config import DataConfig
    from isoform.vision.state import Preprocessing

MAX_PIXELS = 89_478_485  # a third of a gibibyte of RGB, and where Pillow begins to warn
NOT_AN_IMAGE = "an image has 2 or 3 axes and no empty one, this array is {}"
_LUMA = (0.299, 0.587, 0.114)  # Rec. 601
_USUAL = (1, 3, 4)  # channels of a picture
# Types whose numbers are taken as they are; any float besides.
_OWN_UNITS = frozenset({"int8", "int16", "int32", "uint32"})


@dataclass(frozen=True)
class Reading:
    """How files and arrays are read: the keys of the same names of the table `data`, kept with the run."""

    window: tuple[float, float] | None = None
    scale: Literal["auto"] | float = "auto"
    layout: Literal["auto", "channels_first", "channels_last"] = "auto"
    page: Literal["auto", "all"] | int = "auto"

    @classmethod
    def of(cls, settings: DataConfig | Preprocessing) -> Reading:
        """Those of an app or of a run."""
        return cls(settings.window, settings.scale, settings.layout, settings.page)


AS_STORED = Reading()


def from_array(
    array: np.ndarray | Tensor,
    channels: int | None,
    name: str = "array",
    reading: Reading = AS_STORED,
) -> Tensor:
    """An array [H, W], [H, W, C] or [C, H, W] to [C, H, W], uint8 or float32 (see above); floats must be finite.

    Grey becomes RGB by repetition and RGB becomes grey by Rec. 601 luma; any other number of channels is refused with
    UserError, and so is an array of which it isn't clear which axis holds the channels.
    """
    array = np.asarray(array)
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise UserError(f"{name}: {NOT_AN_IMAGE.format(shape_of(array))}")
    if array.size > 4 * MAX_PIXELS:
        raise UserError(f"{name}: {too_large(shape_of(array) + ' values')}")
    if array.ndim == 2:
        array = array[:, :, None]
    elif channel_axis(array.shape, channels, reading, name) == 0:
        array = array.transpose(1, 2, 0)
    array = _to_values(array, reading, name)
    found = array.shape[2]
    if channels is None or found == channels:
        return to_planes(array)
    if found == 1:
        return to_planes(np.repeat(array, channels, axis=2))
    if found == 3 and channels == 1:
        grey = array.astype(np.float32) @ np.asarray(_LUMA, np.float32)
        return to_planes(grey.round().astype(np.uint8) if array.dtype == np.uint8 else grey)
    height, width = array.shape[:2]
    raise UserError(
        f"{name}: has {found} channels of {height} x {width} pixels where {channels} are expected; set "
        f"tokeniser.channels = {found}, or data.layout if another axis holds them"
    )


def channel_axis(
    shape: tuple[int, ...],
    channels: int | None,
    reading: Reading = AS_STORED,
    name: str = "array",
) -> int:
    """0 or 2: the axis of an array of three that holds the channels.

    As data.layout says; else the one with the number of channels asked for, or with 1, 3 or 4; else the smallest.
    Raises UserError where that leaves both.
    """
    if reading.layout != "auto":
        return 0 if reading.layout == "channels_first" else 2
    first, last = shape[0], shape[2]
    for known in ((channels,), _USUAL):
        if (first in known) != (last in known):
            return 0 if first in known else 2
    if first not in _USUAL and _smallest(shape) is not None:
        return int(_smallest(shape) or 0)
    raise UserError(
        f"{name}: of an array of {' x '.join(map(str, shape))} it isn't clear which axis holds the channels; set "
        'data.layout = "channels_first" or "channels_last"'
    )


def describe_layout(shape: tuple[int, ...], channels: int | None, reading: Reading) -> str | None:
    """A sentence on an array whose channels were found by their axis being the smallest; None where it was known."""
    if reading.layout != "auto" or len(shape) != 3:
        return None
    if channels in (shape[0], shape[2]) or shape[0] in _USUAL or shape[2] in _USUAL:
        return None
    try:
        axis = channel_axis(shape, channels)
    except UserError:
        return None  # asked when it is read
    height, width = [side for place, side in enumerate(shape) if place != axis]
    layout = "channels_first" if axis == 0 else "channels_last"
    return (
        f"arrays of {' x '.join(map(str, shape))} are read as {shape[axis]} channels of {height} x {width} pixels "
        f'(data.layout = "{layout}" says so for all)'
    )


def _smallest(shape: tuple[int, ...]) -> int | None:
    """The first or the last axis where it is smaller than both others."""
    first, middle, last = shape
    if first < min(middle, last):
        return 0
    return 2 if last < min(first, middle) else None


def _to_values(array: np.ndarray, reading: Reading, name: str) -> np.ndarray:
    """uint8 or float32."""
    if array.dtype == np.bool_:
        return array.astype(np.uint8) * 255
    floating = np.issubdtype(array.dtype, np.floating)
    known = floating or str(array.dtype) in _OWN_UNITS or array.dtype in (np.uint8, np.uint16)
    if not known:
        raise UserError(
            f"{name}: values of type {array.dtype} are not read; store uint8, uint16, int16, int32 or float32"
        )
    if floating and not np.isfinite(array).all():
        raise UserError(f"{name}: holds NaN or infinite values; fill them before training")
    if reading.window is not None:
        low, high = reading.window
        return ((array.astype(np.float32) - low) / (high - low)).clip(0, 1).astype(np.float32)
    if reading.scale != "auto":
        return (array.astype(np.float32) / reading.scale).astype(np.float32)
    if array.dtype == np.uint8:
        return array
    values = array.astype(np.float32)
    return values / 65535 if array.dtype == np.uint16 else values


def to_planes(array_HWC: np.ndarray) -> Tensor:
    """[C, H, W] of [H, W, C] or [H, W], a copy: Pillow's memory is read-only."""
    if array_HWC.ndim == 2:
        array_HWC = array_HWC[:, :, None]
    return torch.from_numpy(np.array(array_HWC.transpose(2, 0, 1), order="C"))


def too_large(what: str) -> str:
    """Why so much isn't decoded."""
    return f"{what}, more than the {MAX_PIXELS / 1e6:.0f} million pixels that are decoded; shrink or crop it first"


def shape_of(array: np.ndarray) -> str:
    """Such as "3 x 5 x 7"."""
    return " x ".join(map(str, array.shape)) or "a single number"
