"""Every app of a benchmark on a miniature of its official files: read, two training steps, judged (`smoke`)."""

from __future__ import annotations

import math

import pytest

import isoform
from isoform.molecules.task import MoleculesTask

from . import miniatures

APPS = {
    "graphormer-esol": miniatures.esol, "graphormer-bbbp": miniatures.bbbp, "graphormer-bace": miniatures.bace,
    "graphormer-zinc12k": miniatures.zinc, "graphormer-pcqm4mv2": miniatures.pcqm4mv2,
    "graphormer-molhiv": miniatures.molhiv, "gt-zinc12k": miniatures.zinc, "gt-esol": miniatures.esol,
}  # fmt: skip
METRIC = {"bbbp": "loss", "bace": "loss", "molhiv": "loss"}


@pytest.mark.parametrize("app", APPS)
def test_a_benchmark_trains_on_its_official_layout(app, tmp_path, monkeypatch):
    monkeypatch.setattr(MoleculesTask, "baselines", lambda self: ())
    monkeypatch.setattr(MoleculesTask, "figures", lambda *_: [])
    few = lambda self, split, size, rng, own=MoleculesTask.batches: own(self, split, 7, rng)[:2]  # noqa: E731
    monkeypatch.setattr(MoleculesTask, "batches", few)
    root = APPS[app](tmp_path / "data")
    small = {"backbone.dim": 16, "backbone.mlp_dim": 8, "backbone.depth": 1, "backbone.heads": 2, "train.epochs": 1,
             "train.accumulate": 1, "data.cache": str(tmp_path / "cache")}  # fmt: skip
    if (
        app == "gt-zinc12k"
    ):  # the published types of atoms and bonds are numbered without gaps, the miniature's aren't
        small |= {"tokeniser.atom_ids": 60, "tokeniser.bond_ids": 11}
    run = isoform.train(
        f"molecules/{app}",
        {"data.root": str(root), **small},
        run_dir=tmp_path / "run",
        progress=False,
    )
    test = run.metrics["test"]
    assert run.results["status"] == "finished"
    assert math.isfinite(test[METRIC.get(app.split("-")[1], "mae")])
