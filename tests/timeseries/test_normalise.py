"""Normalising a look-back and going back: by hand, by gradcheck, and what is held fixed in the gradient."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from isoform.timeseries.normalise import EPS, RevIN, WindowNormalise, make_normalise, standardise

B, L, H, V, Q = 2, 7, 5, 3, 2


def drawn(*shape: int, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_()


def test_a_window_by_hand() -> None:
    """1, 2, 3, 6: mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5."""
    z, level = standardise(torch.tensor([[[1.0, 2.0, 3.0, 6.0]]], dtype=torch.float64))
    spread = math.sqrt(3.5 + 1e-5)
    torch.testing.assert_close(z[0, 0], torch.tensor([-2, -1, 0, 3], dtype=torch.float64) / spread)
    assert level.mean.item() == 3 and level.std.item() == pytest.approx(spread)


def test_a_constant_window_is_zero_and_has_a_spread() -> None:
    z, level = standardise(torch.full((1, 1, 11), 5.0))
    assert z.eq(0).all() and level.std.item() == pytest.approx(math.sqrt(1e-5))


@pytest.mark.parametrize("kind", ["window", "revin", "none"])
def test_back_is_the_inverse(kind: str) -> None:
    module = make_normalise(kind, V).double()
    for parameter in module.parameters():
        torch.nn.init.uniform_(parameter, 0.5, 2.0)
    x_BLV = 5 + 3 * drawn(B, L, V)
    z_BVL, level = module(x_BLV)
    torch.testing.assert_close(module.restore(z_BVL, None, level)[..., 0], x_BLV, atol=1e-8, rtol=0)


def test_revin_by_hand() -> None:
    """The divisor on the way back is weight + 1e-10, which shows once the weight is as small."""
    revin = RevIN(2).double()
    revin.weight.data = torch.tensor([2.0, 1e-10], dtype=torch.float64)
    revin.bias.data = torch.tensor([0.5, 0.25], dtype=torch.float64)
    x_BLV = torch.tensor([[[1.0, 4.0], [3.0, 4.0]]], dtype=torch.float64)
    z_BVL, level = revin(x_BLV)
    spread = math.sqrt(1 + 1e-5)
    torch.testing.assert_close(
        z_BVL[0, 0], torch.tensor([-2, 2], dtype=torch.float64) / spread + 0.5
    )
    y_BVH = torch.ones(1, 2, 1, dtype=torch.float64)
    back = revin.restore(y_BVH, None, level).flatten()
    assert back[0].item() == pytest.approx(0.5 / (2 + 1e-10) * spread + 2)
    assert back[1].item() == pytest.approx(0.75 / 2e-10 * math.sqrt(1e-5) + 4)


def test_gradients_of_the_way_back() -> None:
    window, revin = WindowNormalise(), RevIN(V).double()
    _, level = window(drawn(B, L, V).detach())
    point, offset = drawn(B, V, H, seed=1), drawn(B, V, H, Q, seed=2)
    weight, bias = drawn(V, seed=3), drawn(V, seed=4)

    def quantiles(point: Tensor, offset: Tensor) -> Tensor:
        """The first column without the others, which the point is held fixed in."""
        out = window.restore(point, offset, level)
        return torch.cat([out[..., :1], out[..., 1:] + out[..., :1] - out[..., :1].detach()], -1)

    torch.autograd.gradcheck(quantiles, (point, offset))

    def learned(point: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return torch.func.functional_call(
            Way(revin, level), {"revin.weight": weight, "revin.bias": bias}, (point,)
        )

    torch.autograd.gradcheck(learned, (point, weight + 2, bias))


class Way(torch.nn.Module):
    def __init__(self, revin: RevIN, level: tuple) -> None:
        super().__init__()
        self.revin, self.level = revin, level

    def forward(self, point: Tensor) -> Tensor:
        return self.revin.restore(point, None, self.level)


def test_gradients_of_the_way_in() -> None:
    """The mean is held fixed, so z + mean / std is x / std, whose every part has a gradient."""

    def whole(x_BVL: Tensor) -> Tensor:
        z, level = standardise(x_BVL)
        return z + level.mean / level.std

    x = drawn(B, V, L)
    torch.autograd.gradcheck(whole, (x,))
    mean, std = x.mean(-1, keepdim=True), (x.var(-1, keepdim=True, correction=0) + EPS).sqrt()
    weight = drawn(B, V, L, seed=1).detach()
    for fixed, expected in (
        (False, (x - mean.detach()) / std),
        (True, (x - mean.detach()) / std.detach()),
    ):
        got = torch.autograd.grad((standardise(x, fixed=fixed)[0] * weight).sum(), x)[0]
        torch.testing.assert_close(
            got, torch.autograd.grad((expected * weight).sum(), x, retain_graph=True)[0]
        )
    assert not standardise(x)[1].mean.requires_grad and standardise(x)[1].std.requires_grad


def test_revin_holds_mean_and_spread_fixed() -> None:
    revin, x = RevIN(V).double(), drawn(B, L, V)
    _, level = revin(x)
    assert not level.mean.requires_grad and not level.std.requires_grad
    torch.autograd.gradcheck(lambda w, b: torch.func.functional_call(revin, {"weight": w, "bias": b}, (x.detach(),))[0],
                             (drawn(V, seed=5), drawn(V, seed=6)))  # fmt: skip
