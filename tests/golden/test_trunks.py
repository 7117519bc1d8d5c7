"""The shared Backbone is each official implementation's encoder: stored tokens in, stored tokens out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor

from checks import assert_close_named, assert_same_bits
from golden import trunk_layouts as layouts
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.pretrained import Layout
from isoform.core.tokens import Pair, Tokens
from isoform.molecules.graphormer.pretrained import trunk_layout as graphormer_trunk
from isoform.timeseries.itransformer.pretrained import trunk_layout as itransformer_trunk


class Case:
    """A stored case: its config, tensors by group, and tolerances."""

    def __init__(self, folder: Path, name: str) -> None:
        path = folder / f"{name}.json"
        if not path.exists():
            pytest.skip(f"no stored case {path}")
        self.json = json.loads(path.read_text())
        self.config = self.json["config"]
        tensors = load_file(path.with_suffix(".safetensors"))
        self.weights, self.input, self.output = (
            {
                k.removeprefix(f"{group}/"): v
                for k, v in tensors.items()
                if k.startswith(f"{group}/")
            }
            for group in ("weights", "input", "output")
        )

    def trunk(self, layout: Layout, config: BackboneConfig) -> Backbone:
        """A Backbone with the case's block weights; writing them back gives the same bits."""
        backbone = Backbone(config).eval()
        own = backbone.state_dict()
        foreign = {k: v for k, v in self.weights.items() if layout.knows(k)}
        backbone.load_state_dict(layout.read(foreign, own).weights)
        assert_same_bits(layout.write(backbone.state_dict()), foreign)
        return backbone

    def check(self, **got: Tensor) -> None:
        """The outputs of those names agree within the case's tolerances."""
        want = {name: self.output[name] for name in got}
        atol = {name: self.json["recommended_atol"][f"output/{name}"] for name in got}
        assert_close_named(got, want, atol=atol, rtol=self.json["recommended_rtol"])


def test_itransformer(golden_dir: Path) -> None:
    case = Case(golden_dir, "itransformer/itransformer_marks_norm")
    c = case.config
    config = BackboneConfig(
        dim=c["d_model"],
        depth=c["e_layers"],
        heads=c["n_heads"],
        mlp_dim=c["d_ff"],
        order="post",
        eps=1e-5,
    )
    trunk = case.trunk(itransformer_trunk(), config)
    case.check(encoder_tokens=trunk(Tokens(case.output["embedded_tokens"], suffix=4)).x)


@pytest.mark.parametrize("order", ["pre", "post"])
def test_graphormer(golden_dir: Path, order: str) -> None:
    case = Case(golden_dir, f"graphormer/graphormer_{order}ln")
    c = case.config
    config = BackboneConfig(
        dim=c["embedding_dim"], depth=c["num_hidden_layers"], heads=c["num_attention_heads"],
        mlp_dim=c["ffn_embedding_dim"], order=order, eps=1e-5, score="dense", final_norm=False,
    )  # fmt: skip
    trunk = case.trunk(graphormer_trunk(order == "pre"), config)
    x = case.output["embedding"]
    n = x.shape[1]
    real = case.input["input_nodes"][..., 0] != 0
    bias = Pair(
        {"bias": case.output["attn_bias"].permute(0, 2, 3, 1)}, torch.arange(n).expand(len(x), n)
    )
    valid = torch.cat([torch.ones(len(x), 1, dtype=torch.bool), real], dim=1)
    got = trunk(Tokens(x, valid, pair=bias, prefix=1)).x
    want = case.output["encoder_states"]
    case.check(encoder_states=torch.where(valid[..., None], got, want))  # padding holds no meaning


def test_pointmae(golden_dir: Path) -> None:
    case = Case(golden_dir, "pointmae/pretrain")
    c = case.config
    config = BackboneConfig(
        dim=c["trans_dim"], depth=c["depth"], heads=c["num_heads"], mlp_dim=c["mlp_ratio"] * c["trans_dim"],
        qkv_bias=False, eps=c["layer_norm_eps"], position="readd",
    )  # fmt: skip
    trunk = case.trunk(layouts.timm_like("MAE_encoder.blocks.blocks", "MAE_encoder.norm"), config)
    w, centres = case.weights, case.output["centers"]
    hidden = F.gelu(
        F.linear(centres, w["MAE_encoder.pos_embed.0.weight"], w["MAE_encoder.pos_embed.0.bias"])
    )
    pos = F.linear(hidden, w["MAE_encoder.pos_embed.2.weight"], w["MAE_encoder.pos_embed.2.bias"])
    patches = Tokens(case.output["group_tokens"], coords=centres, pos=pos)
    visible = case.input["mask"].argsort(dim=1, stable=True)[
        :, : case.output["encoder_visible"].shape[1]
    ]
    case.check(encoder_visible=trunk(patches.gather(visible)).x)


def test_cct(golden_dir: Path) -> None:
    case = Case(golden_dir, "cct/cct_3x1_learnable")
    c = case.config
    config = BackboneConfig(
        dim=c["embedding_dim"], depth=c["num_layers"], heads=c["num_heads"],
        mlp_dim=int(c["mlp_ratio"] * c["embedding_dim"]), qkv_bias=c["qkv_bias"], eps=c["layer_norm_eps"], order="cct",
    )  # fmt: skip
    trunk = case.trunk(layouts.cct(), config)
    tokens = Tokens(case.output["conv_tokens"] + case.weights["classifier.positional_emb"])
    out, (first,) = trunk.tapped(tokens, taps=[0])
    case.check(tokens=out.x, after_block_0=first)
