"""Whether data are still those of a run: what `--resume` refuses, and what evaluating a run's own split says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isoform.core.config import AppConfig, plain
from isoform.core.config.keys import PLACES, flatten
from isoform.core.data.text import STDIN
from isoform.core.domain import Task
from isoform.core.domain.kept_split import NAMED, Differences, KeptSplit, compare
from isoform.core.errors import UserError, join_names
from isoform.core.runs.folder import RunFolder


@dataclass(frozen=True)
class OwnSplit:
    """What to say of a run's own split as it is found now, and how its predictions are called beside the stored ones.

    suffix   "" where every sample is there as it was, "changed" where content differs, "redrawn" where the run keeps
             no split
    """

    notes: tuple[str, ...] = ()
    suffix: str = ""


def refuse_other_data(run: RunFolder, task: Task, moved: bool = False) -> None:
    """Raises UserError, with what differs, where the task's data aren't those that the run keeps the split of.

    moved: they lie at another place, which a run that keeps no split can't accept.
    """
    kept = run.split()
    if kept is None:
        if moved:
            raise UserError(
                f"{run.path}: keeps no split to compare the data at the new place with; leave their place as it was"
            )
        return
    now = task.kept_split(kept)
    found = compare(kept, now) if now is not None else Differences()
    if found:
        raise UserError(
            f"{run.path}: its data aren't what it was trained on: {found.describe()}; put them back as they were, or "
            "train into another --run-dir"
        )


def refuse_missing_place(folder: Path, config: AppConfig) -> None:
    """Raises UserError, with how to tell of their new place, where a run's own data aren't there any more."""
    settings = {".".join(path): value for path, value in flatten(plain(config))}
    for key in PLACES:
        place = settings.get(key)
        if isinstance(place, str) and place != STDIN and not Path(place).expanduser().exists():
            raise UserError(
                f"{place}: the data of this run aren't there ({key}); where they were moved, isoform {config.domain} "
                f"train {config.app} --run-dir {folder} --resume --set {key}=NEW tells it, and --data judges others"
            )


def look_at_own(task: Task, kept: KeptSplit | None, split: str) -> OwnSplit:
    """A run's own data as they are now beside what it keeps. Raises UserError where samples of `split` are gone."""
    if kept is None:
        if type(task).kept_split is Task.kept_split:
            return OwnSplit()
        line = "this run keeps no split, as those of older versions: its data are split anew"
        return OwnSplit((line,), "redrawn")
    now, items = task.kept_split(kept), task.kept_items or task.items
    found = compare(kept, now) if now is not None else Differences()
    if gone := found.removed.get(split):
        exchanged = "".join(f"; {a} and {b} are exchanged" for a, b in found.exchanged)
        raise UserError(
            f"{len(gone):,} of the {len(kept.splits[split].names):,} {items} of {split} that this run keeps are "
            f"gone or can't be read: {join_names(gone, NAMED)}{exchanged}; put them back, or judge others with --data"
        )
    notes = []
    if found.added or found.unnamed > 0:
        count = len(found.added) + max(0, found.unnamed)
        which = f" ({join_names(found.added, NAMED)})" if found.added else ""
        notes.append(f"{items} that were added since the training aren't judged: {count:,}{which}")
    for place, gone in found.removed.items():
        notes.append(
            f"{items} of {place} that are gone since the training: {len(gone):,} ({join_names(gone, NAMED)})"
        )
    for place, names in found.changed.items():
        which = f"{len(names):,} of {len(kept.splits[place].names):,} {items} of {place}"
        notes.append(
            f"changed since the training, in content or label: {which} ({join_names(names, NAMED)})"
        )
    notes += [f"{a} and {b} were exchanged since the training" for a, b in found.exchanged]
    return OwnSplit(tuple(notes), "changed" if split in found.changed else "")
