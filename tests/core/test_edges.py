"""The stream of edges through a backbone: which streams it takes, what it refuses, what a caller gets back."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from isoform.core.attention.bias import Dense
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.edges import Edges
from isoform.core.tokens import Tokens

B, N, D, U = 2, 5, 12, 7


def config(**table: object) -> BackboneConfig:
    start = {"dim": D, "depth": 2, "heads": 3, "mlp_dim": 13, "mixer": "neighbour"}
    return BackboneConfig.model_validate({**start, **table})


def graph() -> dict[str, Tokens | Edges]:
    g = torch.Generator().manual_seed(0)
    ends = torch.tensor([[0, 1], [1, 0], [1, 2], [2, 1], [5, 6], [6, 5], [3, 3]])
    x, e = (
        torch.randn(B, N, D, generator=g, dtype=torch.float64),
        torch.randn(U, D, generator=g, dtype=torch.float64),
    )
    return {"main": Tokens(x), "edges": Edges(e, ends)}


def test_a_token_sees_its_neighbours_and_no_other() -> None:
    """In two blocks news travels two edges: from 0 to 1 and on to 2, never to 3, 4 or another sample."""
    backbone = Backbone(config()).double().eval()
    streams = graph()
    x = streams["main"].x.requires_grad_()
    out = backbone(streams).x
    (grad,) = torch.autograd.grad(out[0, 2].square().sum(), x)
    assert grad.abs().sum(-1).gt(0).tolist() == [[True, True, True, False, False], [False] * N]


def test_a_token_without_edges_gets_the_projections_bias() -> None:
    backbone = Backbone(config(depth=1, norm="none", channel="none", final_norm=False)).double()
    torch.nn.init.normal_(backbone.blocks[0].mixer.inner.proj.bias)
    main, _ = backbone.both(graph())
    torch.testing.assert_close(
        main.x[1, 4], graph()["main"].x[1, 4] + backbone.blocks[0].mixer.inner.proj.bias
    )


def test_scores_are_clamped() -> None:
    """Scores of 100 and -100 count as 5 and -5: token 1 gets (exp(5) v0 + exp(-5) v2) / (exp(5) + exp(-5) + 1e-6)."""
    backbone = Backbone(
        config(
            dim=1, heads=1, depth=1, norm="none", channel="none", final_norm=False, qkv_bias=False
        )
    )
    block = backbone.double().blocks[0]
    with torch.no_grad():
        for name, parameter in block.named_parameters():
            parameter.fill_(0.0 if "bias" in name else 1.0)
    x = torch.tensor([[[10.0], [10.0], [-10.0]]], dtype=torch.float64)
    edges = Edges(torch.ones(2, 1, dtype=torch.float64), torch.tensor([[0, 1], [2, 1]]))
    main, after = backbone.both({"main": Tokens(x), "edges": edges})
    e = torch.tensor([5.0, -5.0], dtype=torch.float64).exp()
    want = 10 + (10 * e[0] - 10 * e[1]) / (e.sum() + 1e-6)
    torch.testing.assert_close(main.x[0, 1, 0], want)
    torch.testing.assert_close(after.x[:, 0], torch.tensor([101.0, -99.0], dtype=torch.float64))


def test_the_last_edges_are_computed_only_where_they_are_read() -> None:
    backbone = Backbone(config())
    backbone.float()
    streams = {
        "main": Tokens(torch.randn(B, N, D)),
        "edges": Edges(torch.randn(U, D), graph()["edges"].ends),
    }
    backbone(streams).x.sum().backward()
    read = {
        name: p.grad is not None
        for name, p in backbone.named_parameters()
        if "edge_channel" in name
    }
    assert {name.split(".")[1] for name, r in read.items() if r} == {"0"}
    main, after = backbone.both(streams)
    assert torch.equal(main.x, backbone(streams).x) and not torch.equal(after.x, streams["edges"].x)


def test_recomputed_blocks_carry_edges() -> None:
    grads = []
    for recompute in ("none", "block"):
        torch.manual_seed(0)
        backbone = Backbone(config(recompute=recompute)).double().train()
        main, after = backbone.both(graph())
        loss = main.x.square().sum() + after.x.sin().sum()
        grads.append(torch.autograd.grad(loss, list(backbone.parameters())))
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b)


def test_edges_pass_through_export() -> None:
    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = Backbone(config()).double().eval()

        def forward(self, x: Tensor, edges: Edges) -> Tensor:
            return self.backbone({"main": Tokens(x), "edges": edges}).x

    model, streams = Model(), graph()
    inputs = (streams["main"].x, streams["edges"])
    torch.testing.assert_close(torch.export.export(model, inputs).module()(*inputs), model(*inputs))


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"score": "table", "score_ids": 3}, "has no scores"),
        ({"causal": True}, "see every other"),
        ({"memory": "cross"}, "attends to another stream"),
        ({"layout": "parallel"}, "carries edges beside tokens, so backbone.layout"),
        ({"branches": 2}, "so backbone.branches must be 1"),
        ({"condition": "adaln_zero"}, "so backbone.condition must be 'none'"),
        ({"position": "readd"}, "so backbone.position must be 'none'"),
        ({"drop_path": 0.1}, "so backbone.drop_path must be 0.0"),
        ({"kv_heads": 1}, "knows no backbone.kv_heads"),
        ({"gated": True}, "knows no backbone.gated"),
        ({"heads": 5}, "must divide backbone.dim"),
    ],
)
def test_what_does_not_fit_is_refused(table: dict, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Backbone(config(**table))


def test_streams_and_biases_are_checked_when_called() -> None:
    backbone, plain = (
        Backbone(config(), streams=("main", "edges")).double(),
        Backbone(config(mixer="softmax")).double(),
    )
    with pytest.raises(ValueError, match=r"takes the streams \['edges', 'main'\], got \['main'\]"):
        backbone(graph()["main"])
    with pytest.raises(ValueError, match=r"takes the streams \['main'\]"):
        plain(graph())
    with pytest.raises(ValueError, match="no scores to add it to"):
        backbone(graph(), bias=Dense(torch.zeros(N, N)))
    with pytest.raises(ValueError, match="no stream of edges"):
        plain.both(graph()["main"])


def test_a_bias_of_the_callers_own_is_added_to_the_scores() -> None:
    backbone = (
        Backbone(config(mixer="softmax", score="distance", score_gaussians=3)).double().eval()
    )
    torch.nn.init.normal_(backbone.score.weight)
    tokens = Tokens(graph()["main"].x, coords=torch.randn(B, N, 3, dtype=torch.float64))
    bias = torch.randn(B, 1, N, N, dtype=torch.float64)
    got = backbone(tokens, bias=Dense(bias)).x
    assert not torch.equal(got, backbone(tokens).x)
    given = Backbone(config(mixer="softmax")).double().eval()
    given.load_state_dict(
        {k: v for k, v in backbone.state_dict().items() if not k.startswith("score")}
    )
    both = Dense(bias + backbone.score(tokens).to_dense())
    torch.testing.assert_close(given(tokens, bias=both).x, got)
