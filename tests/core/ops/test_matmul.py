"""The linear layer: oneDNN's product is F.linear's, with every gradient, and steps aside where it can't serve."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from isoform.core.ops import matmul as module
from isoform.core.ops.linear import Linear
from isoform.core.ops.matmul import linear

K, N = 13, 17


@pytest.fixture(autouse=True)
def every_size(monkeypatch) -> None:
    monkeypatch.setattr(module, "SMALLEST", 1)
    monkeypatch.setattr(module, "FASTER", module.AVAILABLE)  # whatever this processor is


def inputs(*rows: int) -> list[torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return [torch.randn(*s, generator=g).requires_grad_() for s in ((*rows, K), (N, K), (N,))]


def served(x: torch.Tensor, *rest: torch.Tensor) -> bool:
    return type(linear(x, *rest).grad_fn).__name__ == "_ProductBackward"


@pytest.mark.parametrize("rows", [(5,), (3, 7), (2, 3, 5)])
@pytest.mark.parametrize("bias", [True, False])
def test_values_and_gradients_of_first_and_second_order(rows: tuple[int, ...], bias: bool) -> None:
    results = []
    for function in (linear, F.linear):
        given = inputs(*rows)[: 2 + bias]
        out = function(*given)
        first = torch.autograd.grad(out.sin().sum(), given, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), given)
        given = inputs(*rows)[: 2 + bias]
        plain = torch.autograd.grad(function(*given).sin().sum(), given)
        results.append([out, *first, *second, *plain])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_a_strided_input_counts_as_its_values() -> None:
    x, weight, bias = inputs(5, 7)
    turned = x.detach().transpose(0, 1).requires_grad_()
    torch.testing.assert_close(linear(turned, weight, bias), F.linear(turned, weight, bias))
    with torch.inference_mode():
        torch.testing.assert_close(linear(turned, weight), F.linear(turned, weight))


def test_only_wanted_gradients_are_computed() -> None:
    x, weight, bias = inputs(5)
    weight.requires_grad_(False)
    linear(x, weight, bias).sum().backward()
    assert x.grad is not None and bias.grad is not None and weight.grad is None


def test_it_serves_float32_alone() -> None:
    assert served(*inputs(5))
    assert not served(*(t.double() for t in inputs(5)))
    with torch.autocast("cpu", torch.bfloat16):
        assert linear(*inputs(5)).dtype == torch.bfloat16


@pytest.mark.filterwarnings("ignore:TF32")
def test_small_products_and_a_disabled_library_are_left_to_torch(monkeypatch) -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert not served(*inputs(5))
    monkeypatch.setattr(module, "SMALLEST", 5 * K * N + 1)
    assert not served(*inputs(5))
    assert served(*inputs(6))


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace")
def test_transforms_export_and_compile_see_a_plain_linear() -> None:
    layer = Linear(K, N)
    x = inputs(5)[0].detach()
    want = F.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(torch.func.vmap(layer)(x), want)
    torch.testing.assert_close(torch.export.export(layer, (x,)).module()(x), want)
    torch.testing.assert_close(torch.jit.trace(layer, (x,))(x), want)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True, backend="aot_eager")(x), want)
