"""Norms by name, and batch norm over ragged batches: real tokens alone count, whatever the layout and the padding."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from isoform.core.backbone import Backbone
from isoform.core.config import schema
from isoform.core.config.schema import BackboneConfig
from isoform.core.edges import Edges
from isoform.core.norms import NORMS, BatchNorm, make_norm
from isoform.core.tokens import Tokens

B, N, D = 3, 7, 5
VALID = torch.arange(N) < torch.tensor([[N], [4], [1]])


def norms() -> tuple[BatchNorm, nn.BatchNorm1d]:
    ours, theirs = make_norm("batch", D, 1e-5), nn.BatchNorm1d(D, eps=1e-5)
    assert isinstance(ours, BatchNorm)
    for norm in (ours, theirs):
        torch.manual_seed(0)
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return ours, theirs


def test_it_is_pytorchs_over_the_real_tokens() -> None:
    ours, theirs = norms()
    for _ in range(3):
        x = torch.randn(B, N, D) * 3 + 1
        torch.testing.assert_close(ours(x, VALID)[VALID], theirs(x[VALID]))
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x, VALID), theirs(x.flatten(0, 1)).view(x.shape))
    torch.testing.assert_close(ours(x[VALID]), theirs(x[VALID]))


def test_padding_changes_nothing_in_training() -> None:
    ours, same = norms()[0], norms()[0]
    x = torch.randn(B, N, D, dtype=torch.float64)
    longer = torch.cat([x, 1e3 * torch.randn(B, 4, D, dtype=torch.float64)], dim=1).requires_grad_()
    got = ours.double()(longer, torch.cat([VALID, torch.zeros(B, 4, dtype=torch.bool)], dim=1))
    torch.testing.assert_close(got[:, :N], same.double()(x, VALID), atol=1e-12, rtol=0)
    assert torch.equal(ours.running_var, same.running_var)
    got[:, :N].square().sum().backward()
    assert longer.grad[:, N:].eq(0).all() and longer.grad[:, :N][VALID].ne(0).any()


def test_one_token_has_no_variance() -> None:
    norm = norms()[0]
    norm.running_mean += 2.0
    x = torch.randn(1, 1, D)
    trained = norm(x)
    assert torch.equal(trained, norm.eval()(x)) and norm.running_var.eq(1).all()


def test_a_trunk_with_batch_norms_ignores_padding_in_training() -> None:
    config = BackboneConfig(
        dim=D, depth=2, heads=1, mlp_dim=11, mixer="neighbour", norm="batch", order="post"
    )
    x = torch.randn(B, N, D, dtype=torch.float64)
    ends = torch.tensor([[0, 1], [1, 0], [2, 1], [7, 8], [8, 7]])
    edges = torch.randn(5, D, dtype=torch.float64)
    results = []
    for extra in (0, 3):
        torch.manual_seed(0)
        backbone = Backbone(config).double().train()
        padded = torch.cat([x, torch.randn(B, extra, D, dtype=torch.float64)], dim=1)
        valid = torch.cat([VALID, torch.zeros(B, extra, dtype=torch.bool)], dim=1)
        renumbered = ends + ends // N * extra
        main, after = backbone.both(
            {"main": Tokens(padded, valid), "edges": Edges(edges, renumbered)}
        )
        results.append([main.x[:, :N][VALID], after.x, *backbone.buffers()])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"mlp_norm": True}, "would count padding"),
        ({"mixer_norm": True}, "would count padding"),
        ({"recompute": "block"}, "counts each batch that it sees"),
    ],
)
def test_where_it_would_miscount_it_is_refused(changes: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Backbone(BackboneConfig.model_validate({"dim": 8, "heads": 2, "norm": "batch", **changes}))


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", NORMS)
def test_every_norm_is_a_name_of_the_schema_and_as_large_as_it_says(name: str, bias: bool) -> None:
    assert set(NORMS) == set(schema.NORMS)
    norm = make_norm(name, D, 1e-5, bias)
    assert sum(p.numel() for p in norm.parameters()) == D * schema.NORMS[name][bias]
    with pytest.raises(ValueError, match="no norm is called 'group'; there are layer, "):
        make_norm("group", D, 1e-5)
