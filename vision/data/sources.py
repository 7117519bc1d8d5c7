"""data.source -> Records: one line a kind of data."""

from __future__ import annotations

from pathlib import Path

from isoform.core.errors import UserError
from isoform.vision.config import DataConfig, VisionApp
from isoform.vision.data.records import Records


def read_records(data: DataConfig, kind: str = "multiclass") -> Records:
    """Reads what `data` describes; kind is head.task. Raises UserError naming a missing file and its source."""
    data = recognise(data)
    if data.table is not None or data.source == "table":
        if data.table is None and data.path is None:
            raise UserError("data.table is not set: give the csv of path, label, --set data.table=FILE.csv")
        from isoform.vision.data.tables import read_table

        return read_table(data, kind)
    if kind != "multiclass":
        raise UserError(f"head.task = {kind} needs data.table; {data.source} has one class an image")
    if data.source in ("folder", "imagenet"):
        from isoform.vision.data import folders

        return folders.read_imagenet(data) if data.source == "imagenet" else folders.read_folder(data)
    from isoform.vision.data import arrays

    if data.source == "mnist5k":
        return arrays.read_mnist5k()
    if data.source in ("mnist", "fashion-mnist"):
        return arrays.read_idx(data)
    if data.source in ("cifar10", "cifar100"):
        return arrays.read_cifar(data)
    return arrays.read_torchvision(data)


def recognise(data: DataConfig) -> DataConfig:
    """source = "auto" replaced by what `data.path` is: a table, MNIST's or CIFAR's files, or class folders."""
    if data.source != "auto" or data.table is not None:
        return data
    if data.path is None and data.root is None:
        raise UserError("data.path is not set: give a folder of images or a csv table, --set data.path=PATH")
    path = Path(str(data.path or data.root)).expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder (data.path)")
    if path.is_file():
        if path.suffix.lower() not in (".csv", ".tsv", ".txt"):
            raise UserError(f"{path}: is no csv table and no folder of images")
        return data.model_copy(update={"source": "table", "table": str(path)})
    names = {entry.name for entry in path.iterdir()}
    stems = {name.split(".")[0].removesuffix("-idx3-ubyte") for name in names}
    source = "folder"
    if {"train-images", "t10k-images"} & stems or "MNIST" in names:
        source = "mnist"
    elif "FashionMNIST" in names:
        source = "fashion-mnist"
    elif {"cifar-10-batches-py", "cifar-10-batches-bin", "test_batch", "test_batch.bin"} & names:
        source = "cifar10"
    elif {"cifar-100-python", "cifar-100-binary"} & names or {"train.bin", "test.bin"} <= names:
        source = "cifar100"
    return data.model_copy(update={"source": source, "root": str(path)})


def other_data(config: VisionApp, path: str | Path) -> VisionApp:
    """The same app on the data at `path`, all of it for evaluation where it is not split itself (`eval --data`).

    Classes, mean and std stay those of the run, so the settings must be settled.
    """
    update = {
        "source": "auto", "path": str(path), "root": None, "table": None, "test_fraction": 1.0, "group": None,
    }  # fmt: skip
    return config.model_copy(update={"data": config.data.model_copy(update=update)})
