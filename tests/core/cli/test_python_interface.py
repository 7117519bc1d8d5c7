"""The same from Python."""

from __future__ import annotations

from pathlib import Path

import pytest
import toy

import isoform
from isoform.core import config
from isoform.core.errors import UserError

from .toys import DOMAINS, TOYS


def test_the_python_interface(monkeypatch, place, trained):
    from isoform import registry

    monkeypatch.setattr(registry, "domains", lambda: DOMAINS)
    monkeypatch.setattr(registry, "domain", lambda name: DOMAINS[name]())
    run = isoform.train(
        "toys/mlp", {"train.lr": 0.02}, train__epochs=1, progress=False, run_dir="run"
    )
    assert run.folder == Path("run") and run.metrics["test"].keys() == {"loss", "top1"}
    assert (lambda train: (train.lr, train.epochs))(config.load_run_config("run", TOYS).train) == (
        0.02,
        1,
    )
    assert run.predictor().predict(["2"]) == isoform.load("run").predict(["2"])
    assert isoform.load(trained, checkpoint="last").embed(["2", "3"]).shape == (2, toy.HIDDEN)
    with pytest.raises(
        config.ConfigError, match=r"settings train.epoch: unknown key; did you mean train.epochs\?"
    ):
        isoform.train("toys/mlp", train__epoch=1)
    with pytest.raises(UserError, match="write DOMAIN/NAME"):
        isoform.train("mlp")


def test_the_registry_finds_packages_and_names_what_is_absent():
    from isoform import registry

    assert {"vision", "pointcloud", "timeseries", "molecules"} == set(registry.domains())
    with pytest.raises(UserError, match="visoin: unknown domain; did you mean vision"):
        registry.domain("visoin")
    assert registry.domain("pointcloud").name == "pointcloud"
