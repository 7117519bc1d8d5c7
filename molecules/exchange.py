"""What a prediction hangs on: the error where graphs, or descriptors, are exchanged between molecules.

Permutation importance (Breiman 2001, doi:10.1023/A:1010933404324) of the two things that the head reads. A model may
have learned nearly everything from the descriptors beside the graph; then its atoms' contributions, which are those of
the graph, explain little of what it says.

n molecules, D features, F descriptors, K targets or classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.engine.evaluate import to_device
from isoform.core.supervised.metrics import confusion

if TYPE_CHECKING:
    from isoform.molecules.task import MoleculesTask

TIMES = 20  # exchanges that are averaged
READS = ("graphs", "descriptors")  # what the head reads


def exchanged_error(task: MoleculesTask, model: nn.Module, split: str) -> dict[str, float]:
    """{"graphs": share by which the error of `split` grows where molecules get each other's, "descriptors": likewise}.

    The error: the root mean squared one of scaled targets, 1 - ROC AUC of labels, or the share of wrong classes. Empty
    for a model that reads graphs alone, for fewer than two molecules, and where the error is 0 or unknown.
    """
    if task.described is None or task.sizes().get(split, 0) < 2:
        return {}
    x_nD, descriptors_nF = _read(task, model, split)
    target = task.data.judged[task.data.rows[split]]

    def error(x: Tensor, descriptors: Tensor) -> float:
        with torch.no_grad():
            output_nK = cast(Any, model).head(x, descriptors).float()
        return error_of(task, output_nK, target)

    own = error(x_nD, descriptors_nF)
    if not own > 0:
        return {}
    rng = np.random.default_rng(0)
    orders = [torch.from_numpy(rng.permutation(len(target))).to(x_nD.device) for _ in range(TIMES)]
    graphs = np.mean([error(x_nD[order], descriptors_nF) for order in orders])
    descriptors = np.mean([error(x_nD, descriptors_nF[order]) for order in orders])
    return {name: float(e / own - 1) for name, e in zip(READS, (graphs, descriptors), strict=True)}


def error_of(task: MoleculesTask, output_nK: Tensor, target: np.ndarray) -> float:
    """One number for outputs [n, K] of a split, NaN where nothing tells; see `exchanged_error`."""
    if task.kind == "regression":
        scaled_nK = task.scaling.scale(torch.from_numpy(target)).numpy()
        return float(np.sqrt(np.nanmean(np.square(output_nK.cpu().numpy() - scaled_nK))))
    if task.kind == "multiclass":
        counts = confusion(output_nK.argmax(1).cpu().numpy(), target, output_nK.shape[1])
        return float(1 - np.trace(counts) / max(counts.sum(), 1))
    found = task.score(task.guess({"logits": output_nK.cpu().numpy()}), target)
    return 1 - found.get("roc_auc", float("nan"))


def _read(task: MoleculesTask, model: nn.Module, split: str) -> tuple[Tensor, Tensor]:
    """Features [n, D] of the graphs and descriptors [n, F], in the split's order."""
    device = next(model.parameters()).device
    features, descriptors, places = [], [], []
    training = model.training
    model.eval()
    with torch.no_grad():
        for indices in task.batches(split, task.config.eval.batch, None):
            batch = to_device(
                task.collate([task.sample(split, index, None) for index in indices]), device
            )
            features.append(cast(Any, model).features(batch))
            descriptors.append(batch["descriptors"])
            places += indices
    model.train(training)
    order = torch.from_numpy(np.argsort(places)).to(device)
    return torch.cat(features)[order], torch.cat(descriptors)[order]
