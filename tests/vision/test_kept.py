"""The digest of images and what a run keeps of them: contents alone count, and untouched files aren't read again."""

from __future__ import annotations

import os
import shutil

import pytest

from isoform.core.config import override
from isoform.core.data import digests
from isoform.vision import DOMAIN

from .pictures import app, class_folders, picture, table
from .pictures import task as task_of


@pytest.fixture
def folder(tmp_path):
    return class_folders(tmp_path / "own", {"cat": 17, "dog": 19})


def of(folder, **data):
    return task_of(app(data={"root": str(folder), **data}))


def test_the_digest_is_over_contents_and_labels_alone(folder, tmp_path):
    first = of(folder)
    moved = shutil.copytree(folder, tmp_path / "elsewhere")
    for k, file in enumerate(sorted(moved.rglob("*.png"))):
        os.utime(file, (k + 7, k + 7))
    (moved / "cat" / "00.png").rename(moved / "cat" / "zz.png")
    assert of(moved).data.digest == first.data.digest
    (moved / "cat" / "zz.png").rename(moved / "dog" / "zz.png")
    relabelled = of(moved).data.digest
    picture(999).save(folder / "cat" / "00.png")
    assert len({first.data.digest, relabelled, of(folder).data.digest}) == 3


def test_the_order_of_a_table_has_no_say_in_the_digest(folder, tmp_path):
    rows = [[str(f.relative_to(folder)), f.parent.name] for f in sorted(folder.rglob("*.png"))]
    found = []
    for name, some in (("a.csv", rows), ("b.csv", rows[::-1])):
        path = table(folder / name, ["path", "label"], some)
        found.append(task_of(app(data={"table": str(path)})).data.digest)
    assert found[0] == found[1]


def test_files_that_were_not_touched_are_not_read_again(folder, monkeypatch):
    known = {"mean": [0.5], "std": [0.5], "lowest": [0.0], "highest": [1.0]}
    streamed = {"cache": "none", **known}  # nothing is read to prepare it
    kept = of(folder, **streamed).kept_split()
    picture(999).save(folder / "dog" / "03.png")
    read, original = [], digests.file_digests

    def counting(paths):
        read.extend(path.name for path in paths)
        return original(paths)

    monkeypatch.setattr("isoform.vision.data.records.file_digests", counting)
    again = of(folder, **streamed).kept_split(kept)
    assert read == ["03.png"]
    assert of(folder, **streamed).kept_split().to_json() == again.to_json()
    assert len(read) == 1 + 36
    assert of(folder).kept_split().to_json() == again.to_json()
    assert len(read) == 1 + 36  # what is decoded to be held in memory is digested on the way


def test_what_can_t_be_read_is_in_no_split(folder):
    (folder / "cat" / "torn.png").write_bytes(b"\x89PNG\r\n")
    config = override(app(data={"root": str(folder)}), domain=DOMAIN, sets=['data.on_error="skip"'])
    kept = task_of(config).kept_split()
    assert kept.rest == ["cat/torn.png"] and len(kept.keys()) == 36
