"""From an image as read to a batch for the tokeniser: resize and crop, augment, normalise.

What changes the size or the colours happens a sample at a time in `Preprocess` and `Augment`; what moves pixels about
happens once for the whole batch (warp.py). Every random number comes from the generator handed in, never from torch's.
Shapes: B samples, C channels, H rows, W columns.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.errors import UserError
from isoform.vision.config import AugmentConfig
from isoform.vision.data.randaugment import RandAugment
from isoform.vision.data.warp import Warp
from isoform.vision.state import Preprocessing

COLOURS = (1, 3)  # channels of images that the changes of colour know
_LARGEST_ASPECT = 8  # a 1 x 30000 image would be resized to 224 x 6.7 million before its crop


def to_float(image: Tensor) -> Tensor:
    """uint8 to [0, 1]; floats as they are."""
    return image.float().div_(255) if image.dtype == torch.uint8 else image


def resize(image_CHW: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """To (height, width), antialiased, keeping the type."""
    if tuple(image_CHW.shape[1:]) == size:
        return image_CHW
    whole = image_CHW.dtype == torch.uint8
    out = F.interpolate(
        image_CHW[None].float(), size, mode=interpolation, antialias=True, align_corners=False
    )[0]
    return out.round_().clamp_(0, 255).to(torch.uint8) if whole else out


class Preprocess(Preprocessing):
    """What evaluation and prediction do to an image, done; all of it is kept with the trained model."""

    @property
    def at_least(self) -> int:
        """Pixels along the shorter side beyond which a file needn't be decoded in full."""
        return 2 * math.ceil(max(self.size) / self.crop_pct)

    def fit(self, image_CHW: Tensor) -> Tensor:
        """The image at the model's size, same type."""
        if tuple(image_CHW.shape[1:]) == self.size and self.crop_pct == 1:
            return image_CHW
        if self.resize == "squash":
            return resize(image_CHW, self.size, self.interpolation)
        if self.resize == "crop":
            image_CHW = _limit_aspect(image_CHW)
            height, width = self._scaled(image_CHW, max)
            target = max(height, self.size[0]), max(width, self.size[1])
            return _centre(resize(image_CHW, target, self.interpolation), self.size)
        height, width = self._scaled(image_CHW, min)
        target = min(height, self.size[0]), min(width, self.size[1])
        return _pad(resize(image_CHW, target, self.interpolation), self.size)

    def _scaled(
        self, image_CHW: Tensor, choose: Callable[[float, float], float]
    ) -> tuple[int, int]:
        """(height, width), proportions kept, at which the larger or the smaller of the two ratios fits."""
        height, width = image_CHW.shape[1:]
        inner_height = math.floor(self.size[0] / self.crop_pct)
        inner_width = math.floor(self.size[1] / self.crop_pct)
        ratio = choose(inner_height / height, inner_width / width)
        return max(1, int(height * ratio + 1e-6)), max(1, int(width * ratio + 1e-6))

    def normalise(self, image_BCHW: Tensor) -> Tensor:
        """Float images in [0, 1] to zero mean and unit spread over the training data."""
        mean = torch.tensor(self.mean).reshape(-1, 1, 1)
        std = torch.tensor(self.std).reshape(-1, 1, 1)
        return (image_BCHW - mean) / std

    def __call__(self, images: Sequence[Tensor]) -> Tensor:
        """Images as read to one normalised batch [B, C, H, W]."""
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
        self.warp = Warp(augment, preprocess.size)
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
        if image_CHW.dtype != torch.uint8:  # the operations are defined on 256 levels
            image_CHW = image_CHW.mul(255).round().clamp(0, 255).to(torch.uint8)
        if self.rand is not None:
            image_CHW = self.rand(image_CHW, rng)
        return jitter(image_CHW, a.jitter, a.hue, rng)

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
        """The batch: float images in [0, 1], moved, normalised, and with rectangles erased."""
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


def jitter(
    image_CHW: Tensor,
    amount: float,
    hue: float,
    rng: np.random.Generator,
) -> Tensor:
    """Brightness, contrast and saturation changed by up to `amount` in random order, and the hue by up to `hue`."""
    if not amount and not hue:
        return image_CHW
    from torchvision.transforms.v2 import functional as V

    factors = 1 + amount * (2 * rng.random(3) - 1)
    turn = float(hue * (2 * rng.random() - 1))
    changes = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)
    for step in rng.permutation(3):
        image_CHW = changes[step](image_CHW, float(factors[step]))
    if hue and image_CHW.shape[0] == 3:
        return V.adjust_hue(image_CHW, turn)
    return image_CHW


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


def _pad(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    """Black on both sides."""
    rows = size[0] - image_CHW.shape[1]
    columns = size[1] - image_CHW.shape[2]
    top, left = rows // 2, columns // 2
    return F.pad(image_CHW, (left, columns - left, top, rows - top))
