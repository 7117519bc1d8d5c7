"""Which patches pretraining hides: as many in every cloud, drawn from even noise.

B clouds, G patches.
"""

from __future__ import annotations

import torch
from torch import Tensor

from isoform.pointcloud.config import MaskConfig


def count_masked(config: MaskConfig, groups: int) -> int:
    """At least one is hidden and one stays, as int(ratio * G) is Point-MAE's number."""
    return min(max(1, int(config.ratio * groups)), groups - 1)


def mask_of(config: MaskConfig, noise_BG: Tensor, centres_BG3: Tensor) -> Tensor:
    """bool [B, G]: True where a patch is hidden: of the smallest noise, or nearest to a centre that the noise draws.

    noise_BG is drawn evenly from [0, 1).
    """
    groups = noise_BG.shape[1]
    order = noise_BG
    if config.kind == "block":
        chosen = (noise_BG[:, 0] * groups).long().clamp(max=groups - 1)
        rows = torch.arange(len(chosen), device=chosen.device)
        order = (centres_BG3 - centres_BG3[rows, chosen][:, None]).square().sum(2)
    hidden = order.argsort(dim=1, stable=True)[:, : count_masked(config, groups)]
    mask = torch.zeros_like(noise_BG, dtype=torch.bool)
    return mask.scatter(1, hidden, True)
