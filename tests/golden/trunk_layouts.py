"""The block weights of five official implementations beside the Backbone's: one table each, read by core/pretrained.

The domains' own tables begin with these when they are built.
"""

from __future__ import annotations

from isoform.core.pretrained import Layout, join, rename, split, squeeze

MIXER, CHANNEL = "blocks.{i}.mixer", "blocks.{i}.channel"


def _named(foreign: str, own: str):
    return rename(foreign + ".{p}", own + ".{p}")


def itransformer(prefix: str = "encoder") -> Layout:
    """Post-norm encoder whose MLP is made of convolutions of width 1 (thuml/iTransformer)."""
    layer, names = f"{prefix}.attn_layers.{{i}}", ("query", "key", "value")
    return Layout("itransformer trunk", (
        join([f"{layer}.attention.{n}_projection.{{p}}" for n in names], MIXER + ".inner.qkv.{p}"),
        _named(f"{layer}.attention.out_projection", MIXER + ".inner.proj"),
        rename(f"{layer}.conv1.weight", CHANNEL + ".inner.fc1.weight", squeeze(-1)),
        rename(f"{layer}.conv2.weight", CHANNEL + ".inner.fc2.weight", squeeze(-1)),
        rename(f"{layer}.conv1.bias", CHANNEL + ".inner.fc1.bias"),
        rename(f"{layer}.conv2.bias", CHANNEL + ".inner.fc2.bias"),
        _named(f"{layer}.norm1", "blocks.{i}.norms.mixer"),
        _named(f"{layer}.norm2", "blocks.{i}.norms.channel"),
        _named(f"{prefix}.norm", "norm"),
    ))  # fmt: skip


def graphormer(pre: bool) -> Layout:
    """Encoder layers of Graphormer; a pre-norm file's final_layer_norm is stored and never applied."""
    layer = "encoder.graph_encoder.layers.{i}"
    norms = (MIXER + ".norm", CHANNEL + ".norm") if pre else ("blocks.{i}.norms.mixer", "blocks.{i}.norms.channel")
    return Layout("graphormer trunk", (
        join([f"{layer}.self_attn.{n}_proj.{{p}}" for n in "qkv"], MIXER + ".inner.qkv.{p}"),
        _named(f"{layer}.self_attn.out_proj", MIXER + ".inner.proj"),
        _named(f"{layer}.fc1", CHANNEL + ".inner.fc1"),
        _named(f"{layer}.fc2", CHANNEL + ".inner.fc2"),
        _named(f"{layer}.self_attn_layer_norm", norms[0]),
        _named(f"{layer}.final_layer_norm", norms[1]),
    ))  # fmt: skip


def timm_like(blocks: str, norm: str) -> Layout:
    """timm's names of a pre-norm block, which Point-MAE uses too."""
    return Layout("timm-like trunk", (
        _named(blocks + ".{i}.norm1", MIXER + ".norm"),
        _named(blocks + ".{i}.attn.qkv", MIXER + ".inner.qkv"),
        _named(blocks + ".{i}.attn.proj", MIXER + ".inner.proj"),
        _named(blocks + ".{i}.norm2", CHANNEL + ".norm"),
        _named(blocks + ".{i}.mlp.fc1", CHANNEL + ".inner.fc1"),
        _named(blocks + ".{i}.mlp.fc2", CHANNEL + ".inner.fc2"),
        _named(norm, "norm"),
    ))  # fmt: skip


def adit() -> Layout:
    """DiT blocks with torch's attention (all-atom diffusion transformer); adaLN rows: attention's, then the MLP's."""
    return Layout("adit trunk", (
        rename("blocks.{i}.attn.in_proj_weight", MIXER + ".inner.qkv.weight"),
        rename("blocks.{i}.attn.in_proj_bias", MIXER + ".inner.qkv.bias"),
        _named("blocks.{i}.attn.out_proj", MIXER + ".inner.proj"),
        _named("blocks.{i}.mlp.fc1", CHANNEL + ".inner.fc1"),
        _named("blocks.{i}.mlp.fc2", CHANNEL + ".inner.fc2"),
        split("blocks.{i}.adaLN_modulation.1.{p}", (MIXER + ".modulation.{p}", CHANNEL + ".modulation.{p}")),
    ))  # fmt: skip


def cct() -> Layout:
    """Compact Transformers, where norm1 replaces the residual stream."""
    block = "classifier.blocks.{i}"
    return Layout("cct trunk", (
        _named(f"{block}.pre_norm", MIXER + ".norm"),
        _named(f"{block}.self_attn.qkv", MIXER + ".inner.qkv"),
        _named(f"{block}.self_attn.proj", MIXER + ".inner.proj"),
        _named(f"{block}.norm1", "blocks.{i}.norms.mixer"),
        _named(f"{block}.linear1", CHANNEL + ".inner.fc1"),
        _named(f"{block}.linear2", CHANNEL + ".inner.fc2"),
        _named("classifier.norm", "norm"),
    ))  # fmt: skip
