"""What a molecule's prediction may depend on: not the order of atoms, nor padding, nor neighbours in the batch."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from rdkit import Chem
from torch import Tensor

import isoform
from isoform.core.config.parameter_count import backbone_size
from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.molecules.data.featurise import featurise
from isoform.molecules.describe import score_size
from isoform.molecules.graphormer.model import SIZES, sized
from isoform.molecules.gt.model import TRUNK as GT_TRUNK
from isoform.molecules.models import build_model

from .batches import MIXED, QM9, app, batch_of, graphormer, gt, padded, permuted

PAIRS = {
    "decalin and bicyclopentyl": ("C1CCC2CCCCC2C1", "C1CCC(C1)C1CCCC1"),
    "a hexagon and two triangles": ("C1CCCCC1", "C1CC1.C1CC1"),
}
STRONG = {
    "post": lambda: graphormer(spread=0.4),
    "pre": lambda: graphormer(spread=0.4, order="pre"),
    "near": lambda: graphormer(spread=0.4, score__reach=3),
    "no graph token": lambda: graphormer(
        spread=0.4, head__pool="sum", tokeniser__graph_token=False
    ),
    "positions": lambda: graphormer(spread=0.4, head__pool="mean", tokeniser__laplacian=3),
}
# Every weight counts in the strong ones, in float64; a fresh one is as users meet it, in float32.
KINDS = {name: lambda make=make: (make().double(), 1e-10) for name, make in STRONG.items()}
KINDS["fresh"] = lambda: (graphormer(), 1e-6)


def close(got: Tensor, want: Tensor, atol: float) -> None:
    torch.testing.assert_close(got, want, atol=atol, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_atoms_changes_nothing(kind: str) -> None:
    model, atol = KINDS[kind]()
    batch = batch_of(*MIXED, laplacian=3)
    other = permuted(batch)
    assert not torch.equal(other["atoms"], batch["atoms"])
    close(model(other), model(batch), atol)


def test_spelling_changes_nothing_where_shortest_paths_are_unique() -> None:
    """Trees and odd rings; which of several equally short paths is read depends on the order of atoms, officially."""
    model = graphormer(spread=0.4).double()
    molecules = ("CC(C)COC(=O)CCN", "c1cc(oc1)C(=O)NCC#N", "OC1CC2CC2C1", "[Na+].CC(=O)[O-]")
    want = model(batch_of(*molecules))
    for seed in range(5):
        spelled = [
            Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(s), 1, randomSeed=seed)[0]
            for s in molecules
        ]
        assert spelled != list(molecules)
        close(model(batch_of(*spelled)), want, 1e-10)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_changes_nothing(kind: str) -> None:
    """Neither its number nor what it holds, nor which molecules share the batch."""
    model, atol = KINDS[kind]()
    batch = batch_of(*MIXED, laplacian=3)
    want = model(batch)
    close(model(padded(batch, extra=3)), want, atol)
    alone = torch.cat([model(batch_of(smiles, laplacian=3)) for smiles in MIXED])
    close(alone, want, atol)
    assert want.isfinite().all() and (want - want.mean(0)).abs().max() > 1e-2


def colours(smiles: str) -> Counter:
    """Colours of atoms by 1-WL refinement that starts from every feature of atoms and bonds."""
    atoms, bonds, ends = featurise(smiles)
    colour = {i: str(row.tolist()) for i, row in enumerate(atoms)}
    for _ in range(len(atoms)):
        seen = {i: [] for i in colour}
        for (i, j), bond in zip(ends.tolist(), bonds.tolist(), strict=True):
            seen[i].append(f"{bond}{colour[j]}")
        names: dict[str, int] = {}
        texts = {i: colour[i] + str(sorted(seen[i])) for i in colour}
        for text in sorted(set(texts.values())):
            names[text] = len(names)
        colour = {i: str(names[text]) for i, text in texts.items()}
    return Counter(colour.values())


@pytest.mark.parametrize("name", PAIRS)
def test_pairs_that_1_wl_takes_for_the_same_get_different_outputs(name: str) -> None:
    one, two = PAIRS[name]
    assert colours(one) == colours(two), "the pair is no such pair"
    for model, least in ((graphormer(), 1e-5), (graphormer(spread=0.4), 1e-3)):
        a, b = model(batch_of(one, two))
        assert (a - b).abs().max() > least
    # Messages between neighbours alone can't tell them apart; with eigenvectors as positions they can.
    a, b = gt(spread=0.4).double()(batch_of(one, two, bonds=True))
    close(a, b, 1e-10)
    a, b = gt(spread=0.4, tokeniser__laplacian=3)(batch_of(one, two, bonds=True, laplacian=3))
    assert (a - b).abs().min() > 1e-3


@pytest.mark.parametrize("laplacian", [0, 3])
def test_the_graph_transformer_ignores_padding_and_order(laplacian: int) -> None:
    model = gt(spread=0.4, tokeniser__laplacian=laplacian, tokeniser__degree_ids=512).double()
    batch = batch_of(*MIXED, bonds=True, laplacian=laplacian)
    want = model(batch)
    close(model(padded(batch, extra=2)), want, 1e-10)
    alone = torch.cat([model(batch_of(s, bonds=True, laplacian=laplacian)) for s in MIXED])
    close(alone, want, 1e-10)
    order = torch.randperm(len(batch["bond_index"]), generator=torch.Generator().manual_seed(0))
    swapped = {
        **batch,
        "bond_index": batch["bond_index"][order],
        "bond_ids": batch["bond_ids"][order],
    }
    close(model(swapped), want, 1e-10)
    if not laplacian:
        spelled = [
            Chem.MolToRandomSmilesVect(Chem.MolFromSmiles(s), 1, randomSeed=3)[0] for s in MIXED
        ]
        close(model(batch_of(*spelled, bonds=True)), want, 1e-10)


def test_kinds_of_edges_are_the_same_as_their_ids() -> None:
    model = graphormer(spread=0.4).double()
    want = model(batch_of(*QM9))
    close(model(batch_of(*QM9, compact=True)), want, 1e-10)


def test_what_is_not_there_takes_no_part() -> None:
    """Padding rows learn nothing; a molecule's own atoms do."""
    model = graphormer(spread=0.4)
    model(batch_of(*MIXED)).square().sum().backward()
    atoms, score = model.tokeniser.atoms, model.backbone.score
    for table in (
        atoms.features.weight,
        atoms.in_degree.weight,
        atoms.out_degree.weight,
        score.spatial,
        score.edges,
    ):
        assert table.grad[0].eq(0).all() and table.grad[1:].ne(0).any()


def test_a_perturbation_is_added_to_the_atoms() -> None:
    """And its gradient at zero is the gradient of the atoms' vectors: what an attribution multiplies them with."""
    model, batch = graphormer(spread=0.4, order="pre"), batch_of(*MIXED)
    zero = torch.zeros(*batch["valid"].shape, 24, requires_grad=True)
    out = model({**batch, "perturb": zero})
    assert torch.equal(out, model(batch))
    (grad,) = torch.autograd.grad(out.sum(), zero)
    assert grad[~batch["valid"]].eq(0).all() and grad[batch["valid"]].abs().sum(-1).gt(0).all()
    step = 1e-3 * grad
    assert model({**batch, "perturb": step}).sum() > out.sum()


def test_features_are_what_the_head_reads() -> None:
    for model, batch in (
        (graphormer(spread=0.4), batch_of(*MIXED)),
        (gt(spread=0.4), batch_of(*MIXED, bonds=True)),
    ):
        features = model.features(batch)
        assert features.shape == (len(MIXED), model.backbone.config.dim)
        assert torch.equal(model.head(features), model(batch))
    model = graphormer(spread=0.4).double()
    close(model.features(batch_of(*MIXED)), model.states(batch_of(*MIXED)).x[:, 0], 1e-10)


def test_sizes_are_the_published_ones() -> None:
    """slim: transformers' 952,593 without its 123 matrices of hops that nothing reads; the paper's 588,929 of ZINC."""
    count = {}
    for size in SIZES:
        with torch.device("meta"):
            model = build_model(app("graphormer", sized(size)), 1)
        count[size] = sum(p.numel() for p in model.parameters())
    assert count["slim"] == 952593 - 123 * 8 * 8
    assert round(count["base"] / 1e6 + 123 * 32 * 32 / 1e6, 2) == 47.68
    config = app("graphormer", sized("slim"), score__hop_matrices=7)
    with torch.device("meta"):
        trunk = build_model(config, 1).backbone
    assert backbone_size(config.backbone) + score_size(config) == sum(
        p.numel() for p in trunk.parameters()
    )
    zinc = app(
        "gt", BackboneConfig.model_validate(GT_TRUNK), tokeniser__atom_ids=28, tokeniser__bond_ids=4, head__pool="mean",
        tokeniser__graph_token=False, tokeniser__norm=False, tokeniser__degree_ids=0, tokeniser__laplacian=8,
    )  # fmt: skip
    assert sum(p.numel() for p in build_model(zinc, 1).parameters()) == 588929


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: graphormer(position="readd"), "backbone.position must be none"),
        (lambda: graphormer(tokeniser__graph_token=False), "reads the graph token"),
        (lambda: graphormer(outputs=0), "there are none"),
        (lambda: graphormer(score="table", score_ids=3), "brings a score of its own"),
        (
            lambda: graphormer(score__hop_matrices=4),
            "hop_matrices = 4 must not be below score.hops = 5",
        ),
        (lambda: gt(mixer="softmax"), "--set backbone.mixer=neighbour$"),
        (
            lambda: gt(head__pool="graph", tokeniser__graph_token=True, head__descriptors=True),
            "--set tokeniser.graph_token=false --set head.pool=mean --set head.descriptors=false$",
        ),
    ],
)
def test_tables_that_contradict_each_other_are_refused(make, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        make()


def test_models_by_name() -> None:
    model = isoform.create("molecules/graphormer-slim", outputs=2)
    assert not model.training and model(batch_of("CCO")).shape == (1, 2)
    trunk = isoform.create("molecules/graphormer-slim", features_only=True)
    assert trunk(batch_of("CCO", "C")).shape == (2, 80)
    with pytest.raises(UserError, match="no published weights"):
        isoform.create("molecules/graphormer-slim", pretrained=True)
