"""The graph transformer against the paper's equations, dense: every pair of atoms, masked where there is no bond."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from .batches import MIXED, batch_of, gt

HEADS, LAYERS, EIGENVECTORS = 5, 2, 3


def dense(
    model: nn.Module, batch: dict[str, Tensor], training: bool
) -> tuple[Tensor, dict[str, Tensor]]:
    """[B, K] by Dwivedi & Bresson 2021, section 2, equations 8 to 16, and what the norms' averages become.

    One graph of all molecules' atoms: h [N, d], e [N, N, d], a [N, N] whether j is a neighbour of i.
    """
    w = {name: t.double() for name, t in model.state_dict().items()}
    averages: dict[str, Tensor] = {}

    def norm(name: str, x: Tensor) -> Tensor:
        mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        if training:
            seen, mean, var = len(x), x.mean(0), x.var(0, unbiased=False)
            averages[f"{name}.running_mean"] = 0.9 * w[f"{name}.running_mean"] + 0.1 * mean
            averages[f"{name}.running_var"] = 0.9 * w[f"{name}.running_var"] + 0.1 * var * seen / (
                seen - 1
            )
        return (x - mean) / (var + 1e-5).sqrt() * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ w[f"{name}.weight"].T + w.get(
            f"{name}.bias", torch.zeros((), dtype=torch.float64)
        )

    valid = batch["valid"]
    n_places = valid.shape[1]
    molecule, place = valid.nonzero().unbind(1)
    number = torch.full(valid.shape, -1)
    number[valid] = torch.arange(len(place))
    alpha = w["tokeniser.atoms.features.weight"][batch["atoms"][valid].long()].sum(1)
    h = alpha + linear(
        "tokeniser.atoms.positions", batch["laplacian"][valid].double()
    )  # equations 8 and 9
    bonds = number.flatten()[batch["bond_index"]]
    assert bonds.min() >= 0 and n_places > 1
    a = torch.zeros(len(h), len(h), dtype=torch.bool)
    e = torch.zeros(len(h), len(h), h.shape[1], dtype=torch.float64)
    j, i = bonds.T  # from j to i
    a[i, j] = True
    e[i, j] = w["tokeniser.bonds.weight"][batch["bond_ids"].long()].sum(1)
    size = h.shape[1] // HEADS

    def split(x: Tensor) -> Tensor:
        return x.view(*x.shape[:-1], HEADS, size)

    def over_bonds(function, x: Tensor) -> Tensor:
        """Of the features of bonds alone, in the order of the batch's list."""
        out = torch.zeros(*x.shape[:2], h.shape[1], dtype=torch.float64)
        out[i, j] = function(x[i, j])
        return out

    for layer in range(LAYERS):
        block = f"backbone.blocks.{layer}"
        q, k, v = (split(part) for part in linear(f"{block}.mixer.inner.qkv", h).chunk(3, dim=-1))
        gate = split(linear(f"{block}.mixer.inner.edge", e))
        score = (
            q[:, None] * k[None] / math.sqrt(size) * gate
        )  # [N, N, H, d / H], equation 12 before its sum
        weight = score.sum(-1).clamp(-5, 5).exp() * a[..., None]
        mean = torch.einsum("ijh,jhd->ihd", weight, v) / (weight.sum(1) + 1e-6)[..., None]
        h_hat = norm(
            f"{block}.norms.mixer", h + linear(f"{block}.mixer.inner.proj", mean.flatten(1))
        )
        e_hat = linear(f"{block}.mixer.inner.edge_proj", score.flatten(2))
        e_hat = over_bonds(lambda x, b=block: norm(f"{b}.norms.edge_mixer", x), e + e_hat)

        def mlp(name: str, x: Tensor) -> Tensor:
            return linear(f"{name}.fc2", linear(f"{name}.fc1", x).clamp(min=0))

        h = norm(f"{block}.norms.channel", h_hat + mlp(f"{block}.channel.inner", h_hat))
        last = layer == LAYERS - 1  # nobody reads these edges
        if not last:
            e_hat = e_hat + mlp(f"{block}.edge_channel.inner", e_hat)
            e = over_bonds(lambda x, b=block: norm(f"{b}.norms.edge_channel", x), e_hat)
        else:
            averages = {
                name: t for name, t in averages.items() if f"{block}.norms.edge" not in name
            }
    pooled = torch.stack([h[molecule == m].mean(0) for m in range(len(valid))])
    hidden = linear("head.layers.0", pooled).clamp(min=0)
    hidden = linear("head.layers.1", hidden).clamp(min=0)
    return linear("head.layers.2", hidden), averages


@pytest.mark.parametrize("training", [False, True])
def test_it_is_the_papers(training: bool) -> None:
    model = (
        gt(spread=0.4, depth=LAYERS, heads=HEADS, tokeniser__laplacian=EIGENVECTORS)
        .double()
        .train(training)
    )
    batch = batch_of(*MIXED, bonds=True, laplacian=EIGENVECTORS)
    want, averages = dense(model, batch, training)
    got = model(batch)
    torch.testing.assert_close(got, want, atol=1e-9, rtol=0)
    assert len(averages) == (12 if training else 0)  # 2 of each of the norms but the last two
    state = model.state_dict()
    for name, average in averages.items():
        torch.testing.assert_close(state[name], average, atol=1e-9, rtol=0)


def test_its_scores_are_clamped_here_and_there() -> None:
    """With larger weights some scores leave [-5, 5]: the oracle above shows that they are clamped."""
    model = gt(spread=1.0, tokeniser__laplacian=EIGENVECTORS).double()
    batch = batch_of(*MIXED, bonds=True, laplacian=EIGENVECTORS)
    torch.testing.assert_close(model(batch), dense(model, batch, False)[0], atol=1e-8, rtol=1e-9)
    scores = []
    mixer = model.backbone.blocks[0].mixer.inner
    mixer.edge_proj.register_forward_pre_hook(lambda module, inputs: scores.append(inputs[0]))
    model(batch)
    assert scores[0].unflatten(-1, (HEADS, -1)).sum(-1).abs().max() > 5


def test_it_learns_in_a_few_steps() -> None:
    """A fresh one, in training mode, on the number of heavy atoms: every parameter but the last edges' learns."""
    model = gt(1, tokeniser__laplacian=EIGENVECTORS).train()
    batch = batch_of(*MIXED, bonds=True, laplacian=EIGENVECTORS)
    target = batch["valid"].sum(1, keepdim=True).float().log()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (model(batch) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert losses[-1] < 0.1 * losses[0]
    without = {name for name, p in model.named_parameters() if p.grad is None}
    assert without and all(
        name.startswith("backbone.blocks.1.") and "edge" in name for name in without
    )
