"""Fewer clouds to learn from than a split has: a share of the labels, or an episode of few-shot classification.

An episode (Sharma and Kaul 2020, as Point-BERT and Point-MAE report it) has `data.ways` classes, `data.shots` training
clouds and `data.queries` test clouds of each, and no validation.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isoform.core.data.splits import Rows, keep_labelled
from isoform.core.errors import UserError, count
from isoform.pointcloud.config import DataConfig

EPISODES_STREAM = 2  # beside data.split_seed, as core/data/splits.py has one for labels


def choose_learned(rows: Rows, labels: Sequence[str | None], data: DataConfig, origin: str) -> Rows:
    """{split: sorted rows} with the training clouds that `data` leaves; without such a setting `rows` as they are.

    labels   of every row there is
    Raises UserError where too few classes have clouds enough for an episode.
    """
    if data.ways is not None:
        return draw_episode(rows, labels, data, origin)
    if data.labels < 1 and "train" in rows:
        kept = keep_labelled(rows["train"], labels, data.labels, data.split_seed)
        return {**rows, "train": kept}
    return rows


def draw_episode(rows: Rows, labels: Sequence[str | None], data: DataConfig, origin: str) -> Rows:
    """Episode data.fold (1 where none is set): training clouds from train and val, test clouds from test.

    A function of the clouds, data.split_seed and the number alone.
    """
    assert data.ways is not None
    none = np.zeros(0, np.int64)
    pools = {
        "train": np.sort(np.concatenate([rows.get("train", none), rows.get("val", none)])),
        "test": rows.get("test", none),
    }
    wanted = {"train": data.shots, "test": data.queries}
    by_class = {split: _by_class(pool, labels) for split, pool in pools.items()}
    able = [
        name
        for name in sorted(by_class["train"])
        if all(len(by_class[split].get(name, none)) >= n for split, n in wanted.items())
    ]
    if len(able) < data.ways:
        have = "1 class has" if len(able) == 1 else f"{len(able)} classes have"
        raise UserError(
            f"{origin}: {have} {data.shots} training and {data.queries} test clouds, and an episode needs {data.ways} "
            "such (data.ways, data.shots, data.queries)"
        )
    rng = np.random.default_rng([data.split_seed, EPISODES_STREAM, data.fold or 1])
    chosen = sorted(rng.choice(able, data.ways, replace=False).tolist())
    return {
        split: np.sort(np.concatenate([rng.permutation(by_class[split][k])[:n] for k in chosen]))
        for split, n in wanted.items()
    }


def describe_episode(
    rows: Rows, targets: np.ndarray, classes: Sequence[str], data: DataConfig
) -> str:
    """An episode in a sentence."""
    names = [classes[k] for k in np.unique(targets[rows["train"]]).tolist()]
    return (
        f"few-shot episode {data.fold or 1}: classes {', '.join(names)}, {count(data.shots, 'training cloud')} and "
        f"{count(data.queries, 'test cloud')} of each; without validation the last epoch is judged (the official code "
        "takes the epoch that is best on test)"
    )


def _by_class(rows: np.ndarray, labels: Sequence[str | None]) -> dict[str, np.ndarray]:
    found: dict[str, list[int]] = {}
    for row in rows.tolist():
        if label := labels[row]:
            found.setdefault(label, []).append(row)
    return {label: np.array(own, np.int64) for label, own in found.items()}
