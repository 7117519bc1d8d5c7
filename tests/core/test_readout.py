"""Readouts by name: each a name of the schema and as wide as it says, over the real tokens alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from isoform.core.config import schema
from isoform.core.config.schema import BackboneConfig
from isoform.core.readout import READOUTS, AttentionPool, read
from isoform.core.tokens import Tokens

B, N, D = 3, 7, 10
LENGTHS = (7, 4, 2)  # class token included


def tokens() -> Tokens:
    torch.manual_seed(0)
    return Tokens(torch.randn(B, N, D), torch.arange(N) < torch.tensor(LENGTHS)[:, None], prefix=1)


def test_every_readout_is_a_name_of_the_schema() -> None:
    assert {*READOUTS, "attention"} == set(schema.READOUTS)


@pytest.mark.parametrize("name", sorted(schema.READOUTS))
def test_as_wide_as_the_schema_says_and_blind_to_padding(name: str) -> None:
    given = tokens()
    pool = AttentionPool(BackboneConfig(dim=D, heads=2)) if name == "attention" else None

    def answer(t: Tokens) -> torch.Tensor:
        return read(t, name) if pool is None else pool(t)

    out = answer(given)
    assert out.shape[-1] == D * schema.READOUTS[name] and out.dim() == (3 if name == "none" else 2)
    junk = torch.where(given.mask()[..., None], given.x, 99.0)
    if name != "none":
        torch.testing.assert_close(answer(replace(given, x=junk)), out)


def test_by_hand() -> None:
    given = tokens()
    body = [given.x[b, 1:n] for b, n in enumerate(LENGTHS)]
    mean, largest = torch.stack([x.mean(0) for x in body]), torch.stack([x.amax(0) for x in body])
    torch.testing.assert_close(read(given, "mean"), mean)
    assert torch.equal(read(given, "max"), largest) and torch.equal(
        read(given, "class"), given.x[:, 0]
    )
    torch.testing.assert_close(read(given, "mean_max"), (mean + largest) / 2)
    assert torch.equal(read(given, "class_max"), torch.cat([given.x[:, 0], largest], dim=1))
    assert torch.equal(
        read(given, "cat_mean_max"), torch.cat([read(given, "mean"), largest], dim=1)
    )
    whole = torch.stack([given.x[b, :n].mean(0) for b, n in enumerate(LENGTHS)])
    torch.testing.assert_close(read(given, "mean", with_prefix=True), whole)


def test_refusals() -> None:
    for name in ("class", "class_max"):
        with pytest.raises(ValueError, match="needs a class token"):
            read(replace(tokens(), prefix=0), name)
    with pytest.raises(ValueError, match="no readout is called 'median'; there are class, "):
        read(tokens(), "median")
