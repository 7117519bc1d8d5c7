"""Packed samples on a CPU: groups of one size, what they share and what they don't, and where padding remains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from isoform.core.attention import Request, Table, attention, varlen
from isoform.core.attention.varlen import groups_by_size

H, G, D, E = 6, 3, 5, 7
BY_SIZE = Request(packed=True, value_dim=E)  # compiled C takes values as wide as keys
LENGTHS = [5, 3, 0, 5, 11, 3, 2, 5]


def packed(lengths: list[int], dtype: torch.dtype = torch.float32) -> tuple[list[Tensor], Tensor]:
    """q, k, v and offsets; a sample's tokens are drawn by its own number, whatever stands before it."""
    sizes = ((H, D), (G, D), (G, E))
    drawn = []
    for number, n in enumerate(lengths):
        g = torch.Generator().manual_seed(number)
        drawn.append([torch.randn(n, *size, generator=g, dtype=torch.float64) for size in sizes])
    qkv = [torch.cat(x).to(dtype).requires_grad_() for x in zip(*drawn, strict=True)]
    return qkv, torch.tensor([0, *lengths]).cumsum(0)


def test_groups_hold_every_sample_once_and_one_size_each() -> None:
    lengths_kv = [7, 1, 2, 7, 4, 1, 3, 1]
    groups = groups_by_size(LENGTHS, lengths_kv)
    assert sorted(s for samples in groups.values() for s in samples) == list(range(8))
    assert list(groups) == sorted(groups)
    for size, samples in groups.items():
        assert all((LENGTHS[s], lengths_kv[s]) == size for s in samples)
        assert samples == sorted(samples)
    assert groups[5, 7] == [0, 3] and groups[3, 1] == [1, 5]


def test_no_group_is_padded_or_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work follows the pairs there are."""
    (q, k, v), offsets = packed(LENGTHS)
    asked = []

    def attend(q: Tensor, k: Tensor, v: Tensor, **settings: object) -> Tensor:
        asked.append((q.shape[0] * q.shape[2] * k.shape[2], settings))
        return attention(q, k, v)

    out = varlen.attention_varlen(attend, q, k, v, offsets, None, request=BY_SIZE)
    assert sum(pairs for pairs, _ in asked) == sum(n * n for n in LENGTHS)
    assert all(not settings for _, settings in asked) and len(asked) == len(set(LENGTHS))
    torch.testing.assert_close(out, attention(q, k, v, offsets_q=offsets, impl="reference"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("settings", [{}, {"causal": True}, {"window": (2, 1)}], ids=str)
def test_a_samples_result_and_gradients_are_its_own(
    dtype: torch.dtype, settings: dict[str, object]
) -> None:
    (q, k, v), offsets = packed(LENGTHS, dtype)
    out = attention(q, k, v, offsets_q=offsets, **settings)
    together = [out, *torch.autograd.grad(out.float().square().sum(), [q, k, v])]
    for b in (0, 3, 4, 6):
        rows = slice(int(offsets[b]), int(offsets[b + 1]))
        alone = [x.detach()[rows].clone().requires_grad_() for x in (q, k, v)]
        out = attention(*alone, offsets_q=torch.tensor([0, LENGTHS[b]]), **settings)
        apart = [out, *torch.autograd.grad(out.float().square().sum(), alone)]
        for got, want in zip(together, apart, strict=True):
            atol = 1e-6 if dtype == torch.float32 else 2e-2
            torch.testing.assert_close(got[rows], want, atol=atol, rtol=atol)


def test_like_the_padded_layout_in_float64_with_second_derivatives() -> None:
    lengths = [2, 3, 0, 2]
    (q, k, v), offsets = packed(lengths, torch.float64)

    def run(*qkv: Tensor) -> Tensor:
        return attention(*qkv, offsets_q=offsets, impl="reference")

    torch.autograd.gradcheck(run, (q, k, v), fast_mode=True)
    torch.autograd.gradgradcheck(run, (q, k, v), fast_mode=True)


def test_sorted_samples_are_not_copied_together() -> None:
    """Their groups are views of what is given."""
    (q, k, v), offsets = packed(sorted(LENGTHS))
    seen = []

    def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen.append({x.untyped_storage().data_ptr() for x in (q, k, v)})
        return attention(q, k, v)

    out = varlen.attention_varlen(attend, q, k, v, offsets, None, request=BY_SIZE)
    own = {x.untyped_storage().data_ptr() for x in (q, k, v)}
    assert seen and all(where == own for where in seen)
    assert torch.equal(out, attention(q, k, v, offsets_q=offsets))


@pytest.mark.parametrize("seed", [None, 5])
def test_every_group_drops_for_itself(seed: int | None) -> None:
    """With values that name their key, the first rows of the samples show which keys they dropped."""
    lengths = [23, 29, 23]
    ones = torch.ones(75, 1, 32)
    names = torch.cat([torch.eye(32)[:n, None] for n in lengths])
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    torch.manual_seed(0)
    runs = [
        attention(ones, ones, names, offsets_q=offsets, dropout=0.4, seed=seed, impl=impl)
        for impl in ("sdpa", "reference")
    ]
    kept = runs[0].ne(0)
    assert not torch.equal(kept[:23, :, :23], kept[23:46, :, :23])
    assert not torch.equal(kept[:23, :, :23], kept[52:, :, :23])
    assert torch.allclose(*runs, atol=1e-6) == (seed is not None)
    assert 0.5 < kept[23:52, :, :29].float().mean() < 0.7


def test_a_bias_is_laid_out_for_the_longest_sample() -> None:
    lengths = [3, 7, 2]
    (q, k, v), offsets = packed(lengths)
    ids = torch.randint(0, 13, (3, 7, 7), generator=torch.Generator().manual_seed(0))
    table = torch.randn(13, H, generator=torch.Generator().manual_seed(1)).requires_grad_()
    out = attention(q, k, v, bias=Table(ids, table), offsets_q=offsets)
    parts = []
    for b, n in enumerate(lengths):
        rows = slice(int(offsets[b]), int(offsets[b + 1]))
        own = [x[None, rows].transpose(1, 2) for x in (q, k, v)]
        bias = Table(ids[b : b + 1, :n, :n], table)
        parts.append(attention(*own, bias=bias, impl="reference")[0].transpose(0, 1))
    wanted = torch.cat(parts)
    torch.testing.assert_close(out, wanted, atol=1e-6, rtol=1e-6)
    leaves = [q, k, v, table]
    for got, want in zip(
        torch.autograd.grad(out.square().sum(), leaves),
        torch.autograd.grad(wanted.square().sum(), leaves),
        strict=True,
    ):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
