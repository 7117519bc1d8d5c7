"""A batch in groups of like size: every molecule once, padding cut away, and the same numbers as in one piece."""

from __future__ import annotations

import pytest
import torch

from isoform.molecules.graphormer import length_groups
from isoform.molecules.graphormer.length_groups import plan_groups

from .batches import batch_of, graphormer

# Of 1 to 41 atoms, so unequal that a batch of them is cut.
CHAINS = ["C" * n for n in (1, 3, 2, 5, 4, 7, 41, 6, 8, 2, 3, 31, 1, 9, 5, 6, 3)] + [
    "CC(=O)Oc1ccccc1C(=O)O"
] * 2


@pytest.mark.parametrize(
    "sizes", [[7] * 64, [1], [], [3, 90], list(range(1, 98)), [200] + [5] * 63]
)
def test_every_row_once_and_descending(sizes: list[int]) -> None:
    cut = plan_groups(torch.tensor(sizes, dtype=torch.int64))
    rows = torch.cat(cut).tolist()
    assert sorted(rows) == list(range(len(sizes)))
    assert [sizes[row] for row in rows] == sorted(sizes, reverse=True)


def test_cuts_only_where_it_pays() -> None:
    assert len(plan_groups(torch.full((256,), 10))) == 1  # nothing is padding
    assert len(plan_groups(torch.arange(4, 36).repeat(4))) > 1
    assert len(plan_groups(torch.tensor([40] + [5] * 12))) == 1  # too few to be worth a second pass


@pytest.mark.parametrize("pool", ["graph", "mean", "sum"])
def test_same_numbers_and_gradients(monkeypatch: pytest.MonkeyPatch, pool: str) -> None:
    batch = batch_of(*CHAINS, compact=True)
    g = torch.Generator().manual_seed(0)
    n_batch, n = batch["valid"].shape
    batch["bias"] = torch.randn(n_batch, 1 + n, 1 + n, generator=g)
    model = graphormer(spread=0.3, head__pool=pool)
    results = []
    for fewest in (1, len(CHAINS) + 1):
        monkeypatch.setattr(length_groups, "FEWEST", fewest)
        assert (len(plan_groups(batch["valid"].sum(1))) > 1) == (fewest == 1)
        batch["perturb"] = torch.zeros(n_batch, n, 24, requires_grad=True)
        model.zero_grad()
        out = model(batch)
        out.square().sum().backward()
        results.append([out.detach(), batch["perturb"].grad, *(p.grad for p in model.parameters())])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=2e-5 * max(1.0, float(want.abs().max())), rtol=0)


def test_a_batch_norm_sees_the_whole_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    batch, results = batch_of(*CHAINS), []
    for fewest in (1, 99):
        monkeypatch.setattr(length_groups, "FEWEST", fewest)
        results.append(graphormer(norm="batch").train()(batch))
    assert torch.equal(*results)
