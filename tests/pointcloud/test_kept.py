"""A run keeps its split: what eval and --resume do when the data change, and clouds that lie in two splits."""

import shutil

import numpy as np
import pytest

import isoform
from isoform.core import api
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run
from isoform.pointcloud import DOMAIN

from .test_task import SMALL, write_clouds


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    data = write_clouds(folder / "data")
    settings = {**SMALL, "train.epochs": 1, "data.root": str(data)}
    run = isoform.train("pointcloud/pointmae-own", settings, run_dir=folder / "run", progress=False)
    return folder, run


@pytest.fixture
def place(trained, tmp_path):
    """A copy of the data and of the run that was trained on them, which knows of the new place."""
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "there")
    run, data = tmp_path / "there" / "run", tmp_path / "there" / "data"
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace(str(folder / "data"), str(data)))
    return run, data


def predicted(run):
    return (run / "predictions.csv").read_bytes()


def test_a_folder_that_grew_is_judged_by_the_runs_own_split(place):
    run, data = place
    before = predicted(run)
    np.savetxt(data / "ball" / "a_new_one.xyz", np.random.default_rng(7).normal(size=(50, 3)))
    found = evaluate_run(DOMAIN, run)
    assert any(
        "added since the training" in note and "a_new_one" in note for note in found["notes"]
    )
    assert found["samples"] == 3 and predicted(run) == before
    with pytest.raises(UserError, match=r"1 added \(ball/a_new_one\.xyz\)"):
        resume(run, data)


def test_a_test_cloud_that_is_gone_is_missed(place):
    run, data = place
    name = predicted(run).decode().splitlines()[1].split(",")[0]
    (data / name).unlink()
    with pytest.raises(UserError, match="1 of the 3 clouds of test"):
        evaluate_run(DOMAIN, run)


def test_classes_that_were_exchanged_are_told(place):
    run, data = place
    (data / "ball").rename(data / "x")
    (data / "disc").rename(data / "ball")
    (data / "x").rename(data / "disc")
    with pytest.raises(UserError, match="ball and disc are exchanged"):
        resume(run, data)


def test_moved_data_are_accepted_where_they_are_the_same(place, tmp_path):
    run, data = place
    shutil.move(data, tmp_path / "elsewhere")
    resume(run, tmp_path / "elsewhere")
    assert evaluate_run(DOMAIN, run)["samples"] == 3


def resume(run, data):
    (run / "results.json").unlink(missing_ok=True)  # as one that was killed
    sets = [f"{key}={value}".replace("'", '"') for key, value in SMALL.items()]
    asked = api.Request(DOMAIN, "pointmae-own", sets=[*sets, "train.epochs=1", f"data.root={data}"])
    api.train(asked, run, resume=True, progress=False, say=lambda line: None)


def test_training_refuses_a_cloud_in_two_splits(tmp_path):
    data = write_clouds(tmp_path / "all")
    for split in ("train", "test"):
        shutil.copytree(tmp_path / "all", tmp_path / "data" / split)
    for file in sorted((tmp_path / "data" / "test").rglob("*.xyz"))[1:-1]:
        np.savetxt(file, np.random.default_rng(len(file.name)).normal(size=(60, 3)) * 2)
    assert data.is_dir()
    settings = {**SMALL, "train.epochs": 1, "data.root": str(tmp_path / "data")}
    with pytest.raises(UserError, match=r"equal clouds lie in several splits.*data\.allow_leakage"):
        isoform.train("pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False)
    settings["data.allow_leakage"] = True
    isoform.train("pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False)
