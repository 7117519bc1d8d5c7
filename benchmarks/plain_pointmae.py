"""Point-MAE's pretraining as plain torch writes it: the peer of `isoform bench pointcloud`.

Convolutions of width 1, positions added before every block, attention by F.scaled_dot_product_attention, farthest
points one after another, neighbours and Chamfer distances by torch.cdist. Names are the official checkpoint's.

B clouds, N points, G patches of K points, V visible and M masked ones, D features.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def farthest_points(points: Tensor, count: int) -> Tensor:
    """[B, count] indices in [B, N, 3]: every next point is the farthest from all before, from index 0 on."""
    rows = torch.arange(len(points))
    index = torch.zeros(len(points), count, dtype=torch.long)
    nearest = torch.full(points.shape[:2], 1e10)
    last = torch.zeros(len(points), dtype=torch.long)
    for step in range(count):
        index[:, step] = last
        distance = (points - points[rows, last][:, None]).square().sum(2)
        nearest = torch.minimum(nearest, distance)
        last = nearest.argmax(1)
    return index


def nearest_points(asking: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """(distances, indices) [B, G, K], nearest first."""
    found = torch.cdist(asking, points).topk(k, dim=2, largest=False)
    return found.values, found.indices


def chamfer(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared distance to the nearest point, both ways summed."""
    apart = torch.cdist(a, b)
    return apart.amin(2).square().mean() + apart.amin(1).square().mean()


def group(points: Tensor, groups: int, k: int) -> tuple[Tensor, Tensor]:
    """(centres [B, G, 3], patches [B, G, K, 3] relative to them)."""
    rows = torch.arange(len(points))[:, None]
    centres = points[rows, farthest_points(points, groups)]
    _, index = nearest_points(centres, points, k)
    return centres, points[rows[:, :, None], index] - centres[:, :, None]


class PatchEncoder(nn.Module):
    """[B, G, K, 3] -> [B, G, D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(
            nn.Conv1d(3, 128, 1), nn.BatchNorm1d(128), nn.ReLU(inplace=True), nn.Conv1d(128, 256, 1)
        )
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Conv1d(512, dim, 1)
        )  # fmt: skip

    def forward(self, patches: Tensor) -> Tensor:
        """See the class."""
        batch, groups, k, _ = patches.shape
        x = self.first_conv(patches.flatten(0, 1).transpose(2, 1))
        whole = x.max(dim=2, keepdim=True).values
        x = self.second_conv(torch.cat([whole.expand(-1, -1, k), x], 1))
        return x.max(dim=2).values.reshape(batch, groups, -1)


class Attention(nn.Module):
    """[B, T, D] -> [B, T, D]."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        batch, tokens, dim = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, dim // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, tokens, dim))


class Mlp(nn.Module):
    """[..., D] -> [..., D]."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    """Attention and MLP, each behind a norm."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.attn, self.mlp = Attention(dim, heads), Mlp(dim)

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Blocks(nn.Module):
    """Blocks, before each of which the positions are added."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))

    def forward(self, x: Tensor, pos: Tensor) -> Tensor:
        """[B, T, D] twice -> [B, T, D]."""
        for block in self.blocks:
            x = block(x + pos)
        return x


def place(dim: int) -> nn.Sequential:
    """[..., 3] -> [..., D]."""
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, dim))


class Encoder(nn.Module):
    """Visible patches -> states."""

    def __init__(self, dim: int, depth: int, heads: int, *, all_patches: bool) -> None:
        super().__init__()
        self.all_patches = all_patches
        self.encoder, self.pos_embed = PatchEncoder(dim), place(dim)
        self.blocks, self.norm = Blocks(dim, depth, heads), nn.LayerNorm(dim)

    def forward(self, patches: Tensor, centres: Tensor, hidden: Tensor) -> Tensor:
        """[B, G, K, 3], [B, G, 3], bool [B, G] -> [B, V, D]."""
        batch, dim = len(patches), self.norm.normalized_shape[0]
        if self.all_patches:
            x = self.encoder(patches)[~hidden].reshape(batch, -1, dim)
        else:
            k = patches.shape[2]
            x = self.encoder(patches[~hidden].reshape(batch, -1, k, 3))
        pos = self.pos_embed(centres[~hidden].reshape(batch, -1, 3))
        return self.norm(self.blocks(x, pos))


class Decoder(nn.Module):
    """Blocks and a norm."""

    def __init__(self, dim: int, depth: int, heads: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, pos: Tensor, masked: int) -> Tensor:
        """[B, G, D] twice -> [B, M, D], the last ones."""
        for block in self.blocks:
            x = block(x + pos)
        return self.norm(x[:, -masked:])


class PlainPointMae(nn.Module):
    """The whole; `all_patches`: as the official code, whose small PointNet sees the masked patches too."""

    def __init__(
        self, dim: int, depth: int, decoder_depth: int, heads: int, k: int, *, all_patches: bool
    ) -> None:
        super().__init__()
        self.MAE_encoder = Encoder(dim, depth, heads, all_patches=all_patches)
        self.decoder_pos_embed = place(dim)
        self.MAE_decoder = Decoder(dim, decoder_depth, heads)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        nn.init.trunc_normal_(self.mask_token, std=0.02)
        self.increase_dim = nn.Sequential(nn.Conv1d(dim, 3 * k, 1))

    def forward(self, patches: Tensor, centres: Tensor, hidden: Tensor) -> Tensor:
        """The loss of patches [B, G, K, 3], those hidden [B, G] as many in every cloud."""
        batch, _, k, _ = patches.shape
        visible = self.MAE_encoder(patches, centres, hidden)
        order = (centres[~hidden].reshape(batch, -1, 3), centres[hidden].reshape(batch, -1, 3))
        pos = self.decoder_pos_embed(torch.cat(order, 1))
        masked = order[1].shape[1]
        blank = self.mask_token.expand(batch, masked, -1)
        states = self.MAE_decoder(torch.cat([visible, blank], 1), pos, masked)
        drawn = self.increase_dim(states.transpose(1, 2)).transpose(1, 2)
        return chamfer(drawn.reshape(batch * masked, k, 3), patches[hidden])
