"""Graphormer beside that of transformers 4.57.6; with --name adit, the diffusion transformer beside plain torch.

Graphormer: training step, inference, and end to end from SMILES to the step.

The first two take a batch that is there already, each contestant its own form of the same molecules; "end to end"
reads SMILES, featurises, collates and trains a step. The peer's graphs come from isoform's featuriser, at a cost that
counts for both: ogb's own smiles2graph is not needed, and slower.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parent))
import harness
from harness import Case, Contestant

from isoform.core.errors import UserError

PACKAGES = ("torch", "transformers", "rdkit", "isoform")
HANDED = "ISOFORM_BENCH_SMILES"  # environment: a file of the molecules, for the processes whose memory is measured
COMPARED = {  # gradients: ours, and the peer's name for the same table or matrix
    "atoms": (
        "tokeniser.atoms.features.weight",
        "encoder.graph_encoder.graph_node_feature.atom_encoder.weight",
    ),
    "edges": ("backbone.score.edges", "encoder.graph_encoder.graph_attn_bias.edge_encoder.weight"),
    "middle": (
        "backbone.blocks.5.channel.inner.fc1.weight",
        "encoder.graph_encoder.layers.5.fc1.weight",
    ),
}
SLIM = {"num_hidden_layers": 12, "embedding_dim": 80, "ffn_embedding_dim": 80, "num_attention_heads": 8,
        "hidden_size": 80, "encoder_normalize_before": True, "num_classes": 1}  # fmt: skip
# Of microsoft/Graphormer's slim: attention probabilities and the hidden layers of the MLPs are dropped, nothing else.
DROPOUT = 0.1

Built = tuple[harness.Run, Callable[[], dict[str, Tensor]]]


@dataclass(frozen=True)
class Shape:
    """A kind of molecules, and how many make a batch."""

    name: str
    batch: int


SHAPES = (Shape("QM9", 128), Shape("ESOL-size", 64))

# Solutes of 1 to 33 heavy atoms, 14.2 in the mean; those of MoleculeNet's ESOL have 1 to 55, 13.3 in the mean.
SOLUTES = (
    "C", "CCO", "CC(C)O", "CCCCO", "CCCCCCCC", "c1ccccc1", "Cc1ccccc1", "Oc1ccccc1", "Nc1ccccc1", "ClC(Cl)Cl",
    "CC(=O)O", "CCOC(C)=O", "CCCCCCCCCCO", "C1CCCCC1", "c1ccc2ccccc2c1", "c1ccc2cc3ccccc3cc2c1", "CC(=O)Nc1ccc(O)cc1",
    "CC(=O)Oc1ccccc1C(=O)O", "Cn1cnc2c1c(=O)n(C)c(=O)n2C", "CC(C)Cc1ccc(C(C)C(=O)O)cc1", "COc1ccc2cc(C(C)C(=O)O)ccc2c1",
    "CCN(CC)CCNC(=O)c1ccc(N)cc1", "CCN(CC)CC(=O)Nc1c(C)cccc1C", "CC(C)NCC(O)COc1cccc2ccccc12",
    "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1", "CN1C(=O)CN=C(c2ccccc2)c2cc(Cl)ccc21",
    "CC1(C)SC2C(NC(=O)Cc3ccccc3)C(=O)N2C1C(=O)O", "CC12CCC3C(CCC4=CC(=O)CCC34C)C1CCC2O",
    "CC12CCC3c4ccc(O)cc4CCC3C1CCC2O", "CC(C)CCCC(C)C1CCC2C3CC=C4CC(O)CCC4(C)C3CCC12C",
    "CC(=O)C1CCC2C3CCC4=CC(=O)CCC4(C)C3CCC12C", "OCC1OC(O)C(O)C(O)C1O", "OCC1OC(OC2(CO)OC(CO)C(O)C2O)C(O)C(O)C1O",
    "Clc1ccc(C(c2ccc(Cl)cc2)C(Cl)(Cl)Cl)cc1", "ClC1C(Cl)C(Cl)C(Cl)C(Cl)C1Cl", "Clc1cc(Cl)c(-c2cc(Cl)c(Cl)cc2Cl)cc1Cl",
    "CCNc1nc(Cl)nc(NC(C)C)n1", "CN(C)C(=O)Nc1ccc(Cl)c(Cl)c1", "CNC(=O)Oc1cccc2ccccc12",
    "CCOP(=S)(OCC)Oc1ccc([N+](=O)[O-])cc1", "Nc1ccc(S(=O)(=O)Nc2ncccn2)cc1", "Cc1cc(NS(=O)(=O)c2ccc(N)cc2)no1",
    "O=C1NC(=O)C(c2ccccc2)(c2ccccc2)N1", "CCC1(c2ccccc2)C(=O)NC(=O)NC1=O", "O=c1[nH]c(=O)c2[nH]cnc2[nH]1",
    "Cc1c[nH]c(=O)[nH]c1=O", "CCCCCCCCCCCC(=O)O", "CCCCCCCCC=CCCCCCCCC(=O)O", "CCCCOC(=O)c1ccccc1C(=O)OCCCC",
    "COC(=O)c1ccccc1O", "CC1=CCC(C(C)=C)CC1", "CC(C)C1CCC(C)CC1O", "CC1(C)C2CCC1(C)C(=O)C2",
    "CN1CCC(=C2c3ccccc3CCc3ccccc32)CC1", "CN(C)CCCN1c2ccccc2CCc2ccccc21",
    "CN1CCN(CCCN2c3ccccc3Sc3ccc(C(F)(F)F)cc32)CC1", "OC(c1ccccc1)(c1ccccc1)C1CCNCC1", "O=C(O)Cc1ccccc1Nc1c(Cl)cccc1Cl",
    "COc1ccc(CCN(C)CCCC(C#N)(C(C)C)c2ccc(OC)c(OC)c2)cc1OC", "c1ccc(-c2ccccc2)cc1", "c1cc2ccc3cccc4ccc(c1)c2c34",
    "N#Cc1ccccc1", "O=[N+]([O-])c1ccccc1", "CSc1ccccc1",
)  # fmt: skip


def molecules(data: str | None) -> dict[str, list[str]]:
    """SMILES by the shape's name: of QM9 drawn by seed; of the file `data` ("smiles" column) or the solutes above."""
    if HANDED in os.environ:
        return json.loads(Path(os.environ[HANDED]).read_text("utf-8"))
    from isoform.molecules.config import DataConfig
    from isoform.molecules.data.qm9 import read_qm9

    pools = {
        "QM9": read_qm9(DataConfig(source="qm9", targets=("gap",))).smiles,
        "ESOL-size": list(SOLUTES),
    }
    if data:
        with open(data, encoding="utf-8", newline="") as file:
            pools["ESOL-size"] = [row["smiles"] for row in csv.DictReader(file)]
    rng = np.random.default_rng(0)
    return {
        s.name: [pools[s.name][i] for i in rng.permutation(len(pools[s.name]))[: s.batch]]
        for s in SHAPES
    }


# Contestants ----------------------------------------------------------------------------------------------------------


def peer() -> tuple[Any, Any, Any]:
    """transformers' Graphormer: its config's class, its model's and its collator's module."""
    try:
        from transformers.models.deprecated.graphormer import collating_graphormer as collating
        from transformers.models.deprecated.graphormer.configuration_graphormer import (
            GraphormerConfig,
        )
        from transformers.models.deprecated.graphormer.modeling_graphormer import (
            GraphormerForGraphClassification,
        )

        collating.algos_graphormer  # noqa: B018  absent where Cython is
    except Exception as error:
        why = " ".join(str(error).split())[:120]
        raise UserError(
            f"bench molecules: the peer can't be imported ({why}); make an environment with pip install "
            "'isoform[molecules]' 'transformers==4.57.6' 'huggingface_hub<1' 'cython==0.29.37' setuptools"
        ) from error
    return GraphormerConfig, GraphormerForGraphClassification, collating


def app(recompute: str = "none"):
    """isoform's settings of that size: 128 hop matrices, as the peer's table has them."""
    from isoform.molecules.config import (
        HeadConfig,
        ModelConfig,
        MoleculesApp,
        ScoreConfig,
        TokeniserConfig,
    )
    from isoform.molecules.graphormer.model import sized

    dropout = {"dropout": 0.0, "attention_dropout": DROPOUT, "mlp_dropout": DROPOUT}
    backbone = sized("slim", **dropout, recompute=recompute)
    return MoleculesApp(
        domain="molecules",
        app="bench",
        model=ModelConfig(family="graphormer"),
        backbone=backbone,
        score=ScoreConfig(hop_matrices=128),
        tokeniser=TokeniserConfig(hf_compat=True),
        head=HeadConfig(outputs=1),
    )


def ours(recompute: str = "none") -> nn.Module:
    """isoform's model, from one seed, its tables large enough to show in the answers."""
    from isoform.molecules.models import build_model

    torch.manual_seed(0)
    model = build_model(app(recompute), 1)
    for name in ("spatial", "edges", "virtual"):
        table = model.get_parameter(f"backbone.score.{name}")
        nn.init.normal_(table, std=0.3)
        with torch.no_grad():
            table[0] *= float(name == "virtual")  # padding's row is zero
    return model


def theirs() -> nn.Module:
    """The peer's with the weights of isoform's."""
    from isoform.molecules.graphormer.export_official import export_official

    config, model_class, _ = peer()
    model = model_class(
        config(**SLIM, dropout=0.0, attention_dropout=DROPOUT, activation_dropout=DROPOUT)
    )
    model.load_state_dict(export_official(app(), ours().state_dict(), layout="transformers"))
    return model


def graphs_of(smiles: Sequence[str]):
    """What both contestants featurise with; every text of the benchmark is a molecule."""
    from isoform.molecules.data.featurise import featurise_many

    found = featurise_many(smiles)
    if found.skipped:
        number, why = found.skipped[0]
        raise UserError(f"{smiles[number]}: {why}; the benchmark takes molecules alone")
    return found.graphs


def our_batch(smiles: Sequence[str]) -> dict[str, Tensor]:
    """SMILES -> isoform's batch."""
    from isoform.molecules.data.collate import collate
    from isoform.molecules.data.graphs import build_store

    store = build_store(graphs_of(smiles))
    batch = collate(store, range(len(store)), hf_compat=True, compact=True)
    return {name: torch.as_tensor(value) for name, value in batch.items()}


def their_batch(smiles: Sequence[str]) -> dict[str, Tensor]:
    """SMILES -> ogb's graph dicts -> preprocess_item -> GraphormerDataCollator, with no limit on distances."""
    graphs, items = graphs_of(smiles), []
    for i in range(len(graphs)):
        atoms, bonds, ends = graphs.graph(i)
        items.append({"node_feat": atoms, "edge_attr": bonds, "edge_index": ends.T, "num_nodes": len(atoms),
                      "labels": np.zeros(1, np.float32)})  # fmt: skip
    collator = peer()[2].GraphormerDataCollator(spatial_pos_max=1024, on_the_fly_processing=True)
    return {name: value for name, value in collator(items).items() if name != "labels"}


@dataclass(frozen=True)
class Side:
    """One contestant's ways."""

    model: Callable[[], nn.Module]
    batch: Callable[[Sequence[str]], dict[str, Tensor]]
    answer: Callable[[nn.Module, dict[str, Tensor]], Tensor]
    names: int  # its place in COMPARED


OURS = Side(ours, our_batch, lambda model, batch: model(batch), 0)
LIGHT = Side(partial(ours, "light"), our_batch, lambda model, batch: model(batch), 0)
THEIRS = Side(theirs, their_batch, lambda model, batch: model(**batch).logits, 1)


# Cases ----------------------------------------------------------------------------------------------------------------


def inference(shape: Shape, smiles: list[str]) -> Case:
    """One batch, float32."""

    def build(side: Side) -> Built:
        model, batch = side.model().eval(), side.batch(smiles)

        def run() -> Tensor:
            with torch.inference_mode():
                return side.answer(model, batch)

        return run, lambda: {"prediction": run().clone()}

    return _case(f"{shape.name} inference, batch {shape.batch}", build)


def steps(shape: Shape, smiles: list[str], *, whole: bool) -> Case:
    """Forward, absolute error, backward, Adam, with dropout; compared without it. `whole`: from SMILES every time."""

    def build(side: Side) -> Built:
        model, batch = side.model(), None if whole else side.batch(smiles)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-6, fused=True)
        y = torch.linspace(-2, 2, len(smiles))[:, None]

        def gradients() -> Tensor:
            prediction = side.answer(model, side.batch(smiles) if batch is None else batch)
            F.l1_loss(prediction, y).backward()
            return prediction

        def run() -> None:
            model.train()
            gradients()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

        def results() -> dict[str, Tensor]:
            model.eval()
            prediction = gradients().detach()
            found = {
                name: model.get_parameter(both[side.names]).grad.clone()
                for name, both in COMPARED.items()
            }
            optimizer.zero_grad(set_to_none=True)
            return {"prediction": prediction, **found}

        return run, results

    return _case(
        f"{shape.name} {'end to end' if whole else 'training step'}, batch {shape.batch}", build
    )


def _case(name: str, build: Callable[[Side], Built]) -> Case:
    return Case(name, [
        Contestant("transformers", "fp32", "eager", partial(build, THEIRS), tolerance=1e-3),
        Contestant("isoform", "fp32", "eager", partial(build, OURS), peer=0, tolerance=1e-3),
        *([] if "inference" in name else [
            Contestant("isoform", "fp32", "recompute=light", partial(build, LIGHT), peer=0, tolerance=1e-3),
        ]),
    ])  # fmt: skip


def speeds(rows: Sequence[harness.Row], shapes: Sequence[Shape]) -> list[str]:
    """A line a contestant of "end to end": molecules a second of one core."""
    sizes = {shape.name: shape.batch for shape in shapes}
    return [
        f"{row.case}: {row.name} ({row.mode}) {harness.spread([1e3 * sizes[name] / ms for ms in row.milliseconds], 0)} "
        "molecules a second"
        for row in rows for name in sizes if row.case.startswith(f"{name} end to end")
    ]  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases and prints them; see benchmarks/README.md."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["--name"] and given[1:2] == ["adit"]:
        import molecules_adit

        return molecules_adit.main(given[2:])
    parser = argparse.ArgumentParser(prog="isoform bench molecules", description=__doc__)
    parser.add_argument(
        "--name",
        choices=("graphormer", "adit"),
        default="graphormer",
        help="the model; adit has arguments of its own: --name adit --help",
    )
    parser.add_argument(
        "--quick", action="store_true", help="few rounds, and one process for each peak of memory"
    )
    parser.add_argument(
        "--rounds", type=int, help="turns of every contestant (default 15, quick 3)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--data", metavar="CSV", help='instead of the solutes, such as MoleculeNet\'s '
                        'delaney-processed.csv: a file with a column "smiles"')  # fmt: skip
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "INDEX"), help="print one contestant's peak, in bytes"
    )
    args = parser.parse_args(given)
    warnings.simplefilter("ignore")
    peer()
    smiles = molecules(args.data)
    every = [
        case
        for shape in SHAPES
        for case in (inference(shape, smiles[shape.name]), steps(shape, smiles[shape.name], whole=False),
                     steps(shape, smiles[shape.name], whole=True))
    ]  # fmt: skip
    if args.peak:
        case = next(case for case in every if case.name == args.peak[0])
        print(harness.own_peak(case.contestants[int(args.peak[1])]))
        return 0
    chosen = [case for case in every if args.only in case.name]
    rows = [
        row
        for case in chosen
        for row in harness.race(case, args.rounds or (3 if args.quick else 15))
    ]
    if not args.no_memory:
        with tempfile.TemporaryDirectory() as folder:
            handed = Path(folder) / "smiles.json"
            handed.write_text(json.dumps(smiles), "utf-8")
            os.environ[HANDED] = str(handed)
            trained = [case for case in chosen if "inference" not in case.name]
            timed = [row for row in rows if "inference" not in row.case]
            harness.measure_peaks(__file__, trained, timed, repeats=1 if args.quick else 3)
            del os.environ[HANDED]
    about = harness.environment(PACKAGES)
    command = " ".join(["isoform bench molecules", *given])
    lines = speeds(rows, SHAPES)
    print("\n".join([harness.table(rows), *lines]))
    print(
        "\n" + "\n".join(f"{key}: {value}" for key, value in {"command": command, **about}.items())
    )
    if args.json:
        Path(args.json).write_text(
            json.dumps({**harness.as_json(rows, about, command), "speeds": lines}, indent=1)
        )
    return 0


if __name__ == "__main__":
    # Everything is imported before a peak's first reading, so that no import counts as the model's memory.
    import isoform.molecules.data.collate
    import isoform.molecules.data.featurise
    import isoform.molecules.graphormer.export_official
    import isoform.molecules.models  # noqa: F401

    try:
        sys.exit(main())
    except UserError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
