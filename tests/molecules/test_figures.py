"""Pictures of a report and of the demo: what they show, that they are safe, and that no kind of data breaks them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from isoform.core.engine.evaluate import evaluate
from isoform.core.report.page import inline_svg
from isoform.molecules import demo
from isoform.molecules.attribution import average_atom, contributions
from isoform.molecules.cases import explain_cases, rank_cases
from isoform.molecules.drawings import Cell, colour_of, scale_of, shapes_of, sheet
from isoform.molecules.figures import by_size, figures

from .runs import TEXTS, app, table, task_of, trained

TEST = {"test_fraction": 0.4}
HOSTILE = "<script>x</script> $y_1$"


def drawn(path: Path, **tables):
    """An untrained model's answers on test, and their pictures."""
    tables = {**tables, "data": {**TEST, **tables.get("data", {})}}
    task = task_of(app(path, **tables))
    torch.manual_seed(0)
    model = task.build().eval()
    outputs = evaluate(task, model, "test")[1]
    return task, model, outputs, figures(task, model, outputs)


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    path = table(tmp_path_factory.mktemp("one") / "m.csv")
    text = path.read_text().replace("id,smiles,label", f"id,smiles,{HOSTILE}")
    path.write_text(text.replace("m4", HOSTILE))
    return drawn(path, data={"targets": [HOSTILE]})


def test_numbers_have_four_pictures_on_one_safe_page(one):
    _, _, _, found = one
    starts = ["Predicted against", "The largest errors", "The smallest errors", "Absolute error by"]
    assert all(
        figure.caption.startswith(start) for figure, start in zip(found, starts, strict=True)
    )
    page = "".join(inline_svg(figure.svg, f"run0-{i}") for i, figure in enumerate(found))
    assert (
        "<script" not in page
        and "&lt;script&gt;" in page
        and "$y_1$" in page
        and len(page) < 500_000
    )
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids)) and set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(
        ids
    )
    assert not re.findall(r"\son\w+=|javascript:|foreignObject|@import|https?://", page)
    for figure in found:
        ElementTree.fromstring(figure.svg)


def test_worst_and_best_molecules_with_their_numbers(one):
    task, _, outputs, found = one
    error = np.abs(outputs["prediction"] - outputs["target"])[:, 0]
    names = [task.data.molecules.names[row] for row in task.data.rows["test"]]
    for figure, places in ((found[1], np.argsort(-error)[:6]), (found[2], np.argsort(error)[:6])):
        texts = re.findall(r"<text[^>]*>([^<]*)</text>", figure.svg)
        assert texts[:18:3] == [names[i].replace("<", "&lt;").replace(">", "&gt;") for i in places]
        assert texts[1:18:3] == [f"predicted {outputs['prediction'][i, 0]:.4g}" for i in places]
        assert texts[2:18:3] == [f"true {outputs['target'][i, 0]:.4g}" for i in places]
        assert texts[18].endswith("or less") and texts[19].endswith("or more")


def test_cells_hold_the_contributions_to_the_prediction_in_its_unit(one):
    task, model, outputs, _ = one
    cases = rank_cases(task, outputs["prediction"], outputs["target"])
    cells = explain_cases(task, model, cases, cases.order[:3].tolist())
    rows = task.data.rows["test"][cases.order[:3]]
    average = average_atom(model, [task.collate(task.data.rows["train"].tolist())])
    found = contributions(
        model, task.collate(rows.tolist()), average, lambda y: task.scaling.unscale(y)[:, 0]
    )
    for cell, row, want in zip(cells, rows, found, strict=True):
        n = task.data.store.sizes[row]
        assert cell.mol.GetNumAtoms() == n == len(cell.atoms)
        np.testing.assert_allclose(cell.atoms, want[:n], atol=1e-4 * float(want.abs().max()))


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_classes(tmp_path, kind):
    task, _, outputs, found = drawn(table(tmp_path / "m.csv", kind))
    captions = " ".join(figure.caption for figure in found)
    assert "Calibration" in captions and "The worst answers" in captions and "by size" in captions
    cases = rank_cases(task, task.probability(outputs), outputs["target"])
    best = cases.best(6)
    truth = outputs["target"][best].astype(int).reshape(-1)
    assert len(set(truth.tolist())) == (
        2 if kind == "binary" else 3
    )  # one of each kind comes first
    plot = Figure()
    demo.draw_answers(plot, task, task.probability(outputs), outputs["target"], 0)
    assert len(plot.axes) == (2 if kind == "binary" else 1)
    if kind == "multiclass":
        assert "Confusion" in found[0].caption and found[0].svg.count(">many<") == 2
        p = task.probability(outputs)[np.arange(len(outputs["target"])), outputs["target"]]
        assert cases.order[0] == p.argmin()
    else:
        assert "ROC AUC" in found[0].caption
        far = np.abs(task.probability(outputs) - outputs["target"])[:, 0]
        assert cases.order[0] == far.argmax()


@pytest.mark.parametrize("kind", ["regression", "binary"])
def test_many_targets_with_missing_labels(tmp_path, kind):
    names = [f"t{j}" for j in range(7)]
    labels = [k % 2 if kind == "binary" else k / 3 for k in range(67)]
    more = {
        name: ["" if (k + j) % 4 == 0 else label for k, label in enumerate(labels)]
        for j, name in enumerate(names)
    }
    more["t2"] = [1 if k == 5 else "" for k in range(67)]  # of the test molecules none
    path = table(tmp_path / "m.csv", kind, **more)
    task, _, outputs, found = drawn(path, data={"targets": ["label", *names]})
    tables = [figure.html for figure in found if figure.html]
    assert len(tables) == 1 and all(f"<td>{name}</td>" in tables[0] for name in ["label", *names])
    if kind == "regression":
        assert (
            "the first 6 of 8 targets" in found[0].caption and "of label on 27" in found[1].caption
        )
    known = np.isfinite(outputs["target"])
    assert not known[:, 3].any() and known[:, 1].any()
    for name, column, there in zip(task.data.names, outputs["target"].T, known.T, strict=True):
        cells = [name, "", f"{there.sum()}"]  # the unit is not known
        if kind == "binary":
            cells = [name, f"{there.sum()}", f"{column[there].mean():.4g}" if there.any() else "-"]
        assert "".join(f"<td>{cell}</td>" for cell in cells) in tables[0]
    assert task.data.names[2] == "t1"


def test_what_cannot_be_drawn_is_left_out(tmp_path):
    path = table(tmp_path / "m.csv")
    path.write_text(path.read_text() + f"long,{'C' * 131},99\n")
    task, model, outputs, _ = drawn(path)
    at = task.data.molecules.names.index("long")
    data = replace(
        task.data, rows={**task.data.rows, "test": np.append(task.data.rows["test"], at)}
    )
    task.data = data
    outputs = evaluate(task, model, "test")[1]
    found = figures(task, model, outputs)
    assert ">not drawn<" in found[1].svg and ">long<" in found[1].svg and "131" in found[3].svg

    graphs = replace(data.molecules, graphs=data.store.graphs)  # as those of ZINC are
    task.data = replace(data, molecules=graphs)
    assert [figure.caption.split()[0] for figure in figures(task, model, outputs)] == [
        "Predicted",
        "Absolute",
    ]
    task.data = data
    nothing = {**outputs, "target": np.full_like(outputs["target"], np.nan)}
    assert [figure.caption.split()[0] for figure in figures(task, model, nothing)] == ["Predicted"]


def test_hydrogens_as_atoms(tmp_path):
    task, model, outputs, _ = drawn(table(tmp_path / "m.csv"), data={"hydrogens": True})
    cases = rank_cases(task, outputs["prediction"], outputs["target"])
    for cell, row in zip(
        explain_cases(task, model, cases, range(9)), task.data.rows["test"][:9], strict=True
    ):
        assert len(cell.atoms) == cell.mol.GetNumAtoms() == task.data.store.sizes[row]


def test_a_picture_of_every_molecule_and_nothing_but_shapes():
    from isoform.molecules.data.parsing import parse_smiles

    cells = [Cell(parse_smiles(text), None, ("a & b",)) for text in TEXTS]
    svg = sheet(cells, 5, 1.0, "")
    tags = {element.tag.rpartition("}")[2] for element in ElementTree.fromstring(svg).iter()}
    assert tags <= {"svg", "g", "path", "ellipse", "circle", "polygon", "rect", "text"}
    assert svg.count("<rect") == len(TEXTS) and ">not drawn<" not in svg and "a &amp; b" in svg


def test_shapes_of_a_hostile_drawing():
    text = (
        "<svg xmlns='http://www.w3.org/2000/svg'><script>x()</script><a href='javascript:x()'><text>y</text></a>"
        "<path id='p' onclick='x()' d='M 1,2 L 3,4' style='fill:none;stroke:#FF0000;stroke-width:2.0px'/>"
        "<path d='M 1,2' style='fill:url(#z)'/><path d='\"/>' style='fill:none'/><image href='file:///x'/></svg>"
    )
    assert (
        shapes_of(text) == '<path d="M 1,2 L 3,4" fill="none" stroke="#FF0000" stroke-width="2"/>'
    )


def test_colours():
    assert colour_of(0.0, 2.0) == (1, 1, 1)
    raised, lowered = colour_of(2.0, 2.0), colour_of(-2.0, 2.0)
    assert raised[0] > raised[2] and lowered[2] > lowered[0] and colour_of(5.0, 2.0) == raised
    assert scale_of([Cell(None, np.array([0.0, -3.0]), ())]) == pytest.approx(2.7)
    assert scale_of([Cell(None, None, ())]) == scale_of([Cell(None, np.zeros(2), ())]) == 1.0


@pytest.mark.parametrize("largest", [9, 97])
def test_every_molecule_is_in_one_range_of_sizes(largest):
    rng = np.random.default_rng(0)
    atoms = rng.integers(1, largest, 401)
    groups = by_size(atoms, atoms + 0.5)
    assert (
        sorted(np.concatenate([errors for _, errors in groups])) == sorted(atoms + 0.5)
        and len(groups) <= 14
    )
    for name, errors in groups:
        first, _, last = name.partition("-")
        assert errors.min() == int(first) + 0.5 and errors.max() == int(last or first) + 0.5


def test_the_demo_draws_a_run(tmp_path, capsys):
    run = trained(tmp_path, train={"epochs": 1})
    assert (
        demo.main(
            [str(run), "--out", str(tmp_path / "a.svg"), "--data", str(tmp_path / "molecules.csv")]
        )
        == 0
    )
    svg = (tmp_path / "a.svg").read_text()
    assert svg.count("<image") >= 12 and "true" in svg
    assert demo.main([str(run), "--out", str(tmp_path / "a.gif")]) == 2
    assert "a.gif: a picture ends in .png, .svg, .pdf" in capsys.readouterr().err
    assert demo.main([str(tmp_path / "none")]) == 2
