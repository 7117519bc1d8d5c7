"""Predictions as rows of a table, one a sample: what predict and predictions.* hold.

n samples, K targets or labels, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.supervised.conformal import SHOWN, Calibration
from isoform.core.supervised.decision import UNDECIDED, Decision

Row = dict[str, Any]

LIKELIER = Decision()
SHOWN_CLASSES = 20  # with more, a table of predictions has no column for each class's probability


def put_in_front(given: Sequence[Mapping[str, Any]], rows: Sequence[Row]) -> list[Row]:
    """Rows with what their items' files say of them in front, column for column; `given` is empty for other items.

    A column that is called as one of the rows' own gets " (input)" behind its name.
    """
    ours = {name for row in rows for name in row}
    names: dict[str, str] = {}
    for column in dict.fromkeys(column for cells in given for column in cells):
        name = column
        while name in ours or name in names.values():
            name += " (input)"
        names[column] = name
    return [
        {**{name: cells.get(column) for column, name in names.items()}, **row}
        for cells, row in zip(given, rows, strict=True)
    ]


def rows_of(
    kind: str,
    names: Sequence[str],
    guess: np.ndarray,
    calibration: Calibration | None = None,
    *,
    log: Sequence[bool] = (),
    spread: np.ndarray | None = None,
    decision: Decision = LIKELIER,
) -> list[Row]:
    """Rows of `guess`, [n, K] numbers or probabilities or [n, C] probabilities, as metrics take it.

    regression   prediction, `low 0.9`, `high 0.9`, uncertainty (half that interval's width)
    binary       prediction (0 or 1), probability (of 1), `set 0.9`, uncertainty (entropy in bits), of each target
    multilabel   prediction (labels that are said, joined by `|`), probability, `p LABEL`
    multiclass   prediction, probability, `p CLASS` of up to 20 classes, `set 0.9`, uncertainty (entropy, 1 = all alike)

    With several targets every column of the first two has the target's name behind it. Without calibration there are no
    intervals and no sets.

    What is said is the likelier answer, or as the `decision` has it. Where its least top probability isn't reached, the
    prediction is "undecided"; labels that are not decided are left out of it and joined in the column "undecided".

    log     tells the numbers whose interval is one of their decimal logarithm: low and high are the prediction divided
            and multiplied by 10 to the radius
    spread  of guess's shape, that of an ensemble's members: the last column. Of these numbers it is the one of their
            logarithms, and is called so: `spread (log10)`
    """
    rows = _rows_of(kind, names, guess, calibration, log, spread, decision)
    if spread is None:
        return rows
    cells = zip(rows, guess, spread, strict=True)
    return [{**row, **_spread_cells(kind, names, g, s, log)} for row, g, s in cells]


def _rows_of(
    kind: str,
    names: Sequence[str],
    guess: np.ndarray,
    calibration: Calibration | None,
    log: Sequence[bool],
    spread: np.ndarray | None,
    decision: Decision,
) -> list[Row]:
    if kind == "multilabel":
        return [_label_set_row(names, p_K, decision) for p_K in guess]
    if kind == "regression":
        radius = None if calibration is None else calibration.radius(guess, spread)
        rows = range(len(guess))
        return [
            _interval_row(names, guess[i], None if radius is None else radius[i], log) for i in rows
        ]
    sets = None if calibration is None else calibration.sets(guess)
    make_row = _class_row if kind == "multiclass" else _binary_row
    each = [None] * len(guess) if sets is None else sets
    return [make_row(names, p, one, decision) for p, one in zip(guess, each, strict=True)]


def is_undecided(row: Mapping[str, Any]) -> bool:
    """Whether a prediction of a row, or a label, isn't decided."""
    said = (cell for name, cell in row.items() if name.partition(" ")[0] == "prediction")
    return bool(row.get(UNDECIDED)) or UNDECIDED in said


def _spread_cells(
    kind: str, names: Sequence[str], guess: np.ndarray, spread: np.ndarray, log: Sequence[bool]
) -> Row:
    """Of the numbers or the probabilities; of several classes, of the probability of the one that is predicted."""
    if kind == "multiclass":
        return {"spread": float(spread[int(guess.argmax())])}
    if kind == "multilabel" and len(names) > SHOWN_CLASSES:
        return {}
    columns = ["spread (log10)" if any(log) and log[k] else "spread" for k in range(len(names))]
    cells = [{column: float(value)} for column, value in zip(columns, spread, strict=True)]
    return _side_by_side(names, cells)


def _interval_row(
    names: Sequence[str], values_K: np.ndarray, radius_K: np.ndarray | None, log: Sequence[bool]
) -> Row:
    cells: list[Row] = []
    for k in range(len(names)):
        value = float(values_K[k])
        own: Row = {"prediction": value}
        radius = math.nan if radius_K is None else float(radius_K[k])
        if math.isfinite(radius):
            low, high = value - radius, value + radius
            if any(log) and log[k]:
                low, high = value / 10**radius, value * 10**radius
                radius = (high - low) / 2
            own[f"low {SHOWN:g}"], own[f"high {SHOWN:g}"] = low, high
            own["uncertainty"] = radius
        cells.append(own)
    return _side_by_side(names, cells)


def _binary_row(
    names: Sequence[str], p_K: np.ndarray, sets_K2: np.ndarray | None, decision: Decision
) -> Row:
    cells: list[Row] = []
    said, is_open = decision.yes(p_K), decision.is_open(np.maximum(p_K, 1 - p_K))
    for k in range(len(names)):
        p = float(p_K[k])
        answer = UNDECIDED if is_open[k] else int(said[k])
        own: Row = {"prediction": answer, "probability": _plain(p_K[k])}
        if sets_K2 is not None:
            own[f"set {SHOWN:g}"] = _join_members(("0", "1"), sets_K2[k])
        own["uncertainty"] = entropy(np.array([1 - p, p]))
        cells.append(own)
    return _side_by_side(names, cells)


def _side_by_side(names: Sequence[str], cells: Sequence[Row]) -> Row:
    """The cells of every target; of several, with the target's name behind each column."""
    if len(names) == 1:
        return cells[0]
    row: Row = {}
    for name, own in zip(names, cells, strict=True):
        row |= {f"{column} {name}": cell for column, cell in own.items()}
    return row


def _label_set_row(names: Sequence[str], p_K: np.ndarray, decision: Decision) -> Row:
    is_open = decision.is_open(np.maximum(p_K, 1 - p_K))
    chosen = np.flatnonzero(decision.yes(p_K) & ~is_open).tolist()
    row: Row = {
        "prediction": "|".join(names[k] for k in chosen),
        "probability": "|".join(str(_plain(p_K[k])) for k in chosen),
        **_each_probability(names, p_K),
    }
    if decision.min_probability:
        row[UNDECIDED] = _join_members(names, is_open)
    return row


def _class_row(
    names: Sequence[str], p_C: np.ndarray, set_C: np.ndarray | None, decision: Decision
) -> Row:
    best = int(decision.classes(p_C[None])[0])
    row: Row = {"prediction": UNDECIDED if decision.is_open(p_C.max()) else names[best]}
    row["probability"] = _plain(p_C[best])
    row |= _each_probability(names, p_C)
    if set_C is not None:
        row[f"set {SHOWN:g}"] = _join_members(names, set_C)
    row["uncertainty"] = entropy(p_C)
    return row


def _each_probability(names: Sequence[str], p: np.ndarray) -> Row:
    if len(names) > SHOWN_CLASSES:
        return {}
    return {f"p {name}": _plain(value) for name, value in zip(names, p, strict=True)}


def _plain(value: Any) -> float:
    """A number of numpy's with all its digits and no others: 0.1 of 32 bits stays 0.1. Rounding would make ties."""
    return float(str(value))


def _join_members(names: Sequence[str], belongs: np.ndarray) -> str:
    return "|".join(names[k] for k in np.flatnonzero(belongs).tolist())


def entropy(p_C: np.ndarray) -> float:
    """Of probabilities that sum to 1, in units of its maximum: 0 = certain, 1 = all alike."""
    log_p_C = np.log(np.maximum(p_C, 1e-12))
    most = np.log(max(len(p_C), 2))
    return min(1.0, abs(float(-(p_C * log_p_C).sum() / most)))


def name_of_input(value: Any, number: int) -> str:
    """What a row calls its input: a text or path by itself, anything else by its type and place."""
    return str(value) if isinstance(value, (str, Path)) else f"{type(value).__name__} {number}"
