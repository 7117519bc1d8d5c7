"""Attention that keeps its probabilities: every layout in memory beside the reference, and scores far below the top."""

from __future__ import annotations

import pytest
import torch

from isoform.core.attention.bias import Dense
from isoform.core.attention.mask import visible
from isoform.core.attention.reference import attention_reference
from isoform.core.attention.stored_probs import FEW, VECTOR, attention_stored_probs

B, H = 3, 5


def inputs(n: int, m: int, d: int) -> list[torch.Tensor]:
    """Queries, keys, values and a bias."""
    g = torch.Generator().manual_seed(0)
    sizes = [(B, H, n, d), (B, H, m, d), (B, H, m, d), (B, H, n, m)]
    return [
        torch.randn(size, generator=g, dtype=torch.float64, requires_grad=True) for size in sizes
    ]


@pytest.mark.parametrize(
    ("n", "m", "d"), [(17, 19, 7), (19, 23, 16), (7, 11, 3), (1, 29, 7), (29, 1, 7)]
)
@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("shared", [False, True])
def test_like_the_reference(n: int, m: int, d: int, dropout: float, shared: bool) -> None:
    q, k, v, bias = inputs(n, m, d)
    valid = torch.arange(m) < torch.tensor([[m], [max(1, m - 2)], [0]])
    settings = {
        "visible": visible(n, m, None, valid, False, None),
        "scale": 0.7,
        "dropout": dropout,
        "seed": 3,
    }
    found = []
    for attend in (attention_stored_probs, attention_reference):
        out = attend(q, k, v, bias=Dense(bias[:, :1] if shared else bias), **settings)
        found.append([out, *torch.autograd.grad(out.sin().sum(), (q, k, v, bias))])
    for got, want in zip(*found, strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=0)
    assert (found[0][0][2] == 0).all()


@pytest.mark.parametrize("m", [FEW - 3, FEW + 3])
def test_scores_far_below_the_top_count_nothing_and_nan_stays(m: int) -> None:
    d = VECTOR - 1
    q, k, v, bias = (x.detach().float() for x in inputs(m, m, d))
    bias[..., 1::2] = -1e4
    seen = visible(m, m, None, None, False, None)
    got = attention_stored_probs(q, k, v, bias=Dense(bias), visible=seen, scale=1.0)
    v[..., 1::2, :] = 7.0
    assert torch.equal(
        attention_stored_probs(q, k, v, bias=Dense(bias), visible=seen, scale=1.0), got
    )
    q[0, 0, 0, 0] = torch.nan
    got = attention_stored_probs(q, k, v, bias=Dense(bias), visible=seen, scale=1.0)
    assert got[0, 0, 0].isnan().all() and not got[1:].isnan().any()
