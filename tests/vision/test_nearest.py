"""The nearest training image beside mistakes, the files' names below them, and suspected labels."""

import numpy as np
import pytest
import torch

from isoform.core.domain import File
from isoform.core.engine.evaluate import evaluate
from isoform.core.report.files import figure_json
from isoform.vision import nearest
from isoform.vision.nearest import nearest_training

from .pictures import app, class_folders, picture, table, task


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("near") / "own"
    class_folders(root, {"cat": 13, "dog": 11}, ("train", "test"))
    class_folders(root, {"cat": 3, "dog": 5}, ("val",))
    for k, name in enumerate(("07.png", "03.png")):  # two test images are copies of training images
        (root / "test" / "cat" / name).write_bytes(
            (root / "train" / "dog" / f"0{k + 4}.png").read_bytes()
        )
    found = task(app(data={"root": str(root)}))
    torch.manual_seed(0)
    return root, found, found.build().eval()


def row_of(found, split, name):
    names = [found.data.records.images.names[int(row)] for row in found.data.rows[split]]
    return names.index(f"{split}/{name}")


def test_the_nearest_of_a_copy_is_its_original(folders):
    _, found, model = folders
    asked = np.array([row_of(found, "test", f"cat/{name}") for name in ("07.png", "03.png")])
    near, among = nearest_training(found, model, "test", asked)
    assert among == found.sizes()["train"] == 24
    assert near.tolist() == [row_of(found, "train", f"dog/{name}") for name in ("04.png", "05.png")]
    assert not model.training


def test_only_so_many_training_images_are_looked_at(folders, monkeypatch):
    _, found, model = folders
    monkeypatch.setattr(nearest, "MOST", 7)
    near, among = nearest_training(found, model, "test", np.arange(5))
    assert among == 7 and set(near) <= set(np.linspace(0, 23, 7).astype(int))
    none = np.zeros(0, np.int64)
    assert nearest_training(found, model, "test", none)[1] == 0


def test_mistakes_name_their_files_and_those_of_the_nearest(folders):
    root, found, model = folders
    outputs = evaluate(found, model, "test")[1]
    target = outputs["target"]
    outputs["logits"] = np.eye(2, dtype=np.float32)[1 - target] * 3  # all wrong
    copy = row_of(found, "test", "cat/07.png")
    outputs["logits"][copy] *= 2  # the surest
    figure = next(one for one in found.figures(model, outputs) if "mistakes" in one.caption)
    assert (
        "of 24 mistakes on 24 test images" in figure.caption
        and "24 training images" in figure.caption
    )
    assert len(figure.head) == 5 and len(figure.rows) == 12
    first = figure.rows[0]
    assert first[0] == File("test/cat/07.png", root / "test/cat/07.png")
    assert first[1] == "cat" and first[2].startswith("dog 100%")
    assert first[3:] == [File("train/dog/04.png", root / "train/dog/04.png"), "dog"]
    assert figure_json(figure, root)["rows"][0][0]["file"] == "test/cat/07.png"
    outputs["logits"] = np.eye(2, dtype=np.float32)[target]
    assert not any("mistake" in one.caption for one in found.figures(model, outputs))


@pytest.mark.parametrize(
    ("kind", "labels"), [("multilabel", ["red", "big"]), ("regression", ["x", "y"])]
)
def test_labels_and_numbers_have_such_a_table_too(tmp_path, kind, labels):
    rows = []
    for i in range(29):
        picture(i, level=20 + 3 * i).save(tmp_path / f"{i}.png")
        split = "train" if i < 17 else "val" if i < 22 else "test"
        rows.append(
            [
                f"{i}.png",
                split,
                *([i % 2, int(i % 3 == 0)] if kind == "multilabel" else [i, 2.5 * i]),
            ]
        )
    path = table(tmp_path / "t.csv", ["path", "split", *labels], [[*map(str, r)] for r in rows])
    found = task(app(data={"table": str(path), "task": kind, "labels": labels}))
    torch.manual_seed(0)
    model = found.build().eval()
    outputs = evaluate(found, model, "test")[1]
    if kind == "multilabel":
        outputs["logits"] = -6.0 * (2 * outputs["target"] - 1)  # all wrong
        outputs["logits"][0, 0] *= 2
    start = "The surest mistakes" if kind == "multilabel" else "The largest errors"
    figure = next(one for one in found.figures(model, outputs) if one.caption.startswith(start))
    assert len(figure.rows) == 7 and {len(row) for row in figure.rows} == {5}
    assert all(row[0].path.parent == tmp_path and row[3].path.is_file() for row in figure.rows)
    assert found.has_labels == (kind == "multilabel")


def test_suspects_carry_the_files_names(folders, tmp_path):
    _, found, model = folders
    outputs = evaluate(found, model, "val")[1]
    outputs["logits"] = np.eye(2, dtype=np.float32)[outputs["target"]]
    outputs["logits"][4] = outputs["logits"][4][::-1]
    (row,) = found.suspects("val", outputs)
    name = found.data.records.images.names[int(found.data.rows["val"][4])]
    assert (row["sample"], row["input"]) == (4, name) and row["given"] != row["suggested"]
