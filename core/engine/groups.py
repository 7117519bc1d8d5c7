"""How good a model is on each group of samples (patients, sites, frameworks), where a task has them.

N samples of a split.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from isoform.core.domain import Figure, Task
from isoform.core.errors import count
from isoform.core.report.drawing import to_table
from isoform.core.report.formatting import number

LARGEST = 20  # groups that are judged; the others are counted
MAIN = 5  # metrics of each

Groups = dict[str, Any]


def judge_groups(task: Task, split: str, outputs: Mapping[str, np.ndarray]) -> Groups | None:
    """The main metrics of the largest groups of a split; None where samples have no groups.

    {"count", "without" (samples of no group), "metrics": {group: {"samples", name: value}}}, the largest first. A
    metric that a group can't tell (roc_auc of one class alone) is missing there.
    """
    own = task.group_metrics(split, outputs)
    if own is not None:
        largest = sorted(own, key=lambda name: (-own[name]["samples"], name))[:LARGEST]
        return {"count": len(own), "without": 0, "metrics": {name: own[name] for name in largest}}
    names = task.groups(split)
    if names is None:
        return None
    rows_of: dict[str, list[int]] = {}
    for row, name in enumerate(names):
        if name is not None:
            rows_of.setdefault(name, []).append(row)
    judged = {}
    for name in sorted(rows_of, key=lambda one: (-len(rows_of[one]), one))[:LARGEST]:
        mine = {key: value[rows_of[name]] for key, value in outputs.items()}
        found = task.metrics(split, mine)
        first = [task.monitor, *(key for key in found if key != task.monitor)]
        known = [key for key in first if key in found and np.isfinite(found[key])]
        judged[name] = {"samples": len(rows_of[name]), **{key: found[key] for key in known[:MAIN]}}
    without = sum(name is None for name in names)
    return {"count": len(rows_of), "without": without, "metrics": judged} if judged else None


def groups_of_folds(each: Sequence[Groups | None]) -> Groups | None:
    """Of folds that test groups of their own; None where there are none, and where all test the same (series)."""
    known = [one for one in each if one]
    judged = {name: own for one in known for name, own in one["metrics"].items()}
    if not judged or len(judged) < sum(len(one["metrics"]) for one in known):
        return None
    largest = sorted(judged, key=lambda name: (-judged[name]["samples"], name))[:LARGEST]
    sums = {key: sum(one[key] for one in known) for key in ("count", "without")}
    return {**sums, "metrics": {name: judged[name] for name in largest}}


def describe_groups(groups: Groups, monitor: str, split: str) -> str:
    """The range of the monitored metric over the groups, as a sentence."""
    values = {
        name: own[monitor]
        for name, own in groups["metrics"].items()
        if own.get(monitor) is not None
    }
    head = f"{split} has {count(groups['count'], 'group')}"
    if groups["count"] > len(groups["metrics"]):
        head += f", the largest {len(groups['metrics'])} judged"
    if not values:
        return head
    low, high = (find(values, key=lambda name: values[name]) for find in (min, max))
    return (
        f"{head}: {monitor} from {number(values[low])} ({low}) to {number(values[high])} ({high})"
    )


def group_rows(groups: Groups) -> tuple[list[str], list[list[Any]]]:
    """Columns and lines of a table, a group each."""
    names = list(dict.fromkeys(key for own in groups["metrics"].values() for key in own))
    return names, [[name, *map(own.get, names)] for name, own in groups["metrics"].items()]


def group_figure(groups: Groups, split: str) -> Figure:
    """The table for the report."""
    names, rows = group_rows(groups)
    body = [[row[0], *map(number, row[1:])] for row in rows]
    more = groups["count"] - len(rows)
    left = f", the {len(rows)} largest of {groups['count']:,}" if more else ""
    return Figure(f"Groups on {split}{left}", html=to_table(["group", *names], body))
