"""Tokens: every field survives gather, split, cat, pack and unpad; the type passes through torch's machinery."""

from __future__ import annotations

from dataclasses import fields as dataclass_fields
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.tokens import Pair, Tokens

B, N, D, C, P = 3, 7, 5, 2, 11


def full(n: int = N, ragged: bool = False, seed: int = 0) -> Tokens:
    """Tokens with every field set; with `ragged` the samples have n, n - 2 and 1 real tokens."""
    g = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([n, n - 2, 1] if ragged else [n] * B)
    valid = torch.arange(n) < lengths[:, None]
    features = {
        "ids": torch.randint(0, 9, (B, n, n), generator=g, dtype=torch.uint8),
        "path": torch.randn(B, n, n, 2, generator=g),
    }
    return Tokens(
        torch.randn(B, n, D, generator=g) * valid[..., None],
        valid,
        torch.randn(B, n, C, generator=g) * valid[..., None],
        torch.randn(B, n, D, generator=g) * valid[..., None],
        Pair(features, torch.arange(n).expand(B, n).where(valid, -1)),
        torch.randn(B, n, P, generator=g) * valid[..., None],
        torch.arange(n).expand(B, n) * valid,
    )


def assert_same(a: Tokens, b: Tokens) -> None:
    for name in ("x", "valid", "coords", "pos", "cond", "order"):
        left, right = getattr(a, name), getattr(b, name)
        if name == "valid":
            left, right = a.mask(), b.mask()
        assert torch.equal(left, right), name
    assert torch.equal(a.pair.index, b.pair.index)
    for name in a.pair.features:
        assert torch.equal(a.pair.view(name), b.pair.view(name)), name


@given(st.permutations(list(range(N))), st.integers(1, N))
def test_gather_carries_every_field(order: list[int], k: int) -> None:
    tokens, index = full(), torch.tensor(order[:k]).expand(B, k)
    got = tokens.gather(index)
    pick = torch.tensor(order[:k])
    for name in ("x", "valid", "coords", "pos", "cond", "order"):
        assert torch.equal(getattr(got, name), getattr(tokens, name)[:, pick]), name
    for name, value in tokens.pair.features.items():
        assert torch.equal(got.pair.view(name), value[:, pick][:, :, pick]), name


@given(st.integers(1, N - 1))
def test_cat_is_the_inverse_of_split(at: int) -> None:
    tokens = full()
    assert_same(Tokens.cat(tokens.split([at, N - at])), tokens)


@given(st.lists(st.integers(0, B - 1), min_size=1, max_size=5), st.integers(1, N) | st.none())
def test_select_carries_every_field(rows: list[int], length: int | None) -> None:
    shared = torch.arange(11)
    tokens = full(ragged=True)
    tokens = replace(
        tokens,
        prefix=2,
        suffix=1,
        grid=(2, 2),
        pair=replace(tokens.pair, codebooks={"ids": shared}),
    )
    got, n = tokens.select(torch.tensor(rows), length), length or N
    for name in ("x", "valid", "coords", "pos", "cond", "order"):
        assert torch.equal(getattr(got, name), getattr(tokens, name)[rows][:, :n]), name
    assert torch.equal(got.pair.index, tokens.pair.index[rows][:, :n])
    for name in tokens.pair.features:
        assert torch.equal(got.pair.view(name), tokens.pair.view(name)[rows][:, :n, :n]), name
    assert got.pair.codebooks["ids"] is shared
    assert (
        got.pair.features["ids"].shape[1] == int(got.pair.index.max()) + 1
    )  # what nobody names any more is gone
    fields = (got.prefix, got.suffix, got.grid)
    assert fields == ((2, 1, (2, 2)) if n == N else (min(n, 2), 0, None))


def test_select_names_every_field_of_tokens_and_pair() -> None:
    """A field that is added here must be added to the property above, and to `select`."""
    assert [f.name for f in dataclass_fields(Tokens)] == [
        *(
            "x",
            "valid",
            "coords",
            "pos",
            "pair",
            "cond",
            "order",
            "prefix",
            "suffix",
            "grid",
            "offsets",
        )
    ]
    assert [f.name for f in dataclass_fields(Pair)] == ["features", "index", "codebooks"]


def test_select_of_what_samples_share_or_own() -> None:
    tokens = replace(
        full(), pos=torch.randn(1, N, D), cond=torch.randn(B, P), pair=None, order=None
    )
    got = tokens.select(torch.tensor([2, 0]), 3)
    assert torch.equal(got.pos, tokens.pos[:, :3]) and torch.equal(got.cond, tokens.cond[[2, 0]])
    assert got.pair is None and got.order is None
    lone = replace(full(), valid=None).select(torch.tensor([1]))
    assert (
        torch.equal(lone.select(torch.tensor([0, 0])).pos, lone.pos[[0, 0]]) and lone.valid is None
    )


def test_pack_and_unpad_are_inverses() -> None:
    tokens = full(ragged=True)
    packed = tokens.pack()
    assert packed.x.shape == (N + N - 2 + 1, D) and packed.offsets.tolist() == [
        0,
        N,
        2 * N - 2,
        2 * N - 1,
    ]
    assert_same(packed.unpad(), tokens)
    again = packed.unpad().pack()
    assert torch.equal(again.x, packed.x) and torch.equal(again.offsets, packed.offsets)
    assert torch.equal(packed.sample_T, torch.tensor([0] * N + [1] * (N - 2) + [2]))


def test_condition_and_position_shared_by_samples() -> None:
    tokens = replace(full(ragged=True), pos=torch.randn(1, N, D), cond=torch.randn(B, P))
    packed = tokens.pack()
    assert packed.cond.shape == (B, P)
    assert torch.equal(packed.pos[:N], tokens.pos[0])
    assert torch.equal(packed.unpad().pos[1, : N - 2], tokens.pos[0, : N - 2])
    assert tokens.gather(torch.zeros(B, 2, dtype=torch.long)).pos.shape == (B, 2, D)


def test_special_tokens_have_no_pair_features() -> None:
    tokens = full()
    special = replace(full(2), pair=None, prefix=2)
    joined = Tokens.cat([special, tokens])
    assert joined.prefix == 2 and joined.pair.index[:, :2].eq(-1).all()
    ids = joined.pair.view("ids", absent=250)
    assert torch.equal(ids[:, 2:, 2:], tokens.pair.features["ids"])
    assert ids[:, :2].eq(250).all() and ids[:, :, :2].eq(250).all()


def test_body_lies_between_prefix_and_suffix() -> None:
    tokens = replace(full(9), prefix=2, suffix=1, grid=(2, 3))
    body = tokens.body()
    assert (
        torch.equal(body.x, tokens.x[:, 2:8])
        and body.grid == (2, 3)
        and (body.prefix, body.suffix) == (0, 0)
    )


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"coords": None}, "coords"),
        ({"cond": torch.zeros(B, P)}, "cond"),
        (
            {"pair": Pair({"ids": torch.zeros(B, N, N)}, torch.zeros(B, N, dtype=torch.long))},
            "pair",
        ),
    ],
)
def test_cat_refuses_what_it_cannot_join(change: dict, word: str) -> None:
    with pytest.raises((ValueError, RuntimeError), match=word):
        Tokens.cat([full(), replace(full(), **change)])


def test_refusals_say_what_to_do() -> None:
    packed = full(ragged=True).pack()
    for call in (
        lambda: packed.gather(torch.zeros(B, 1, dtype=torch.long)),
        lambda: packed.select(torch.tensor([0])),
        lambda: Tokens.cat([packed, packed]),
    ):
        with pytest.raises(ValueError, match="unpad"):
            call()
    holes = full(ragged=True)
    holes.valid[0, 0] = False
    with pytest.raises(ValueError, match="padding behind"):
        holes.pack()
    with pytest.raises(ValueError, match="as many tokens"):
        full().select(torch.tensor([0]), N + 1)
    with pytest.raises(ValueError, match="sum to N"):
        full().split([1, 2])


class Double(torch.nn.Module):
    def forward(self, tokens: Tokens) -> Tokens:
        return tokens.with_x(tokens.x * 2 + tokens.mask()[..., None])


def test_export_with_tokens_in_and_out() -> None:
    tokens = full(ragged=True)
    program = torch.export.export(Double(), (tokens,))
    assert_same(program.module()(tokens), Double()(tokens))


def test_compile_fullgraph_with_tokens_in_and_out() -> None:
    tokens = full(ragged=True)
    compiled = torch.compile(Double(), fullgraph=True, backend="aot_eager")
    assert_same(compiled(tokens), Double()(tokens))


def test_activation_checkpointing_with_tokens_in_and_out() -> None:
    from torch.utils.checkpoint import checkpoint

    tokens = full()
    x = tokens.x.requires_grad_()
    checkpoint(Double(), tokens, use_reentrant=False).x.sum().backward()
    assert torch.equal(x.grad, torch.full_like(x, 2))
