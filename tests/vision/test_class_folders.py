"""Which folders are classes and which are splits; links that lead out; rows of a table whose image isn't there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.folders import list_images
from isoform.vision.data.records import Records
from isoform.vision.data.sources import read_records
from isoform.vision.prepare import prepare

from .pictures import app, class_folders, picture, table

PARTS = ("train", "val", "test")


def read(**data: object) -> Records:
    return read_records(DataConfig.model_validate({k: v for k, v in data.items()}))


def by_split(records: Records) -> dict[str, set[str]]:
    """{split: its classes}."""
    pairs = zip(records.split.tolist(), records.labels, strict=True)
    found: dict[str, set[str]] = {}
    for split, label in pairs:
        found.setdefault(split, set()).add(label)
    return found


def test_splits_inside_the_classes(tmp_path: Path) -> None:
    for name, count in (("cat", 3), ("dog", 2)):
        for part in ("train", "validation_set", "Test"):
            class_folders(tmp_path / "d" / name, {part: count})
    (tmp_path / "d" / "cat" / "notes.txt").touch()
    records = read(root=str(tmp_path / "d"))
    assert records.classes == ["cat", "dog"] and len(records) == 15
    assert by_split(records) == {part: {"cat", "dog"} for part in PARTS}
    assert any("inside the class folders" in line for line in records.findings)
    assert "beside" in dict(records.skipped)["cat/notes.txt"]


@pytest.mark.parametrize(
    "parts",
    [("training_set", "validation_set", "test_set"), ("TrainSet", "ValSet", "TestSet"),
     ("train-images", "val-images", "test-images"), ("Training data", "Valid data", "Testing data")],
)  # fmt: skip
def test_words_that_mean_a_split(tmp_path: Path, parts: tuple[str, ...]) -> None:
    root = class_folders(tmp_path / "d", {"a": 2, "b": 2}, parts)
    assert by_split(read(root=str(root))) == {part: {"a", "b"} for part in PARTS}


def test_a_class_that_a_run_does_not_know_is_named(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", {"cat": 3, "dog": 2, "weird": 5})
    with pytest.raises(UserError, match='has the class "weird", the model knows cat, dog'):
        prepare(app(data={"source": "folder", "root": str(root), "classes": ("cat", "dog")}))


def test_folders_that_look_like_splits_are_no_classes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="look like splits and would be read as classes"):
        read(root=str(class_folders(tmp_path / "a", {"x": 2, "y": 2}, ("train2017", "test2017"))))
    with pytest.raises(UserError, match="look like splits"):
        read(root=str(class_folders(tmp_path / "b", {"train": 2, "test": 2})))
    with pytest.raises(UserError, match="two folders mean the same split"):
        for name in ("cat", "dog"):
            class_folders(tmp_path / "c" / name, {"train": 2, "training_set": 2})
        read(root=str(tmp_path / "c"))


def test_a_class_that_holds_a_folder_called_train_is_read_whole_and_said(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", {"car": 2})
    class_folders(root / "vehicle", {"train": 3})
    records = read(root=str(root))
    assert records.labels.count("vehicle") == 3 and set(records.split) == {""}
    assert any("vehicle/train" in line for line in records.findings)


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with links: out of it to an image, out of it to a folder, and round in a circle."""
    root = class_folders(tmp_path / "data", {"a": 2, "b": 2})
    outside = class_folders(tmp_path / "other", {"far": 3})
    os.symlink(outside / "far" / "00.png", root / "a" / "out.png")
    os.symlink(outside / "far", root / "b" / "folder")
    os.symlink(outside / "far", root / "c")
    os.symlink(root / "b", root / "b" / "again")
    return root


def test_links_that_lead_out_are_read_where_that_is_asked_for(linked: Path) -> None:
    closed = read(root=str(linked))
    assert len(closed) == 4
    assert sum("data.follow_links" in why for _, why in closed.skipped) == 4
    opened = read(root=str(linked), follow_links=True)
    assert opened.classes == ["a", "b", "c"]
    assert [opened.labels.count(name) for name in "abc"] == [3, 5, 3]
    assert dict(opened.skipped) == {"b/again": "a folder that was read under another name"}
    assert opened.images.read(opened.images.names.index("a/out.png"), 3).shape == (3, 11, 13)


def test_links_of_a_table(linked: Path) -> None:
    rows = [["a/out.png", "x"], ["b/00.png", "y"]]
    path = table(linked / "t.csv", ["path", "label"], rows)
    with pytest.raises(UserError, match="leads out of"):
        read(source="table", table=str(path))
    assert len(read(source="table", table=str(path), follow_links=True)) == 2
    table(path, ["path", "label"], [["../other/far/00.png", "x"], ["b/00.png", "y"]])
    with pytest.raises(UserError, match="leads out of"):  # that is no link
        read(source="table", table=str(path), follow_links=True)


def test_a_missing_image_of_a_table_is_left_out_like_an_unreadable_one(tmp_path: Path) -> None:
    root = class_folders(tmp_path / "d", {"x": 9, "y": 9})
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    rows = [[name, name[0]] for name in [*names[:5], "x/absent.png", *names[5:]]]
    path = table(root / "t.csv", ["path", "label"], rows)
    data = {"source": "table", "table": str(path), "split_seed": 3}
    with pytest.raises(UserError, match="no such file; leave such rows out with --set"):
        prepare(app(data=data))
    prepared = prepare(app(data={**data, "on_error": "skip"}))
    images = prepared.data.images
    assert sum(map(len, images.rows.values())) == 18
    assert list(images.unreadable) == ["x/absent.png"]
    assert any(
        "1 unreadable image(s) left out" in line and "absent" in line for line in prepared.lost
    )
    assert len(images.digest) == 64


def test_a_folder_to_predict_on_names_what_it_leaves_out(tmp_path: Path) -> None:
    from isoform.vision.predictor import expand_inputs

    root = class_folders(tmp_path / "d", {"x": 3})
    for name in ("a.txt", "b.pdf", ".hidden.png"):
        (root / "x" / name).touch()
    with pytest.warns(UserWarning, match=r"3 left out: x/.hidden.png \(hidden\), x/a.txt \(not an"):
        assert len(expand_inputs([str(root)])) == 3
    picture(5).save(tmp_path / "one.png")
    assert expand_inputs([str(tmp_path / "one.png")]) == [str(tmp_path / "one.png")]
    assert list_images(root, root, []) == list_images(root, root, [], follow=True)
