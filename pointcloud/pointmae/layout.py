"""The names of official checkpoints beside ours.

layout              where it comes from
pointmae-pretrain   Pang-Yatian/Point-MAE, pretraining: encoder and decoder
pointmae            its classifier
pointmae-partseg    its part segmentation
pointbert           Julie-tang00/Point-BERT's classifier

Layers of points are convolutions of width 1 there.
"""

from __future__ import annotations

from isoform.core.pretrained import Layout, Rule, rename, squeeze

LAYOUTS = ("pointmae-pretrain", "pointmae", "pointmae-partseg", "pointbert")


def both(foreign: str, own: str) -> Rule:
    """Weight and bias, or a batch norm's five."""
    return rename(foreign + ".{p}", own + ".{p}")


def convolution(foreign: str, own: str) -> tuple[Rule, ...]:
    """A convolution of width 1, to a linear layer."""
    return (
        rename(f"{foreign}.weight", f"{own}.weight", squeeze(2)),
        rename(f"{foreign}.bias", f"{own}.bias"),
    )


def trunk_rules(foreign: str, own: str) -> tuple[Rule, ...]:
    """Blocks of timm's names below `foreign`."""
    theirs, ours = f"{foreign}.{{i}}", f"{own}.blocks.{{i}}"
    return (
        both(f"{theirs}.norm1", f"{ours}.mixer.norm"),
        both(f"{theirs}.attn.qkv", f"{ours}.mixer.inner.qkv"),
        both(f"{theirs}.attn.proj", f"{ours}.mixer.inner.proj"),
        both(f"{theirs}.norm2", f"{ours}.channel.norm"),
        both(f"{theirs}.mlp.fc1", f"{ours}.channel.inner.fc1"),
        both(f"{theirs}.mlp.fc2", f"{ours}.channel.inner.fc2"),
    )


def encoder_rules(foreign: str) -> tuple[Rule, ...]:
    """Patches, positions and encoder; `foreign`: what stands in front of the names."""
    points = "tokeniser.encoder"
    return (
        *convolution(f"{foreign}encoder.first_conv.0", f"{points}.point"),
        both(f"{foreign}encoder.first_conv.1", f"{points}.norm1"),
        *convolution(f"{foreign}encoder.first_conv.3", f"{points}.point2"),
        *convolution(f"{foreign}encoder.second_conv.0", f"{points}.mixed"),
        both(f"{foreign}encoder.second_conv.1", f"{points}.norm2"),
        *convolution(f"{foreign}encoder.second_conv.3", f"{points}.out"),
        both(f"{foreign}pos_embed.0", "tokeniser.place.0"),
        both(f"{foreign}pos_embed.2", "tokeniser.place.2"),
        *trunk_rules(f"{foreign}blocks.blocks", "backbone"),
        both(f"{foreign}norm", "backbone.norm"),
    )


CLASS_RULES = (
    rename("cls_token", "tokeniser.class_token"),
    rename("cls_pos", "tokeniser.class_place"),
)

RULES = {
    "pointmae-pretrain": (
        *encoder_rules("MAE_encoder."),
        rename("mask_token", "mask_token"),
        both("decoder_pos_embed.0", "decoder_place.0"),
        both("decoder_pos_embed.2", "decoder_place.2"),
        *trunk_rules("MAE_decoder.blocks", "decoder"),
        both("MAE_decoder.norm", "decoder.norm"),
        *convolution("increase_dim.0", "draw"),
    ),
    "pointmae": (
        *encoder_rules(""),
        *CLASS_RULES,
        both("cls_head_finetune.0", "head.hidden.0"),
        both("cls_head_finetune.1", "head.norms.0"),
        both("cls_head_finetune.4", "head.hidden.1"),
        both("cls_head_finetune.5", "head.norms.1"),
        both("cls_head_finetune.8", "head.out"),
    ),
    "pointmae-partseg": (
        *encoder_rules(""),
        rename("label_conv.0.weight", "shape.layer.weight", squeeze(2)),
        both("label_conv.1", "shape.norm"),
        rename("propagation_0.mlp_convs.{i}.weight", "propagation.layers.{i}.weight", squeeze(2)),
        rename("propagation_0.mlp_convs.{i}.bias", "propagation.layers.{i}.bias"),
        rename("propagation_0.mlp_bns.{i}.{p}", "propagation.norms.{i}.{p}"),
        *convolution("convs1", "first"),
        *convolution("convs2", "hidden.0"),
        *convolution("convs3", "out"),
        both("bns1", "norms.0"),
        both("bns2", "norms.1"),
    ),
    "pointbert": (
        *encoder_rules(""),
        *CLASS_RULES,
        both("reduce_dim", "tokeniser.reduce"),
        both("cls_head_finetune.0", "head.hidden.0"),
        both("cls_head_finetune.3", "head.out"),
    ),
}


def layout_named(name: str) -> Layout:
    """One of LAYOUTS."""
    return Layout(name, RULES[name])
