"""What an autoencoder must beat: one atom for all, fixed by the training systems.

mean_atom   elements by their shares among training atoms; every atom in the middle of its system; the mean cell
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from isoform.core.baselines import Baseline, Fitting
from isoform.molecules.adit.collate import batch_of
from isoform.molecules.adit.head import Decoded
from isoform.molecules.adit.losses import reconstruction_losses, targets_of, weighted
from isoform.molecules.adit.model import Posterior

if TYPE_CHECKING:
    from isoform.molecules.adit.task import AutoencoderTask

MOST = 5000  # training systems that the means are of, drawn once


def baselines(task: AutoencoderTask) -> list[Baseline]:
    """Those of a first stage; none without training systems."""
    if "train" not in task.data.rows:
        return []
    return [Baseline("mean_atom", lambda fitting: _mean_atom(task, fitting))]


def _mean_atom(task: AutoencoderTask, fitting: Fitting) -> dict[str, dict[str, float]]:
    rows = task.data.rows["train"]
    order = np.random.default_rng(0).permutation(rows)[:MOST]
    training = batch_of([task.data.systems[int(row)] for row in order])
    target = targets_of(training)
    counts = torch.bincount(target["types"], minlength=task.config.model.elements)
    logits = torch.log((counts + 1) / (counts + 1).sum())
    crystal = training["periodic"]
    means = {name: target[name][crystal].mean(0) for name in ("lengths", "angles")}
    found: dict[str, dict[str, float]] = {}
    for split in ("val", "test"):
        if split not in task.data.rows:
            continue
        judged = task.accumulator(split)
        for place, indices in enumerate(parts := task.batches(split, task.config.eval.batch, None)):
            fitting.step(place, len(parts), "batches")
            batch = task.collate([task.sample(split, index, None) for index in indices])
            atoms, systems = len(batch["numbers"]), len(indices)
            decoded = Decoded(
                logits.expand(atoms, -1),
                torch.zeros(atoms, 3),
                torch.full((atoms, 3), 0.5),
                means["lengths"].nan_to_num().expand(systems, 3),
                means["angles"].nan_to_num().expand(systems, 3),
            )
            nothing = torch.zeros(atoms, task.config.model.latent)
            losses = reconstruction_losses(decoded, Posterior(nothing, nothing), batch)
            outputs = task.as_outputs(decoded, weighted(losses, batch, task.config.loss), batch)
            judged.add(indices, {name: value.numpy() for name, value in outputs.items()})
        found[split] = judged.metrics()
    return found
