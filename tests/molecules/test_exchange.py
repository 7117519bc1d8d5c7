"""The graph's own loss, and what exchanging graphs or descriptors between molecules costs."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from isoform.molecules.exchange import exchanged_error

from .runs import app, table, task_of


def made(path, task="regression", **loss):
    told = app(table(path / "m.csv", task), head={"descriptors": True}, loss=loss)
    one = task_of(told)
    torch.manual_seed(0)
    return one, one.build().eval()


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_the_graphs_own_loss_stands_beside_the_whole_one(tmp_path, task):
    one, model = made(tmp_path, task, graph_alone=0.37)
    batch = one.collate(list(one.data.rows["train"][:11]))
    found = one.loss(model, batch)
    plain, _ = made(tmp_path, task)
    both = plain.loss(model, batch)["loss"]
    hidden = {**batch, "descriptors": torch.zeros_like(batch["descriptors"])}
    alone = plain.loss(model, hidden)["loss"]
    assert not torch.isclose(both, alone)
    torch.testing.assert_close(found["loss"], both + 0.37 * alone)
    torch.testing.assert_close(found["both"], both)
    torch.testing.assert_close(found["graph_alone"], alone)


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
@pytest.mark.parametrize("deaf", ["graphs", "descriptors"])
def test_what_a_model_does_not_read_costs_nothing(tmp_path, task, deaf):
    one, model = made(tmp_path, task)
    with torch.no_grad():
        for parameter in model.head.parameters():
            parameter.normal_(0, 1)
        silent = model.head.transform if deaf == "graphs" else model.head.descriptors
        for parameter in silent.parameters():
            parameter.zero_()
    found = exchanged_error(one, model, "train")
    assert found[deaf] == pytest.approx(0, abs=1e-6)
    other = {"graphs": "descriptors", "descriptors": "graphs"}[deaf]
    assert abs(found[other]) > 1e-4


def test_a_model_of_graphs_alone_hangs_on_nothing_else(tmp_path):
    one = task_of(app(table(tmp_path / "m.csv")))
    assert exchanged_error(one, one.build(), "train") == {}


def test_the_exchange_leaves_the_model_as_it_was(tmp_path):
    one, model = made(tmp_path)
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    first, again = (exchanged_error(one, model, "val") for _ in range(2))
    assert first == again and model.training and np.isfinite(list(first.values())).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_what_is_exchanged_is_judged_by_exact_labels(tmp_path):
    """Bounds a thousand off tell nothing of the error."""
    one, model = made(tmp_path)
    labels = one.data.molecules.targets
    bounds = np.zeros(labels.shape, np.int8)
    bounds[one.data.rows["train"][::3]] = 1

    def judged(far):
        some = replace(
            one.data.molecules, targets=np.where(bounds == 1, far, labels), bounds=bounds
        )
        one.data = replace(one.data, molecules=some)
        return exchanged_error(one, model, "train")

    assert judged(0.0) == judged(1000.0) != {}
