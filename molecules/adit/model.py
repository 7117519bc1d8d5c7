"""The all-atom diffusion transformer (Joshi et al. 2025, arXiv:2503.03965) on the shared backbone.

An autoencoder gives every atom of a molecule or crystal L latent features; a diffusion transformer learns to make such
latents from noise. B structures, T atoms of all of them, L latent features, D features, C kinds of labels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from isoform.core.backbone import Backbone
from isoform.core.condition import Condition, ModulatedHead
from isoform.core.objectives.flow import Preconditioned
from isoform.core.tokens import Tokens
from isoform.molecules.adit.config import AditApp
from isoform.molecules.adit.head import AtomHead, Decoded
from isoform.molecules.adit.tokeniser import AtomTokeniser, Batch, LatentTokeniser

LOG_VARIANCE = (-30.0, 20.0)  # range of the posterior's


@dataclass
class Posterior:
    """A normal distribution of each latent feature, [T, L]; `logvar` is the logarithm of its variance."""

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """The draw that standard normal `noise` stands for."""
        return self.mean + (0.5 * self.logvar).exp() * noise

    def kl(self) -> Tensor:
        """[T] divergence from the standard normal distribution, summed over the features (Kingma & Welling 2014)."""
        variance = self.logvar.exp()
        return 0.5 * (self.mean**2 + variance - 1 - self.logvar).sum(-1)


class Autoencoder(nn.Module):
    """The first stage: atoms -> latents -> atoms. Raises ValueError for tables that contradict each other."""

    def __init__(self, config: AditApp) -> None:
        super().__init__()
        latent = config.model.latent
        self.tokeniser = AtomTokeniser(config)
        self.encoder = Backbone(config.encoder, ordered=False)
        self.compress = nn.Linear(config.encoder.dim, 2 * latent, bias=False)
        self.expand = nn.Linear(latent, config.decoder.dim, bias=False)
        self.decoder = Backbone(config.decoder, ordered=False)
        self.head = AtomHead(config)

    def forward(self, batch: Batch, noise: Tensor | None = None) -> tuple[Posterior, Decoded]:
        """A batch through both halves, by way of the posterior's mean, or of the draw of standard normal `noise`."""
        tokens = self.tokeniser(batch)
        posterior = self.encode(tokens)
        latents = posterior.mean if noise is None else posterior.sample(noise)
        return posterior, self.decode(tokens.with_x(latents))

    def encode(self, tokens: Tokens) -> Posterior:
        """Of the tokeniser's tokens."""
        return self.posterior(self.encoder(tokens))

    def posterior(self, states: Tokens) -> Posterior:
        """Of the states behind the encoder."""
        mean, logvar = self.compress(states.x).chunk(2, dim=-1)
        return Posterior(mean, logvar.clamp(*LOG_VARIANCE))

    def decode(self, latents: Tokens) -> Decoded:
        """Tokens [T, L] -> elements, coordinates and lattice."""
        tokens = self.tokeniser.placed(latents.with_x(self.expand(latents.x)))
        return self.head(self.decoder(tokens))


class Denoiser(nn.Module):
    """The second stage: noisy latents, a time and labels -> clean latents (Peebles & Xie 2023).

    Raises ValueError for tables that contradict each other.
    """

    def __init__(self, config: AditApp) -> None:
        super().__init__()
        trunk = config.backbone
        self.scale = config.flow.scale
        self.preconditioned = config.flow.form == "preconditioned"
        self.tokeniser = LatentTokeniser(config)
        self.condition = Condition(trunk.dim, (config.model.kinds, config.model.spacegroups))
        self.backbone = Backbone(trunk, ordered=False)
        self.head = ModulatedHead(trunk.dim, config.model.latent, trunk.eps)

    def forward(
        self,
        latents: Tokens,
        t_B: Tensor,
        labels_BC: Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """Tokens [T, L] at times `t_B` -> clean latents [T, L]; padded tokens [B, N, L] -> the same shape.

        labels_BC   [B, 2] kind (1 crystal, 2 molecule) and space group; 0, or None for all: not told
        previous    an earlier prediction, of the latents' shape, for self-conditioning
        """
        if not self.preconditioned:
            return self.head(self.backbone(self.tokens(latents, t_B, labels_BC, previous)))
        level = Preconditioned(latents.per_token(t_B[:, None]), self.scale)
        told = None if previous is None else previous / self.scale
        x = latents.with_x(latents.x / level.norm)
        seen = Preconditioned(t_B, self.scale).noise_level()
        network = self.head(self.backbone(self.tokens(x, seen, labels_BC, told)))
        return level.clean(latents.x, network)

    def tokens(
        self,
        latents: Tokens,
        t_B: Tensor,
        labels_BC: Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tokens:
        """Tokens in front of the trunk."""
        condition = self.condition(t_B, labels_BC)
        return replace(self.tokeniser(latents, previous), cond=condition)


class Adit(nn.Module):
    """Both stages. The autoencoder is fixed: it has been trained before."""

    def __init__(self, config: AditApp) -> None:
        super().__init__()
        self.autoencoder = Autoencoder(config).requires_grad_(False)
        self.denoiser = Denoiser(config)
        self.scale = config.flow.scale

    def train(self, mode: bool = True) -> Adit:
        """As of any module, but the autoencoder stays in evaluation."""
        super().train(mode)
        self.autoencoder.eval()
        return self

    @torch.no_grad()
    def latents(self, batch: Batch) -> Tokens:
        """Tokens [T, L], the posterior's mean of every atom times flow.scale: what the denoiser learns to make."""
        tokens = self.autoencoder.tokeniser(batch)
        return tokens.with_x(self.scale * self.autoencoder.encode(tokens).mean)

    def decode(self, latents: Tokens) -> Decoded:
        """Such tokens -> elements, coordinates and lattice."""
        return self.autoencoder.decode(latents.with_x(latents.x / self.scale))

    def forward(
        self,
        latents: Tokens,
        t_B: Tensor,
        labels_BC: Tensor | None = None,
        previous: Tensor | None = None,
    ) -> Tensor:
        """See `Denoiser`."""
        clean: Tensor = self.denoiser(latents, t_B, labels_BC, previous)
        return clean


def build_model(config: AditApp) -> Autoencoder | Denoiser | Adit:
    """A fresh model of the part that `model.part` names, from torch's global generator.

    Raises ValueError for tables that contradict each other.
    """
    if config.model.part == "autoencoder":
        return Autoencoder(config)
    if config.model.part == "denoiser":
        return Denoiser(config)
    return Adit(config)


def labels_of(batch: Batch) -> Tensor:
    """[B, 2] the denoiser's labels of a batch: 1 crystal, 2 molecule, and the space group where it is told."""
    kind = 2 - batch["periodic"].long()
    spacegroup = batch.get("spacegroups")
    return torch.stack(
        [kind, torch.zeros_like(kind) if spacegroup is None else spacegroup.long()], dim=1
    )
