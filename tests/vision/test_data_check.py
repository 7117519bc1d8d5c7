"""`check`: duplicates, near duplicates, leakage, and a page that a hostile name can't harm."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from commands import exit_code
from isoform.core.config import override
from isoform.core.errors import UserError
from isoform.vision import DOMAIN
from isoform.vision.config import VisionApp
from isoform.vision.data.check import check as check_app
from isoform.vision.data.duplicates import exact_groups, fingerprint, near_pairs
from isoform.vision.data.images import read_image
from isoform.vision.models import app_of_path

from .pictures import app, class_folders, picture, table


def check(target):
    return check_app(target if isinstance(target, VisionApp) else app_of_path(target))


def recoded(image: Image.Image, kind: str, **options) -> torch.Tensor:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return read_image(buffer.getvalue())


def test_recoded_and_resized_copies_are_near_and_others_are_not():
    originals = [picture(seed, 60, 80) for seed in range(40)]
    images = [recoded(image, "PNG") for image in originals]
    images += [recoded(image, "JPEG", quality=80) for image in originals]
    images += [recoded(image.resize((100, 75)), "PNG") for image in originals]
    found = [fingerprint(image) for image in images]
    pairs = set(near_pairs([one.code for one in found], np.stack([one.thumb for one in found])))
    assert pairs == {p for i in range(40) for p in ((i, 40 + i), (i, 80 + i), (40 + i, 80 + i))}
    assert exact_groups([digest for digest, *_ in found]) == []


def test_plain_images_of_different_colours_differ():
    plain = [recoded(Image.new("RGB", (9, 9), colour), "PNG") for colour in ("red", "blue", "red")]
    found = [fingerprint(image) for image in plain]
    assert near_pairs([one.code for one in found], np.stack([one.thumb for one in found])) == [
        (0, 2)
    ]
    assert exact_groups([digest for digest, *_ in found]) == [[0, 2]]


def test_crowds_of_equal_hashes_are_still_compared():
    rng = np.random.default_rng(0)
    thumbs = rng.random((1000, 48)).astype(np.float32)
    thumbs[7] = thumbs[8]
    assert near_pairs([5] * 1000, thumbs) == [(7, 8)]


def test_a_sound_folder(tmp_path):
    report = check(class_folders(tmp_path / "own", {"cat": 20, "dog": 12}))
    assert not report.leakage and report.data["splits"] == {"train": 26, "val": 3, "test": 3}
    assert report.data["classes"]["dog"] == {"train": 10, "val": 1, "test": 1}
    assert report.data["sizes"]["median"] == [11, 13] and report.data["kinds"] == {"PNG RGB": 32}
    assert report.lines[-1] == "no leakage between splits found"
    assert report.page.count("<img") == 12


def test_leakage_by_copy_by_recoding_and_by_group(tmp_path):
    root = class_folders(tmp_path / "a", {"cat": 6, "dog": 6}, ("train", "test"))
    assert not check(root).leakage
    (root / "test" / "cat" / "copy.png").write_bytes(
        (root / "train" / "cat" / "00.png").read_bytes()
    )
    report = check(root)
    assert report.leakage and "LEAKAGE, images in several splits: 1" in report.lines
    assert report.data["leaks"] == [["test: test/cat/copy.png", "train: train/cat/00.png"]]
    assert not check(app(data={"root": str(root), "allow_leakage": True})).leakage

    root = class_folders(tmp_path / "b", {"cat": 6, "dog": 6}, ("train", "test"))
    with Image.open(root / "train" / "dog" / "01.png") as image:
        image.resize((40, 34), Image.Resampling.BICUBIC).save(root / "test" / "dog" / "again.png")
    report = check(root)
    assert (
        report.leakage
        and not report.data["duplicates"]
        and len(report.data["near_duplicates"]) == 1
    )

    for i in range(4):
        picture(i).save(tmp_path / f"{i}.png")
    rows = [
        [f"{i}.png", "ab"[i % 2], ["train", "val", "test", "test"][i], "pqpr"[i]] for i in range(4)
    ]
    report = check(table(tmp_path / "t.csv", ["path", "label", "split", "group"], rows))
    assert report.leakage and report.data["torn_groups"] == [
        {"group": "p", "splits": ["train", "test"]}
    ]


def test_what_was_not_read_is_counted_and_named(tmp_path):
    root = class_folders(tmp_path / "own", {"cat": 12, "dog": 12})
    (root / "cat" / "broken.png").write_bytes((root / "cat" / "00.png").read_bytes()[:60])
    (root / "cat" / "empty.jpg").touch()
    (root / "dog" / "notes.txt").touch()
    report = check(root)
    assert {found["file"] for found in report.data["unreadable"]} == {
        "cat/broken.png",
        "cat/empty.jpg",
    }
    assert report.data["skipped"] == [
        {"file": "dog/notes.txt", "reason": "not an image by its ending"}
    ]
    assert {"unreadable: 2", "skipped: 1"} <= set(report.lines)


def test_equal_images_with_different_labels(tmp_path):
    root = class_folders(tmp_path / "own", {"cat": 3, "dog": 3})
    (root / "dog" / "cat.png").write_bytes((root / "cat" / "00.png").read_bytes())
    assert check(root).data["contradictory_labels"] == [["cat/00.png", "dog/cat.png"]]


def test_names_cannot_become_markup(tmp_path):
    name = "<script>alert(1)<"
    root = class_folders(tmp_path / "own", {name: 5, "b": 5})
    (root / name / "00.png").rename(root / name / '"><img src=x onerror=alert(1)>.png')
    page = check(root).page
    assert "<script" not in page and "<img src=x" not in page and "&lt;script&gt;alert(1)" in page


def test_tables_of_labels_and_numbers(tmp_path):
    for i in range(12):
        picture(i).save(tmp_path / f"{i}.png")
    rows = [[f"{i}.png", "a|b" if i % 2 else "b", float(i)] for i in range(12)]
    path = table(tmp_path / "t.csv", ["path", "label", "x"], rows)
    assert {name: sum(counts.values()) for name, counts in check(path).data["classes"].items()} == {
        "a": 6,
        "b": 12,
    }
    config = app(data={"table": str(path), "labels": ["x"], "task": "regression"})
    assert check(config).data["targets"]["x"]["mean"] == 5.5


def test_mnist5k_has_no_duplicates():
    from isoform.vision.data.sources import read_records

    images = read_records(app(data={"source": "mnist5k"}).data).images
    found = [
        fingerprint(images.read(row, None)) for row in range(500, 1000)
    ]  # the ones, the most alike
    assert near_pairs([one.code for one in found], np.stack([one.thumb for one in found])) == []


def test_a_table_is_checked_under_settings_of_its_own(tmp_path):
    for i in range(20):
        picture(i).save(tmp_path / f"{i}.png")
    path = table(tmp_path / "t.csv", ["path", "x"], [[f"{i}.png", float(i)] for i in range(20)])
    with pytest.raises(UserError, match='has no column "label"'):
        check(path)
    sets = ["data.task=regression", "data.labels=x"]
    report = check_app(override(app_of_path(path), domain=DOMAIN, sets=sets))
    assert report.refusal is None and report.data["targets"]["x"]["max"] == 19


def test_what_a_training_would_refuse_is_the_refusal(tmp_path):
    root = class_folders(tmp_path / "own", {"cat": 12, "dog": 12})
    (root / "cat" / "broken.png").write_bytes((root / "cat" / "00.png").read_bytes()[:60])
    assert "broken.png" in check(root).refusal and "data.on_error" in check(root).refusal
    config = override(app_of_path(root), domain=DOMAIN, sets=['data.on_error="skip"'])
    assert check_app(config).refusal is None


def test_a_class_that_test_lacks_is_named_by_check_train_and_eval(tmp_path, capsys):
    root = class_folders(tmp_path / "own", {"good": 41, "defect": 2})
    line = "warning: test holds 1 of 2 classes, and its metrics run over these; no sample of defect"
    sets = [f"data.root={root}", "tokeniser.image=8", "tokeniser.patch=4", "backbone.dim=12", "backbone.depth=1",
            "backbone.heads=3", "train.epochs=1", "train.warmup=0"]  # fmt: skip
    words = [word for one in sets for word in ("--set", one)]

    def said(*command: str) -> list[str]:
        assert exit_code("vision", *command) == 0
        found = capsys.readouterr()
        return [*found.out.splitlines(), *found.err.splitlines()]

    assert line in said("check", "vit-folder", *words, "--page", str(tmp_path / "p.html"))
    assert line in said("train", "vit-folder", *words, "--run-dir", str(tmp_path / "run"))
    assert line in said("eval", str(tmp_path / "run"))
