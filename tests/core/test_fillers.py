"""One property test for every filler of every slot: parity with a dense oracle, padding, order, save and load."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import get_args

import pytest
import torch

import oracle
from checks import (
    assert_causal,
    assert_close_named,
    assert_layout_ignored,
    assert_padding_ignored,
    assert_permutation_equivariant,
)
from isoform.core.backbone import Backbone
from isoform.core.mixers import MIXERS
from isoform.core.schema import BackboneConfig
from isoform.core.tokens import Pair, Tokens

B, N, M, HEADS, HEAD_DIM, MLP, COND, HOPS = 2, 7, 5, 6, 4, 13, 11, 3
DIM = HEADS * HEAD_DIM
SMALL = {"dim": DIM, "depth": 2, "heads": HEADS, "mlp_dim": MLP}

# slot -> filler -> what the backbone's table needs to use it
FILLERS: dict[str, dict[str, dict]] = {
    "mixer": {"softmax": {}},
    "channel": {
        k: {"channel": k} for k in ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu", "geglu", "none")
    },
    "score": {
        "none": {},
        "dense": {"score": "dense"},
        "table": {"score": "table", "score_ids": 9},
        "path": {"score": "path", "score_ids": 9, "score_hops": HOPS},
        "distance": {"score": "distance", "score_ids": 5},
    },
    "scope": {"all": {}},
    "project": {
        "grouped": {"kv_heads": 2},
        "one key head": {"kv_heads": 1},
        "wide heads": {"head_dim": 10},
        "no biases": {"qkv_bias": False, "proj_bias": False, "mlp_bias": False},
        "gated": {"gated": True},
        "inner norms": {"mixer_norm": True, "mlp_norm": True},
        "causal": {"causal": True},
    },
    "qk_norm": {"none": {}, "layer": {"qk_norm": "layer"}, "rms": {"qk_norm": "rms"}},
    "norm": {k: {"norm": k} for k in ("layer", "layer_plain", "rms", "none")},
    "order": {k: {"order": k} for k in ("pre", "post", "res_post", "cct")},
    "layout": {"sequence": {}, "parallel": {"layout": "parallel", "layer_scale": 0.3}},
    "branches": {"two": {"branches": 2, "layer_scale": 0.3}},
    "condition": {"none": {}, "adaln_zero": {"condition": "adaln_zero", "norm": "layer_plain", "cond_dim": COND}},
    "layer_scale": {"both": {"layer_scale": 0.1}, "mixer": {"layer_scale": 0.1, "layer_scale_mlp": False}},
    "position": {k: {"position": k} for k in ("none", "readd", "rotary", "rotary_half", "rotary_learned")},
    "memory": {"none": {}, "cross": {"memory": "cross", "layer_scale": 0.3}},
    "final_norm": {"off": {"final_norm": False}},
}
CASES = [
    pytest.param({**SMALL, **table}, id=f"{slot}-{name}") for slot, f in FILLERS.items() for name, table in f.items()
]


def test_every_choice_of_the_schema_is_a_case() -> None:
    for slot in ("channel", "score", "scope", "qk_norm", "norm", "order", "layout", "condition", "position", "memory"):
        assert set(get_args(BackboneConfig.model_fields[slot].annotation)) == set(FILLERS[slot]), slot
    assert set(MIXERS) == set(FILLERS["mixer"])


def build(table: dict) -> Backbone:
    """A backbone in float64 whose every parameter is random, so that a forgotten one shows."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig.model_validate(table)).double().eval()
    for name, parameter in backbone.named_parameters():
        centre = 1.0 if ("norm" in name and name.endswith("weight")) or "widths" in name else 0.0
        torch.nn.init.normal_(parameter, centre, 0.1 if centre else 0.35)
    return backbone


def tokens_for(config: BackboneConfig, n: int = N, lengths: tuple[int, ...] = (N, N - 3)) -> Tokens:
    """Ragged tokens with what the table's fillers read."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    positions = {"none": None, "readd": DIM, "rotary_learned": 2}.get(config.position, HEAD_DIM // 2)
    features = {
        "bias": normal(B, n, n, HEADS),
        "ids": torch.randint(0, 9, (B, n, n), generator=g, dtype=torch.uint8),
        "edges": torch.randint(0, 9, (B, n, n, HOPS, 2), generator=g, dtype=torch.int16),
        "distance": torch.randint(0, 6, (B, n, n), generator=g, dtype=torch.uint8),
    }
    index = torch.arange(n).expand(B, n).clone()
    index[:, 0] = -1  # a token of its own, such as a class token
    return Tokens(
        normal(B, n, DIM),
        torch.arange(n) < torch.tensor(lengths)[:, None],
        coords=normal(B, n, 3),
        pos=None if positions is None else normal(B, n, positions),
        pair=Pair(features, index),
        cond=normal(B, COND),
        prefix=1,
    )


def streams(config: BackboneConfig, tokens: Tokens) -> Tokens | dict[str, Tokens]:
    if config.memory == "none":
        return tokens
    g = torch.Generator().manual_seed(2)
    memory = Tokens(
        torch.randn(B, M, DIM, generator=g, dtype=torch.float64), torch.arange(M) < torch.tensor([[M], [2]])
    )
    return {"main": tokens, "memory": memory.pack() if tokens.packed else memory}


@pytest.mark.parametrize("table", CASES)
def test_filler(table: dict) -> None:
    backbone = build(table)
    config, traits = backbone.config, MIXERS[backbone.config.mixer].traits
    tokens = tokens_for(config)

    def function(t: Tokens) -> Tokens:
        return backbone(streams(config, t))

    # Parity and gradients, of the tokens and of every parameter, with the dense oracle.
    memory = streams(config, tokens)["memory"] if config.memory == "cross" else None
    real = tokens.mask()
    results = []
    for run in (lambda t: function(t).x, lambda t: oracle.run(backbone, t, memory)):
        x = tokens.x.clone().requires_grad_()
        out = run(tokens.with_x(x))[real]
        weight = torch.sin(torch.arange(out.numel(), dtype=torch.float64)).view_as(out)
        names, parameters = zip(*backbone.named_parameters(), strict=True)
        grads = torch.autograd.grad((out * weight).sum(), [x, *parameters])
        results.append({"out": out, "x": grads[0], **dict(zip(names, grads[1:], strict=True))})
    assert_close_named(*results, atol=1e-9)

    # Padding never changes a real token; the packed layout never changes anything.
    assert_padding_ignored(function, tokens, atol=1e-9)
    if traits.ragged and config.score == "none":
        assert_layout_ignored(function, tokens, atol=1e-9)
    whole = replace(tokens, valid=None)
    if config.causal:
        assert_causal(function, whole, atol=1e-9)
    elif traits.equivariant:
        assert_permutation_equivariant(function, whole, atol=1e-9)

    # Saved and loaded into a fresh backbone, it is the same function.
    file = io.BytesIO()
    torch.save(backbone.state_dict(), file)
    file.seek(0)
    fresh = Backbone(config).double().eval()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(streams(config, tokens)).x, function(tokens).x)
