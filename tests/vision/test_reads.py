"""How often data are read: a table once, every image once while it is decoded, in a training and in its check."""

from __future__ import annotations

import builtins
import io
import os
from collections import Counter
from pathlib import Path

import pytest

from isoform.core import api
from isoform.vision import DOMAIN

from .pictures import picture, table

SETS = [
    "tokeniser.image=8", "tokeniser.patch=4", "tokeniser.channels=3", "backbone.dim=12", "backbone.depth=1",
    "backbone.heads=3", "train.epochs=2", "train.batch=16",
]  # fmt: skip


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """How often each file below tmp_path is opened for reading, by name."""
    counts: Counter[str] = Counter()

    def count(function):
        def call(file, *args, **keywords):
            mode = args[0] if args and isinstance(args[0], str) else keywords.get("mode", "r")
            if (
                isinstance(file, str | os.PathLike)
                and Path(file).parent == tmp_path
                and "r" in mode
            ):
                counts[Path(file).name] += 1
            return function(file, *args, **keywords)

        return call

    monkeypatch.setattr(builtins, "open", count(builtins.open))
    monkeypatch.setattr(io, "open", count(io.open))
    return counts


def images(folder: Path, n: int) -> Path:
    for i in range(n):
        picture(i, level=20 + 150 * (i % 2)).save(folder / f"{i}.png")
    return table(folder / "t.csv", ["path", "label"], [[f"{i}.png", "ab"[i % 2]] for i in range(n)])


def request(folder: Path, *sets: str) -> api.Request:
    own = [f"data.table={folder / 't.csv'}", "data.source=table", *SETS, *sets]
    return api.Request(DOMAIN, "vit-folder", sets=own)


@pytest.mark.parametrize("seeds", [1, 2])
def test_a_training_reads_the_table_and_each_image_once(tmp_path, opened, seeds):
    images(tmp_path, 41)
    opened.clear()
    asked = request(tmp_path, "augment.crop=resized", "augment.jitter=0.1")
    api.train_seeds(asked, seeds, tmp_path / "runs", progress=False, say=lambda line: None)
    assert opened["t.csv"] == 1
    assert {name: n for name, n in opened.items() if n != 1} == {} and len(opened) == 42


def test_images_that_stay_in_their_files_are_read_once_an_epoch(tmp_path, opened):
    images(tmp_path, 41)
    opened.clear()
    asked = request(tmp_path, 'data.cache="none"', "train.epochs=3")
    api.train(asked, tmp_path / "run", progress=False, say=lambda line: None)
    counts = Counter(opened)
    data = DOMAIN.prepare(asked.resolve().config).data.images
    reads = {
        split: {counts[data.records.images.names[row]] for row in rows}
        for split, rows in data.rows.items()
    }
    assert counts["t.csv"] == 1
    assert reads["train"] == {
        1 + 3 + 1
    }  # for the channels' means, in each epoch, for the baselines
    # for leakage and contents, in each epoch, for the baselines, and for suspected labels
    assert reads["val"] == {1 + 3 + 1 + 1}
    assert (
        min(reads["test"]) >= 3 and max(reads["test"]) <= 6
    )  # that, and once scored; the others are baselines and pictures


def test_an_auto_app_looks_at_the_headers_of_some_images_besides(tmp_path, opened):
    images(tmp_path, 97)
    opened.clear()
    prepared = DOMAIN.prepare(DOMAIN.app_of_path(tmp_path / "t.csv"))
    assert sum(map(len, prepared.data.images.rows.values())) == 97
    twice = [name for name, n in opened.items() if n == 2 and name != "t.csv"]
    assert len(twice) == 50 and all(n <= 2 for name, n in opened.items())


def test_a_check_reads_the_table_once(tmp_path, opened):
    images(tmp_path, 13)
    opened.clear()
    report = DOMAIN.check(request(tmp_path).resolve().config)
    assert report.refusal is None and opened["t.csv"] == 1
