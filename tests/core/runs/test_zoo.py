"""Weights that come along: found by name, pinned by a digest, small, and each with its card."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import isoform
from isoform.core.api import export
from isoform.core.config import resolve_app
from isoform.core.engine.warm_start import initial_weights, refuse_other_file
from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import safetensors_metadata
from isoform.core.runs import zoo
from isoform.core.runs.exported import METADATA, is_exported
from isoform.registry import domain

MOST_BYTES = 8_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    sets = {"train.epochs": 1, "train.batch": 500, "eval.baselines": []}
    isoform.train("vision/vit-mnist-tiny", sets, run_dir=folder, progress=False)
    return folder


@pytest.fixture
def small_zoo(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    out = tmp_path / "zoo" / "digits"
    out.mkdir(parents=True)
    export(domain("vision"), run, "safetensors16", out / "model.safetensors")
    monkeypatch.setattr(zoo, "folder", lambda: tmp_path / "zoo")
    monkeypatch.chdir(tmp_path / "zoo")  # where zoo/digits is no path
    return out / "model.safetensors"


def test_halves_answer_as_the_run_does(run: Path, small_zoo: Path) -> None:
    stored = load_file(small_zoo)
    assert {value.dtype for value in stored.values()} == {torch.float16}
    image = (np.arange(28 * 28).reshape(28, 28) % 251).astype(np.uint8)
    features = [isoform.load(where).embed([image]) for where in (run, "zoo/digits")]
    assert features[0].shape == features[1].shape
    assert np.allclose(*features, atol=1e-2) and not np.array_equal(*features)


def test_a_name_that_is_not_there_names_those_that_are(small_zoo: Path) -> None:
    assert zoo.located("zoo/digits") == small_zoo
    with pytest.raises(UserError, match=r"zoo/letters.*zoo/digits"):
        zoo.located("zoo/letters")
    assert zoo.located("runs/zoo/letters") == Path("runs/zoo/letters")


def test_the_same_file_wherever_it_is_asked_for(
    small_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of that name in the working directory, as in a clone, doesn't stand in front of it."""
    for name in ("digits", "own"):
        (tmp_path / "clone" / "zoo" / name).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "clone")
    assert zoo.located("zoo/digits") == small_zoo
    assert zoo.located("zoo/own") == Path("zoo/own")


def test_another_file_than_the_pinned_one_is_refused(small_zoo: Path, tmp_path: Path) -> None:
    vision = domain("vision")
    settings = {"train.init": "zoo/digits"}
    config = resolve_app("vit-mnist-tiny", domain=vision, settings=settings)
    found = initial_weights(vision.task(vision.prepare(config)), "zoo/digits")
    assert found.source == "zoo/digits" and found.weights
    refuse_other_file("zoo/digits", zoo.sha256_of(small_zoo))
    settings |= {"train.init_sha256": "0" * 64}
    with pytest.raises(UserError, match="init_sha256"):
        isoform.train("vision/vit-mnist-tiny", settings, run_dir=tmp_path / "new", progress=False)


@pytest.mark.parametrize("name", zoo.names())
def test_what_comes_along_is_small_has_a_card_and_is_pinned(name: str) -> None:
    file = zoo.located(f"zoo/{name}")
    assert file.stat().st_size <= MOST_BYTES and is_exported(file)
    about = json.loads(safetensors_metadata(file)[METADATA])
    config = tomllib.loads(about["config"])
    card = (file.parent / "card.md").read_text()
    assert f"train {config['app']}" in card and "seed" in card and "minutes" in card
    digest = zoo.sha256_of(file)
    assert digest in card
    apps = (Path(str(zoo.folder())).parent / "apps.toml").read_text()
    assert f'init_sha256 = "{digest}"' in apps
