"""The backbone: what it refuses, streams, taps, recomputation, stochastic depth, export and compile."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from isoform.core import mixers
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.mixers import Traits
from isoform.core.residual import drop_path
from isoform.core.tokens import Tokens

B, N, DIM = 3, 7, 20


def config(**table: object) -> BackboneConfig:
    return BackboneConfig.model_validate(
        {"dim": DIM, "depth": 3, "heads": 5, "mlp_dim": 11, **table}
    )


def tokens(seed: int = 0) -> Tokens:
    g = torch.Generator().manual_seed(seed)
    return Tokens(
        torch.randn(B, N, DIM, generator=g), torch.arange(N) < torch.tensor([[N], [N - 2], [1]])
    )


class Scoreless(nn.Module):
    """A mixer without scores that reads its tokens in order: only for refusals."""

    traits = Traits(needs_order=True)

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()


@pytest.mark.parametrize(
    ("table", "arguments", "reason"),
    [
        ({"mixer": "scoreless", "score": "table", "score_ids": 3}, {}, "has no scores"),
        ({"mixer": "scoreless"}, {"ordered": False}, "a set without an order"),
        ({"mixer": "scoreless", "causal": True}, {}, "see every other"),
        ({"mixer": "scoreless", "memory": "cross"}, {}, "attends to another stream"),
        ({"mixer": "scoreless", "position": "rotary"}, {}, "it has none|has none"),
        ({"mixer": "nothing"}, {}, "not known; there are softmax"),
        ({"order": "post", "layout": "parallel"}, {}, "one norm in front of both"),
        ({"memory": "cross", "layout": "parallel"}, {}, "own step"),
        (
            {"condition": "adaln_zero", "order": "post"},
            {},
            "modulates the norm of a branch's input",
        ),
        ({"score": "table"}, {}, "needs backbone.score_ids"),
        ({"score": "distance", "score_ids": 3}, {}, "backbone.score_ids counts the rows of"),
        ({"kv_heads": 2}, {}, "must divide backbone.heads"),
        ({"heads": 3}, {}, "must divide backbone.dim"),
        ({}, {"streams": ("main", "edges")}, "no block reads the stream 'edges'"),
        ({}, {"streams": ("memory",)}, "no block reads the stream 'memory'"),
    ],
)
def test_illegal_pairs_are_refused_with_the_reason(
    monkeypatch, table: dict, arguments: dict, reason: str
) -> None:
    monkeypatch.setitem(mixers.MIXERS, "scoreless", Scoreless)
    with pytest.raises(ValueError, match=reason):
        Backbone(config(**table), **arguments)


def test_an_unknown_key_is_refused() -> None:
    with pytest.raises(ValidationError, match="depht"):
        BackboneConfig.model_validate({"depht": 3})


def test_streams_are_checked_when_called() -> None:
    plain, crossing = (
        Backbone(config()),
        Backbone(config(memory="cross"), streams=("main", "memory")),
    )
    memory = Tokens(torch.randn(B, 5, DIM))
    assert crossing({"main": tokens(), "memory": memory}).x.shape == (B, N, DIM)
    for backbone, streams in (
        (plain, {"main": tokens(), "memory": memory}),
        (crossing, {"main": tokens()}),
    ):
        with pytest.raises(ValueError, match="takes the streams"):
            backbone(streams)


def test_what_a_filler_needs_and_lacks_is_named() -> None:
    for table, field in (
        ({"condition": "adaln_zero"}, "Tokens.cond"),
        ({"position": "rotary"}, "Tokens.pos"),
        ({"score": "dense"}, "Tokens.pair"),
        ({"score": "distance"}, "Tokens.coords"),
    ):
        with pytest.raises(ValueError, match=field):
            Backbone(config(**table))(tokens())


def test_every_field_but_x_comes_out_as_it_went_in() -> None:
    given = replace(tokens(), cond=torch.randn(B, 2), prefix=1, suffix=2, grid=(2, 2))
    got = Backbone(config())(given)
    for name in ("valid", "cond", "prefix", "suffix", "grid"):
        assert getattr(got, name) is getattr(given, name)


def test_taps_are_the_features_after_a_block() -> None:
    backbone = Backbone(config()).eval()
    out, (first, last) = backbone.tapped(tokens(), taps=[0, 2])
    shallow = Backbone(config(depth=1)).eval()
    shallow.load_state_dict(
        {k: v for k, v in backbone.state_dict().items() if k.startswith(("blocks.0", "norm"))}
    )
    assert torch.equal(shallow(tokens()).x, backbone.norm(first))
    assert torch.equal(out.x, backbone.norm(last))


NARROWED = {
    "plain": {},
    "post": {"order": "post", "layer_scale": 0.3},
    "cct": {"order": "cct", "qk_norm": "rms", "kv_heads": 1, "heads": 4},
    "scored": {"score": "distance", "score_gaussians": 3, "gated": True},
    "rotary": {"position": "rotary_half", "heads": 5},
    "conditioned": {"condition": "adaln_zero"},
    "cross": {"memory": "cross"},
    "parallel": {"layout": "parallel"},
    "causal": {"causal": True},
    "none": {"depth": 0},
}


@pytest.mark.parametrize("name", NARROWED)
@pytest.mark.parametrize("first", [1, 2])
def test_the_leading_tokens_alone_are_the_same(name: str, first: int) -> None:
    backbone = Backbone(config(**NARROWED[name])).double()
    for parameter in backbone.parameters():
        nn.init.normal_(parameter, 0.0, 0.35)
    g = torch.Generator().manual_seed(3)
    x, cond, coords, memory = (
        torch.randn(*s, generator=g, dtype=torch.float64)
        for s in ((B, N, DIM), (B, DIM), (B, N, 3), (B, 5, DIM))
    )
    results = []
    for narrow in (None, first):
        leaf = x.clone().requires_grad_()
        given = replace(
            tokens(), x=leaf, cond=cond, coords=coords, pos=coords[..., :2], prefix=1, suffix=2
        )
        streams = (
            {"main": given, "memory": Tokens(memory)}
            if backbone.config.memory == "cross"
            else given
        )
        out = backbone(streams, first=narrow)
        wanted = [leaf, *backbone.parameters()]
        grads = torch.autograd.grad(out.x[:, :first].sin().sum(), wanted, allow_unused=True)
        results.append([out.x[:, :first], *grads])
    assert out.x.shape == (B, first, DIM) and (out.prefix, out.suffix, out.valid.shape) == (
        1,
        0,
        (B, first),
    )
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


def test_the_last_block_computes_little_for_the_leading_token(monkeypatch) -> None:
    backbone = Backbone(config())
    seen = []
    for block in backbone.blocks:
        block.channel.register_forward_hook(lambda module, inputs, out: seen.append(out.shape[1]))
    backbone(tokens(), first=1)
    assert seen == [N, N, 1]
    _, (last,) = backbone.tapped(tokens(), [2], first=1)
    assert last.shape == (B, N, DIM)


@pytest.mark.parametrize("recompute", ["block", "light"])
def test_recomputation_changes_no_gradient(recompute: str) -> None:
    results = []
    for mode in ("none", recompute):
        torch.manual_seed(0)
        backbone = Backbone(
            config(recompute=mode, dropout=0.3, drop_path=0.3, layer_scale=0.5)
        ).train()
        torch.manual_seed(1)
        x = tokens().x.requires_grad_()
        backbone(replace(tokens(), x=x)).x.square().sum().backward()
        results.append([x.grad, *(p.grad for p in backbone.parameters())])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_stochastic_depth_drops_whole_samples_and_keeps_the_mean() -> None:
    ones = Tokens(torch.ones(2000, 3, 2))
    kept = drop_path(ones.x, ones, 0.25)
    assert set(kept.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (kept == kept[:, :1, :1]).all()
    assert abs(kept.mean().item() - 1) < 0.05
    packed = Tokens(torch.ones(10, 2), offsets=torch.tensor([0, 3, 10]))
    rows = drop_path(packed.x, packed, 0.5)
    assert len(rows[:3].unique()) == 1 and len(rows[3:].unique()) == 1


def test_drop_path_grows_linearly_with_depth() -> None:
    rates = [b.mixer.drop_path for b in Backbone(config(drop_path=0.2)).blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


def test_adaln_zero_starts_as_the_identity() -> None:
    backbone = Backbone(config(condition="adaln_zero", final_norm=False))
    given = replace(tokens(), cond=torch.randn(B, DIM))
    assert torch.equal(backbone(given).x, given.x)


def test_compile_fullgraph_and_export() -> None:
    backbone = Backbone(config(score="table", score_ids=4)).eval()
    given = tokens()
    from isoform.core.tokens import Pair

    given.pair = Pair({"ids": torch.randint(0, 4, (B, N, N))}, torch.arange(N).expand(B, N))
    want = backbone(given).x
    torch.testing.assert_close(
        torch.compile(backbone, fullgraph=True, backend="aot_eager")(given).x, want
    )
    torch.testing.assert_close(torch.export.export(backbone, (given,)).module()(given).x, want)


def test_core_offers_its_names() -> None:
    import isoform.core.attention as package
    from isoform.core import Backbone as offered
    from isoform.core import attention

    assert offered is Backbone
    q = torch.randn(1, 2, 3, 5)
    assert torch.equal(attention(q, q, q), package.attention(q, q, q))
