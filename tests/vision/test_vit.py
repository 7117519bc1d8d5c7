"""ViT: sizes, tokens, readouts and what its tables refuse."""

from __future__ import annotations

import pytest
import torch

from isoform.core.config.schema import BackboneConfig
from isoform.core.engine.optim import decays
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.model import SIZES, build_vit, sized
from isoform.vision.vit.parameter_count import token_count, vit_size

TINY = {"dim": 20, "depth": 2, "heads": 5, "mlp_dim": 13}


def tiny(tokeniser: dict | None = None, head: dict | None = None, **backbone: object):
    torch.manual_seed(0)
    return build_vit(
        VitTokeniserConfig.model_validate(
            {"image": [6, 10], "patch": [3, 2], "channels": 2, **(tokeniser or {})}
        ),
        BackboneConfig.model_validate({**TINY, **backbone}),
        VitHeadConfig.model_validate({"outputs": 7, **(head or {})}),
    ).eval()


CASES = [
    ({}, {}, {}),
    ({"class_token": False}, {"pool": "mean", "norm": True}, {"final_norm": False}),
    (
        {"registers": 3, "distill_token": True, "position_prefix": False},
        {"pool": "class_max", "norm": True},
        {},
    ),
    (
        {"norm": True, "patch_bias": False, "position": "none"},
        {"pool": "attention", "pool_mlp": 11},
        {"norm": "rms"},
    ),
    (
        {"position": "sincos", "patch_norm": True},
        {"pool": "max"},
        {"channel": "swiglu", "layer_scale": 0.1},
    ),
    (
        {"rotary": "learned"},
        {"pool": "mean_max"},
        {"position": "rotary_learned", "qk_norm": "layer"},
    ),
    (
        {"rotary": "axial"},
        {"outputs": 0},
        {"position": "rotary", "layout": "parallel", "layer_scale": 0.1},
    ),
    (
        {"rotary": "dinov3"},
        {},
        {"position": "rotary_half", "branches": 2, "layer_scale": 0.1, "gated": True},
    ),
    ({}, {}, {"order": "res_post", "mlp_norm": True, "mixer_norm": True, "kv_heads": 1}),
    ({}, {}, {"order": "cct", "layer_scale": 0.1, "layer_scale_mlp": False}),
    ({}, {}, {"order": "post", "channel": "none"}),
]


@pytest.mark.parametrize(("tokeniser", "head", "backbone"), CASES)
def test_size_is_counted_without_building(tokeniser: dict, head: dict, backbone: dict) -> None:
    model = tiny(tokeniser, head, **backbone)
    counted = vit_size(
        model.tokeniser.config, model.backbone.config, model.head.config, model.head.config.outputs
    )
    assert counted == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(("tokeniser", "head", "backbone"), CASES)
def test_shapes_gradients_and_tokens(tokeniser: dict, head: dict, backbone: dict) -> None:
    model = tiny(tokeniser, head, **backbone).train()
    for linear in (model.head.linear, model.head.linear_distill):
        if linear is not None:
            torch.nn.init.normal_(linear.weight)
    images = torch.randn(3, 2, 6, 10)
    out = model(images)
    assert out.shape == (3, model.head.config.outputs or TINY["dim"])
    for tokens in (model.tokens(images), model.states(images)):
        assert tokens.x.shape == (3, token_count(model.tokeniser.config), TINY["dim"])
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert [m.shape for m in model.maps(images, [1])] == [(3, TINY["dim"], 2, 5)]


def test_usual_sizes_have_their_published_parameter_counts() -> None:
    published = {
        "Ti": 5_717_416,
        "S": 22_050_664,
        "B": 86_567_656,
        "L": 304_326_632,
        "H": 632_199_400,
    }
    for size in SIZES:
        patch = 14 if size == "H" else 16
        count = vit_size(VitTokeniserConfig(patch=patch), sized(size), VitHeadConfig(), 1000)
        assert abs(count - published[size]) / published[size] < 1e-3, (size, count)
    with pytest.raises(ValueError, match="there are Ti, S"):
        sized("XL")


@pytest.mark.parametrize("rotary", ["none", "axial", "learned", "dinov3"])
def test_another_image_size_resizes_the_positions(rotary: str) -> None:
    position = {
        "none": "none",
        "axial": "rotary",
        "learned": "rotary_learned",
        "dinov3": "rotary_half",
    }[rotary]
    model = tiny({"rotary": rotary}, position=position)
    assert model.states(torch.randn(1, 2, 9, 4)).grid == (3, 2)


def test_patch_dropout_keeps_the_prefix_and_only_trains() -> None:
    model = tiny({"patch_dropout": 0.5, "registers": 2})
    images = torch.randn(3, 2, 6, 10)
    assert model.states(images).x.shape[1] == 13
    model.train()
    tokens = model.states(images)
    assert tokens.x.shape[1] == 3 + 5 and tokens.prefix == 3
    first = model.tokeniser(images).x[:, :3]
    torch.testing.assert_close(first, model.eval().tokeniser(images).x[:, :3])


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda: tiny({"image": 7}), "tokeniser.patch"),
        (lambda: tiny()(torch.randn(1, 3, 6, 10)), "tokeniser.channels"),
        (lambda: tiny({"rotary": "axial"}), "needs backbone.position"),
        (lambda: tiny(position="rotary"), "needs backbone.position"),
        (lambda: tiny({"class_token": False})(torch.randn(1, 2, 6, 10)), "class token"),
        (lambda: tiny(head={"pool": "attention", "pool_heads": 3}), "must divide"),
    ],
)
def test_refusals_name_the_key(call, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        call()


def test_no_token_and_no_position_decays():
    """Class, distillation and register tokens, the query of attention pooling, positions, learned rotary angles."""
    tokens = {"distill_token": True, "registers": 3, "rotary": "learned"}
    model = tiny(tokens, {"pool": "attention"}, position="rotary_learned", dim=30)
    still = {name for name, p in model.named_parameters() if p.ndim > 1 and not decays(name, p)}
    assert {name for name in still if "frequencies" not in name} == {
        "tokeniser.class_token",
        "tokeniser.distill_token",
        "tokeniser.registers",
        "tokeniser.position",
        "head.pool.latent",
    }
    assert len(still) == 5 + 2, "of both blocks"
