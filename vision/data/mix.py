"""Augmentation across the images of a batch: mixup (Zhang et al. 2018) and cutmix (Yun et al. 2019).

B samples, C channels, H rows, W columns, K classes, labels or targets.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from isoform.core.supervised.losses import class_shares
from isoform.vision.config import AugmentConfig

Batch = dict[str, Tensor]


def mix_batch(
    batch: Batch, augment: AugmentConfig, classes: int | None, rng: np.random.Generator
) -> Batch:
    """Each sample mixed with another one of the batch: its image, its target and its weight by the same share.

    classes   of targets [B] that are numbers of classes, which become shares of them [B, K]; None: they are [B, K]

    Unchanged where neither is on, and with 1 - mix_probability.
    """
    if not (augment.mixup or augment.cutmix):
        return batch
    if rng.random() >= augment.mix_probability:
        return batch
    cut = bool(augment.cutmix) and (not augment.mixup or rng.random() < augment.mix_switch)
    alpha = augment.cutmix if cut else augment.mixup
    share = float(rng.beta(alpha, alpha))
    other = torch.from_numpy(rng.permutation(len(batch["image"])))
    image = batch["image"]
    target = batch["target"]
    if cut:
        image, share = _cut(image, other, share, rng)
    else:
        image = _blend(image, other, share)
    if classes is not None:
        target = class_shares(target, classes)
    mixed = dict(batch)
    mixed["image"] = image
    mixed["target"] = _blend(target, other, share)
    if "weight" in batch:
        mixed["weight"] = _blend(batch["weight"], other, share)
    return mixed


def _cut(
    image_BCHW: Tensor, other_B: Tensor, share: float, rng: np.random.Generator
) -> tuple[Tensor, float]:
    """The images with one rectangle from the others, and the share of their own pixels that is left.

    The rectangle has 1 - share of the area before it is clipped at the border.
    """
    height, width = image_BCHW.shape[2:]
    side = (1 - share) ** 0.5
    y = rng.random() * height
    x = rng.random() * width
    rows = _extent(y, side * height, height)
    columns = _extent(x, side * width, width)
    mixed = image_BCHW.clone()
    mixed[:, :, rows, columns] = image_BCHW[other_B, :, rows, columns]
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, 1 - area / (height * width)


def _extent(centre: float, length: float, most: int) -> slice:
    """The pixels of an interval that lie inside of the image."""
    first = np.clip(centre - length / 2, 0, most)
    end = np.clip(centre + length / 2, 0, most)
    return slice(int(first), int(end))


def _blend(values: Tensor, other_B: Tensor, share: float) -> Tensor:
    return values * share + values[other_B] * (1 - share)
