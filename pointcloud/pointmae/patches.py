"""A cloud cut into patches: centres by farthest point sampling, and the points nearest to each.

B clouds, N points, G patches, K points a patch, C channels of a point (x, y, z, then features).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from isoform.pointcloud.config import PatchConfig
from isoform.pointcloud.ops import knn_gather, knn_points, sample_farthest_points


@dataclass
class Patches:
    """Overlapping parts of each cloud.

    centres  [B, G, 3]
    points   [B, G, K, C], x, y, z relative to the centre and not rescaled; nearest first
    valid    [B, G] bool, None: all are real
    """

    centres: Tensor
    points: Tensor
    valid: Tensor | None = None


def cut_into_patches(points: Tensor, config: PatchConfig, lengths: Tensor | None = None) -> Patches:
    """Patches of clouds [B, N, C], ragged ones with `lengths` [B].

    A cloud with fewer points than centres has fewer patches. One with fewer than K points has some in a patch twice,
    which no maximum over the patch sees.
    """
    xyz = points[..., :3]
    with torch.no_grad():
        centres, chosen = sample_farthest_points(
            xyz,
            lengths,
            config.groups,
            origin_rule=config.origin_rule or None,
            ties=config.ties,
        )
        counts = None if lengths is None else (chosen >= 0).sum(1)
        index = knn_points(centres, xyz, counts, lengths, K=config.group_size).idx
        index = torch.where(index >= 0, index, index[:, :, :1])  # itself, once more
    near = knn_gather(points, index)
    shift = torch.zeros_like(near[:, :, :1])
    shift[..., :3] = centres[:, :, None]
    valid = chosen >= 0
    return Patches(centres, near - shift, None if bool(valid.all()) else valid)
