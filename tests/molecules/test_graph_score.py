"""The score of graphs: its two forms of paths, what row 0 and the virtual node do, molecules without bonds."""

from __future__ import annotations

import pytest
import torch

import fillers
from checks import assert_close_named
from isoform.core.attention.bias import materialise
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.tokens import Pair, Tokens
from isoform.molecules.config import ScoreConfig
from isoform.molecules.graphormer.score import GraphScore

B, N, P, K, F, HEADS, IDS, EDGE_IDS = 2, 5, 3, 7, 2, 4, 11, 13
TABLE = {"distance_ids": IDS, "bond_ids": EDGE_IDS, "hops": P}


def score(**changes: object) -> GraphScore:
    made = GraphScore(ScoreConfig.model_validate({**TABLE, **changes}), HEADS)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made.double()


def features() -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return {
        "distance_ids": torch.randint(0, IDS, (B, N, N), generator=g).to(torch.int16),
        "path_kinds": torch.randint(0, K, (B, N, N, P), generator=g).to(torch.uint8),
    }


def kind_bond_ids() -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.cat([torch.zeros(1, F), torch.randint(1, EDGE_IDS, (K - 1, F), generator=g)]).to(
        torch.int16
    )


def tokens(pair: dict[str, torch.Tensor]) -> Tokens:
    """A virtual node in front of each sample's N atoms."""
    index = torch.arange(-1, N).expand(B, N + 1)
    codebooks = {"path_kinds": kind_bond_ids()} if "path_kinds" in pair else {}
    return Tokens(torch.zeros(B, N + 1, 8), pair=Pair(pair, index, codebooks), prefix=1)


def listed() -> Tokens:
    return tokens(features())


def expanded() -> Tokens:
    """The same bonds with their rows written out at every pair and hop."""
    f = features()
    return tokens(
        {
            "distance_ids": f["distance_ids"],
            "path_bond_ids": kind_bond_ids()[f["path_kinds"].long()],
        }
    )


def test_both_forms_of_paths_are_one_bias() -> None:
    module = score()
    weight = torch.randn(B, HEADS, N + 1, N + 1, dtype=torch.float64)
    found = []
    for given in (listed(), expanded()):
        bias = module(given).to_dense()
        grads = torch.autograd.grad((bias * weight).sum(), list(module.parameters()))
        found.append(
            {"bias": bias} | dict(zip(dict(module.named_parameters()), grads, strict=True))
        )
    assert_close_named(*found, atol=1e-12)
    assert found[0]["bias"].shape == weight.shape and found[0]["edges"][1:].abs().sum() > 0


def test_a_pair_by_hand() -> None:
    """2 bonds apart, over bonds of kinds 4 and 2: their mean rows through the hops' matrices, halved."""
    module, given = score(), listed()
    given.pair.features["distance_ids"][1, 3, 0] = 3
    given.pair.features["path_kinds"][1, 3, 0] = torch.tensor([4, 2, 0])
    kinds = module.edges[given.pair.codebooks["path_kinds"].long()].mean(1)
    path = kinds[4] @ module.hops[0] + kinds[2] @ module.hops[1] + module.edges[0] @ module.hops[2]
    torch.testing.assert_close(module(given).to_dense()[1, :, 4, 1], module.spatial[3] + path / 2)


def test_the_virtual_node_has_one_distance_and_no_edges() -> None:
    module = score()
    bias = module(listed()).to_dense()
    virtual = module.virtual[0][None, :, None].expand(B, HEADS, N + 1)
    assert torch.equal(bias[:, :, 0], virtual) and torch.equal(bias[:, :, :, 0], virtual)


def test_row_0_counts_and_never_learns() -> None:
    module = score()
    bias = module(expanded()).to_dense()
    grads = torch.autograd.grad(bias.square().sum(), [module.spatial, module.edges])
    assert all(grad[0].eq(0).all() and grad[1:].ne(0).any() for grad in grads)
    for table in (module.spatial, module.edges):
        with torch.no_grad():
            table[0] += 1
        assert not torch.equal(module(expanded()).to_dense(), bias)
        bias = module(expanded()).to_dense()


def test_fresh_padding_rows_are_zero() -> None:
    made = GraphScore(ScoreConfig.model_validate(TABLE), HEADS)
    assert (
        made.spatial[0].eq(0).all() and made.edges[0].eq(0).all() and made.spatial[1:].ne(0).any()
    )


def test_beyond_its_reach_a_token_is_not_seen() -> None:
    given = listed()
    apart = given.pair.features["distance_ids"].long() - 1
    bias = score(reach=4)(given).to_dense()[:, 0, 1:, 1:]
    assert torch.equal(bias.isneginf(), apart >= 4) and (apart >= 4).any() and (apart == 3).any()


@pytest.mark.parametrize("hops", [0, 1])
def test_molecules_without_bonds(hops: int) -> None:
    """A batch of single atoms may have paths of no hops."""
    module = score()
    pair = {
        "distance_ids": torch.ones(B, 1, 1, dtype=torch.uint8),
        "path_kinds": torch.zeros(B, 1, 1, hops, dtype=torch.uint8),
    }
    codebooks = {"path_kinds": torch.zeros(1, F, dtype=torch.int16)}
    with torch.no_grad():
        module.edges[0] = 0.0
    bias = module(
        Tokens(torch.zeros(B, 2, 8), pair=Pair(pair, torch.tensor([[-1, 0]] * B), codebooks))
    ).to_dense()
    want = torch.stack(
        [module.virtual[0], module.virtual[0], module.virtual[0], module.spatial[1]], dim=1
    )
    torch.testing.assert_close(bias, want.view(1, HEADS, 2, 2).expand_as(bias))


def test_it_stays_compact_until_it_is_needed() -> None:
    bias = score()(listed())
    assert materialise(bias, limit_bytes=0) is bias
    assert bias.slice(slice(1, 3), slice(1, 2)).to_dense().shape == (1, HEADS, 2, N + 1)
    assert torch.equal(bias.slice(slice(1, 3), slice(1, 2)).to_dense(), bias.to_dense()[1:, :, 1:3])


def test_matrices_beyond_the_longest_path_are_held_and_not_read() -> None:
    module, wide = score(), score(hop_matrices=P + 2)
    wide.load_state_dict(
        module.state_dict() | {"hops": torch.cat([module.hops, torch.full((2, HEADS, HEADS), 7.0)])}
    )
    f = features()
    longer = torch.cat([f["path_kinds"], torch.ones(B, N, N, 2, dtype=torch.uint8)], dim=3)
    given = tokens({"distance_ids": f["distance_ids"], "path_kinds": longer})
    assert torch.equal(wide(given).to_dense(), module(listed()).to_dense())


def test_sizes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"score\.hop_matrices = 2 must not be below score\.hops = 3"
    ):
        score(hop_matrices=2)


@pytest.mark.parametrize("form", ["listed", "written out"])
@pytest.mark.parametrize("reach", [None, 4])
def test_the_filler(form: str, reach: int | None) -> None:
    """All that holds of core's fillers holds of the score that is handed in."""
    n, hops, g = fillers.N, 3, torch.Generator().manual_seed(3)
    kinds = torch.randint(0, 9, (6, 2), generator=g, dtype=torch.int16)
    path_kinds = torch.randint(0, 6, (fillers.B, n, n, hops), generator=g, dtype=torch.uint8)
    given = {
        "apart": torch.randint(0, 6, (fillers.B, n, n), generator=g, dtype=torch.uint8),
        "distance_ids": torch.randint(0, 7, (fillers.B, n, n), generator=g, dtype=torch.uint8),
    }
    if form == "listed":
        pair = Pair({**given, "path_kinds": path_kinds}, torch.empty(0), {"path_kinds": kinds})
    else:
        pair = Pair({**given, "path_bond_ids": kinds[path_kinds.long()]}, torch.empty(0))
    table = ScoreConfig(distance_ids=7, bond_ids=9, hops=hops, reach=reach)

    def bias(w: dict[str, torch.Tensor], feature) -> torch.Tensor:
        """[H] of two atoms: the table's row of their distance, and the mean over the bonds of their path."""
        if feature is None:
            return w["score.virtual"][0]
        distances, bonds = (
            torch.cat([w[f"score.{name}"][:1].detach(), w[f"score.{name}"][1:]])
            for name in ("spatial", "edges")
        )
        place = int(feature("distance_ids"))  # 1 + distance
        if reach is not None and place - 1 >= reach:
            return torch.full_like(distances[0], -torch.inf)
        path = kinds[feature("path_kinds").long()] if form == "listed" else feature("path_bond_ids")
        total = sum(bonds[path[p].long()].mean(0) @ w["score.hops"][p] for p in range(hops))
        return distances[place] + total / min(max(place - 1, 1), hops)

    config = BackboneConfig.model_validate(fillers.SMALL)
    fillers.assert_filler(
        lambda: Backbone(config, score=lambda: GraphScore(table, config.heads)),
        pair=pair,
        pair_bias=bias,
    )


def test_a_score_needs_a_mixer_with_scores_and_is_the_only_one() -> None:
    def score_of() -> GraphScore:
        return GraphScore(ScoreConfig(), 4)

    with pytest.raises(ValueError, match=r"this model adds a pair bias .* has no scores"):
        Backbone(BackboneConfig(dim=8, heads=4, mixer="neighbour"), score=score_of)
    with pytest.raises(ValueError, match="brings a score of its own"):
        Backbone(BackboneConfig(dim=8, heads=4, score="dense"), score=score_of)
