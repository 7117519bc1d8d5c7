"""ADiT's networks as plain torch writes them: the peer of `isoform bench molecules --name adit`.

Every batch is padded to its own largest structure; padded keys are masked, attention is
F.scaled_dot_product_attention. Sizes are read from the weights, which are isoform's.

B structures, N atoms of the largest, L latent features, D features.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FREQUENCIES = 256


def pad(values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """([B, N, ...] with zeros behind each structure's rows, [B, N] True for rows that are real)."""
    parts = values.split(offsets.diff().tolist())
    padded = nn.utils.rnn.pad_sequence(list(parts), batch_first=True)
    real = torch.arange(padded.shape[1]) < offsets.diff()[:, None]
    return padded, real


def places(longest: int, dim: int) -> Tensor:
    """[N, D] sines, then cosines, of each place in the list."""
    rate = math.pi / 2048.0 ** (2 * torch.arange(dim // 2) / dim)
    phase = torch.arange(longest)[:, None] * rate
    return torch.cat([phase.sin(), phase.cos()], 1)


class Block(nn.Module):
    """Pre-norm attention and MLP; with `condition`, adaLN-Zero in the place of the norms' weights."""

    def __init__(self, dim: int, hidden: int, heads: int, condition: bool) -> None:
        super().__init__()
        self.heads = heads
        eps = 1e-6 if condition else 1e-5
        self.norm1 = nn.LayerNorm(dim, eps=eps, elementwise_affine=not condition)
        self.norm2 = nn.LayerNorm(dim, eps=eps, elementwise_affine=not condition)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim)
        self.modulation = nn.Linear(dim, 6 * dim) if condition else None

    def forward(self, x: Tensor, mask: Tensor | None, cond_BD: Tensor | None = None) -> Tensor:
        """[B, N, D] -> the same; `mask` [B, 1, 1, N] is True for keys that are seen, None where all are."""
        if self.modulation is None or cond_BD is None:
            x = x + self.attend(self.norm1(x), mask)
            return x + self.mlp(self.norm2(x))
        parts = self.modulation(F.silu(cond_BD))[:, None].chunk(6, dim=-1)
        shift1, scale1, gate1, shift2, scale2, gate2 = parts
        x = x + gate1 * self.attend(self.norm1(x) * (1 + scale1) + shift1, mask)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)

    def attend(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Multi-head attention of the structure's atoms to each other."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(y.transpose(1, 2).flatten(2))

    def mlp(self, x: Tensor) -> Tensor:
        """GELU in its tanh form between two linear layers."""
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class Trunk(nn.Module):
    """Blocks one after the other, and a norm behind those of the autoencoder."""

    def __init__(self, dim: int, depth: int, heads: int, hidden: int, condition: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, hidden, heads, condition) for _ in range(depth))
        self.norm = None if condition else nn.LayerNorm(dim, eps=1e-5)

    def forward(self, x: Tensor, real: Tensor, cond_BD: Tensor | None = None) -> Tensor:
        """[B, N, D] -> the same; what stands in padded rows means nothing."""
        mask = None if real.all() else real[:, None, None]
        for block in self.blocks:
            x = block(x, mask, cond_BD)
        return x if self.norm is None else self.norm(x)


class Encoder(nn.Module):
    """Atoms -> the mean of their latents' distribution."""

    def __init__(self, elements: int, latent: int, trunk: Mapping[str, int]) -> None:
        super().__init__()
        dim = trunk["dim"]
        self.types = nn.Embedding(elements, dim)
        self.positions, self.fractional = (
            nn.Sequential(nn.Linear(3, dim, bias=False), nn.SiLU(), nn.Linear(dim, dim))
            for _ in range(2)
        )
        self.trunk = Trunk(**trunk, condition=False)
        self.compress = nn.Linear(dim, 2 * latent, bias=False)

    def forward(
        self, numbers: Tensor, positions: Tensor, fractional: Tensor, real: Tensor
    ) -> Tensor:
        """[B, N], [B, N, 3], [B, N, 3] -> [B, N, L]."""
        x = self.types(numbers) + self.positions(positions) + self.fractional(fractional)
        x = x + places(x.shape[1], x.shape[2])
        return self.compress(self.trunk(x, real)).chunk(2, dim=-1)[0]


class Denoiser(nn.Module):
    """Noisy latents, times and labels -> clean latents."""

    def __init__(self, latent: int, labels: tuple[int, int], trunk: Mapping[str, int]) -> None:
        super().__init__()
        dim = trunk["dim"]
        self.linear = nn.Linear(2 * latent, dim)
        self.time = nn.Sequential(nn.Linear(FREQUENCIES, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.labels = nn.ModuleList(nn.Embedding(count + 1, dim) for count in labels)
        self.trunk = Trunk(**trunk, condition=True)
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.modulation = nn.Linear(dim, 2 * dim)
        self.last = nn.Linear(dim, latent)

    def forward(
        self, x: Tensor, real: Tensor, t_B: Tensor, labels_BC: Tensor, previous: Tensor | None
    ) -> Tensor:
        """[B, N, L] -> the same."""
        half = FREQUENCIES // 2
        frequency = torch.exp(-math.log(10000.0) * torch.arange(half) / half)
        phase = t_B[:, None] * frequency
        cond = self.time(torch.cat([phase.cos(), phase.sin()], 1))
        for number, table in enumerate(self.labels):
            cond = cond + table(labels_BC[:, number])
        x = torch.cat([x, torch.zeros_like(x) if previous is None else previous], -1)
        x = self.linear(x)
        x = self.trunk(x + places(x.shape[1], x.shape[2]), real, cond)
        shift, scale = self.modulation(F.silu(cond))[:, None].chunk(2, dim=-1)
        return self.last(self.norm(x) * (1 + scale) + shift)


class Plain(nn.Module):
    """Encoder and denoiser with the weights of an isoform model (molecules/adit/model.py: Adit)."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        weights = model.state_dict()
        latent = len(weights["denoiser.head.linear.bias"])
        labels = [
            len(weights[f"denoiser.condition.labels.{number}.weight"]) - 1 for number in range(2)
        ]
        heads = [
            model.get_submodule(f"{name}.blocks.0.mixer.inner").heads
            for name in ("autoencoder.encoder", "denoiser.backbone")
        ]
        elements = len(weights["autoencoder.tokeniser.types.weight"])
        first = sizes_of(weights, "autoencoder.encoder", heads[0])
        self.encoder = Encoder(elements, latent, first).requires_grad_(False)
        second = sizes_of(weights, "denoiser.backbone", heads[1])
        self.denoiser = Denoiser(latent, (labels[0], labels[1]), second)
        self.load_state_dict({name: weight_of(weights, name) for name in self.state_dict()})


def sizes_of(weights: Mapping[str, Tensor], trunk: str, heads: int) -> dict[str, int]:
    """The sizes that `Trunk` is built from."""
    hidden, dim = weights[f"{trunk}.blocks.0.channel.inner.fc1.weight"].shape
    depth = len([name for name in weights if name.startswith(trunk) and "fc1.bias" in name])
    return {"dim": dim, "depth": depth, "heads": heads, "hidden": hidden}


INSIDE = {"norm1": "mixer.norm", "norm2": "channel.norm", "qkv": "mixer.inner.qkv", "proj": "mixer.inner.proj",
          "fc1": "channel.inner.fc1", "fc2": "channel.inner.fc2"}  # fmt: skip
OUTSIDE = {
    "encoder.trunk": "autoencoder.encoder",
    "encoder.compress": "autoencoder.compress",
    "encoder": "autoencoder.tokeniser",
    "denoiser.linear": "denoiser.tokeniser.linear",
    "denoiser.trunk": "denoiser.backbone",
    "denoiser.modulation": "denoiser.head.modulation",
    "denoiser.last": "denoiser.head.linear",
    "denoiser": "denoiser.condition",
}


def names_of(name: str) -> list[str]:
    """isoform's names of what the plain model's tensor `name` holds, one behind the other."""
    place = next(start for start in OUTSIDE if name.startswith(f"{start}."))
    rest = name.removeprefix(f"{place}.").split(".")
    if rest[0] != "blocks":
        return [".".join([OUTSIDE[place], *rest])]
    part, kind = rest[2], rest[3]
    inside = ["mixer.modulation", "channel.modulation"] if part == "modulation" else [INSIDE[part]]
    return [f"{OUTSIDE[place]}.blocks.{rest[1]}.{one}.{kind}" for one in inside]


def weight_of(weights: Mapping[str, Tensor], name: str) -> Tensor:
    """The plain model's tensor, from isoform's."""
    return torch.cat([weights[one] for one in names_of(name)])
