"""Our own dropout: the share that it drops, the mean that it keeps, its gradient, and what decides its numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from isoform.core.ops.dropout import LEVELS, Dropout, add_dropout, dropout, keep_mask


def test_which_of_65536_values_are_kept() -> None:
    """Every 16-bit number once: exactly as many are dropped as asked for."""
    every = torch.arange(-(2**15), 2**15, dtype=torch.int16).view(torch.int64)
    for dropped in (0, 1, 2, 6554, LEVELS // 2, LEVELS - 2, LEVELS - 1):
        mask = keep_mask(every, dropped)
        assert set(mask.unique().tolist()) <= {0, 1} and int((mask == 0).sum()) == dropped


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_it_drops_its_share_and_keeps_the_mean(p: float) -> None:
    x = torch.full((501, 499), 3.0)
    y = dropout(x, p)
    kept_share = (y != 0).double().mean().item()
    assert kept_share == pytest.approx(1 - p, abs=4 * (p * (1 - p) / x.numel()) ** 0.5)
    assert y.mean().item() == pytest.approx(3, abs=0.1)
    assert y[y != 0].unique().numel() == 1 and y.max().item() == pytest.approx(
        3 / (1 - p), rel=1e-3
    )
    rows = (y != 0).double()
    assert rows.mean(1).std() < 3 * (p * (1 - p) / 499) ** 0.5, (
        "some rows are dropped more than others"
    )
    together = (rows[:, 1:] * rows[:, :-1]).mean().item()
    assert together == pytest.approx((1 - p) ** 2, abs=0.01), "neighbours share their fate"


def test_the_gradient_is_that_of_the_same_mask() -> None:
    x = torch.randn(7, 5, dtype=torch.float64, requires_grad=True)

    def fixed(x: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return dropout(x, 0.4)

    torch.autograd.gradcheck(fixed, (x,))
    torch.autograd.gradgradcheck(fixed, (x,))
    y = fixed(x)
    (grad,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(grad * x, y)
    with torch.no_grad():
        assert torch.equal(fixed(x), y), "without a gradient it is the same function"


def test_onto_a_stream_it_is_the_sum_with_every_gradient() -> None:
    stream, y = (torch.randn(7, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))

    def fixed(stream: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(3)
        return add_dropout(stream, y, 0.4)

    torch.autograd.gradcheck(fixed, (stream, y))
    torch.autograd.gradgradcheck(fixed, (stream, y))
    torch.manual_seed(3)
    want = stream + dropout(y, 0.4)
    torch.testing.assert_close(fixed(stream, y), want)
    assert torch.equal(add_dropout(stream, y, 0.0), stream + y)
    assert add_dropout(stream[:, :1], y, 0.4).shape == y.shape
    with torch.no_grad():
        torch.testing.assert_close(fixed(stream, y), want)


def test_torchs_global_generator_decides() -> None:
    x = torch.ones(13, 11)
    torch.manual_seed(1)
    first, second = dropout(x, 0.4), dropout(x, 0.4)
    torch.manual_seed(1)
    assert torch.equal(dropout(x, 0.4), first) and not torch.equal(first, second)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 7)])
def test_every_type_and_shape(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    x = torch.ones(shape, dtype=dtype).requires_grad_()
    y = dropout(x, 0.25)
    assert y.dtype == dtype and y.shape == x.shape
    assert ((y == 0) | ((y - 4 / 3).abs() < 0.02)).all()
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())


def test_transposed_inputs_and_their_layout() -> None:
    x = torch.randn(5, 7, 3).transpose(0, 2)
    y = dropout(x, 0.5)
    assert torch.equal(y, torch.where(y == 0, 0, 2 * x))


def test_the_module() -> None:
    module = Dropout(0.5)
    x = torch.ones(101)
    assert module(x).eq(0).any() and module.eval()(x) is x
    assert Dropout(0.0)(x) is x and repr(module) == "Dropout(p=0.5)"
    with pytest.raises(ValueError, match=r"below 1, got 1.0"):
        Dropout(1.0)


def test_under_transforms_and_compilers_it_is_pytorchs() -> None:
    layer = nn.Sequential(nn.Linear(3, 5), Dropout(0.5))
    x = torch.randn(7, 3)
    weights = dict(layer.named_parameters())

    def loss(weights: dict[str, torch.Tensor]) -> torch.Tensor:
        return torch.func.functional_call(layer, weights, (x,)).sum()

    assert torch.func.grad(loss)(weights)["0.weight"].shape == (5, 3)
    graph = torch.export.export(layer, (x,)).graph
    assert any("dropout" in str(node.target) for node in graph.nodes)
