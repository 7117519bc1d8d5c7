"""Batches of molecules of like size: padding costs time, and of pairs it costs the square.

n molecules.
"""

from __future__ import annotations

import numpy as np

# A shuffled molecule counts as up to this much larger than it is. Neighbours in size still differ from epoch to epoch,
# and a batch's largest member exceeds its mean by about half of it.
SPREAD = 0.15


def batches(sizes: np.ndarray, batch: int, rng: np.random.Generator | None) -> list[list[int]]:
    """Every molecule in exactly one of ceil(n / batch) batches; all but one batch are full.

    With `rng`: molecules of like size together, drawn anew, the batches in random order. Without: from the largest
    molecule to the smallest, so that a batch too large for the memory is the first.
    """
    sizes = np.asarray(sizes)
    if rng is None:
        order = np.argsort(-sizes, kind="stable")
        return [part.tolist() for part in _cut(order, batch)]
    mixed = rng.permutation(len(sizes))
    shaken = sizes[mixed] * rng.uniform(1, 1 + SPREAD, len(sizes))
    order = mixed[np.argsort(shaken, kind="stable")]
    parts = _cut(order, batch)
    short = len(order) % batch
    if short:  # the batch that is not full holds any size, not always the largest molecules
        at = int(rng.integers(len(order) // batch + 1)) * batch
        behind = at + short
        parts = [*_cut(order[:at], batch), order[at:behind], *_cut(order[behind:], batch)]
    return [parts[i].tolist() for i in rng.permutation(len(parts))]


def _cut(order: np.ndarray, batch: int) -> list[np.ndarray]:
    return [order[start : start + batch] for start in range(0, len(order), batch)]


def padding(sizes: np.ndarray, parts: list[list[int]]) -> float:
    """The share of tokens that are padding when these batches are collated."""
    sizes = np.asarray(sizes)
    real = total = 0
    for part in parts:
        real += int(sizes[part].sum())
        total += len(part) * int(sizes[part].max())
    return 1 - real / total if total else 0.0
