"""What images can't honestly be judged on: those a run was trained on, and values that training lacks."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

import isoform
from commands import exit_code
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run
from isoform.core.runs.folder import RunFolder
from isoform.vision import DOMAIN

from .pictures import app, class_folders, picture, table
from .pictures import task as task_of


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A run on 17 + 19 images, some of which are its test."""
    root = tmp_path_factory.mktemp("seen")
    data = class_folders(root / "own", {"cat": 17, "dog": 19})
    task = task_of(app(data={"root": str(data)}))
    train(task, RunFolder(root / "run"), progress=False, say=lambda line: None)
    return root, task


def files_of(task, split):
    images = task.data.records.images
    return [images.path(int(row)) for row in task.data.rows[split]]


def other_folder(root, known):
    """Test images, of which some are `known` under other names, beside training images of their own."""
    for k, path in enumerate(known):
        (root / "test" / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / "test" / path.parent.name / f"other{k}.png")
    for k in range(7):
        for name in ("cat", "dog"):
            for part, seed in (("test", 500), ("train", 600), ("val", 700)):
                folder = root / part / name
                folder.mkdir(parents=True, exist_ok=True)
                picture(seed + 2 * k + (name == "dog")).save(folder / f"{k}.png")
    return root


def test_the_run_knows_its_own_images_and_its_test_is_new(first):
    root, task = first
    seen = RunFolder(root / "run").seen()
    for split, known in (("train", True), ("val", True), ("test", False)):
        found = np.isin(task.digests(split), seen).any(1)
        assert len(found) == task.sizes()[split] and found.all() == known and found.any() == known
    assert evaluate_run(DOMAIN, root / "run")["unseen"] is None


def test_a_test_split_of_known_images_is_judged_without_them(first, tmp_path):
    root, task = first
    data = other_folder(tmp_path / "new", files_of(task, "train")[:5])
    said = []
    config = app(data={"root": str(data)}, train={"init": str(root / "run")})
    train(task_of(config), RunFolder(tmp_path / "run"), progress=False, say=said.append)
    text = "\n".join(said)
    assert "5 of 19 images of test are among those that the starting run was trained on" in text
    assert "test without 5 of 19 images that the starting run was trained on: " in text
    assert RunFolder(tmp_path / "run").results()["unseen"]["known"] == 5


def test_predict_says_how_many_images_are_known(first, capsys):
    root, task = first
    paths = [str(p) for p in (*files_of(task, "train")[:3], *files_of(task, "test")[:2])]
    assert exit_code("vision", "predict", root / "run", *paths) == 0
    assert "3 of 5 images are among those that the run was trained on" in capsys.readouterr().err


def test_images_are_known_beside_one_of_more_depth(tmp_path):
    data = class_folders(tmp_path / "own", {"cat": 17, "dog": 19})
    deep = np.random.default_rng(1).integers(0, 65536, (11, 13)).astype(np.uint16)
    Image.fromarray(deep).save(data / "cat" / "deep.png")
    task = task_of(app(data={"root": str(data)}))
    train(task, RunFolder(tmp_path / "run"), progress=False, say=lambda line: None)
    known = [*files_of(task, "train"), *files_of(task, "val")]
    model = isoform.load(tmp_path / "run")
    rows = model.predict([str(path) for path in (*known, *files_of(task, "test"))])
    assert data / "cat" / "deep.png" in known
    assert any(
        f"{len(known)} of {len(rows)} images are among" in line for line in model.remarks(rows)
    )


def test_a_target_that_no_training_image_has_a_value_of_is_refused(tmp_path):
    split = ["train"] * 11 + ["val"] * 3 + ["test"] * 5
    rows = []
    for k, part in enumerate(split):
        picture(k).save(tmp_path / f"{k}.png")
        rows.append([f"{k}.png", part, 0.5 * k, "" if part == "train" else 0.25 * k])
    path = table(tmp_path / "t.csv", ["path", "split", "x", "y"], rows)
    config = app(data={"table": str(path), "task": "regression", "labels": ["x", "y"]})
    with pytest.raises(UserError, match="no training image has a value of y; leave it out of data"):
        task_of(config)
    assert task_of(app(data={"table": str(path), "task": "regression", "labels": ["x"]})).sizes()
