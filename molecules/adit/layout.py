"""The names of the official checkpoints beside ours.

layout          where it comes from
adit            facebookresearch/all-atom-diffusion-transformer: both stages, a Lightning .ckpt
adit-vae        the first stage by itself
adit-denoiser   the second by itself: the state dict of its network
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from isoform.core.pretrained import Layout, Rule, ignore, rename, split
from isoform.molecules.adit.config import AditApp, ReconstructionConfig

LAYOUTS = ("adit", "adit-vae", "adit-denoiser")
PARTS = {
    "adit": "both",
    "adit-vae": "autoencoder",
    "adit-denoiser": "denoiser",
}
# Our losses by their names there, where the weights are tensors of the checkpoint.
LOSSES = {
    "types": "atom_types",
    "lengths": "lengths",
    "angles": "angles",
    "fractional": "frac_coords",
    "positions": "pos",
    "kl": "kl",
}
MIXER, CHANNEL = "blocks.{i}.mixer", "blocks.{i}.channel"


def _named(foreign: str, own: str) -> Rule:
    return rename(foreign + ".{p}", own + ".{p}")


def _encoder_layers(foreign: str, own: str, pre: bool) -> tuple[Rule, ...]:
    """PyTorch's encoder layers and the norm behind them, beside the Backbone's."""
    layer = f"{foreign}layers.{{i}}."
    mixer, channel = own + MIXER, own + CHANNEL
    norms = (f"{mixer}.norm", f"{channel}.norm")
    if not pre:
        norms = (f"{own}blocks.{{i}}.norms.mixer", f"{own}blocks.{{i}}.norms.channel")
    return (
        rename(f"{layer}self_attn.in_proj_{{p}}", f"{mixer}.inner.qkv.{{p}}"),
        _named(f"{layer}self_attn.out_proj", f"{mixer}.inner.proj"),
        _named(f"{layer}linear1", f"{channel}.inner.fc1"),
        _named(f"{layer}linear2", f"{channel}.inner.fc2"),
        _named(f"{layer}norm1", norms[0]),
        _named(f"{layer}norm2", norms[1]),
        _named(f"{foreign}norm", f"{own}norm"),
    )


def _autoencoder(config: AditApp, at: str = "") -> tuple[Rule, ...]:
    encoder, decoder = f"{at}encoder.", f"{at}decoder."
    inner = "transformer."
    pre = {name: getattr(config, name).order == "pre" for name in ("encoder", "decoder")}
    return (
        _named(f"{encoder}atom_type_embedder", f"{at}tokeniser.types"),
        _named(f"{encoder}pos_embedder.{{i}}", f"{at}tokeniser.positions.{{i}}"),
        _named(f"{encoder}frac_coords_embedder.{{i}}", f"{at}tokeniser.fractional.{{i}}"),
        *_encoder_layers(encoder + inner, f"{at}encoder.", pre["encoder"]),
        _named(f"{at}quant_conv", f"{at}compress"),
        _named(f"{at}post_quant_conv", f"{at}expand"),
        *_encoder_layers(decoder + inner, f"{at}decoder.", pre["decoder"]),
        _named(f"{decoder}atom_types_head", f"{at}head.types"),
        _named(f"{decoder}pos_head", f"{at}head.positions"),
        _named(f"{decoder}frac_coords_head", f"{at}head.fractional"),
        _named(f"{decoder}lattice_head", f"{at}head.lattice"),
        ignore(f"{at}loss_weights_{{p}}", "weights of the losses, which are settings here (loss)"),
    )


def denoiser_blocks(foreign: str = "", own: str = "") -> tuple[Rule, ...]:
    """The blocks of the diffusion transformer; rows of its modulation: attention's, then the MLP's."""
    block, mixer, channel = f"{foreign}blocks.{{i}}.", own + MIXER, own + CHANNEL
    return (
        rename(f"{block}attn.in_proj_{{p}}", f"{mixer}.inner.qkv.{{p}}"),
        _named(f"{block}attn.out_proj", f"{mixer}.inner.proj"),
        _named(f"{block}mlp.fc1", f"{channel}.inner.fc1"),
        _named(f"{block}mlp.fc2", f"{channel}.inner.fc2"),
        split(
            f"{block}adaLN_modulation.1.{{p}}",
            (f"{mixer}.modulation.{{p}}", f"{channel}.modulation.{{p}}"),
        ),
    )


def _denoiser(at: str = "") -> tuple[Rule, ...]:
    table = "embedding_table.weight"
    return (
        _named(f"{at}x_embedder", f"{at}tokeniser.linear"),
        _named(f"{at}t_embedder.mlp.{{i}}", f"{at}condition.time.{{i}}"),
        rename(f"{at}dataset_embedder.{table}", f"{at}condition.labels.0.weight"),
        rename(f"{at}spacegroup_embedder.{table}", f"{at}condition.labels.1.weight"),
        *denoiser_blocks(at, f"{at}backbone."),
        _named(f"{at}final_layer.linear", f"{at}head.linear"),
        _named(f"{at}final_layer.adaLN_modulation.1", f"{at}head.modulation"),
    )


def layout_of(config: AditApp, layout: str, state: Mapping[str, Any] | None = None) -> Layout:
    """The rules of one of LAYOUTS."""
    rules = {
        "adit": (*_autoencoder(config, "autoencoder."), *_denoiser("denoiser.")),
        "adit-vae": _autoencoder(config),
        "adit-denoiser": _denoiser(),
    }
    return Layout(layout, rules[layout])


def _weight_names(layout: str) -> dict[str, str]:
    at = "autoencoder." if layout == "adit" else ""
    return {own: f"{at}loss_weights_{there}" for own, there in LOSSES.items()}


def loss_weights(state: Mapping[str, Tensor], layout: str) -> dict[str, tuple[float, ...]]:
    """Those of the losses' weights that a checkpoint holds, by our names: a crystal's and a molecule's."""
    found = {}
    for own, name in _weight_names(layout).items():
        if name in state:
            found[own] = tuple(state[name].flatten().tolist())
    return found


def loss_tensors(config: ReconstructionConfig, layout: str) -> dict[str, Tensor]:
    """The losses' weights as the official code keeps them."""
    if layout == "adit-denoiser":
        return {}
    names = _weight_names(layout)
    return {names[own]: torch.tensor(getattr(config, own)) for own in names}
