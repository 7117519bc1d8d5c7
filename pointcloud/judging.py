"""What `svm` and `vote` judge: one run's model, and the labelled clouds that it is judged on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.config import override
from isoform.core.data.writers import write_together
from isoform.core.domain import TrainedModel
from isoform.core.engine.kept import look_at_own, refuse_missing_place
from isoform.core.engine.seen import find_known
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_trained
from isoform.core.runs.folder import RunFolder, runs_in
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import CloudData
from isoform.pointcloud.prepare import at_path, prepare, update
from isoform.pointcloud.state import PointcloudState
from isoform.pointcloud.task import PointcloudTask


@dataclass(frozen=True)
class Judged:
    """A run's model and labelled clouds; `notes`: what was lost or changed, and what the run was trained on."""

    trained: TrainedModel[PointcloudApp, PointcloudState]
    clouds: CloudData
    notes: Sequence[str]


def open_judged(
    run_dir: str,
    *,
    checkpoint: str = "best",
    data: str | None = None,
    sets: Sequence[str] = (),
) -> Judged:
    """The model of a run, and its own clouds in its own split; or those that `data` (a path) and `sets` name.

    sets   "data.KEY=VALUE" over the run's settings

    Raises UserError for several runs, for a model without features of whole clouds, and for clouds that are gone.
    """
    trained = load_one(run_dir, checkpoint)
    if trained.config.model.kind == "segment":
        raise UserError(f"{run_dir}: its model has an answer a point, not a cloud")
    own = data is None and not sets
    if own and trained.state.data is None:
        raise UserError(
            f"{run_dir}: an imported model has no clouds of its own; name some with --data, or --set data.source=..."
        )
    if own:
        refuse_missing_place(trained.folder, trained.config)
    kept = RunFolder(trained.folder).split() if own else None
    found = prepare(_of_classes(trained.config, data, sets), kept)
    task = PointcloudTask(found)
    changed = look_at_own(task, kept, "test").notes if own and task.sizes().get("test") else ()
    known = warn_of_known(task, "test", trained.state.seen)
    return Judged(trained, task.data, [*found.lost, *changed, *known])


def load_one(
    run_dir: str, checkpoint: str = "best"
) -> TrainedModel[PointcloudApp, PointcloudState]:
    """The model of one run. Raises UserError for a group of seeds or folds."""
    from isoform.pointcloud import DOMAIN

    runs = runs_in(run_dir)
    if len(runs) > 1:
        raise UserError(f"{run_dir}: holds several runs; name one of them, such as {runs[0]}")
    return load_trained(DOMAIN, runs[0], checkpoint)


def warn_of_known(task: PointcloudTask, split: str, seen: np.ndarray | None) -> list[str]:
    """How many clouds of a split are among those that the run was trained on, as a sentence; nothing where none are."""
    known = find_known(task, split, seen) if task.sizes().get(split) else None
    if known is None or not known.any():
        return []
    return [
        f"warning: {known.sum():,} of {len(known):,} clouds of {split} are among those that the run was trained on"
    ]


def write_judgement(place: Path, content: Mapping[str, Any]) -> None:
    """JSON, whole or not at all."""
    import json

    write_together({str(place): json.dumps(content, indent=2) + "\n"})


def _of_classes(config: PointcloudApp, data: str | None, sets: Sequence[str]) -> PointcloudApp:
    """The settings as those of a classifier, whose classes are found again in other clouds."""
    other = [text for text in sets if not text.strip().startswith("data.")]
    if other:
        raise UserError(f"--set {other[0]}: only the clouds can be changed, --set data.KEY=VALUE")
    leaks = config.data.allow_leakage or (data is None and not sets)
    config = update(
        config, model={"kind": "classify"}, head={"outputs": 0}, data={"allow_leakage": leaks}
    )
    if data is None and not sets:
        return config
    config = update(config, data={"classes": None, "folds": None, "fold": None, "ways": None})
    if data is not None:
        config = at_path(config, data)
    from isoform.pointcloud import DOMAIN

    changed = override(config, domain=DOMAIN, sets=sets) if sets else config
    assert isinstance(changed, PointcloudApp)
    return changed
