"""From an image as read to a batch for the tokeniser: resize and crop, augment, normalise.

What changes the size or the colours happens a sample at a time in `Preprocess` and `Augment`; what moves pixels about
happens once for the whole batch (warp.py). Every random number comes from the generator handed in, never from torch's.
Shapes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.errors import UserError
from isoform.vision.config import AugmentConfig
from isoform.vision.data.arrays import Reading
from isoform.vision.data.colour import jitter
from isoform.vision.data.randaugment import RandAugment
from isoform.vision.data.values import Span, extent, to_float
from isoform.vision.data.warp import Warp
from isoform.vision.state import Preprocessing

COLOURS = (1, 3)  # channels of images that the changes of colour know
_LARGEST_ASPECT = 8  # a 1 x 30000 image would be resized to 224 x 6.7 million before its crop


def resize(image_CHW: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """To (height, width), antialiased, keeping the type."""
    if tuple(image_CHW.shape[1:]) == size:
        return image_CHW
    whole = image_CHW.dtype == torch.uint8
    out = F.interpolate(
        image_CHW[None].float(), size, mode=interpolation, antialias=True, align_corners=False
    )[0]
    return out.round_().clamp_(0, 255).to(torch.uint8) if whole else out


class Fitted(Tensor):
    """An image [C, H, W] at the model's size, as `Preprocess.fit` makes it: fitted again, it stays as it is.

    Only a type tells it from an image as read, which may have the model's size too. What is computed from it is a
    plain tensor.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]


class Preprocess(Preprocessing):
    """What evaluation and prediction do to an image, done; all of it is kept with the trained model."""

    def __init__(self, *values: Any, **named: Any) -> None:
        """The fields, by place or by name."""
        super().__init__(**dict(zip(type(self).model_fields, values, strict=False)), **named)

    @property
    def at_least(self) -> int:
        """Pixels along the shorter side beyond which a file needn't be decoded in full."""
        return 2 * math.ceil(max(self.size) / self.crop_pct)

    @property
    def reading(self) -> Reading:
        """How the files of these images are read."""
        return Reading.of(self)

    @property
    def span(self) -> Span | None:
        """Of the training images' values; None of an imported model, where nobody knows."""
        if not self.lowest:
            return None
        return Span(torch.tensor(self.lowest), torch.tensor(self.highest))

    def fit(self, image_CHW: Tensor) -> Fitted:
        """The image at the model's size, same type; one that was fitted as it is. See `DataConfig.resize`."""
        if isinstance(image_CHW, Fitted):
            return image_CHW
        return self._centre_of(image_CHW).as_subclass(Fitted)

    def _centre_of(self, image_CHW: Tensor) -> Tensor:
        whole = self._resized_to  # what is resized to this size keeps its centre, as timm does it
        if tuple(image_CHW.shape[1:]) == self.size == whole:
            return image_CHW
        if self.resize == "crop":
            image_CHW = _limit_aspect(image_CHW)
        if self.resize == "squash":
            target = whole
        elif self.resize == "crop":
            target = _scaled(image_CHW, whole, max)
            target = max(target[0], self.size[0]), max(target[1], self.size[1])
        else:
            target = _scaled(image_CHW, whole, min)
        image_CHW = resize(image_CHW, target, self.interpolation)
        if self.resize in ("pad", "border"):
            image_CHW = _pad(image_CHW, self.size, self._border(image_CHW))
        return _centre(image_CHW, self.size)

    @property
    def _resized_to(self) -> tuple[int, int]:
        """(height, width) of which `size` is the share crop_pct."""
        height, width = self.size
        return math.floor(height / self.crop_pct), math.floor(width / self.crop_pct)

    def _border(self, image_CHW: Tensor) -> Tensor:
        """[C, 1, 1] what is put around an image: black, or the mean colour of the training images.

        Black is 0 of an 8-bit image, of others the lowest value of each channel.
        """
        whole = image_CHW.dtype == torch.uint8
        if self.resize == "border":
            mean = torch.tensor(self.mean, dtype=torch.float64)
            level = (mean * 255).round() if whole else mean
        else:
            level = torch.zeros(len(image_CHW)) if whole else extent(image_CHW)[0]
        return level.to(image_CHW.dtype)[:, None, None]

    def normalise(self, image_BCHW: Tensor) -> Tensor:
        """Float images, as scaled, to zero mean and unit spread over the training data."""
        mean = torch.tensor(self.mean).reshape(-1, 1, 1)
        std = torch.tensor(self.std).reshape(-1, 1, 1)
        return (image_BCHW - mean) / std

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """Images, as read or fitted, to one normalised batch [B, C, H, W]."""
        return self.normalise(torch.stack([to_float(self.fit(image)) for image in images]))


@dataclass
class Drawn:
    """One sample on its way into a batch: row in the data, image (None: resident in memory), what was drawn for it."""

    row: int
    image: Tensor | None = None
    warp: np.ndarray | None = None
    erase: tuple[int, int, int, int, int] | None = (
        None  # top, left, height, width, seed of the noise
    )


class Augment:
    """The random changes of training images, as AugmentConfig asks for them."""

    def __init__(self, augment: AugmentConfig, preprocess: Preprocess):
        self.augment, self.preprocess = augment, preprocess
        self.warp = Warp(augment, preprocess.size, preprocess.span)
        self.rand = RandAugment.parse(augment.randaugment) if augment.randaugment else None
        self.colour = bool(self.rand or augment.jitter or augment.hue)
        if self.colour and preprocess.channels not in COLOURS:
            raise UserError(
                f"augment.randaugment, jitter and hue work on 1 or 3 channels, "
                f"these images have {preprocess.channels}; switch them off"
            )
        self.needs_image = self.colour or augment.crop == "resized"

    def pixels(self, image_CHW: Tensor, rng: np.random.Generator) -> Tensor:
        """A random crop if one is asked for (else the image has the model's size), then the changes of colour."""
        a = self.augment
        if a.crop == "resized":
            top, left, height, width = random_area(
                image_CHW.shape[1:], a.crop_scale, a.crop_ratio, rng
            )
            image_CHW = image_CHW[:, top : top + height, left : left + width]
            image_CHW = resize(image_CHW, self.preprocess.size, self.preprocess.interpolation)
        if not self.colour:
            return image_CHW
        if image_CHW.dtype == torch.uint8:
            return self._recolour(image_CHW, rng)
        span = self.preprocess.span or Span.of(image_CHW)
        return span.from_unit(self._recolour(span.to_unit(image_CHW), rng))

    def _recolour(self, image_CHW: Tensor, rng: np.random.Generator) -> Tensor:
        """uint8, or floats with the training images' values in [0, 1]."""
        if self.rand is not None:
            image_CHW = self.rand(image_CHW, rng)
        return jitter(image_CHW, self.augment.jitter, self.augment.hue, rng)

    def draw(
        self,
        row: int,
        image_CHW: Tensor | None,
        rng: np.random.Generator,
    ) -> Drawn:
        """Everything random about one training sample."""
        if image_CHW is not None:
            image_CHW = self.pixels(image_CHW, rng)
        warp = self.warp.draw(rng) if self.warp.active else None
        erase = None
        if self.augment.erase and rng.random() < self.augment.erase:
            area = random_area(self.preprocess.size, self.augment.erase_scale, (0.3, 1 / 0.3), rng)
            erase = (*area, int(rng.integers(2**31)))
        return Drawn(row, image_CHW, warp, erase)

    def finish(self, image_BCHW: Tensor, drawn: Sequence[Drawn]) -> Tensor:
        """The batch: float images, as scaled, moved, normalised, and with rectangles erased."""
        params = [sample.warp for sample in drawn if sample.warp is not None]
        if params:
            image_BCHW = self.warp(image_BCHW, torch.from_numpy(np.stack(params)))
        image_BCHW = self.preprocess.normalise(image_BCHW)
        for image_CHW, sample in zip(image_BCHW, drawn, strict=True):
            if sample.erase is not None:
                self._erase(image_CHW, *sample.erase)
        return image_BCHW

    def _erase(
        self,
        image_CHW: Tensor,
        top: int,
        left: int,
        height: int,
        width: int,
        seed: int,
    ) -> None:
        """In place."""
        hole = image_CHW[:, top : top + height, left : left + width]
        if self.augment.erase_fill == "zero":
            hole.zero_()
            return
        noise = np.random.default_rng(seed).standard_normal(tuple(hole.shape), dtype=np.float32)
        hole.copy_(torch.from_numpy(noise))


def random_area(
    size: Sequence[int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    rng: np.random.Generator,
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random rectangle: share of the area in `scale`, width / height in `ratio`.

    Ten tries, then the largest centred rectangle within `ratio` (Szegedy et al. 2015).
    """
    height, width = size
    least, most = scale
    narrow, wide = ratio
    for _ in range(10):
        u = rng.random(4)
        area = height * width * (least + (most - least) * u[0])
        aspect = narrow * (wide / narrow) ** u[1]
        h = round(math.sqrt(area / aspect))
        w = round(math.sqrt(area * aspect))
        if 0 < h <= height and 0 < w <= width:
            top = int(u[2] * (height - h + 1))
            left = int(u[3] * (width - w + 1))
            return top, left, h, w
    h = min(height, round(width / narrow))
    w = min(width, round(height * wide))
    return (height - h) // 2, (width - w) // 2, max(h, 1), max(w, 1)


def _scaled(
    image_CHW: Tensor, size: tuple[int, int], choose: Callable[[float, float], float]
) -> tuple[int, int]:
    """(height, width), proportions kept, at which the larger or the smaller of the two ratios fits."""
    height, width = image_CHW.shape[1:]
    ratio = choose(size[0] / height, size[1] / width)
    if choose is max and size[0] == size[1]:  # torchvision cuts what timm rounds
        return max(1, int(height * ratio + 1e-6)), max(1, int(width * ratio + 1e-6))
    return max(1, round(height * ratio)), max(1, round(width * ratio))


def _limit_aspect(image_CHW: Tensor) -> Tensor:
    """The middle of an image that is much longer than wide: all that a centre crop can see of it, and more."""
    height, width = image_CHW.shape[1:]
    size = min(height, _LARGEST_ASPECT * width), min(width, _LARGEST_ASPECT * height)
    return _centre(image_CHW, size)


def _centre(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    top = round((image_CHW.shape[1] - height) / 2)
    left = round((image_CHW.shape[2] - width) / 2)
    return image_CHW[:, top : top + height, left : left + width]


def _pad(image_CHW: Tensor, size: tuple[int, int], border_C11: Tensor) -> Tensor:
    """At least of this size, the border on both sides."""
    height, width = image_CHW.shape[1:]
    padded = border_C11.repeat(1, max(height, size[0]), max(width, size[1]))
    top, left = max(0, size[0] - height) // 2, max(0, size[1] - width) // 2
    padded[:, top : top + height, left : left + width] = image_CHW
    return padded
