"""The score of graphs: its two forms of edges, what row 0 and the virtual node do, molecules without bonds."""

from __future__ import annotations

import pytest
import torch

from checks import assert_close_named
from isoform.core.attention.bias import materialise
from isoform.core.config.schema import BackboneConfig
from isoform.core.score import GraphScore, make_score
from isoform.core.tokens import Pair, Tokens

B, N, P, K, F, HEADS, IDS, EDGE_IDS = 2, 5, 3, 7, 2, 4, 11, 13
TABLE = {"dim": 8, "heads": HEADS, "score": "graph", "score_ids": IDS, "score_edge_ids": EDGE_IDS, "score_hops": P}


def score(**changes: object) -> GraphScore:
    made = make_score(BackboneConfig.model_validate({**TABLE, **changes}))
    assert isinstance(made, GraphScore)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made.double()


def features() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "spatial": torch.randint(0, IDS, (B, N, N), generator=g).to(torch.int16),
        "kinds": torch.randint(0, K, (B, N, N, P), generator=g).to(torch.uint8),
        "edge_ids": torch.cat([torch.zeros(1, F), torch.randint(1, EDGE_IDS, (K - 1, F), generator=g)]).to(torch.int16),
    }


def tokens(pair: dict[str, torch.Tensor]) -> Tokens:
    """A virtual node in front of each sample's N atoms."""
    index = torch.arange(-1, N).expand(B, N + 1)
    return Tokens(torch.zeros(B, N + 1, 8), pair=Pair(pair, index), prefix=1)


def listed() -> Tokens:
    f = features()
    return tokens({"spatial": f["spatial"], "edges": f["kinds"], "edge_ids": f["edge_ids"]})


def expanded() -> Tokens:
    """The same edges with their rows written out at every pair and hop."""
    f = features()
    return tokens({"spatial": f["spatial"], "edges": f["edge_ids"][f["kinds"].long()]})


def test_both_forms_of_edges_are_one_bias() -> None:
    module = score()
    weight = torch.randn(B, HEADS, N + 1, N + 1, dtype=torch.float64)
    found = []
    for given in (listed(), expanded()):
        bias = module(given).dense()
        grads = torch.autograd.grad((bias * weight).sum(), list(module.parameters()))
        found.append({"bias": bias} | dict(zip(dict(module.named_parameters()), grads, strict=True)))
    assert_close_named(*found, atol=1e-12)
    assert found[0]["bias"].shape == weight.shape and found[0]["edges"][1:].abs().sum() > 0


def test_a_pair_by_hand() -> None:
    """2 edges apart, over edges of kinds 4 and 2: their mean rows through the hops' matrices, halved."""
    module, given = score(), listed()
    given.pair.features["spatial"][1, 3, 0] = 3
    given.pair.features["edges"][1, 3, 0] = torch.tensor([4, 2, 0])
    kinds = module.edges[given.pair.features["edge_ids"].long()].mean(1)
    path = kinds[4] @ module.hops[0] + kinds[2] @ module.hops[1] + module.edges[0] @ module.hops[2]
    torch.testing.assert_close(module(given).dense()[1, :, 4, 1], module.spatial[3] + path / 2)


def test_the_virtual_node_has_one_distance_and_no_edges() -> None:
    module = score()
    bias = module(listed()).dense()
    virtual = module.virtual[0][None, :, None].expand(B, HEADS, N + 1)
    assert torch.equal(bias[:, :, 0], virtual) and torch.equal(bias[:, :, :, 0], virtual)


def test_row_0_counts_and_never_learns() -> None:
    module = score()
    bias = module(expanded()).dense()
    grads = torch.autograd.grad(bias.square().sum(), [module.spatial, module.edges])
    assert all(grad[0].eq(0).all() and grad[1:].ne(0).any() for grad in grads)
    for table in (module.spatial, module.edges):
        with torch.no_grad():
            table[0] += 1
        assert not torch.equal(module(expanded()).dense(), bias)
        bias = module(expanded()).dense()


def test_fresh_padding_rows_are_zero() -> None:
    made = make_score(BackboneConfig.model_validate(TABLE))
    assert isinstance(made, GraphScore)
    assert made.spatial[0].eq(0).all() and made.edges[0].eq(0).all() and made.spatial[1:].ne(0).any()


def test_beyond_its_reach_a_token_is_not_seen() -> None:
    given = listed()
    apart = given.pair.features["spatial"].long() - 1
    bias = score(score_reach=4)(given).dense()[:, 0, 1:, 1:]
    assert torch.equal(bias.isneginf(), apart >= 4) and (apart >= 4).any() and (apart == 3).any()


@pytest.mark.parametrize("hops", [0, 1])
def test_molecules_without_bonds(hops: int) -> None:
    """A batch of single atoms may have paths of no hops."""
    module = score()
    pair = {
        "spatial": torch.ones(B, 1, 1, dtype=torch.uint8),
        "edges": torch.zeros(B, 1, 1, hops, dtype=torch.uint8),
        "edge_ids": torch.zeros(1, F, dtype=torch.int16),
    }
    with torch.no_grad():
        module.edges[0] = 0.0
    bias = module(Tokens(torch.zeros(B, 2, 8), pair=Pair(pair, torch.tensor([[-1, 0]] * B)))).dense()
    want = torch.stack([module.virtual[0], module.virtual[0], module.virtual[0], module.spatial[1]], dim=1)
    torch.testing.assert_close(bias, want.view(1, HEADS, 2, 2).expand_as(bias))


def test_it_stays_compact_until_it_is_needed() -> None:
    bias = score()(listed())
    assert materialise(bias, limit_bytes=0) is bias
    assert bias.dense(slice(1, 3), slice(1, 2)).shape == (1, HEADS, 2, N + 1)
    assert torch.equal(bias.dense(slice(1, 3), slice(1, 2)), bias.dense()[1:, :, 1:3])


def test_matrices_beyond_the_longest_path_are_held_and_not_read() -> None:
    module, wide = score(), score(score_matrices=P + 2)
    wide.load_state_dict(module.state_dict() | {"hops": torch.cat([module.hops, torch.full((2, HEADS, HEADS), 7.0)])})
    f = features()
    longer = torch.cat([f["kinds"], torch.ones(B, N, N, 2, dtype=torch.uint8)], dim=3)
    given = tokens({"spatial": f["spatial"], "edges": longer, "edge_ids": f["edge_ids"]})
    assert torch.equal(wide(given).dense(), module(listed()).dense())


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"score_ids and backbone\.score_edge_ids"):
        score(score_edge_ids=None)
    with pytest.raises(ValueError, match="score_matrices = 2 must not be below score_hops = 3"):
        score(score_matrices=2)
