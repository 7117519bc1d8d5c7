"""Small models and batches of the all-atom diffusion transformer, odd on every axis."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isoform.molecules.adit.config import (
    AditApp,
    AditModelConfig,
    autoencoder_trunk,
    denoiser_trunk,
)
from isoform.molecules.adit.model import build_model

SIZES = (5, 1, 7, 2)
LATENT = 3


def app(part: str = "both", **model: Any) -> AditApp:
    """Two trunks of the autoencoder and one of the denoiser, none like another."""
    shared: dict[str, Any] = {"part": part, "elements": 19, "latent": LATENT, "spacegroups": 13}
    return AditApp(
        domain="molecules",
        app="x",
        model=AditModelConfig(**{**shared, **model}),
        encoder=autoencoder_trunk("tiny", dim=22, heads=2, depth=1, mlp_dim=13),
        decoder=autoencoder_trunk("tiny", dim=14, heads=7, depth=2, mlp_dim=11),
        backbone=denoiser_trunk("tiny", dim=10, heads=5, depth=3, mlp_dim=17),
    )


def born(config: AditApp, seed: int = 5, std: float = 0.3) -> Any:
    """A model with no weight at rest: adaLN-Zero and its last layer would start as 0."""
    torch.manual_seed(seed)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=std)
    return model.eval()


def offsets_of(sizes: tuple[int, ...]) -> Tensor:
    return torch.tensor([0, *sizes]).cumsum(0)


def batch(sizes: tuple[int, ...] = SIZES, seed: int = 7) -> dict[str, Tensor]:
    """Crystals and molecules by turns."""
    generator = torch.Generator().manual_seed(seed)
    atoms, count = sum(sizes), len(sizes)
    kind = torch.arange(count) % 2
    crystal_B = (1.0 - kind)[:, None]
    crystal_T = crystal_B.repeat_interleave(torch.tensor(sizes), 0)
    return {
        "offsets": offsets_of(sizes),
        "numbers": torch.randint(1, 19, (atoms,), generator=generator),
        "positions": 3 * torch.randn(atoms, 3, generator=generator),
        "fractional": crystal_T * torch.rand(atoms, 3, generator=generator),
        "lengths": crystal_B * (3 + torch.rand(count, 3, generator=generator)),
        "angles": crystal_B * (80 + 20 * torch.rand(count, 3, generator=generator)),
        "periodic": kind == 0,
        "spacegroups": torch.randint(0, 14, (count,), generator=generator) * (1 - kind),
    }
