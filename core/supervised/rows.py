"""Predictions as rows of a table, one a sample and without its input: what predict and predictions.* hold.

n samples, K targets or labels, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.supervised.conformal import SHOWN, Calibration

SHOWN_CLASSES = 20  # with more, a table of predictions has no column for each class's probability
DECIMALS = 6  # of probabilities


def rows_of(
    kind: str, names: Sequence[str], guess: np.ndarray, calibration: Calibration | None = None
) -> list[dict[str, Any]]:
    """Rows of `guess`, [n, K] numbers or probabilities or [n, C] probabilities, as metrics take it.

    regression   prediction, `low 0.9`, `high 0.9`, uncertainty (half that interval's width)
    binary       prediction (0 or 1), probability (of 1), `set 0.9`, uncertainty (entropy in bits), of each target
    multilabel   prediction (labels of probability 0.5 and more, joined by `|`), probability, `p LABEL`
    multiclass   prediction, probability, `p CLASS` of up to 20 classes, `set 0.9`, uncertainty (entropy, 1 = all alike)

    With several targets every column of the first two has the target's name behind it. Without calibration there are no
    intervals and no sets.
    """
    bound_K = None if calibration is None else calibration.bound()
    sets = None if calibration is None else calibration.sets(guess)
    if kind == "regression":
        radius_K = np.full(len(names), np.nan) if bound_K is None else bound_K
        return [_target_row(names, [_number(v, float(r)) for v, r in zip(row, radius_K, strict=True)]) for row in guess]
    rows = []
    for i, p in enumerate(guess):
        own = None if sets is None else sets[i]
        if kind == "multiclass":
            rows.append(_class_row(names, p, own))
        elif kind == "multilabel":
            rows.append(_label_set_row(names, p))
        else:
            cells = [_label(float(p[k]), None if own is None else own[k]) for k in range(len(names))]
            rows.append(_target_row(names, cells))
    return rows


def _target_row(names: Sequence[str], cells: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The cells of every target side by side; of several, with the target's name behind each column."""
    if len(names) == 1:
        return dict(cells[0])
    row: dict[str, Any] = {}
    for name, own in zip(names, cells, strict=True):
        row |= {f"{column} {name}": cell for column, cell in own.items()}
    return row


def _number(value: float, radius: float) -> dict[str, Any]:
    value = float(value)
    if not np.isfinite(radius):
        return {"prediction": value}
    interval = {f"low {SHOWN:g}": value - radius, f"high {SHOWN:g}": value + radius}
    return {"prediction": value, **interval, "uncertainty": radius}


def _label(p: float, belongs: np.ndarray | None) -> dict[str, Any]:
    cells: dict[str, Any] = {"prediction": int(p >= 0.5), "probability": round(p, DECIMALS)}
    if belongs is not None:
        cells[f"set {SHOWN:g}"] = "|".join(str(k) for k in np.flatnonzero(belongs))
    return {**cells, "uncertainty": entropy(np.array([1 - p, p]))}


def _label_set_row(names: Sequence[str], p_K: np.ndarray) -> dict[str, Any]:
    chosen = [k for k in range(len(names)) if p_K[k] >= 0.5]
    return {
        "prediction": "|".join(names[k] for k in chosen),
        "probability": "|".join(f"{p_K[k]:.4f}" for k in chosen),
        **_each_probability(names, p_K),
    }


def _class_row(names: Sequence[str], p_C: np.ndarray, belongs: np.ndarray | None) -> dict[str, Any]:
    best = int(p_C.argmax())
    row: dict[str, Any] = {"prediction": names[best], "probability": round(float(p_C[best]), DECIMALS)}
    row |= _each_probability(names, p_C)
    if belongs is not None:
        row[f"set {SHOWN:g}"] = "|".join(names[k] for k in np.flatnonzero(belongs).tolist())
    return {**row, "uncertainty": entropy(p_C)}


def _each_probability(names: Sequence[str], p: np.ndarray) -> dict[str, float]:
    if len(names) > SHOWN_CLASSES:
        return {}
    return {f"p {name}": round(float(value), DECIMALS) for name, value in zip(names, p, strict=True)}


def entropy(p_C: np.ndarray) -> float:
    """Of probabilities that sum to 1, in units of its maximum: 0 = certain, 1 = all alike."""
    nats = float(-(p_C * np.log(np.maximum(p_C, 1e-12))).sum() / np.log(max(len(p_C), 2)))
    return round(abs(nats), DECIMALS)


def name_of_input(value: Any, number: int) -> str:
    """What a row calls its input: a text or path by itself, anything else by its type and place."""
    return str(value) if isinstance(value, (str, Path)) else f"{type(value).__name__} {number}"
