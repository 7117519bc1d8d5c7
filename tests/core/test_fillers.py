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
from isoform.core.config.schema import BackboneConfig
from isoform.core.edges import Edges
from isoform.core.mixers import MIXERS
from isoform.core.tokens import Pair, Tokens

B, N, M, HEADS, HEAD_DIM, MLP, COND, HOPS = 2, 7, 5, 6, 4, 13, 11, 3
DIM = HEADS * HEAD_DIM
SMALL = {"dim": DIM, "depth": 2, "heads": HEADS, "mlp_dim": MLP}

# slot -> filler -> what the backbone's table needs to use it
FILLERS: dict[str, dict[str, dict]] = {
    "mixer": {
        "softmax": {},
        "neighbour": {"mixer": "neighbour"},
        "neighbour, after the sum": {"mixer": "neighbour", "order": "post", "norm": "batch", "qkv_bias": False},
        "neighbour, wide heads": {"mixer": "neighbour", "order": "cct", "head_dim": 5, "layer_scale": 0.3},
        "neighbour, on the output": {"mixer": "neighbour", "order": "res_post", "channel": "none"},
    },
    "channel": {
        k: {"channel": k} for k in ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu", "geglu", "none")
    },
    "score": {
        "none": {},
        "dense": {"score": "dense"},
        "table": {"score": "table", "score_ids": 9},
        "path": {"score": "path", "score_ids": 9, "score_hops": HOPS},
        "graph": {"score": "graph", "score_ids": 7, "score_edge_ids": 9, "score_hops": HOPS},
        "graph, near": {"score": "graph", "score_ids": 7, "score_edge_ids": 9, "score_hops": HOPS, "score_reach": 4},
        "distance": {"score": "distance", "score_ids": 5},
    },
    "scope": {"all": {}},
    "project": {
        "grouped": {"kv_heads": 2},
        "one key head": {"kv_heads": 1},
        "wide heads": {"head_dim": 10},
        "wide values": {"value_dim": 5},
        "narrow values": {"value_dim": 3, "kv_heads": 2, "gated": True, "mixer_norm": True},
        "no projection": {"head_dim": 7, "value_dim": HEAD_DIM, "proj": False},
        "no biases": {"qkv_bias": False, "proj_bias": False, "mlp_bias": False},
        "gated": {"gated": True},
        "inner norms": {"mixer_norm": True, "mlp_norm": True},
        "causal": {"causal": True},
    },
    "qk_norm": {"none": {}, "layer": {"qk_norm": "layer"}, "rms": {"qk_norm": "rms"}},
    "norm": {k: {"norm": k} for k in ("layer", "layer_plain", "rms", "batch", "none")},
    "order": {k: {"order": k} for k in ("pre", "post", "res_post", "cct")},
    "layout": {"sequence": {}, "parallel": {"layout": "parallel", "layer_scale": 0.3}},
    "branches": {"two": {"branches": 2, "layer_scale": 0.3}},
    "condition": {"none": {}, "adaln_zero": {"condition": "adaln_zero", "norm": "layer_plain", "cond_dim": COND}},
    "layer_scale": {"both": {"layer_scale": 0.1}, "mixer": {"layer_scale": 0.1, "layer_scale_mlp": False}},
    "position": {k: {"position": k} for k in ("none", "readd", "rotary", "rotary_half", "rotary_learned")},
    "memory": {
        "none": {},
        "cross": {"memory": "cross", "layer_scale": 0.3},
        "cross, wide values": {"memory": "cross", "value_dim": 5},
    },
    "final_norm": {"off": {"final_norm": False}},
}
CASES = [
    pytest.param({**SMALL, **table}, id=f"{slot}-{name}") for slot, f in FILLERS.items() for name, table in f.items()
]


def test_every_choice_of_the_schema_is_a_case() -> None:
    for slot in ("channel", "score", "scope", "qk_norm", "norm", "order", "layout", "condition", "position", "memory"):
        known = {table.get(slot, BackboneConfig.model_fields[slot].default) for table in FILLERS[slot].values()}
        assert set(get_args(BackboneConfig.model_fields[slot].annotation)) == known, slot
    assert set(MIXERS) == {table.get("mixer", "softmax") for table in FILLERS["mixer"].values()}


def build(table: dict) -> Backbone:
    """A backbone in float64 whose every parameter is random, so that a forgotten one shows."""
    torch.manual_seed(0)
    backbone = Backbone(BackboneConfig.model_validate(table)).double().eval()
    for name, parameter in backbone.named_parameters():
        centre = 1.0 if ("norm" in name and name.endswith("weight")) or "widths" in name else 0.0
        torch.nn.init.normal_(parameter, centre, 0.1 if centre else 0.35)
    for name, buffer in backbone.named_buffers():
        torch.nn.init.uniform_(buffer, 0.5, 1.5) if "var" in name else torch.nn.init.normal_(buffer)
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
        "spatial": torch.randint(0, 7, (B, n, n), generator=g, dtype=torch.uint8),
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


def edges_of(tokens: Tokens) -> Edges:
    """Edges between some of the real tokens; which ones and with what features, the pair features say."""
    padded = tokens.unpad()
    apart = padded.pair.view("distance", absent=5)
    real = padded.mask()
    b, i, j = ((apart < 3) & real[:, :, None] & real[:, None, :]).nonzero().unbind(1)
    weight = padded.pair.view("bias")[b, i, j].sum(-1, keepdim=True)
    x = torch.sin(weight * (1 + torch.arange(DIM, dtype=torch.float64) / DIM))
    start = torch.arange(len(real)) * real.shape[1] if tokens.offsets is None else tokens.offsets[:-1]
    return Edges(x, torch.stack([start[b] + i, start[b] + j], dim=1))


def streams(config: BackboneConfig, tokens: Tokens) -> Tokens | dict[str, Tokens | Edges]:
    if MIXERS[config.mixer].traits.edges:
        return {"main": tokens, "edges": edges_of(tokens)}
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
    edges = edges_of(tokens) if traits.edges else None
    real = tokens.mask()

    def both(t: Tokens) -> tuple[torch.Tensor, torch.Tensor | None]:
        if edges is None:
            return function(t).x, None
        main, after = backbone.both(streams(config, t))
        assert torch.equal(function(t).x, main.x)
        return main.x, after.x

    results = []
    for run in (both, lambda t: oracle.run(backbone, t, memory, edges)):
        x = tokens.x.clone().requires_grad_()
        main, after = run(tokens.with_x(x))
        out = main[real] if after is None else torch.cat([main[real], after])
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
