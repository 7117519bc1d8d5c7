"""What a pass over test leaves: tables and files of systems, and pictures of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.writers import plain_json, write_atomically, write_columns
from isoform.core.domain import Figure
from isoform.core.tokens import Tokens
from isoform.molecules.adit.model import labels_of
from isoform.molecules.adit.sampler import Wanted, sample
from isoform.molecules.adit.sampling.items import items_of
from isoform.molecules.generation.figures import figures_of, reconstruction_figure
from isoform.molecules.generation.reconstruction import displacement, rmsd
from isoform.molecules.generation.score import Scores
from isoform.molecules.systems.system import System
from isoform.molecules.systems.write import write_systems

if TYPE_CHECKING:
    from isoform.molecules.adit.model import Adit
    from isoform.molecules.adit.task import DenoiserTask


def write_reconstructions(path: Path, outputs: Mapping[str, np.ndarray]) -> list[Path]:
    """A row a system: name, kind, atoms, atoms whose element is right, and how far they lie from where they were."""
    truth, made = outputs["truth"].tolist(), outputs["made"].tolist()
    write_columns(
        {
            "name": [one.name for one in truth],
            "kind": [one.kind for one in truth],
            "atoms": [len(one) for one in truth],
            "right": [
                int((a.numbers == b.numbers).sum()) for a, b in zip(truth, made, strict=True)
            ],
            "distance": [distance(a, b) for a, b in zip(truth, made, strict=True)],
        },
        path,
    )
    return [path]


def distance(truth: System, made: System) -> float | None:
    """Root mean square distance of a system that came back, Angstrom; see generation/reconstruction.py."""
    if truth.lattice is None:
        return rmsd(made.positions, truth.positions)
    return displacement(made, truth)


def write_generated(
    folder: Path, outputs: Mapping[str, np.ndarray], scores: Mapping[str, Scores]
) -> list[Path]:
    """generated.sdf of molecules, generated.extxyz of crystals, as many as there are systems; all measures as JSON."""
    told = {kind: score.to_json() for kind, score in scores.items()}
    files = [folder / "generated.metrics.json"]
    write_atomically(files[0], json.dumps(plain_json(told), indent=1) + "\n")
    for kind, name in (("molecule", "generated.sdf"), ("crystal", "generated.extxyz")):
        own = [
            one for one in outputs["made"].tolist() if isinstance(one, System) and one.kind == kind
        ]
        if own:
            write_systems(own, folder / name)
            files.append(folder / name)
    return files


def reconstruction_figures(outputs: Mapping[str, np.ndarray]) -> list[Figure]:
    """What came back beside the truth, of each kind."""
    figures = []
    back = outputs["back" if "back" in outputs else "made"].tolist()
    for kind in ("molecule", "crystal"):
        pairs = [
            (made, truth)
            for made, truth in zip(back, outputs["truth"].tolist(), strict=True)
            if truth.kind == kind
        ]
        if pairs:
            made, truth = zip(*pairs, strict=True)
            figures.append(reconstruction_figure(made, truth))
    return figures


def generated_figures(
    task: DenoiserTask, model: Adit, outputs: Mapping[str, np.ndarray]
) -> list[Figure]:
    """What was generated, its properties beside the training set's, the path of the first of it; reconstructions."""
    if not len(outputs["made"]):
        return []
    training: list[System] = []
    for kind in dict.fromkeys(outputs["kind"].tolist()):
        own = task.data.systems_of("train", kind)
        rows = np.random.default_rng(0).permutation(len(own))[: len(outputs["made"])]
        training += [own[row] for row in rows.tolist()]
    made = [one for one in outputs["made"].tolist() if isinstance(one, System)]
    tables = [score_figure(kind, score) for kind, score in task.scores.items()]
    pictures = figures_of(made, training, path_of(task, model))
    return [*tables, *pictures, *reconstruction_figures(outputs)]


def score_figure(kind: str, score: Scores) -> Figure:
    """The measures of a kind, a line each, denominators and all, and how they were measured."""
    head, rows = score.table()
    caption = f"Generated {kind}s beside training data and shuffled atoms. {'; '.join(score.rules)}"
    return Figure(caption, html="<p></p>", head=head, rows=rows)


@torch.no_grad()
def path_of(task: DenoiserTask, model: Adit) -> list[System]:
    """The first system that test generates, decoded at every time from noise on; what is no system is left out."""
    index = min(task.asked)
    batch = task.collate([task.sample("test", index, None)])
    wanted = Wanted([index], batch["offsets"].diff().tolist(), labels_of(batch))
    states: list[tuple[float, Tensor]] = []
    sample(
        model,
        wanted,
        task.config.sampling,
        task.config.train.seed,
        lambda x, t, prediction: states.append((t, x.clone())),
    )
    found = []
    for t, x in states:
        decoded = model.decode(Tokens(x, offsets=wanted.offsets))
        structures = decoded.structures(wanted.offsets)
        named = items_of({**structures, "periodic": batch["periodic"]}, [f"time {t:.2f}"])
        found += [one for one in named if isinstance(one, System)]
    return found
