"""suspected_labels.csv of a run: labels of validation and test that the model finds improbable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from isoform.core.data import writers
from isoform.core.data.digests import NOTHING
from isoform.core.domain import Task
from isoform.core.engine import seen
from isoform.core.runs.folder import SUSPECTS, RunFolder
from isoform.core.supervised.suspects import RULE, rank


def write_suspects(
    task: Task, run: RunFolder, outputs: Mapping[str, Mapping[str, np.ndarray]]
) -> dict[str, int]:
    """Writes the file (none where no label is suspected) and gives how many it names of each split.

    outputs   of the best checkpoint, by split; samples that are known from training are left out: of these the model
              may know the label by heart
    """
    found = []
    for split, of_split in outputs.items():
        rows = task.suspects(split, of_split)
        known = seen.find_known(task, split, _learned(task, run, split)) if rows else None
        found += [
            {"split": split, **row} for row in rows if known is None or not known[row["sample"]]
        ]
    path = run.path / SUSPECTS
    if not found:
        path.unlink(missing_ok=True)
        return {}
    ranked = rank(found)
    names = [
        name for name in dict.fromkeys(name for row in ranked for name in row) if name != "sample"
    ]
    writers.write_columns({name: [row.get(name) for row in ranked] for name in names}, path)
    return dict(Counter(row["split"] for row in found))


def describe_suspects(counts: Mapping[str, int]) -> str:
    """How many there are and where they stand, as a sentence."""
    told = " and ".join(f"{count:,} of {split}" for split, count in counts.items())
    return f"labels that the model finds improbable: {told}, listed in {SUSPECTS} ({RULE})"


def _learned(task: Task, run: RunFolder, split: str) -> np.ndarray | None:
    """Digests of what was learned from. seen.npz holds validation too, which nothing was learned from."""
    if split != "val":
        return run.seen()
    digests = task.digests("train") if task.sizes().get("train") else None
    return None if digests is None else np.setdiff1d(digests, np.array([NOTHING], np.uint64))
