"""The values of a data set's images: range, mean and deviation by channel, and images far from the others.

n images, C channels, H x W pixels. Values are floats as `to_float` gives them: 8-bit images lie between 0 and 1,
others are in a unit of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.digests import digests_of

LEAST_DEVIATION = 0.01  # of the range: an empty channel must not be divided by 0
FAR = 3.0  # ranges of an image beyond the others' at which it is named
NARROW = 50.0  # times narrower than the others' at which it is named
BEYOND = 0.1  # of the range, by which an input may exceed it
FEW = 3  # images of which none can be told from the others
BITS = range(8, 16)  # of images in 16-bit files that don't use them all


def to_float(image: Tensor) -> Tensor:
    """uint8 to [0, 1]; floats as they are."""
    return image.float().div_(255) if image.dtype == torch.uint8 else image


def pixel_digests(images: Iterable[Tensor]) -> np.ndarray:
    """uint64 [n] of images as floats: bytes are held as such, but as floats where one of their set has more depth."""
    return digests_of(to_float(image).numpy().tobytes() for image in images)


@dataclass(frozen=True)
class Span:
    """The lowest and the highest value of each channel, [C]: what black and white are for these images."""

    low: Tensor
    high: Tensor

    @classmethod
    def of(cls, image_CHW: Tensor) -> Span:
        """An image's own; that of their type for 8-bit ones."""
        low, high = extent(image_CHW)
        return cls(low, high)

    def to_unit(self, image: Tensor) -> Tensor:
        """[..., C, H, W] with low as 0 and high as 1."""
        return (image - self._column(self.low)) / self._column(self._width)

    def from_unit(self, image: Tensor) -> Tensor:
        """The way back."""
        return image * self._column(self._width) + self._column(self.low)

    @property
    def _width(self) -> Tensor:
        width = self.high - self.low
        return torch.where(width > 0, width, 1.0)

    @staticmethod
    def _column(values: Tensor) -> Tensor:
        return values[:, None, None]


@dataclass(frozen=True)
class Statistics:
    """Of each channel over the training images; `far` names images whose values lie far from those of the others."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    lowest: tuple[float, ...]
    highest: tuple[float, ...]
    far: tuple[str, ...] = ()


def extent(image_CHW: Tensor) -> tuple[Tensor, Tensor]:
    """(lowest [C], highest [C]) value; 0 and 1 for 8-bit images, which their type bounds."""
    if image_CHW.dtype == torch.uint8:
        channels = image_CHW.shape[0]
        return torch.zeros(channels), torch.ones(channels)
    low, high = torch.aminmax(image_CHW.flatten(1), dim=1)
    return low, high


def measure(images: Iterable[tuple[str, Tensor]], window: bool = False) -> Statistics:
    """Statistics of named images [C, H, W]. window: a window bounds their values by 0 and 1."""
    names, moments, lows, highs = [], [], [], []
    for name, image in images:
        x = to_float(image).double().flatten(1)
        moments.append(torch.stack([x.mean(1), x.square().mean(1)]))
        low, high = extent(image)
        names.append(name)
        lows.append(low)
        highs.append(high)
    first, second = torch.stack(moments).mean(0)
    low_nC, high_nC = torch.stack(lows).numpy(), torch.stack(highs).numpy()
    low, high = low_nC.min(0), high_nC.max(0)
    if window:
        low, high = np.zeros_like(low), np.ones_like(high)
    width = float((high - low).max()) or 1.0
    least = (LEAST_DEVIATION * width) ** 2
    std = (second - first.square()).clamp(min=least).sqrt()
    far = [names[i] for i in far_images(low_nC, high_nC)]
    return Statistics(
        mean=tuple(_round(float(m)) for m in first),
        std=tuple(_round(float(s)) for s in std),
        lowest=tuple(map(float, low)),
        highest=tuple(map(float, high)),
        far=tuple(
            f"{name}: {show_range(low_nC[i], high_nC[i])}"
            for i, name in enumerate(names)
            if name in far
        ),
    )


def far_images(low_nC: np.ndarray, high_nC: np.ndarray) -> list[int]:
    """Images with a channel whose values reach far beyond those of the others, or hardly vary beside them.

    Far is three times the median image's range, and more where the others differ among themselves (six median
    absolute deviations). One without any variation is blank, not far.
    """
    if len(low_nC) < FEW:
        return []
    width_nC = high_nC - low_nC
    middle_C = np.median(width_nC, axis=0)
    room_C = FAR * middle_C
    above = high_nC - np.median(high_nC, axis=0) > room_C + 6 * _deviation(high_nC)
    below = np.median(low_nC, axis=0) - low_nC > room_C + 6 * _deviation(low_nC)
    narrow = (width_nC > 0) & (width_nC * NARROW < middle_C)
    return np.flatnonzero((above | below | narrow).any(1)).tolist()


def usual_range(low_nC: np.ndarray, high_nC: np.ndarray) -> tuple[float, float]:
    """(low, high) over all channels of all images but the far ones; (0, 1) of none."""
    if not len(low_nC):
        return 0.0, 1.0
    usual = np.ones(len(low_nC), bool)
    usual[far_images(low_nC, high_nC)] = False
    return float(low_nC[usual].min()), float(high_nC[usual].max())


def describe_inputs(
    low_nC: np.ndarray, high_nC: np.ndarray, lowest: Sequence[float], highest: Sequence[float]
) -> list[str]:
    """A sentence where inputs lie outside of the training images' range and a tenth of it, or all fill little of it."""
    low, high = np.array(lowest), np.array(highest)
    room = BEYOND * (high - low)
    beyond = ((low_nC < low - room) | (high_nC > high + room)).any(1)
    theirs = f"those of the training images from {show_range(low, high)}"
    if beyond.any():
        own = show_range(low_nC[beyond], high_nC[beyond])
        return [
            f"{int(beyond.sum()):,} of {len(low_nC):,} images have values outside of the training images' range: they "
            f"run from {own}, {theirs}; are they in the same unit?"
        ]
    width = high_nC.max(0) - low_nC.min(0)
    if ((width > 0) & (width * NARROW < high - low)).all():
        own = show_range(low_nC, high_nC)
        return [f"the images' values run from {own}, {theirs}; are they in the same unit?"]
    return []


def show_range(low: Sequence[float] | np.ndarray, high: Sequence[float] | np.ndarray) -> str:
    """Such as "-1000 to 3000", over all channels."""
    return f"{float(np.min(low)):.6g} to {float(np.max(high)):.6g}"


def bits_of(highest: float) -> int | None:
    """With how many bits 16-bit files, divided by 65,535, reach `highest`; None where they use (nearly) all 16."""
    return next((bits for bits in BITS if highest * 65535 < 1 << bits), None)


def _deviation(values_nC: np.ndarray) -> np.ndarray:
    """Median absolute deviation over images."""
    deviation: np.ndarray = np.median(np.abs(values_nC - np.median(values_nC, axis=0)), axis=0)
    return deviation


def _round(value: float) -> float:
    """To four places, or four digits of a small value."""
    return round(value, 4) if abs(value) >= 0.1 else float(f"{value:.4g}")
