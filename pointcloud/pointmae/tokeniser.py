"""Points -> tokens: every patch through a small PointNet (Qi et al. 2017), its centre as a position.

B clouds, N points, G patches, K points a patch, P = B G patches in all, C channels, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.ops.decay import without_decay
from isoform.core.ops.linear import Linear
from isoform.core.ops.matmul import linear
from isoform.core.tokens import Tokens
from isoform.pointcloud.config import PatchConfig
from isoform.pointcloud.ops.largest import largest_of_linear
from isoform.pointcloud.pointmae.patches import Patches, cut_into_patches


class PatchEncoder(nn.Module):
    """[B, G, K, C] -> [B, G, D]: layers a point, the patch's maximum beside each point, layers, the maximum again.

    The official code writes layers of points as convolutions of width 1.
    """

    reads_weights_of = ("point2", "mixed", "out")  # see core/inference/optimise.py

    def __init__(self, channels: int, widths: tuple[int, ...], dim: int) -> None:
        super().__init__()
        first, second, third = widths
        self.point = Linear(channels, first)
        self.norm1 = nn.BatchNorm1d(first)
        self.point2 = Linear(first, second)
        self.mixed = Linear(2 * second, third)  # of [the patch's maximum, the point]
        self.norm2 = nn.BatchNorm1d(third)
        self.out = Linear(third, dim)

    def forward(self, points_BGKC: Tensor) -> Tensor:
        """See the class."""
        x = rectified(self.norm1, self.point(points_BGKC))
        whole = largest_of_linear(x, self.point2.weight, self.point2.bias)
        # The patch's half of the matrix is multiplied once a patch, not once a point; and two linear layers without
        # anything in between are one, a narrower one.
        of_patch, of_point = self.mixed.weight.split(whole.shape[2], 1)
        once = F.linear(whole, of_patch, self.mixed.bias) + of_point @ self.point2.bias
        mixed = linear(x, of_point @ self.point2.weight) + once[:, :, None]
        x = rectified(self.norm2, mixed)
        return largest_of_linear(x, self.out.weight, self.out.bias)


def rectified(norm: nn.Module, x: Tensor) -> Tensor:
    """A batch norm of [..., F] over all points alike, and what is negative set to 0."""
    normed: Tensor = norm(x.reshape(-1, x.shape[-1]))
    return normed.relu_().reshape(x.shape)


class Place(nn.Sequential):
    """[..., 3] -> [..., D]: where a centre lies."""

    def __init__(self, hidden: int, dim: int) -> None:
        super().__init__(Linear(3, hidden), nn.GELU(), Linear(hidden, dim))


class PointTokeniser(nn.Module):
    """Clouds -> tokens, whose positions are added again before every block; a class token in front on request."""

    def __init__(self, config: PatchConfig, dim: int) -> None:
        super().__init__()
        self.config = config
        self.encoder = PatchEncoder(config.channels, config.widths, config.patch_dim or dim)
        self.reduce = Linear(config.patch_dim, dim) if config.patch_dim else nn.Identity()
        self.place = Place(config.position_hidden, dim)
        self.class_token: Tensor | None
        self.class_place: Tensor | None
        for name in ("class_token", "class_place"):
            token = nn.Parameter(torch.zeros(1, 1, dim)) if config.class_token else None
            self.register_parameter(name, token if token is None else without_decay(token))
            if token is not None:
                nn.init.trunc_normal_(token, std=0.02)

    def forward(self, points: Tensor, lengths: Tensor | None = None) -> Tokens:
        """[B, N, C] -> Tokens [B, (1 +) G, D]."""
        return self.embed(cut_into_patches(points, self.config, lengths))

    def embed(self, patches: Patches) -> Tokens:
        """The same from patches that were cut already."""
        x, pos = self.reduce(self.encoder(patches.points)), self.place(patches.centres)
        coords, valid, prefix = patches.centres, patches.valid, 0
        if self.class_token is not None and self.class_place is not None:
            batch = x.shape[0]
            x = torch.cat([self.class_token.expand(batch, -1, -1), x], 1)
            pos = torch.cat([self.class_place.expand(batch, -1, -1), pos], 1)
            coords = torch.cat([torch.zeros_like(coords[:, :1]), coords], 1)
            if valid is not None:
                valid = torch.cat([torch.ones_like(valid[:, :1]), valid], 1)
            prefix = 1
        return Tokens(x, valid=valid, coords=coords, pos=pos, prefix=prefix)
