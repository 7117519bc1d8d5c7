"""Fast copies: the same answers, in the precision that was asked for, and the model itself untouched."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.inference import optimise as module
from isoform.core.inference.optimise import PackedLinear, openvino, optimise
from isoform.core.tokens import Tokens

B, N, DIM = 2, 7, 24
TABLES = {
    "plain": {},
    "scaled": {"layer_scale": 0.3, "dropout": 0.3, "drop_path": 0.3},
    "conditioned": {"condition": "adaln_zero", "cond_dim": 11},
    "gated": {"gated": True, "channel": "swiglu", "mlp_norm": True, "norm": "rms"},
    "readd": {"position": "readd", "kv_heads": 2, "qk_norm": "layer"},
    "parallel": {"layout": "parallel", "qkv_bias": False, "proj_bias": False},
    "cct": {"order": "cct"},
}


def build(table: dict) -> Backbone:
    torch.manual_seed(0)
    backbone = Backbone(
        BackboneConfig.model_validate({"dim": DIM, "depth": 2, "heads": 6, "mlp_dim": 13, **table})
    )  # fmt: skip
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, 0.0, 0.35)
    return backbone


def tokens() -> Tokens:
    g = torch.Generator().manual_seed(1)
    x, pos, cond, coords = (
        torch.randn(*s, generator=g) for s in ((B, N, DIM), (B, N, DIM), (B, 11), (B, N, 3))
    )
    return Tokens(
        x, torch.arange(N) < torch.tensor([[N], [N - 2]]), coords=coords, pos=pos, cond=cond
    )


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("bf16", 3e-2)])
def test_the_copy_answers_as_the_model_does(
    name: str, precision: str, tolerance: float, monkeypatch
) -> None:
    monkeypatch.setattr(module, "SMALLEST_WEIGHT", 1)
    backbone = build(TABLES[name])
    before = copy.deepcopy(backbone.state_dict())
    fast = optimise(backbone, precision)
    given = tokens()
    answer, want = fast(given), backbone.eval()(given)
    assert answer.x.dtype == torch.float32 and not answer.x.requires_grad
    assert torch.equal(answer.coords, given.coords) and torch.equal(answer.valid, given.valid)
    assert (answer.x - want.x).abs().max() < tolerance * want.x.abs().max()
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, before[key]) and value.dtype == torch.float32, key


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_large_layers_are_packed_and_the_model_can_still_train(precision: str, monkeypatch) -> None:
    packs = precision == "fp32" or torch.ops.mkldnn._is_mkldnn_bf16_supported()
    backbone = build({}).train()
    assert not any(isinstance(m, PackedLinear) for m in optimise(backbone, precision).modules())
    monkeypatch.setattr(module, "SMALLEST_WEIGHT", 1)
    fast = optimise(backbone, precision)
    assert any(isinstance(m, nn.Linear) for m in fast.modules()) != packs
    assert sum(isinstance(m, PackedLinear) for m in fast.modules()) == (2 * 4 if packs else 0)
    assert backbone.training and all(p.requires_grad for p in backbone.parameters())
    backbone(tokens()).x.sum().backward()


def test_only_what_is_wanted_is_converted() -> None:
    fast = optimise(build({}), "bf16")
    seen = []
    fast.model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    fast(replace(tokens(), order=torch.arange(N).expand(B, N)))
    (given,) = seen
    assert given.x.dtype == given.pos.dtype == given.cond.dtype == torch.bfloat16
    assert (
        given.coords.dtype == torch.float32
        and given.order.dtype == torch.int64
        and given.valid.dtype == torch.bool
    )


class Body(nn.Module):
    """A backbone of plain tensors, as engines want it."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = build({"depth": 1})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.backbone(Tokens(x), first=1).x


def test_openvino_answers_as_the_model_does() -> None:
    pytest.importorskip("openvino")
    model, x = Body().eval(), tokens().x
    engine = openvino(model, x)
    with torch.no_grad():
        torch.testing.assert_close(engine(x), model(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(engine(x + 1), model(x + 1), atol=1e-5, rtol=1e-5)
