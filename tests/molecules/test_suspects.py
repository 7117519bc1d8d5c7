"""Suspected labels of molecules, by name and SMILES: of one assay and of classes; none of numbers."""

import numpy as np
import pytest
import torch

from isoform.core.engine.evaluate import evaluate

from .runs import app, table, task_of


@pytest.mark.parametrize("kind", ["binary", "multiclass"])
def test_a_molecule_that_is_answered_wrong_is_suspected(tmp_path, kind):
    task = task_of(app(table(tmp_path / "m.csv", kind), data={"test_fraction": 0.4}))
    torch.manual_seed(0)
    outputs = evaluate(task, task.build().eval(), "test")[1]
    labels = task.data.labels[task.data.rows["test"]]
    if kind == "binary":
        outputs["logits"] = (labels - 0.5) * 8
        outputs["logits"][5] *= -1
    else:
        outputs["logits"] = np.eye(3)[labels.ravel().astype(int)] * 8
        outputs["logits"][5] = np.roll(outputs["logits"][5], 1)
    (row,) = task.suspects("test", outputs)
    at = int(task.data.rows["test"][5])
    assert row["sample"] == 5 and row["input"] == f"m{at}"
    assert row["smiles"] == task.data.molecules.smiles[at]
    assert row["p(given)"] < 0.05 < 0.95 < row["p(suggested)"]
    assert task.has_labels


def test_numbers_have_no_labels(tmp_path):
    assert not task_of(app(table(tmp_path / "m.csv"))).has_labels
