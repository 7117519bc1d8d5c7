"""What every filler of a slot must hold: parity with a dense oracle, padding, order, save and load."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace

import torch

import oracle
from checks import (
    assert_causal,
    assert_close_named,
    assert_layout_ignored,
    assert_padding_ignored,
    assert_permutation_equivariant,
)
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.edges import Edges
from isoform.core.mixers import MIXERS
from isoform.core.tokens import Pair, Tokens

B, N, M, HEADS, HEAD_DIM, MLP, COND = 2, 7, 5, 6, 4, 13, 11
DIM = HEADS * HEAD_DIM
SMALL = {"dim": DIM, "depth": 2, "heads": HEADS, "mlp_dim": MLP}


def randomised(backbone: Backbone) -> Backbone:
    """The backbone in float64, its every parameter random, so that a forgotten one shows."""
    torch.manual_seed(0)
    backbone = backbone.double().eval()
    for name, parameter in backbone.named_parameters():
        centre = 1.0 if ("norm" in name and name.endswith("weight")) or "widths" in name else 0.0
        torch.nn.init.normal_(parameter, centre, 0.1 if centre else 0.35)
    for name, buffer in backbone.named_buffers():
        torch.nn.init.uniform_(buffer, 0.5, 1.5) if "var" in name else torch.nn.init.normal_(buffer)
    return backbone


def tokens_for(config: BackboneConfig, n: int = N, lengths: tuple[int, ...] = (N, N - 3)) -> Tokens:
    """Ragged tokens with what the table's fillers read."""
    g = torch.Generator().manual_seed(1)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64)

    positions = {"none": None, "readd": DIM, "rotary_learned": 2}.get(
        config.position, HEAD_DIM // 2
    )
    features = {
        "bias": normal(B, n, n, HEADS),
        "ids": torch.randint(0, 9, (B, n, n), generator=g, dtype=torch.uint8),
        "apart": torch.randint(0, 6, (B, n, n), generator=g, dtype=torch.uint8),
    }
    index = torch.arange(n).expand(B, n).clone()
    index[:, 0] = -1  # a token of its own, such as a class token
    return Tokens(
        normal(B, n, DIM),
        torch.arange(n) < torch.tensor(lengths)[:, None],
        coords=normal(B, n, 3),
        pos=None if positions is None else normal(B, n, positions),
        pair=Pair(features, index),
        cond=normal(B, COND),
        prefix=1,
    )


def edges_of(tokens: Tokens) -> Edges:
    """Edges between some of the real tokens; which ones and with what features, the pair features say."""
    padded = tokens.unpad()
    apart = padded.pair.view("apart", absent=5)
    real = padded.mask()
    b, i, j = ((apart < 3) & real[:, :, None] & real[:, None, :]).nonzero().unbind(1)
    weight = padded.pair.view("bias")[b, i, j].sum(-1, keepdim=True)
    x = torch.sin(weight * (1 + torch.arange(DIM, dtype=torch.float64) / DIM))
    start = (
        torch.arange(len(real)) * real.shape[1] if tokens.offsets is None else tokens.offsets[:-1]
    )
    return Edges(x, torch.stack([start[b] + i, start[b] + j], dim=1))


def streams(config: BackboneConfig, tokens: Tokens) -> Tokens | dict[str, Tokens | Edges]:
    if MIXERS[config.mixer].traits.edges:
        return {"main": tokens, "edges": edges_of(tokens)}
    if config.memory == "none":
        return tokens
    g = torch.Generator().manual_seed(2)
    memory = Tokens(
        torch.randn(B, M, DIM, generator=g, dtype=torch.float64),
        torch.arange(M) < torch.tensor([[M], [2]]),
    )
    return {"main": tokens, "memory": memory.pack() if tokens.packed else memory}


def assert_filler(
    make: Callable[[], Backbone], pair: Pair | None = None, pair_bias: oracle.PairBias | None = None
) -> None:
    """`pair`, `pair_bias`: the features that a handed-in score reads in place of the usual ones, and its oracle."""
    backbone = randomised(make())
    config, traits = backbone.config, MIXERS[backbone.config.mixer].traits
    tokens = tokens_for(config)
    if pair is not None:
        assert tokens.pair is not None
        tokens = replace(
            tokens, pair=replace(tokens.pair, features=pair.features, codebooks=pair.codebooks)
        )

    def function(t: Tokens) -> Tokens:
        return backbone(streams(config, t))

    # Parity and gradients, of the tokens and of every parameter, with the dense oracle.
    memory = streams(config, tokens)["memory"] if config.memory == "cross" else None
    edges = edges_of(tokens) if traits.edges else None
    real = tokens.mask()

    def both(t: Tokens) -> tuple[torch.Tensor, torch.Tensor | None]:
        if edges is None:
            return function(t).x, None
        main, after = backbone.both(streams(config, t))
        assert torch.equal(function(t).x, main.x)
        return main.x, after.x

    results = []
    for run in (both, lambda t: oracle.run(backbone, t, memory, edges, pair_bias)):
        x = tokens.x.clone().requires_grad_()
        main, after = run(tokens.with_x(x))
        out = main[real] if after is None else torch.cat([main[real], after])
        weight = torch.sin(torch.arange(out.numel(), dtype=torch.float64)).view_as(out)
        names, parameters = zip(*backbone.named_parameters(), strict=True)
        grads = torch.autograd.grad((out * weight).sum(), [x, *parameters])
        results.append({"out": out, "x": grads[0], **dict(zip(names, grads[1:], strict=True))})
    assert_close_named(*results, atol=1e-9)

    # Padding never changes a real token; the packed layout never changes anything.
    assert_padding_ignored(function, tokens, atol=1e-9)
    if traits.ragged and config.score == "none" and pair_bias is None:
        assert_layout_ignored(function, tokens, atol=1e-9)
    whole = replace(tokens, valid=None)
    if config.causal:
        assert_causal(function, whole, atol=1e-9)
    elif traits.equivariant:
        assert_permutation_equivariant(function, whole, atol=1e-9)

    # Saved and loaded into a fresh backbone, it is the same function.
    file = io.BytesIO()
    torch.save(backbone.state_dict(), file)
    file.seek(0)
    fresh = make().double().eval()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(fresh(streams(config, tokens)).x, function(tokens).x)
