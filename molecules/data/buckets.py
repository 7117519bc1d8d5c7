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
        return [order[i : i + batch].tolist() for i in range(0, len(order), batch)]
    mixed = rng.permutation(len(sizes))
    order = mixed[np.argsort(sizes[mixed] * rng.uniform(1, 1 + SPREAD, len(sizes)), kind="stable")]
    short = len(order) % batch
    if short:  # the batch that is not full holds any size, not always the largest molecules
        at = int(rng.integers(len(order) // batch + 1)) * batch
        parts = [order[:at], order[at : at + short], order[at + short :]]
        cut = [part[i : i + batch] for part in parts for i in range(0, len(part), batch)]
    else:
        cut = [order[i : i + batch] for i in range(0, len(order), batch)]
    return [cut[i].tolist() for i in rng.permutation(len(cut))]


def padding(sizes: np.ndarray, parts: list[list[int]]) -> float:
    """The share of tokens that are padding when these batches are collated."""
    sizes = np.asarray(sizes)
    total = sum(len(part) * int(sizes[part].max()) for part in parts)
    return 1 - int(sum(sizes[part].sum() for part in parts)) / total if total else 0.0
