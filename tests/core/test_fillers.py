"""One property test for every filler of every slot: parity with a dense oracle, padding, order, save and load."""

from __future__ import annotations

from typing import get_args

import pytest

from fillers import COND, HEAD_DIM, SMALL, assert_filler
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.mixers import MIXERS

# slot -> filler -> what the backbone's table needs to use it
FILLERS: dict[str, dict[str, dict]] = {
    "mixer": {
        "softmax": {},
        "neighbour": {"mixer": "neighbour"},
        "neighbour, after the sum": {
            "mixer": "neighbour",
            "order": "post",
            "norm": "batch",
            "qkv_bias": False,
        },
        "neighbour, wide heads": {
            "mixer": "neighbour",
            "order": "cct",
            "head_dim": 5,
            "layer_scale": 0.3,
        },
        "neighbour, on the output": {"mixer": "neighbour", "order": "res_post", "channel": "none"},
    },
    "channel": {
        k: {"channel": k}
        for k in ("gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu", "geglu", "none")
    },
    "score": {
        "none": {},
        "dense": {"score": "dense"},
        "table": {"score": "table", "score_ids": 9},
        "distance": {"score": "distance", "score_gaussians": 5},
    },
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
    "condition": {
        "none": {},
        "adaln_zero": {"condition": "adaln_zero", "norm": "layer_plain", "cond_dim": COND},
    },
    "layer_scale": {
        "both": {"layer_scale": 0.1},
        "mixer": {"layer_scale": 0.1, "layer_scale_mlp": False},
    },
    "position": {
        k: {"position": k} for k in ("none", "readd", "rotary", "rotary_half", "rotary_learned")
    },
    "memory": {
        "none": {},
        "cross": {"memory": "cross", "layer_scale": 0.3},
        "cross, wide values": {"memory": "cross", "value_dim": 5},
    },
    "final_norm": {"off": {"final_norm": False}},
}
CASES = [
    pytest.param({**SMALL, **table}, id=f"{slot}-{name}")
    for slot, f in FILLERS.items()
    for name, table in f.items()
]


def test_every_choice_of_the_schema_is_a_case() -> None:
    for slot in (
        "channel",
        "score",
        "qk_norm",
        "norm",
        "order",
        "layout",
        "condition",
        "position",
        "memory",
    ):
        known = {
            table.get(slot, BackboneConfig.model_fields[slot].default)
            for table in FILLERS[slot].values()
        }
        assert set(get_args(BackboneConfig.model_fields[slot].annotation)) == known, slot
    assert set(MIXERS) == {table.get("mixer", "softmax") for table in FILLERS["mixer"].values()}


@pytest.mark.parametrize("table", CASES)
def test_filler(table: dict) -> None:
    assert_filler(lambda: Backbone(BackboneConfig.model_validate(table)))
