"""Parameters counted from a table are those of the Backbone built from it."""

from __future__ import annotations

import pytest

from isoform.core.backbone import Backbone
from isoform.core.config.parameter_count import backbone_size
from isoform.core.config.schema import BackboneConfig

SMALL = {"dim": 24, "depth": 3, "heads": 6, "mlp_dim": 13}
TABLES = {
    "plain": {},
    "wide heads": {"head_dim": 10},
    "wide values": {"value_dim": 11, "kv_heads": 2},
    "no projection": {"head_dim": 7, "value_dim": 4, "proj": False},
    "no biases": {"qkv_bias": False, "proj_bias": False, "mlp_bias": False, "norm_bias": False},
    "gated": {
        "gated": True,
        "channel": "swiglu",
        "mlp_norm": True,
        "mixer_norm": True,
        "norm": "rms",
    },
    "gated wide values": {"gated": True, "value_dim": 5, "mixer_norm": True},
    "normed heads": {"qk_norm": "layer", "kv_heads": 2},
    "cross": {"memory": "cross", "value_dim": 5, "layer_scale": 0.3},
    "post": {"order": "post"},
    "cct": {"order": "cct"},
    "parallel": {"layout": "parallel", "layer_scale": 0.1},
    "branches": {"branches": 2},
    "conditioned": {"condition": "adaln_zero", "norm": "layer_plain", "cond_dim": 11},
    "bare": {"channel": "none", "norm": "none", "final_norm": False},
    "edges": {
        "mixer": "neighbour",
        "norm": "batch",
        "order": "post",
        "layer_scale": 0.1,
        "qkv_bias": False,
    },
    "edges, no mlp": {"mixer": "neighbour", "channel": "none", "head_dim": 5},
    "table": {"score": "table", "score_ids": 7},
    "distance": {"score": "distance"},
    "narrow distance": {"score": "distance", "score_gaussians": 5},
    "parallel copies": {"layout": "parallel", "branches": 2, "layer_scale": 0.1},
}


@pytest.mark.parametrize("name", TABLES)
def test_counted_is_built(name: str) -> None:
    config = BackboneConfig.model_validate({**SMALL, **TABLES[name]})
    assert backbone_size(config) == sum(p.numel() for p in Backbone(config).parameters())


def test_values_without_a_projection_must_be_as_wide_as_the_stream() -> None:
    with pytest.raises(
        ValueError,
        match=r"6 heads of 5 values beside a stream of 24 features: set .*value_dim to 4",
    ):
        Backbone(BackboneConfig.model_validate({**SMALL, "value_dim": 5, "proj": False}))
