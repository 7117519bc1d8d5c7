"""The block weights of official implementations beside the Backbone's: one table each, read by core/pretrained.

The domains' own tables begin with these when they are built, as iTransformer's does.
"""

from __future__ import annotations

from isoform.core.pretrained import Layout, rename

MIXER, CHANNEL = "blocks.{i}.mixer", "blocks.{i}.channel"


def _named(foreign: str, own: str):
    return rename(foreign + ".{p}", own + ".{p}")


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
