"""Several questions about an image, each with classes of its own (data.task = "multihead"): one trunk, a head for each.

Outputs and targets of all heads stand side by side, a block for each column of data.labels; classes are called
COLUMN=CLASS. A target is 1 at the true class of each block, and NaN over a block where the class isn't known.
N samples, B samples of a batch, K outputs of all heads, C of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.supervised import bootstrap, class_weights
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.losses import class_loss
from isoform.core.supervised.metrics import mean_over_targets, multiclass_metrics, softmax
from isoform.core.supervised.rows import Row, rows_of
from isoform.core.supervised.suspects import suspect_classes

SEPARATOR = "="  # between a column, which may not hold it, and its class


def blocks_of(classes: Sequence[str]) -> dict[str, slice]:
    """{column: where its outputs are}, in the order of the outputs."""
    found: dict[str, slice] = {}
    for k, name in enumerate(classes):
        column = name.partition(SEPARATOR)[0]
        found[column] = slice(found[column].start if column in found else k, k + 1)
    return found


def names_of(classes: Sequence[str], block: slice) -> list[str]:
    """The classes of one head by themselves."""
    return [name.partition(SEPARATOR)[2] for name in classes[block]]


def probabilities(logits_NK: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """[N, K] that sum to 1 over each head."""
    return np.hstack([softmax(logits_NK[:, block]) for block in blocks_of(classes).values()])


def true_classes(target_NK: np.ndarray, block: slice) -> np.ndarray:
    """int64 [N] the number of the true class of a head, -1 where it isn't known."""
    mine = target_NK[:, block]
    known = ~np.isnan(mine).any(1) & (np.nan_to_num(mine) > 0.5).any(1)
    return np.where(known, np.nan_to_num(mine).argmax(1), -1)


def heads_loss(
    loss_kind: str,
    output_BK: Tensor,
    target_BK: Tensor,
    weight_B: Tensor | None,
    classes: Sequence[str],
    *,
    class_weight_K: Tensor | None,
    smoothing: float,
) -> dict[str, Tensor]:
    """{"loss": the sum over the heads, "loss COLUMN": each one's mean over the images whose class is known}."""
    each = {}
    for column, block in blocks_of(classes).items():
        each[f"loss {column}"] = class_loss(
            loss_kind,
            output_BK[:, block],
            target_BK[:, block],
            weight_B,
            class_weight_C=None if class_weight_K is None else class_weight_K[block],
            smoothing=smoothing,
            divide_by="count",
        )
    return {"loss": torch.stack(list(each.values())).sum(), **each}


def heads_metrics(
    guess_NK: np.ndarray, target_NK: np.ndarray, classes: Sequence[str]
) -> dict[str, float]:
    """The mean of every metric of classes over the heads, and each one's own as "METRIC COLUMN".

    A guess need not sum to 1 over a head. A head without a known class is in no mean; without any, what may be
    monitored is NaN.
    """
    blocks, each = blocks_of(classes), []
    for block in blocks.values():
        mine, target = guess_NK[:, block].astype(np.float64), true_classes(target_NK, block)
        share = mine / np.maximum(mine.sum(1, keepdims=True), 1e-12)
        each.append(multiclass_metrics(share, target) if (target >= 0).any() else {})
    if not any(each):
        return {"top1": math.nan, "loss": math.nan}
    return mean_over_targets(each, list(blocks))


def statistics(
    guess_NK: np.ndarray, target_NK: np.ndarray, classes: Sequence[str]
) -> dict[str, bootstrap.Statistic]:
    """Those of `heads_metrics`."""
    measured, each = heads_metrics(guess_NK, target_NK, classes), {}
    for column, block in blocks_of(classes).items():
        true = true_classes(target_NK, block)
        for name, one in bootstrap.of_classes(guess_NK[:, block], true, Decision()).items():
            if name in measured:
                each[f"{name} {column}"] = one
    several: dict[str, list[bootstrap.Statistic]] = {}
    for name, one in each.items():
        several.setdefault(name.split(" ")[0], []).append(one)
    return {**{name: bootstrap.mean_of(ones) for name, ones in several.items()}, **each}


def balanced_weights(target_nK: np.ndarray, classes: Sequence[str]) -> Tensor:
    """float32 [K] of the training targets: in each head as `class_weights.balanced_class_weights`."""
    parts = []
    for block in blocks_of(classes).values():
        target = true_classes(target_nK, block)
        parts.append(class_weights.balanced_class_weights(target, block.stop - block.start))
    return torch.cat(parts)


def suspects(
    classes: Sequence[str], guess_NK: np.ndarray, target_NK: np.ndarray
) -> list[dict[str, Any]]:
    """As `suspect_classes` of every head, whose column stands as the "label"."""
    found = []
    for column, block in blocks_of(classes).items():
        names, true_N = names_of(classes, block), true_classes(target_NK, block)
        rows = suspect_classes(names, guess_NK[:, block], true_N)
        found += [{"sample": row["sample"], "label": column, **row} for row in rows]
    return found


def head_rows(
    classes: Sequence[str],
    guess_nK: np.ndarray,
    spread_nK: np.ndarray | None = None,
    *,
    decision: Decision,
) -> list[Row]:
    """Rows as of one class, the head's column behind each name: "prediction organ", "p organ=liver", ..."""
    rows: list[Row] = [{} for _ in guess_nK]
    for column, block in blocks_of(classes).items():
        names = names_of(classes, block)
        spread = None if spread_nK is None else spread_nK[:, block]
        own_rows = rows_of(
            "multiclass", names, guess_nK[:, block], spread=spread, decision=decision
        )
        for row, own in zip(rows, own_rows, strict=True):
            row |= {_named(key, column): cell for key, cell in own.items()}
    return rows


def _named(key: str, column: str) -> str:
    return f"p {column}{SEPARATOR}{key[2:]}" if key.startswith("p ") else f"{key} {column}"


def target_cells(classes: Sequence[str], target_K: np.ndarray) -> dict[str, Any]:
    """ "target COLUMN" of one sample, nothing where it isn't known."""
    cells = {}
    for column, block in blocks_of(classes).items():
        true = int(true_classes(target_K[None], block)[0])
        cells[f"target {column}"] = names_of(classes, block)[true] if true >= 0 else None
    return cells
