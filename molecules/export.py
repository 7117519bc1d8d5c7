"""A run's model in the official code bases' formats, and as a graph for other engines.

official      {"model": state dict} in the names of microsoft/Graphormer (fairseq)
transformers  a folder that GraphormerForGraphClassification.from_pretrained opens
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.domain import Graph, TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.decision import Decision
from isoform.molecules.atoms import Batch
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.collate import collate
from isoform.molecules.data.descriptors import Normaliser, compute
from isoform.molecules.data.featurise import featurise_many
from isoform.molecules.data.graphs import OGB_BONDS, build_store
from isoform.molecules.graphormer.export_official import write_fairseq
from isoform.molecules.graphormer.export_official import write_transformers as write_folder
from isoform.molecules.state import MoleculesState

Trained = TrainedModel[MoleculesApp, MoleculesState]
# What the exporter traces and other engines are compared on: rings, a salt, a double bond, a single atom.
EXAMPLES = (
    "CC(=O)Nc1ccc(O)cc1",
    "CCO",
    "[Na+].CC(=O)[O-]",
    "C",
    "c1ccc2ccccc2c1C(F)(F)F",
    "N#CC=CC1CC1",
    "OS(=O)O",
)
# Of task.json what a consumer of a graph needs, and of the data's settings how a SMILES becomes a graph.
STATE_FACTS = ("kind", "names", "units", "scaling", "descriptors", "data")
DATA_FACTS = ("fragment", "neutralise", "tautomer", "canonical", "chirality", "hydrogens")


def write_official(trained: Trained, out: Path) -> None:
    """A file of microsoft/Graphormer. Raises UserError, naming why, for a model that it lacks; warns of a scale."""
    write_fairseq(out, with_outputs(trained), trained.weights(), trained.state)
    warn_of_scale(trained)


def write_transformers(trained: Trained, out: Path) -> None:
    """config.json and model.safetensors in a folder; raises and warns as `write_official`."""
    write_folder(out, with_outputs(trained), trained.weights(), trained.state)
    warn_of_scale(trained)


def with_outputs(trained: Trained) -> MoleculesApp:
    """The app with the number of outputs that it leaves to its data, and which config.json has to name."""
    config = trained.config
    outputs = config.head.outputs or trained.state.outputs
    return config.model_copy(update={"head": config.head.model_copy(update={"outputs": outputs})})


def warn_of_scale(trained: Trained) -> None:
    """A warning where predictions are the outputs times a scale that the format has no place for."""
    scaling = trained.state.scaling
    if scaling is None or not (
        any(scaling.log) or any(scaling.mean) or any(std != 1 for std in scaling.std)
    ):
        return
    log = scaling.log or (False,) * len(scaling.mean)
    some = ", ".join(
        f"10 ** ({m:g} + {s:g} * output)" if logarithm else f"{m:g} + {s:g} * output"
        for m, s, logarithm in zip(scaling.mean[:3], scaling.std[:3], log[:3], strict=True)
    )
    more = ", ..." if len(scaling.mean) > 3 else ""
    warnings.warn(
        f"this format has no place for the targets' scale: a prediction is {some}{more}",
        stacklevel=4,
    )


def graph_of(trained: Trained) -> Graph:
    """Graphormer as other engines call it: any number of molecules, of any number of atoms padded to the largest.

    Inputs are int32 as data/collate.py makes them: atoms [B, N, 9], degree [B, N], distance_ids [B, N, N] and
    path_bond_ids [B, N, N, P, 3] (0 = padding), and float32 laplacian [B, N, k] and descriptors [B, F] where the model
    reads these. The output is the model's [B, K], to be scaled by the facts. Raises UserError for a model that reads
    bonds as a list, whose length no axis of a batch has, or graphs that no SMILES becomes.
    """
    config, state = trained.config, trained.state
    if config.model.family != "graphormer":
        raise UserError(
            f"{config.app}: a graph transformer reads the bonds of a whole batch as one list, which a fixed graph has "
            "no input for; export --format safetensors or bundle"
        )
    if state.kinds and len(state.kinds[0]) != len(OGB_BONDS):
        raise UserError(
            f"{config.app}: this model reads graphs of a data set's own features, which no SMILES becomes; export "
            "--format safetensors or bundle"
        )
    normaliser = (
        None if state.descriptors is None else Normaliser.from_json(state.descriptors.model_dump())
    )

    def example(batch: int) -> dict[str, Tensor]:
        texts = [EXAMPLES[(batch + k) % len(EXAMPLES)] for k in range(batch)]
        return graph_inputs(config, texts, normaliser)

    atoms = {1: "atoms"}
    free: dict[str, dict[int, str]] = {"atoms": atoms, "degree": atoms, "laplacian": atoms}
    free |= {name: {1: "atoms", 2: "atoms"} for name in ("distance_ids", "path_bond_ids")}
    facts: dict[str, Any] = {
        key: value for key, value in state.to_json().items() if key in STATE_FACTS
    }
    facts |= {key: getattr(config.data, key) for key in DATA_FACTS}
    facts |= Decision.of(config.eval, state.calibration).facts()
    facts |= {"hops": config.score.hops, "hf_compat": config.tokeniser.hf_compat}
    return Graph(GraphCall(trained.model), example, "outputs", facts, free, inputs_of_batch)


def graph_inputs(
    config: MoleculesApp, smiles: Sequence[str], normaliser: Normaliser | None = None
) -> dict[str, Tensor]:
    """What the exported graph takes for some molecules, all of which can be read; see `graph_of`."""
    data, tokeniser = config.data, config.tokeniser
    found = featurise_many(
        smiles, chirality=data.chirality, canonical=data.canonical, explicit_h=data.hydrogens
    )
    store = build_store(found.graphs, hops=config.score.hops, laplacian=tokeniser.laplacian)
    batch = collate(store, range(len(smiles)), hf_compat=tokeniser.hf_compat)
    names = ["atoms", "degree", "distance_ids", "path_bond_ids"]
    inputs = {name: batch[name].int() for name in names}
    if tokeniser.laplacian:
        inputs["laplacian"] = batch["laplacian"]
    if normaliser is not None:
        inputs["descriptors"] = torch.from_numpy(normaliser(compute(list(smiles))))
    return inputs


def inputs_of_batch(batch: Batch) -> dict[str, Tensor]:
    """What the exported graph takes, from a batch as the model does: there a path may be numbers of kinds of bonds."""
    inputs = {name: batch[name].int() for name in ("atoms", "degree", "distance_ids")}
    paths = batch.get("path_bond_ids")
    inputs["path_bond_ids"] = (
        batch["kind_bond_ids"][batch["path_kinds"].long()] if paths is None else paths
    ).int()
    for name in ("laplacian", "descriptors"):
        if name in batch:
            inputs[name] = batch[name]
    return inputs


class GraphCall(nn.Module):
    """Graphormer called by the names of its inputs; atoms are real where their first feature isn't padding."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        atoms: Tensor,
        degree: Tensor,
        distance_ids: Tensor,
        path_bond_ids: Tensor,
        laplacian: Tensor | None = None,
        descriptors: Tensor | None = None,
    ) -> Tensor:
        """[B, K]."""
        batch = {
            "atoms": atoms,
            "degree": degree,
            "distance_ids": distance_ids,
            "path_bond_ids": path_bond_ids,
        }
        if laplacian is not None:
            batch["laplacian"] = laplacian
        if descriptors is not None:
            batch["descriptors"] = descriptors
        output: Tensor = self.model(batch)
        return output
