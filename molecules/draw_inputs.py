"""`isoform molecules predict ... --draw FILE.html`: one's own molecules, coloured by what their atoms contribute.

n molecules, N atoms (padded), K targets or classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.engine.evaluate import to_device
from isoform.core.errors import UserError
from isoform.core.report.check_page import Group, Picture, render_check_page
from isoform.core.supervised.ensemble import Ensemble
from isoform.molecules.attribution import average_atom, contributions, log_odds
from isoform.molecules.cases import AVERAGED
from isoform.molecules.data.featurise import Options, molecule_of
from isoform.molecules.data.file import Structure
from isoform.molecules.drawings import MOST_DRAWN, Cell, scale_of, sheet, unit_of_logarithm

if TYPE_CHECKING:
    from isoform.molecules.predictor import MoleculePredictor

MOST = 300  # molecules on a page
COLUMNS = 4


def page_of(predictor: MoleculePredictor, rows: Sequence[Mapping[str, Any]]) -> str:
    """A page of the molecules of `rows`, as `predict` gave them, in their order; the first MOST that could be read.

    Several targets: the first. An ensemble: the mean over its members. Raises UserError where none could be read, or
    the run knows no training molecules, whose average atom contributions begin at.
    """
    good = [row for row in rows if not row["error"]]
    if not good:
        raise UserError("--draw: none of the inputs could be read")
    training = list(predictor.state.training or ())
    if not training:
        raise UserError("--draw: this run keeps no training molecules, whose average atom it takes")
    some = np.unique(np.linspace(0, len(training) - 1, AVERAGED).astype(int)).tolist()
    known = [batch for _, batch in _batches(predictor, [training[i] for i in some])]
    shown = good[:MOST]
    cells = [Cell(None, None, _words(predictor, row)) for row in shown]
    members = _members(predictor.model)
    averages = [average_atom(member, known) for member in members]
    for places, batch in _batches(predictor, [row["smiles"] for row in shown]):
        output = _explained(predictor, [shown[i] for i in places])
        each = zip(members, averages, strict=True)
        parts = [contributions(member, batch, start, output) for member, start in each]
        shares_nN = torch.stack(parts).mean(0).cpu().numpy()
        for i, values_N in zip(places, shares_nN, strict=True):
            cells[i] = _cell(predictor, shown[i]["smiles"], values_N, cells[i].words)
    return _page(predictor, cells, len(good))


def _members(model: nn.Module) -> list[nn.Module]:
    members = list(model.members) if isinstance(model, Ensemble) else [model]
    if not all(hasattr(member, "tokeniser") for member in members):
        raise UserError("--draw: only the model itself can be asked; leave --engine and --with out")
    return members


def _batches(
    predictor: MoleculePredictor, smiles: Sequence[str]
) -> list[tuple[list[int], dict[str, Tensor]]]:
    errors: dict[int, str] = {}
    items = predictor.expand([Structure(text, text) for text in smiles])  # none is taken for a file
    found = predictor.batches(items, errors)
    return [(places, to_device(batch.tensors, predictor.device)) for places, batch in found]


def _explained(
    predictor: MoleculePredictor, rows: Sequence[Mapping[str, Any]]
) -> Callable[[Tensor], Tensor]:
    """Of the outputs the one whose contributions are shown: in the first target's unit, or as log-odds."""
    if predictor.kind == "multiclass":
        classes = torch.tensor([predictor.names.index(row["prediction"]) for row in rows])
        return lambda outputs: log_odds(outputs, classes.to(outputs.device))
    scaled = predictor.kind == "regression" and predictor.scaling is not None
    size = predictor.scaling.std[0] if scaled and predictor.scaling is not None else 1.0
    return lambda outputs: outputs[:, 0] * size


def _cell(
    predictor: MoleculePredictor, smiles: str, values_N: np.ndarray, words: tuple[str, ...]
) -> Cell:
    data = predictor.config.data
    mol = molecule_of(
        smiles, Options(data.chirality, data.canonical, data.hydrogens, data.max_atoms)
    )
    if isinstance(mol, str) or mol.GetNumAtoms() > MOST_DRAWN:
        return Cell(None, None, words)
    return Cell(mol, values_N[: mol.GetNumAtoms()], words)


def _words(predictor: MoleculePredictor, row: Mapping[str, Any]) -> tuple[str, ...]:
    several = len(predictor.names) > 1 and predictor.kind != "multiclass"
    name = f" {predictor.names[0]}" if several else ""
    if predictor.kind == "regression":
        said = f"predicted {row[f'prediction{name}']:.4g} {_unit(predictor)}".strip()
    elif predictor.kind == "binary":
        said = f"{row[f'probability{name}']:.1%} sure of 1"
    else:
        said = f"{row['prediction']} {row['probability']:.1%}"
    like = f"similarity {row['similarity']:.2f}" if "similarity" in row else ""
    domain = "" if predictor.familiar is None else f", {row['domain']}"
    return str(row["input"]), said, f"{like}{domain}"


def _unit(predictor: MoleculePredictor) -> str:
    if predictor.kind != "regression":
        return "log-odds"
    units = predictor.state.units or ()
    return units[0] if units else ""


def _is_log(predictor: MoleculePredictor) -> bool:
    """Whether contributions are to the logarithm of the first target."""
    return predictor.scaling is not None and predictor.scaling.is_log(0)


def _page(predictor: MoleculePredictor, cells: Sequence[Cell], count: int) -> str:
    log, unit = _is_log(predictor), _unit(predictor)
    target = predictor.names[0] if predictor.names else "target 1"
    what = {
        "regression": f"the {'decimal logarithm of the ' * log}prediction of {target}",
        "binary": f"the log-odds of {target}",
        "multiclass": "the log-odds of the class that is predicted",
    }[predictor.kind]
    lines = [
        f"Orange atoms raise {what}, blue ones lower it, beside the same graph with the average atom in every place.",
        "Contributions of bonds and of descriptors are not shown: they belong to no atom.",
    ]
    if count > len(cells):
        lines.append(f"The first {len(cells)} of {count} molecules are drawn.")
    drawing = sheet(cells, COLUMNS, scale_of(cells), unit_of_logarithm(unit) if log else unit)
    pictures = [Picture("", drawn=drawing)]
    title = f"Predictions of {predictor.config.app}"
    return render_check_page(title, lines, groups=[Group("Molecules", pictures, "curves")])
