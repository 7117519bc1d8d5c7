"""One's own molecules as a page, coloured by what their atoms contribute."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import isoform
from commands import exit_code
from isoform.core.errors import UserError
from isoform.molecules import draw_inputs
from isoform.molecules.cases import rank_cases
from isoform.molecules.drawings import unit_of_logarithm

from .batches import MIXED
from .runs import app, group, task_of, trained


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_every_input_that_can_be_read_is_drawn(task: str, tmp_path: Path) -> None:
    run, page = trained(tmp_path, task), tmp_path / "page.html"
    assert exit_code("molecules", "predict", run, *MIXED, "<no> molecule", "--draw", page) == 0
    text = page.read_text()
    assert text.count("<g transform=") == len(MIXED) and "Orange atoms raise" in text
    assert "<no>" not in text and "<script" not in text
    assert len(set(re.findall(r"fill=\"#[0-9a-fA-F]{6}\"", text))) > 10
    assert {"inside", "outside"} & set(re.findall(r"inside|outside", text))


def test_contributions_sum_to_what_is_predicted(tmp_path: Path, monkeypatch) -> None:
    """Less what is predicted where every atom is the average one; of an ensemble for its mean."""
    predictor = isoform.load(group(tmp_path)).inner
    cells: list = []
    monkeypatch.setattr(draw_inputs, "sheet", lambda given, *_: cells.extend(given) or "")
    rows = predictor.predict(list(MIXED))
    draw_inputs.page_of(predictor, rows)
    training = list(predictor.state.training)
    known = [batch for _, batch in draw_inputs._batches(predictor, training)]
    for places, batch in draw_inputs._batches(predictor, [row["smiles"] for row in rows]):
        start = np.zeros(len(places))
        for member in predictor.model.members:
            away = draw_inputs.average_atom(member, known)
            vectors = member.tokeniser.atoms(batch)
            with torch.no_grad():
                output = member({**batch, "perturb": (away - vectors) * batch["valid"][..., None]})
            start += predictor.guess(output.numpy())[:, 0] / 2
        for place, from_ in zip(places, start, strict=True):
            assert len(cells[place].atoms) == cells[place].mol.GetNumAtoms()
            moved = rows[place]["prediction"] - from_
            assert cells[place].atoms.sum() == pytest.approx(moved, abs=2e-3)


def test_contributions_to_a_logarithm_are_called_so(tmp_path: Path) -> None:
    run, page = trained(tmp_path, "decades", data={"transform": ["log10"]}), tmp_path / "page.html"
    assert exit_code("molecules", "predict", run, "CCO", "c1ccccc1O", "--draw", page) == 0
    text = page.read_text()
    assert "raise the decimal logarithm of the prediction of label" in text
    assert re.search(r">\+[0-9.e-]+ log10 or more<", text)
    task = task_of(app(tmp_path / "molecules.csv", data={"transform": ["log10"]}))
    target = task.data.targets("test")
    cases = rank_cases(task, target + 1, target)
    assert (cases.contributed, cases.unit) == ("log10", "")
    assert cases.raised == "the decimal logarithm of the prediction"
    assert unit_of_logarithm("nM") == "log10 nM"


def test_what_cant_be_drawn_is_said(tmp_path: Path) -> None:
    run = trained(tmp_path)
    assert exit_code("molecules", "predict", run, "CCO", "--draw", tmp_path / "page.png") == 2
    words = ("predict", run, "CCO", "--draw", tmp_path / "a.html")
    assert (
        exit_code("molecules", *words, "--engine", "packed") == 2
        and not (tmp_path / "a.html").exists()
    )
    with pytest.raises(UserError, match="none of the inputs"):
        isoform.load(run).draw([{"input": "x", "error": "no molecule"}])
