"""The metrics of each group of a split's samples."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
import toy

from isoform.core.engine.groups import (
    describe_groups,
    group_figure,
    group_rows,
    groups_of_folds,
    judge_groups,
)


class Grouped(toy.ToyTask):
    names_of = ("a",) * 6 + ("<b>",) * 4 + (None,) * 3

    def groups(self, split):
        return self.names_of


@pytest.fixture
def outputs():
    logits = np.random.default_rng(5).normal(size=(13, toy.CLASSES)).astype(np.float32)
    return {"logits": logits, "target": np.arange(13) % toy.CLASSES}


def test_a_group_is_judged_as_a_split_of_its_own_would_be(outputs):
    task = Grouped(toy.app())
    found = judge_groups(task, "test", outputs)
    assert found["count"] == 2 and found["without"] == 3 and list(found["metrics"]) == ["a", "<b>"]
    for name, rows in (("a", slice(0, 6)), ("<b>", slice(6, 10))):
        own = task.metrics("test", {key: value[rows] for key, value in outputs.items()})
        judged = dict(found["metrics"][name])
        assert judged.pop("samples") == rows.stop - rows.start and judged == own
        assert next(iter(judged)) == task.monitor
    assert judge_groups(toy.task(), "test", outputs) is None
    assert "test has 2 groups: top1 from" in describe_groups(found, "top1", "test")
    assert group_rows(found)[0] == ["samples", "top1", "loss"]
    assert "&lt;b&gt;" in group_figure(found, "test").html


def test_the_largest_groups_are_judged_and_the_others_counted(outputs):
    task = Grouped(toy.app())
    many = {key: np.concatenate([value] * 5) for key, value in outputs.items()}
    task.names_of = [f"g{k % 23:02d}" if k < 60 else "big" for k in range(65)]
    found = judge_groups(task, "test", many)
    assert found["count"] == 24 and len(found["metrics"]) == 20
    assert next(iter(found["metrics"])) == "big"
    sizes = [one["samples"] for one in found["metrics"].values()]
    assert sizes == sorted(sizes, reverse=True)
    assert "the largest 20 judged" in describe_groups(found, "top1", "test")
    assert "the 20 largest of 24" in group_figure(found, "test").caption


def test_groups_of_folds_are_joined(outputs):
    task = Grouped(toy.app())
    first = judge_groups(task, "test", outputs)
    task.names_of = ("c",) * 13
    second = judge_groups(task, "test", outputs)
    found = groups_of_folds([first, None, second])
    assert found["count"] == 3 and list(found["metrics"]) == ["c", "a", "<b>"]
    assert groups_of_folds([None, None]) is None
