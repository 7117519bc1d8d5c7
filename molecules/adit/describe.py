"""What `isoform apps` and `isoform explain` tell of an app of the all-atom diffusion transformer."""

from __future__ import annotations

from typing import Any

from isoform.core.config.parameter_count import backbone_size
from isoform.core.config.schema import BackboneConfig
from isoform.molecules.adit.config import AditApp

SOURCES = {
    "file": ("your molecules and crystals", "data.path: sdf, xyz, extxyz, cif, POSCAR or csv"),
    "qm9": ("QM9, 130,831 small molecules", "inside the package qm9pack"),
    "prototypes": ("AFLOW's 288 prototypes of crystals", "inside the package pymatgen"),
    "mp20": ("MP-20, 45,230 crystals", "data.root: train.csv, val.csv, test.csv"),
}


def describe(config: AditApp, detail: bool = True) -> dict[str, Any]:
    """Rows to show: data, model, parameters, source; with `detail` (which imports torch) attention too."""
    known = [SOURCES[name] for name in config.data.source]
    first = config.model.part == "autoencoder"
    trunk = config.encoder if first else config.backbone
    stage = "autoencoder" if first else "denoiser"
    rows: dict[str, Any] = {
        "data": " and ".join(data for data, _ in known),
        "model": f"ADiT, {stage}, {trunk.depth} x {trunk.dim}, {trunk.heads} heads",
        "parameters": parameters(config),
        "source": "; ".join(source for _, source in known),
    }
    return {**rows, **_detail(trunk)} if detail else rows


def parameters(config: AditApp) -> int:
    """Weights and biases, counted without torch."""
    found = 0
    if config.model.part != "denoiser":
        found += _autoencoder(config)
    if config.model.part != "autoencoder":
        found += _denoiser(config)
    return found


def _autoencoder(config: AditApp) -> int:
    dim, back, m = config.encoder.dim, config.decoder.dim, config.model
    tokeniser = m.elements * dim + 2 * (3 * dim + dim * dim + dim)
    head = back * m.elements + m.elements + (3 + 3 + 6) * back
    latents = dim * 2 * m.latent + m.latent * back
    return (
        tokeniser + head + latents + backbone_size(config.encoder) + backbone_size(config.decoder)
    )


def _denoiser(config: AditApp) -> int:
    dim, m = config.backbone.dim, config.model
    time = 256 * dim + dim + dim * dim + dim
    labels = (m.kinds + 1 + m.spacegroups + 1) * dim
    head = dim * 2 * dim + 2 * dim + dim * m.latent + m.latent
    return 2 * m.latent * dim + dim + time + labels + head + backbone_size(config.backbone)


def _detail(trunk: BackboneConfig) -> dict[str, Any]:
    import torch

    from isoform.core.attention.dispatch import Request, explain_choice, tabulate

    request = Request(
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype=torch.float32,
        keys=32,
        backward=True,
        head_dim=trunk.head_dim or trunk.dim // trunk.heads,
        packed=True,
    )
    return {
        "tokens": "one an atom",
        "precision": "fp32",
        "attention": "in training: " + "; ".join(explain_choice(request)),
        "attention by device": tabulate(request),
    }
