"""The assertions of checks.py pass on functions that hold the property and fail on ones that break it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from checks import (
    assert_causal,
    assert_close_named,
    assert_layout_ignored,
    assert_padding_ignored,
    assert_permutation_equivariant,
    assert_same_bits,
    assert_same_gradients,
)
from isoform.core.tokens import Tokens


def tokens() -> Tokens:
    valid = torch.arange(7) < torch.tensor([7, 5])[:, None]
    return Tokens(torch.randn(2, 7, 3), valid, coords=torch.randn(2, 7, 2), prefix=1)


def each(t: Tokens) -> Tokens:
    return t.with_x(t.x.square())


def masked_mean(t: Tokens) -> Tokens:
    weight = t.mask()[..., None].to(t.x)
    return t.with_x(t.x + (t.x * weight).sum(1, keepdim=True) / weight.sum(1, keepdim=True))


def plain_mean(t: Tokens) -> Tokens:
    return t.with_x(t.x + t.x.mean(-2, keepdim=True))


def running_sum(t: Tokens) -> Tokens:
    return t.with_x(t.x.cumsum(-2))


def faint_mean(t: Tokens) -> Tokens:
    return t.with_x(t.x + 1e-9 * t.x.mean(-2, keepdim=True))


@pytest.mark.parametrize(
    ("check", "holds", "breaks"),
    [
        (assert_permutation_equivariant, masked_mean, running_sum),
        (assert_padding_ignored, masked_mean, plain_mean),
        (assert_padding_ignored, each, faint_mean),
        (assert_causal, running_sum, plain_mean),
        (assert_causal, each, lambda t: t.with_x(t.x * 0)),
        (assert_layout_ignored, each, plain_mean),
    ],
)
def test_a_property_is_told_from_its_breach(
    check: Callable, holds: Callable, breaks: Callable
) -> None:
    check(holds, tokens())
    with pytest.raises(AssertionError):
        check(breaks, tokens())


@pytest.mark.parametrize(
    ("got", "want"),
    [
        ({"a": torch.ones(2)}, {"b": torch.ones(2)}),
        ({"a": torch.ones(2), "b": torch.ones(2)}, {"a": torch.ones(2)}),
        ({"a": torch.ones(2)}, {"a": torch.ones(2, 1)}),
        ({"a": torch.tensor([1.0, torch.nan])}, {"a": torch.tensor([1.0, torch.nan])}),
        ({"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([1.0, torch.inf])}),
        ({"a": torch.tensor([1.0, 2.0])}, {"a": torch.tensor([1.0, 2.2])}),
        ({"a": torch.tensor([1, 2])}, {"a": torch.tensor([1, 3])}),
    ],
)
def test_close_named_refuses(got: dict[str, Tensor], want: dict[str, Tensor]) -> None:
    with pytest.raises(AssertionError):
        assert_close_named(got, want, atol=0.1, rtol=0.01)


def test_close_named_accepts_within_the_bound_and_equal_infinities() -> None:
    want = {"a": torch.tensor([1.0, -torch.inf]), "b": torch.tensor([3])}
    assert_close_named(
        {"a": torch.tensor([1.05, -torch.inf]), "b": torch.tensor([3])},
        want,
        atol={"a": 0.1, "b": 0},
    )


def test_same_bits_is_stricter_than_equality() -> None:
    assert_same_bits({"a": torch.tensor([torch.nan, 0.0])}, {"a": torch.tensor([torch.nan, 0.0])})
    for other in (
        torch.tensor([-0.0]),
        torch.tensor([0.0], dtype=torch.float64),
        torch.zeros(1, 1),
    ):
        with pytest.raises(AssertionError):
            assert_same_bits({"a": other}, {"a": torch.tensor([0.0])})


def test_same_gradients_sees_a_detached_factor() -> None:
    x, y = torch.randn(3), torch.randn(3)
    assert_same_gradients(lambda a, b: a * b, lambda a, b: b * a, [x, y], atol=1e-6)
    with pytest.raises(AssertionError):
        assert_same_gradients(
            lambda a, b: a * b + 0 * a, lambda a, b: a.detach() * b + 0 * a, [x, y], atol=1e-6
        )
