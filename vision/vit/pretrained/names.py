"""The names that timm, and those who build on its ViT, give to the weights of ours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from isoform.core.config.schema import BackboneConfig
from isoform.core.pretrained import ZERO, Layout, Rule, join, permute, rename, reshape, split

Projection = Literal[
    "fused", "fused_separate_bias", "fused_no_bias", "separate", "separate_no_key_bias"
]

BLOCK, OURS = "blocks.{i}", "backbone.blocks.{i}"

OUTSIDE = (
    rename("cls_token", "tokeniser.class_token"),
    rename("dist_token", "tokeniser.distill_token"),
    rename("reg_token", "tokeniser.registers"),
    rename("pos_embed", "tokeniser.position"),
    rename("patch_embed.proj.{p}", "tokeniser.patch.{p}"),
    rename("patch_embed.norm.{p}", "tokeniser.patch_norm.{p}"),
    rename("norm_pre.{p}", "tokeniser.norm.{p}"),
    rename("norm.{p}", "backbone.norm.{p}"),
    rename("attn_pool.latent", "head.pool.latent"),
    rename("attn_pool.{p}.weight", "head.pool.{p}.weight"),
    rename("attn_pool.{p}.bias", "head.pool.{p}.bias"),
    rename("attn_pool.mlp.{p}.weight", "head.pool.mlp.{p}.weight"),
    rename("attn_pool.mlp.{p}.bias", "head.pool.mlp.{p}.bias"),
    rename("fc_norm.{p}", "head.norm.{p}"),
    rename("head.{p}", "head.linear.{p}"),
    rename("head_dist.{p}", "head.linear_distill.{p}"),
)


@dataclass(frozen=True)
class TimmNames:
    """Which of timm's ways of naming a block's weights a model follows."""

    family: Literal["block", "things", "scaling"] = "block"
    post: bool = False  # norm1 and norm2 stand behind their branch
    gamma: Literal["module", "flat"] = "module"  # LayerScale: ls1.gamma, or gamma_1
    qkv: Projection = "fused"
    split_mlp: bool = False  # the gated MLP's first layer is two: fc1_g, fc1_x

    def layout(self, backbone: BackboneConfig, name: str = "timm") -> Layout:
        """The rules for a ViT with this trunk."""
        match self.family:
            case "scaling":
                blocks = self._scaling(f"{OURS}.both")
            case "things":
                mixer, channel = f"{OURS}.mixer.parts.{{j}}", f"{OURS}.channel.parts.{{j}}"
                blocks = (
                    *self._attention(f"{BLOCK}.attns.{{j}}.attn", f"{mixer}.inner", backbone),
                    *self._mlp(f"{BLOCK}.ffns.{{j}}.mlp", f"{channel}.inner"),
                    rename(f"{BLOCK}.attns.{{j}}.norm.{{p}}", f"{mixer}.norm.{{p}}"),
                    rename(f"{BLOCK}.ffns.{{j}}.norm.{{p}}", f"{channel}.norm.{{p}}"),
                    rename(f"{BLOCK}.attns.{{j}}.ls.gamma", f"{mixer}.scale"),
                    rename(f"{BLOCK}.ffns.{{j}}.ls.gamma", f"{channel}.scale"),
                )
            case _:
                norm = "norm_out" if self.post else "norm"
                gammas = (
                    ("ls1.gamma", "ls2.gamma") if self.gamma == "module" else ("gamma_1", "gamma_2")
                )
                blocks = (
                    *self._attention(f"{BLOCK}.attn", f"{OURS}.mixer.inner", backbone),
                    *self._mlp(f"{BLOCK}.mlp", f"{OURS}.channel.inner"),
                    rename(f"{BLOCK}.norm1.{{p}}", f"{OURS}.mixer.{norm}.{{p}}"),
                    rename(f"{BLOCK}.norm2.{{p}}", f"{OURS}.channel.{norm}.{{p}}"),
                    rename(f"{BLOCK}.{gammas[0]}", f"{OURS}.mixer.scale"),
                    rename(f"{BLOCK}.{gammas[1]}", f"{OURS}.channel.scale"),
                )
        return Layout(name, (*OUTSIDE, *blocks, *_frequencies(backbone)))

    def _attention(self, theirs: str, ours: str, backbone: BackboneConfig) -> tuple[Rule, ...]:
        head_dim = backbone.head_dim or backbone.dim // backbone.heads
        sizes = [head_dim * n for n in (backbone.heads, *[backbone.kv_heads or backbone.heads] * 2)]
        match self.qkv:
            case "separate":
                parts = [f"{theirs}.{n}_proj.{{p}}" for n in "qkv"]
                projection: tuple[Rule, ...] = (join(parts, f"{ours}.qkv.{{p}}", sizes=sizes),)
            case "separate_no_key_bias":
                biases = (f"{theirs}.q_proj.bias", ZERO, f"{theirs}.v_proj.bias")
                projection = (
                    join(
                        [f"{theirs}.{n}_proj.weight" for n in "qkv"],
                        f"{ours}.qkv.weight",
                        sizes=sizes,
                    ),
                    join(biases, f"{ours}.qkv.bias", sizes=sizes),
                )
            case "fused_separate_bias":
                projection = (
                    rename(f"{theirs}.qkv.weight", f"{ours}.qkv.weight"),
                    join(
                        (f"{theirs}.q_bias", ZERO, f"{theirs}.v_bias"),
                        f"{ours}.qkv.bias",
                        sizes=sizes,
                    ),
                )
            case _:
                projection = (rename(f"{theirs}.qkv.{{p}}", f"{ours}.qkv.{{p}}"),)
        same = ("q_norm", "k_norm", "norm", "gate", "proj")
        return (*projection, *(rename(f"{theirs}.{n}.{{p}}", f"{ours}.{n}.{{p}}") for n in same))

    def _mlp(self, theirs: str, ours: str) -> tuple[Rule, ...]:
        first = rename(f"{theirs}.fc1.{{p}}", f"{ours}.fc1.{{p}}")
        if self.split_mlp:
            first = join((f"{theirs}.fc1_g.{{p}}", f"{theirs}.fc1_x.{{p}}"), f"{ours}.fc1.{{p}}")
        return (
            first,
            *(rename(f"{theirs}.{n}.{{p}}", f"{ours}.{n}.{{p}}") for n in ("norm", "fc2")),
        )

    def _scaling(self, ours: str) -> tuple[Rule, ...]:
        mixer, channel = f"{ours}.inner.parts.mixer", f"{ours}.inner.parts.channel"
        return (
            rename(f"{BLOCK}.in_norm.{{p}}", f"{ours}.norm.{{p}}"),
            split(f"{BLOCK}.in_proj.{{p}}", (f"{channel}.fc1.{{p}}", f"{mixer}.qkv.{{p}}"))
            if self.qkv == "fused"
            else split(f"{BLOCK}.in_proj.weight", (f"{channel}.fc1.weight", f"{mixer}.qkv.weight")),
            rename(f"{BLOCK}.mlp_bias", f"{channel}.fc1.bias"),
            rename(f"{BLOCK}.q_norm.{{p}}", f"{mixer}.q_norm.{{p}}"),
            rename(f"{BLOCK}.k_norm.{{p}}", f"{mixer}.k_norm.{{p}}"),
            rename(f"{BLOCK}.attn_out_proj.{{p}}", f"{mixer}.proj.{{p}}"),
            rename(f"{BLOCK}.mlp_out_proj.{{p}}", f"{channel}.fc2.{{p}}"),
            rename(f"{BLOCK}.ls.gamma", f"{ours}.scale"),
        )


def _frequencies(backbone: BackboneConfig) -> tuple[Rule, ...]:
    """timm keeps the learned rotary frequencies of all blocks in one tensor [2, depth, H, A]."""
    if backbone.position != "rotary_learned":
        return ()
    angles = (backbone.head_dim or backbone.dim // backbone.heads) // 2
    shape = (backbone.heads, angles)
    own = [f"backbone.blocks.{i}.mixer.inner.frequencies" for i in range(backbone.depth)]
    by_block = reshape((backbone.depth, 2, *shape), (backbone.depth * 2, *shape))
    return (split("rope.freqs", own, permute(1, 0, 2, 3), by_block),)
