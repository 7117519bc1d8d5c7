"""Baselines of a run: chosen by name and cost, shown, stopped between fits, and finished by --resume."""

import json
import os
import signal

import pytest
import toy
from pydantic import ValidationError

from isoform.core.baselines import Baseline, chosen
from isoform.core.config.schema import EvalConfig
from isoform.core.engine.train import train
from isoform.core.errors import Preempted, UserError
from isoform.core.runs.folder import RunFolder

NAMES = ("first", "second", "third")


class Named(EvalConfig):
    known = NAMES


class Several(toy.ToyTask):
    """Three baselines that keep count of their fits; `during` is called in the second."""

    def __init__(self, during=lambda fitting: None, minutes=1.0, **settings):
        config = toy.app(epochs=1).model_copy(update={"eval": Named(batch=4, **settings)})
        super().__init__(config)
        self.during, self.minutes, self.fits = during, minutes, []

    def baselines(self):
        return [Baseline(name, self.fit_of(name), self.minutes) for name in NAMES]

    def fit_of(self, name):
        def fit(fitting):
            self.fits.append(name)
            if name == "second":
                self.during(fitting)
            return {split: {"top1": len(name) / 10} for split in ("val", "test")}

        return fit


def left(task):
    return chosen(task.baselines(), task.config.eval)


def run_in(folder, task, **settings):
    said = []
    settings = {"progress": False, **settings}
    results = train(task, RunFolder(folder), say=said.append, **settings)
    return results, said


def stop(_):
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("wanted", "expected"), [
    (None, NAMES), ((), ()), (("third",), ("third",)), (("third", "first"), ("first", "third")),
])  # fmt: skip
def test_those_that_are_named_are_fitted(tmp_path, wanted, expected):
    task = Several(baselines=wanted)
    results, _ = run_in(tmp_path / "run", task)
    assert tuple(results["baselines"]) == tuple(task.fits) == expected
    whole = {
        name: {"val": {"top1": len(name) / 10}, "test": {"top1": len(name) / 10}} for name in NAMES
    }
    assert results["baselines"] == {name: whole[name] for name in expected}


def test_an_unknown_name_is_refused_with_those_there_are():
    with pytest.raises(
        ValidationError, match='no baseline is called "thrid"; did you mean third'
    ) as e:
        Named(baselines=("thrid",))
    assert "there are first, second, third" in str(e.value)


def test_a_name_for_other_data_is_refused_before_the_first_step(tmp_path):
    class Fewer(Several):
        def baselines(self):
            return super().baselines()[:2]

    with pytest.raises(
        UserError, match="third isn't for data of this kind; there are first, second"
    ):
        run_in(tmp_path / "run", Fewer(baselines=("third",)))
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_the_bound_is_on_estimated_minutes(tmp_path):
    """Added up in order; the same whatever the clock says."""
    task = Several(minutes=2.0, baseline_minutes=5.0)
    assert [bool(one.left_out) for one in left(task)] == [False, False, True]
    results, said = run_in(tmp_path / "run", task)
    assert tuple(results["baselines"]) == NAMES[:2]
    line = "the baseline third was left out: eval.baseline_minutes allows 5, and this takes about 2"
    assert line in said
    only = Several(minutes=2.0, baseline_minutes=5.0, baselines=("second", "third"))
    assert not any(one.left_out for one in left(only))
    assert all(one.left_out for one in left(Several(minutes=121.0)))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_obeyed_between_fits_and_resume_finishes(tmp_path, number):
    whole, _ = run_in(tmp_path / "whole", Several())
    task = Several(during=lambda _: os.kill(os.getpid(), number))
    with pytest.raises(Preempted, match="--resume"):
        run_in(tmp_path / "run", task)
    assert task.fits == ["first", "second"]  # the one that was being fitted ends, no other begins
    assert json.loads((tmp_path / "run" / "results.json").read_text())["status"] == "preempted"
    results, _ = run_in(tmp_path / "run", Several(), resume=True)
    assert results["status"] == "finished"
    assert (results["metrics"], results["baselines"]) == (whole["metrics"], whole["baselines"])


def test_a_signal_is_obeyed_within_a_fit_that_steps(tmp_path):
    done = []

    def long(fitting):
        for i in range(5):
            fitting.step(i, 5, "parts")
            done.append(i)
            if i == 2:
                stop(fitting)

    with pytest.raises(Preempted):
        run_in(tmp_path / "run", Several(during=long))
    assert done == [0, 1, 2]


def test_what_is_fitted_is_shown(tmp_path):
    _, said = run_in(tmp_path / "run", Several(), progress=True)
    assert "baselines: first, second, third" in said
    shown = [line for line in said if line.startswith("baseline ")]
    assert [line.rsplit("  ", 1)[0] for line in shown] == [
        f"baseline {i}/3  {name}" for i, name in enumerate(NAMES, 1)
    ]
    assert all(line.endswith(" s") for line in shown)
    _, quiet = run_in(tmp_path / "quiet", Several())
    assert not any(line.startswith("baseline") for line in quiet)


def test_a_fit_of_long_shows_how_far_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr("isoform.core.engine.progress._LINES", 0.0)
    task = Several(during=lambda fitting: fitting.step(3, 7, "trees"))
    _, said = run_in(tmp_path / "run", task, progress=True)
    assert any(line.startswith("baseline 2/3  second  trees 3/7  ") for line in said)


def test_a_missing_library_costs_its_own_baseline(tmp_path):
    def fail(_):
        raise ImportError("No module named 'mill'")

    results, said = run_in(tmp_path / "run", Several(during=fail))
    assert tuple(results["baselines"]) == ("first", "third")
    assert (
        "the baseline second was left out: No module named 'mill'; "
        "pip install 'isoform[toy]' brings what it takes"
    ) in said


def test_one_sentence_for_one_reason(tmp_path):
    class Not(Several):
        def baselines(self):
            one, two, three = super().baselines()
            return [one, *(Baseline(x.name, x.fit, left_out="too many rows") for x in (two, three))]

    task = Not()
    _, said = run_in(tmp_path / "run", task)
    assert "the baselines second, third were left out: too many rows" in said
    assert task.fits == ["first"]


def test_baselines_that_are_handed_in_are_not_fitted(tmp_path):
    task = Several()
    given = {"first": {"test": {"top1": 0.25}}}
    results, _ = run_in(tmp_path / "run", task, baselines=given)
    assert results["baselines"] == given and not task.fits
