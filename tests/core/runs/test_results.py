"""What results.json says of a run: its headline, who beats it, and the memory that it alone took."""

import math
import sys

import numpy as np
import pytest
import toy

from isoform.core import api
from isoform.core.data.writers import plain_json
from isoform.core.runs import results
from isoform.core.runs.results import Headline, beaten_by, headline


def of(mode="max", metrics=None, **baselines):
    """results.json, as far as a headline reads it."""
    return {
        "monitor": "m",
        "monitor_mode": mode,
        "metrics": {"val": {"m": 0.9}, "test": {"m": 0.5, "n": 2.0}}
        if metrics is None
        else metrics,
        "baselines": {name: {"test": {"m": value}} for name, value in baselines.items()},
    }


@pytest.mark.parametrize(
    ("mode", "baselines", "best", "verdict", "beaten"),
    [
        ("max", {"a": 0.7, "b": 0.8, "c": 0.1}, "b", "worse", ["a", "b"]),
        ("max", {"a": 0.3, "b": 0.4}, "b", "better", []),
        ("min", {"a": 0.7, "b": 0.6}, "b", "better", []),
        ("min", {"a": 0.7, "b": 0.2}, "b", "worse", ["b"]),
        ("min", {"a": 0.7, "b": 0.5}, "b", "equal", []),
        ("max", {"a": None, "b": 0.1}, "b", "better", []),
        ("max", {"a": None}, None, "alone", []),
        ("max", {}, None, "alone", []),
    ],
)
def test_the_best_baseline_is_named(mode, baselines, best, verdict, beaten):
    found = headline(of(mode, **baselines))
    assert (found.split, found.metric, found.value, found.baseline) == ("test", "m", 0.5, best)
    assert found.baseline_value == (None if best is None else baselines[best])
    assert found.verdict == verdict and beaten_by(of(mode, **baselines)) == beaten


def test_without_a_test_split_validation_is_judged():
    found = {
        **of(metrics={"val": {"m": 0.5}}),
        "baselines": {"a": {"val": {"m": 0.6}, "test": {"m": 0.1}}},
    }
    assert headline(found) == Headline("val", "m", "max", 0.5, "a", 0.6)


def test_what_was_not_measured_has_no_headline():
    unknown = plain_json(of(metrics={"test": {"m": math.nan}}, a=0.7))  # as results.json keeps it
    for found in (unknown, of(metrics={}, a=0.7), of(metrics={"test": {"n": 2.0}}, a=0.7)):
        assert headline(found) is None and beaten_by(found) == []
    assert headline({"metrics": {"test": {"m": 0.5}}, "baselines": {}}) is None, (
        "of before the monitor was kept"
    )


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere nothing resets it")
def test_a_runs_peak_memory_is_its_own(tmp_path, monkeypatch):
    """A run after one that held 300 MiB more shows less than that one."""
    held = []

    class Large(toy.ToyTask):
        def collate(self, samples):
            if not held:
                held.append(np.ones(300 * 2**17))
                held.append(0)
                del held[0]
            return super().collate(samples)

    def run(name, task):
        class Toy(toy.Toy):
            def task(self, prepared):
                return task(prepared.config)

        resolved = type("Resolved", (), {"config": toy.app()})
        monkeypatch.setattr(api.Request, "resolve", lambda _: resolved)
        request = api.Request(Toy(), "toy-mlp")
        return api.train(request, tmp_path / name, progress=False, say=lambda _: None).results

    run("warm", toy.ToyTask)
    large, small = run("large", Large), run("small", toy.ToyTask)
    assert large["environment"]["peak_memory_of"] == "run"
    assert large["peak_memory_bytes"] - small["peak_memory_bytes"] > 250 * 2**20


def test_where_memory_cannot_be_reset_it_is_said_to_be_the_processs(monkeypatch, tmp_path):
    import torch

    monkeypatch.setattr(results, "_CLEAR", tmp_path / "none" / "clear_refs")
    assert not results.reset_peak_memory()
    assert results.environment(torch.device("cpu"))["peak_memory_of"] == "process"
