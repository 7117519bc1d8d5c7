"""The names of Graphormer's official checkpoints beside ours.

layout        where it comes from
fairseq       microsoft/Graphormer: {"model": state dict}
fairseq-old   the same with queries, keys and values in one in_proj
transformers  GraphormerForGraphClassification: a folder with config.json, hf:OWNER/NAME, or its state dict alone
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from isoform.core.pretrained import Layout, Rule, join, rename, reshape
from isoform.molecules.config import MoleculesApp

LAYOUTS = ("fairseq", "fairseq-old", "transformers")
ENCODER = "encoder.graph_encoder"
LAYER = re.compile(rf"{re.escape(ENCODER)}\.layers\.(\d+)\.")
HEADS = {
    "fairseq": ("encoder.embed_out.weight", "encoder.lm_output_learned_bias"),
    "transformers": ("classifier.classifier.weight", "classifier.lm_output_learned_bias"),
}
# What files hold and nothing reads.
SPARE = {
    f"{ENCODER}.final_layer_norm.weight": "final_norm.weight",
    f"{ENCODER}.final_layer_norm.bias": "final_norm.bias",
    "encoder.masked_lm_pooler.weight": "pooler.weight",
    "encoder.masked_lm_pooler.bias": "pooler.bias",
}


def _named(foreign: str, own: str) -> Rule:
    return rename(foreign + ".{p}", own + ".{p}")


def trunk_layout(pre: bool, *, own: str = "", old: bool = False) -> Layout:
    """The encoder layers' names beside the Backbone's; `old`: queries, keys and values are one tensor."""
    layer, block = f"{ENCODER}.layers.{{i}}", f"{own}blocks.{{i}}"
    norms = ("mixer.norm", "channel.norm") if pre else ("norms.mixer", "norms.channel")
    qkv = f"{block}.mixer.inner.qkv.{{p}}"
    if old:
        projection = rename(f"{layer}.self_attn.in_proj_{{p}}", qkv)
    else:
        projection = join([f"{layer}.self_attn.{n}_proj.{{p}}" for n in "qkv"], qkv)
    rules = (
        projection,
        _named(f"{layer}.self_attn.out_proj", f"{block}.mixer.inner.proj"),
        _named(f"{layer}.fc1", f"{block}.channel.inner.fc1"),
        _named(f"{layer}.fc2", f"{block}.channel.inner.fc2"),
        _named(f"{layer}.self_attn_layer_norm", f"{block}.{norms[0]}"),
        _named(f"{layer}.final_layer_norm", f"{block}.{norms[1]}"),
    )
    return Layout("graphormer trunk", rules)


def layout_of(config: MoleculesApp, layout: str, state: Mapping[str, Any] | None = None) -> Layout:
    """The rules of one of LAYOUTS for the app's trunk.

    A pre-norm encoder's final_layer_norm, and fairseq's masked_lm_pooler, are stored and read by nothing.
    """
    backbone = config.backbone
    heads, matrices = backbone.heads, config.score.hop_matrices or config.score.hops
    node, bias = f"{ENCODER}.graph_node_feature", f"{ENCODER}.graph_attn_bias"
    out, scalar = HEADS["transformers" if layout == "transformers" else "fairseq"]
    hops = reshape((matrices * heads * heads, 1), (matrices, heads, heads))
    rules = (
        rename(f"{node}.atom_encoder.weight", "tokeniser.atoms.features.weight"),
        rename(f"{node}.in_degree_encoder.weight", "tokeniser.atoms.in_degree.weight"),
        rename(f"{node}.out_degree_encoder.weight", "tokeniser.atoms.out_degree.weight"),
        rename(f"{node}.graph_token.weight", "tokeniser.graph_token"),
        rename(f"{bias}.spatial_pos_encoder.weight", "backbone.score.spatial"),
        rename(f"{bias}.edge_encoder.weight", "backbone.score.edges"),
        rename(f"{bias}.edge_dis_encoder.weight", "backbone.score.hops", hops),
        rename(f"{bias}.graph_token_virtual_distance.weight", "backbone.score.virtual"),
        _named(f"{ENCODER}.emb_layer_norm", "tokeniser.norm"),
        _named(f"{ENCODER}.final_layer_norm", "spare.final_norm"),
        *trunk_layout(backbone.order == "pre", own="backbone.", old=layout == "fairseq-old").rules,
        _named("encoder.lm_head_transform_weight", "head.transform"),
        _named("encoder.layer_norm", "head.norm"),
        _named("encoder.masked_lm_pooler", "spare.pooler"),
        rename(scalar, "head.bias"),
        rename(out, "head.out.weight"),
    )
    return Layout(layout, rules)
