"""RandAugment (Cubuk et al. 2020) on uint8 or [0, 1] tensors, written as timm writes it: "rand-m9-n2-mstd0.5-inc1"."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from isoform.core.errors import UserError

if TYPE_CHECKING:
    from torch import Tensor

OPERATIONS = (
    "autocontrast", "equalize", "invert", "rotate", "posterize", "solarize", "solarize_add", "saturation", "contrast",
    "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip


@dataclass(frozen=True)
class RandAugment:
    """`count` operations in a row, each applied with probability `probability` at a magnitude around `magnitude`."""

    magnitude: float = 9.0
    count: int = 2
    deviation: float = 0.0
    increasing: bool = False
    probability: float = 0.5

    @classmethod
    def parse(cls, text: str) -> RandAugment:
        """Reads "rand-m9-n2-mstd0.5-inc1-p0.5"; m, n, mstd, inc and p are optional. Raises UserError otherwise."""
        name, *parts = text.split("-")
        values: dict[str, float] = {}
        for part in parts:
            key = part.rstrip("0123456789.")
            try:
                values[key] = float(part[len(key) :])
            except ValueError:
                values = {"?": 0}
        made = cls(
            values.pop("m", 9.0),
            int(values.pop("n", 2)),
            values.pop("mstd", 0.0),
            bool(values.pop("inc", 0)),
            values.pop("p", 0.5),
        )
        in_range = 0 <= made.magnitude <= 10 and made.count >= 1 and 0 <= made.probability <= 1
        if name != "rand" or values or not in_range:
            raise UserError(
                f'augment.randaugment = "{text}" is not understood; write for example "rand-m9-n2-mstd0.5-inc1" '
                "(m at most 10, n at least 1, p at most 1)"
            )
        return made

    def __call__(self, image_CHW: Tensor, rng: np.random.Generator) -> Tensor:
        """The changed image of 1 or 3 channels, uint8 or clipped to [0, 1]; grey comes in from outside."""
        if image_CHW.dtype != torch.uint8:
            image_CHW = image_CHW.clamp(0, 1)
        for op in rng.choice(len(OPERATIONS), self.count):
            skip, sign, deviation = rng.random(), rng.random(), rng.standard_normal()
            if skip >= self.probability:
                continue
            level = float(np.clip(self.magnitude + self.deviation * deviation, 0, 10)) / 10
            image_CHW = self._apply(OPERATIONS[op], image_CHW, level, -1.0 if sign < 0.5 else 1.0)
        return image_CHW

    def _apply(self, op: str, image: Tensor, level: float, sign: float) -> Tensor:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as V

        white = 255.0 if image.dtype == torch.uint8 else 1.0
        if op in ("saturation", "contrast", "brightness", "sharpness"):
            factor = max(0.1, 1 + sign * 0.9 * level) if self.increasing else 0.1 + 1.8 * level
            change = {
                "saturation": V.adjust_saturation,
                "contrast": V.adjust_contrast,
                "brightness": V.adjust_brightness,
                "sharpness": V.adjust_sharpness,
            }[op]
            return change(image, factor)
        if op in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y"):
            height, width = image.shape[-2:]
            angle, shear, shift = 0.0, [0.0, 0.0], [0.0, 0.0]
            if op == "rotate":
                angle = sign * 30 * level
            elif op.startswith("shear"):
                shear[op == "shear_y"] = sign * float(np.degrees(np.arctan(0.3 * level)))
            else:
                shift[op == "translate_y"] = (
                    sign * 0.45 * level * (height if op == "translate_y" else width)
                )
            fill = [127 * white / 255] * image.shape[0]
            return V.affine(
                image, angle, shift, 1.0, shear, interpolation=InterpolationMode.BILINEAR, fill=fill
            )
        if op == "posterize":
            return V.posterize(image, 4 - int(4 * level) if self.increasing else int(4 * level))
        if op == "solarize":
            return V.solarize(image, white - white * level if self.increasing else white * level)
        if op == "solarize_add":
            return _solarize_add(image, int(110 * level))
        if op == "equalize" and image.dtype != torch.uint8:
            return _equalize(image)
        return {"autocontrast": V.autocontrast, "equalize": V.equalize, "invert": V.invert}[op](
            image
        )


def _solarize_add(image: Tensor, levels: int) -> Tensor:
    """Its darker half brighter by so many of 256 levels."""
    if image.dtype != torch.uint8:
        return torch.where(image < 128 / 255, (image + levels / 255).clamp(max=1), image)
    added = (image.to(torch.int16) + levels).clamp(max=255).to(torch.uint8)
    return torch.where(image < 128, added, image)


def _equalize(image_CHW: Tensor) -> Tensor:
    """Floats, a channel at a time: each value becomes the share of the pixels below it."""
    flat = image_CHW.flatten(1).contiguous()
    ordered = flat.sort(1).values
    below = torch.searchsorted(ordered, flat) / max(flat.shape[1] - 1, 1)
    return below.to(image_CHW.dtype).view_as(image_CHW)
