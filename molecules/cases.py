"""Which molecules a model is best and worst at, and each of them as a picture with what its atoms contribute.

N molecules, K targets, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from rdkit import Chem
from torch import Tensor, nn

from isoform.core.engine.evaluate import to_device
from isoform.molecules.attribution import average_atom, contributions, log_odds
from isoform.molecules.data.featurise import Options, molecule_of
from isoform.molecules.drawings import MOST_DRAWN, Cell, unit_of_logarithm

if TYPE_CHECKING:
    from isoform.molecules.task import MoleculesTask

ANSWERS = ("The worst answers", "The best answers")
AVERAGED = 512  # molecules whose mean atom is where contributions begin


@dataclass(frozen=True)
class Cases:
    """Test molecules by their error in one target (the first that has labels) or their class, the largest first.

    order     places in the test split, of those whose label is known
    error     [N] the error of each, in the same order
    kinds     [N] what the best are drawn from in turns: the true class, or 0
    share     the error is 0 or 1
    """

    target: int
    name: str
    unit: str
    contributed: str  # the unit of what atoms contribute
    order: np.ndarray
    error: np.ndarray
    kinds: np.ndarray
    guess: np.ndarray  # [N] of the target, or [N, C] probabilities
    truth: np.ndarray
    share: bool
    measure: str
    raised: str
    titles: tuple[str, str]

    def best(self, count: int) -> np.ndarray:
        """Places in the test split of at most `count` with the smallest errors, of each kind in turns."""
        rank = np.empty(len(self.order), int)
        turn: dict[int, int] = {}
        backwards = range(len(self.order) - 1, -1, -1)
        for i in backwards:
            kind = int(self.kinds[i])
            rank[i] = turn[kind] = turn.get(kind, -1) + 1
        chosen = sorted(backwards, key=lambda i: (rank[i], -i))[:count]
        return self.order[np.array(chosen, int)]


def rank_cases(task: MoleculesTask, guess: np.ndarray, target: np.ndarray) -> Cases:
    """The test molecules of `guess` ([N, K] predictions or probabilities) by their error against `target`."""
    if task.kind == "multiclass":
        return _by_class(task, guess, target)
    labelled = np.flatnonzero(np.isfinite(target).any(0))
    k = int(labelled[0]) if len(labelled) else 0
    known = np.flatnonzero(np.isfinite(target[:, k]))
    prediction, truth = guess[known, k], target[known, k]
    # Of a binary target the error is how far the probability is from its label.
    error = np.abs(prediction - truth)
    order = np.argsort(-error, kind="stable")
    ranked: dict[str, Any] = {
        "target": k,
        "name": task.data.names[k],
        "order": known[order],
        "error": error[order],
        "guess": prediction[order],
        "truth": truth[order],
        "share": False,
    }
    if task.kind == "binary":
        return Cases(
            **ranked,
            unit="log-odds",
            contributed="log-odds",
            kinds=truth[order].astype(int),
            measure="distance of probability and label",
            raised="the log-odds of 1",
            titles=ANSWERS,
        )
    unit = task.data.units[k] if k < len(task.data.units) else ""
    log = task.scaling.is_log(k)
    return Cases(
        **ranked,
        unit=unit,
        contributed=unit_of_logarithm(unit) if log else unit,
        kinds=np.zeros(len(order), int),
        measure=f"absolute error ({unit})" if unit else "absolute error",
        raised="the decimal logarithm of the prediction" if log else "the prediction",
        titles=("The largest errors", "The smallest errors"),
    )


def _by_class(task: MoleculesTask, guess: np.ndarray, target: np.ndarray) -> Cases:
    known = np.flatnonzero(target >= 0)
    probability, truth = guess[known], target[known]
    of_truth = probability[np.arange(len(truth)), truth]
    order = np.argsort(of_truth, kind="stable")
    wrong = probability.argmax(1) != truth
    return Cases(
        target=0,
        name="",
        unit="log-odds",
        contributed="log-odds",
        order=known[order],
        error=wrong[order].astype(float),
        kinds=truth[order],
        guess=probability[order],
        truth=truth[order],
        share=True,
        measure="share of wrong answers",
        raised="the log-odds of the guess",
        titles=ANSWERS,
    )


def explain_cases(
    task: MoleculesTask, model: nn.Module, cases: Cases, places: Sequence[int], split: str = "test"
) -> list[Cell]:
    """Molecules of a split with what their atoms contribute to the target, or to the class that is guessed."""
    at = {int(place): i for i, place in enumerate(cases.order)}
    chosen = [at[int(place)] for place in places]
    rows = task.data.rows[split][np.asarray(places, int)]
    mols = [_molecule(task, int(row)) for row in rows]
    small = [i for i, mol in enumerate(mols) if mol is not None]
    cells = [
        Cell(None, None, _words(task, cases, i, int(row)))
        for i, row in zip(chosen, rows, strict=True)
    ]
    if not small:
        return cells
    device = next(model.parameters()).device
    batch = to_device(task.collate([int(rows[i]) for i in small]), device)
    average = average_atom(model, _training_batches(task, device))
    shares_BN = contributions(model, batch, average, _output(task, cases, chosen, small))
    for i, values in zip(small, shares_BN.cpu().numpy(), strict=True):
        mol = mols[i]
        assert mol is not None
        cells[i] = Cell(mol, values[: mol.GetNumAtoms()], cells[i].words)
    return cells


def _output(
    task: MoleculesTask, cases: Cases, chosen: list[int], small: list[int]
) -> Callable[[Tensor], Tensor]:
    """Of the model's outputs the one that is explained: in the target's unit, or as log-odds."""
    k = cases.target
    if task.kind == "multiclass":
        classes = torch.from_numpy(cases.guess[[chosen[i] for i in small]].argmax(1))
        return lambda outputs: log_odds(outputs, classes.to(outputs.device))
    size = task.scaling.std[k] if task.kind == "regression" else 1.0
    return lambda outputs: outputs[:, k] * size


def _training_batches(task: MoleculesTask, device: torch.device) -> list[dict[str, Tensor]]:
    """Batches of training molecules, evenly drawn (of all there are where none was trained on)."""
    rows = task.data.rows.get("train")
    if rows is None:
        rows = np.arange(len(task.data.store))
    drawn = rows[np.linspace(0, len(rows) - 1, min(len(rows), AVERAGED)).astype(int)]
    parts = np.array_split(drawn, -(-len(drawn) // 64))
    return [to_device(task.collate(part.tolist()), device) for part in parts]


def _molecule(task: MoleculesTask, row: int) -> Chem.Mol | None:
    """The molecule as it was featurised, atom by atom; None where it is too large to be drawn."""
    data, molecules = task.config.data, task.data.molecules
    block = molecules.blocks[row] if molecules.blocks is not None else None
    options = Options(data.chirality, data.canonical, data.hydrogens, data.max_atoms)
    mol = molecule_of(block or molecules.smiles[row], options)
    if (
        isinstance(mol, str)
        or mol.GetNumAtoms() != task.data.store.sizes[row]
        or mol.GetNumAtoms() > MOST_DRAWN
    ):
        return None
    return mol


def _words(task: MoleculesTask, cases: Cases, i: int, row: int) -> tuple[str, ...]:
    name, names = task.data.molecules.names[row], task.data.names
    if task.kind == "regression":
        said, true = float(cases.guess[i]), float(cases.truth[i])
        return (
            name,
            f"predicted {said:.4g} {cases.unit}".strip(),
            f"true {true:.4g} {cases.unit}".strip(),
        )
    if task.kind == "binary":
        return name, f"{cases.guess[i]:.1%} sure of 1", f"true {int(cases.truth[i])}"
    k = int(cases.guess[i].argmax())
    return name, f"{names[k]} {cases.guess[i, k]:.1%}", f"true {names[int(cases.truth[i])]}"
