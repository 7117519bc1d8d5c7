"""Settings weighed against a checkpoint's: which keys may change, and what is refused."""

from __future__ import annotations

import pytest
import torch

from isoform.core.backbone import Backbone
from isoform.core.config.schema import AppConfig, BackboneConfig
from isoform.core.errors import UserError, join_names
from isoform.core.pretrained.settings import (
    TRAINING_KEYS,
    differences,
    need,
    refuse_other,
    refuse_unsupported,
    settings_of,
    switch,
    table,
    widths_of,
)
from isoform.core.tokens import Tokens

# Keys of a backbone that make another function. A new key of the schema belongs here or into TRAINING_KEYS.
FUNCTION = {
    "dim", "depth", "heads", "kv_heads", "head_dim", "value_dim", "mlp_dim", "mixer", "channel", "score", "score_ids",
    "score_gaussians", "causal", "qkv_bias", "proj", "proj_bias",
    "mlp_bias", "qk_norm", "mixer_norm", "gated", "mlp_norm", "norm", "eps", "norm_bias", "order", "layout", "branches",
    "condition", "cond_dim", "layer_scale_mlp", "layer_scale", "position", "final_norm", "memory",
}  # fmt: skip
# Another value than the default for every key that may change.
OTHER = {
    "dropout": 0.3, "mlp_dropout": 0.2, "attention_dropout": 0.4, "drop_path": 0.5, "init": "torch",
    "recompute": "block", "attention": "reference",
}  # fmt: skip


def test_every_key_of_the_schema_is_classified() -> None:
    assert set(BackboneConfig.model_fields) == FUNCTION | TRAINING_KEYS
    assert not FUNCTION & TRAINING_KEYS and OTHER.keys() == TRAINING_KEYS


@pytest.mark.parametrize("key", sorted(TRAINING_KEYS))
def test_a_key_that_may_change_leaves_the_function_in_evaluation(key: str) -> None:
    base = BackboneConfig(dim=12, depth=2, heads=3, mlp_dim=17)
    changed = base.model_copy(update={key: OTHER[key]})
    assert getattr(base, key) != OTHER[key]
    trunk, other = Backbone(base).eval(), Backbone(changed).eval()
    other.load_state_dict(trunk.state_dict())
    x_BND = torch.randn(2, 5, 12)
    torch.testing.assert_close(other(Tokens(x_BND)).x, trunk(Tokens(x_BND)).x)
    assert differences(base, changed) == []


def test_differences_know_what_an_unset_width_means() -> None:
    base = BackboneConfig(dim=12, heads=3)
    assert (
        differences(
            base, BackboneConfig(dim=12, heads=3, kv_heads=3, head_dim=4, value_dim=4, mlp_dim=48)
        )
        == []
    )
    assert differences(base, base.model_copy(update={"kv_heads": 1, "eps": 1e-5})) == [
        "backbone.kv_heads is 3 here and 1 there",
        "backbone.eps is 1e-06 here and 1e-05 there",
    ]
    assert widths_of(base)["mlp_dim"] == 48


def test_settings_are_the_keys_that_somebody_set() -> None:
    app = AppConfig(domain="d", app="a", backbone=BackboneConfig(dim=12))
    assert settings_of(app, "backbone") == {"dim": 12}
    assert settings_of(app, "train") == {} and settings_of(None, "backbone") == {}


def test_a_contradiction_is_one_sentence() -> None:
    have = {"patch": (3, 5), "norm": None}
    refuse_other("tokeniser", {"patch": [3, 5], "unknown": 1, "norm": None}, have, "a.pth")
    refuse_other("tokeniser", {"norm": True}, have, "a.pth", free={"norm"})
    with pytest.raises(
        UserError, match=r"^tokeniser.norm = True is set, but a.pth has None: leave it out$"
    ):
        refuse_other("tokeniser", {"norm": True}, have, "a.pth")
    with pytest.raises(UserError, match=r"no model like this one \(a; b\)"):
        refuse_unsupported(["a", "b"])
    refuse_unsupported([])
    with pytest.raises(UserError, match=r"^here: dim = -1 can't be honoured \("):
        table(BackboneConfig, {"dim": -1}, "here")
    with pytest.raises(UserError, match="bias = 2 can't be honoured"):
        switch(2, "bias")
    assert switch(1, "bias") is True and switch(False, "bias") is False


def test_a_tensor_that_is_needed() -> None:
    state = {"a": torch.zeros(2, 3), "b": torch.zeros(5)}
    assert need(state, "a", 2, "x") is state["a"]
    with pytest.raises(UserError, match=r"x: has no tensor c, but a, b"):
        need(state, "c", 1, "x")
    with pytest.raises(UserError, match=r"x: b has shape \[5\], not 2 axes"):
        need(state, "b", 2, "x")


def test_names_in_a_sentence() -> None:
    assert (
        join_names([]) == "nothing"
        and join_names(["a"]) == "a"
        and join_names("abc", 3) == "a, b, c"
    )
    assert join_names("abcd", 3) == "a, b, c and 1 more"
    assert join_names(range(2000), 2, "; ") == "0; 1 and 1,998 more"
