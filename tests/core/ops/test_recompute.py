"""Deferred inputs: the same values and gradients as kept ones, of every filler, with less memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.ops import matmul, recompute
from isoform.core.ops.linear import Linear
from isoform.core.ops.recompute import Deferred
from isoform.core.tokens import Tokens

B, N, M, DIM = 2, 7, 5, 24
TABLES = {
    "plain": {},
    "scaled": {"layer_scale": 0.3, "drop_path": 0.3},
    "dropout": {"dropout": 0.3, "drop_path": 0.3},
    "conditioned": {"condition": "adaln_zero", "norm": "layer_plain", "cond_dim": 11},
    "gated": {
        "gated": True,
        "channel": "swiglu",
        "mlp_norm": True,
        "mixer_norm": True,
        "norm": "rms",
    },
    "normed heads": {"qk_norm": "rms", "kv_heads": 2, "position": "rotary"},
    "no biases": {"qkv_bias": False, "proj_bias": False, "mlp_bias": False},
    "post": {"order": "post"},
    "res_post": {"order": "res_post"},
    "cct": {"order": "cct"},
    "parallel": {"layout": "parallel"},
    "branches": {"branches": 2},
    "cross": {"memory": "cross"},
    "no channel": {"channel": "none"},
}


def build(recompute: str, table: dict) -> Backbone:
    torch.manual_seed(0)
    small = {"dim": DIM, "depth": 2, "heads": 6, "mlp_dim": 13}
    backbone = Backbone(BackboneConfig.model_validate({**small, **table, "recompute": recompute}))
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, 0.0, 0.35)
    return backbone.train()


def gradients(backbone: Backbone, dtype: torch.dtype | None = None) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(1)
    x, cond, pos, memory = (
        torch.randn(*s, generator=g) for s in ((B, N, DIM), (B, 11), (B, N, 2), (B, M, DIM))
    )
    leaves = [x.requires_grad_(), cond.requires_grad_()]
    main = Tokens(x, torch.arange(N) < torch.tensor([[N], [N - 2]]), cond=cond, pos=pos)
    torch.manual_seed(2)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype is not None):
        streams = (
            {"main": main, "memory": Tokens(memory)} if backbone.config.memory == "cross" else main
        )
        out = backbone(streams).x
    weight = torch.sin(torch.arange(out.numel(), dtype=torch.float32)).view_as(out)
    loss = (out * weight).sum()
    names = [p for p in backbone.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, [*leaves, *names], allow_unused=True)
    return [out, torch.rand(3), *(f for f in found if f is not None)]


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(
    ("smallest", "part"), [(1, 2**30), (2**62, 2**30), (2**62, 1)], ids=["onednn", "torch", "parts"]
)
def test_no_mode_changes_a_gradient_or_the_random_state(
    name: str, smallest: int, part: int, monkeypatch
) -> None:
    if part == 1 and "dropout" in TABLES[name]:
        pytest.skip(
            "parts draw their dropout one after the other, which is as random but not the same"
        )
    monkeypatch.setattr(matmul, "SMALLEST", smallest)
    monkeypatch.setattr(recompute, "PART_BYTES", part)
    kept, *again = (
        gradients(build(mode, TABLES[name])) for mode in ("none", "elementwise", "light")
    )
    for a, *others in zip(kept, *again, strict=True):
        for b in others:
            torch.testing.assert_close(a, b, atol=1e-6 * max(1, a.abs().max().item()), rtol=1e-5)


@pytest.mark.parametrize("name", ["plain", "dropout", "conditioned", "gated"])
def test_no_mode_changes_a_gradient_under_autocast(name: str) -> None:
    kept, *again = (
        gradients(build(mode, TABLES[name]), torch.bfloat16)
        for mode in ("none", "elementwise", "light")
    )
    for a, *others in zip(kept, *again, strict=True):
        for b in others:
            torch.testing.assert_close(a, b, atol=1e-2 * max(1, a.abs().max().item()), rtol=1e-2)


def test_frozen_parameters_get_no_gradient() -> None:
    results = []
    for mode in ("none", "elementwise", "light"):
        backbone = build(mode, {})
        for name, parameter in backbone.named_parameters():
            parameter.requires_grad_("norm" in name or "fc1" in name)
        results.append(gradients(backbone))
    for a, *others in zip(*results, strict=True):
        for b in others:
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-5)


def kept_bytes(backbone: Backbone) -> int:
    """Bytes of distinct storages that autograd holds for the backward pass, parameters aside."""
    own = {p.untyped_storage().data_ptr() for p in backbone.parameters()}
    seen: dict[int, int] = {}
    holds = []

    def pack(t: torch.Tensor) -> torch.Tensor:
        if (at := t.untyped_storage().data_ptr()) not in own:
            seen[at] = t.untyped_storage().nbytes()
            holds.append(t)
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        backbone(Tokens(torch.randn(B, 97, DIM)))
    return sum(seen.values())


@pytest.mark.parametrize(("mode", "part"), [("elementwise", 0.7), ("light", 0.25)])
def test_a_part_is_kept(mode: str, part: float) -> None:
    table = {"mlp_dim": 4 * DIM}
    assert kept_bytes(build(mode, table)) < part * kept_bytes(build("none", table))


@pytest.mark.parametrize(("autocast", "tolerance"), [(False, 1e-5), (True, 3e-2)])
def test_dropout_in_parts_is_the_same_both_times(
    autocast: bool, tolerance: float, monkeypatch
) -> None:
    """The gradient of a linear function of dropout's output shows which elements the second pass dropped."""
    monkeypatch.setattr(recompute, "PART_BYTES", 2 * 3 * DIM * 4)
    layer = Linear(DIM, 1, bias=False)
    x = torch.randn(5, 3, DIM, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = layer(Deferred(lambda x: nn.functional.dropout(x, 0.5), (x,)))
    (grad,) = torch.autograd.grad(out.sum(), x)
    torch.testing.assert_close(
        (grad * x).sum(-1, keepdim=True), out.float(), atol=tolerance, rtol=tolerance
    )


def test_forgotten_tensors_are_made_again_once() -> None:
    calls = []
    x = torch.randn(3, 4, requires_grad=True)

    def again() -> list[torch.Tensor]:
        calls.append(torch.is_grad_enabled())
        return [x * 2, x * 3]

    a, b = again()
    with recompute.recompute_in_backward((a, b), again):
        out = (a * b).sum()
    del a, b
    (grad,) = torch.autograd.grad(out, x)
    torch.testing.assert_close(grad, 12 * x)
    assert calls == [True, False]


def test_evaluation_defers_nothing() -> None:
    backbone = build("light", {}).eval()
    tokens = Tokens(torch.randn(B, N, DIM))
    assert torch.equal(backbone(tokens).x, build("none", {}).eval()(tokens).x)


def test_a_deferred_input_is_a_linear_layers_input() -> None:
    layer, norm = Linear(DIM, 5), nn.LayerNorm(DIM)
    x = torch.randn(3, DIM, requires_grad=True)
    deferred = Deferred(norm, (x,), tuple(norm.parameters())).then(torch.tanh, ())
    wanted = [x, *layer.parameters(), *norm.parameters()]
    results = [
        torch.autograd.grad(layer(given).square().sum(), wanted) for given in (deferred, torch.tanh(norm(x)))
    ]  # fmt: skip
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    with torch.no_grad():
        assert torch.equal(layer(deferred), layer(torch.tanh(norm(x))))


def test_light_compiles() -> None:
    backbone = build("light", {})
    given = Tokens(torch.randn(B, N, DIM))
    compiled = torch.compile(backbone, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(given).x, backbone(replace(given)).x)
