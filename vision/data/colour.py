"""Jitter of brightness, contrast, saturation and hue (Howard 2013), on 256 levels or on floats.

Floats are changed without rounding or clipping, so that no two values of an image become one. C channels, H x W pixels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def jitter(
    image_CHW: Tensor,
    amount: float,
    hue: float,
    rng: np.random.Generator,
) -> Tensor:
    """Brightness, contrast and saturation changed by up to `amount` in random order, and the hue by up to `hue`.

    uint8, or floats whose black is 0 and white 1.
    """
    if not amount and not hue:
        return image_CHW
    from torchvision.transforms.v2 import functional as V

    factors = 1 + amount * (2 * rng.random(3) - 1)
    turn = float(hue * (2 * rng.random() - 1))
    eight_bits = image_CHW.dtype == torch.uint8
    whole = (V.adjust_brightness, V.adjust_contrast, V.adjust_saturation)
    changes = whole if eight_bits else (_brighten, _stretch, _saturate)
    for step in rng.permutation(3):
        image_CHW = changes[step](image_CHW, float(factors[step]))
    if not hue or image_CHW.shape[0] != 3:
        return image_CHW
    if eight_bits:
        return V.adjust_hue(image_CHW, turn)
    inside = image_CHW.clamp(0, 1)  # where a hue is defined
    return V.adjust_hue(inside, turn) + (image_CHW - inside)


def _brighten(image_CHW: Tensor, factor: float) -> Tensor:
    return image_CHW * factor


def _stretch(image_CHW: Tensor, factor: float) -> Tensor:
    """Contrast: away from the mean level, or towards it."""
    level = _grey(image_CHW).mean()
    return level + (image_CHW - level) * factor


def _saturate(image_CHW: Tensor, factor: float) -> Tensor:
    """Away from grey, or towards it."""
    grey = _grey(image_CHW)
    return grey + (image_CHW - grey) * factor


def _grey(image_CHW: Tensor) -> Tensor:
    """[1, H, W]"""
    if image_CHW.shape[0] != 3:
        return image_CHW
    return (image_CHW * torch.tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)
