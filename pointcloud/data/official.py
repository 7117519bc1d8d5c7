"""The official layouts of clouds, as their authors hand them out: ModelNet40 and its few-shot episodes, ScanObjectNN,
ShapeNet-55, ShapeNetPart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import read_plain_pickle
from isoform.core.pretrained.unpickler import CHECKPOINT
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.coded import CodedFiles
from isoform.pointcloud.data.folders import no_folder
from isoform.pointcloud.data.records import FileClouds, HeldClouds, Records
from isoform.pointcloud.data.sets import read_equal_clouds

NORMALS = ("x", "y", "z", "nx", "ny", "nz")  # the columns of ModelNet40's files
PARTED = (*NORMALS, "part")  # and of ShapeNetPart's
SCANNED = (
    "bag",
    "bin",
    "box",
    "cabinet",
    "chair",
    "desk",
    "display",
    "door",
    "shelf",
    "table",
    "bed",
    "pillow",
    "sink",
    "sofa",
    "toilet",
)
MODELNET_CLASSES = 40
# What a pickle of clouds may name; an array's class is only handed over, and as a word it can't be called.
ARRAYS_ALONE = replace(
    CHECKPOINT,
    values={**CHECKPOINT.values, ("numpy", "ndarray"): "numpy.ndarray"},
    strict=True,
)
PARTS = (("train", "training"), ("test", "test"))  # ours, and how ScanObjectNN's files begin


def read_modelnet40(data: DataConfig) -> Records:
    """modelnet40_normal_resampled: modelnet40_{shape_names,train,test}.txt, and CLASS/CLASS_0001.txt of points.

    Raises UserError for the first file that is missing.
    """
    root = _root(data, "modelnet40_normal_resampled")
    classes = _lines(root / "modelnet40_shape_names.txt")
    names, labels, split = [], [], []
    for part in ("train", "test"):
        where = root / f"modelnet40_{part}.txt"
        for name in _lines(where):
            label = name.rpartition("_")[0]
            if label not in classes:
                raise UserError(f"{where}: {name} is of no class of modelnet40_shape_names.txt")
            names.append(f"{label}/{name}.txt")
            labels.append(label)
            split.append(part)
    _refuse_missing(root, names)
    clouds = FileClouds(root, names, NORMALS, data.points)
    return Records(clouds, labels, classes, _given(split), "ModelNet40", "research only")


def read_scanobjectnn(data: DataConfig) -> Records:
    """ScanObjectNN's h5_files: `data` [clouds, 2048, 3] and `label` of the variant that data.variant names.

    Raises UserError for a file that is missing and for labels beyond the 15 classes.
    """
    root = _root(data, "ScanObjectNN")
    home = root / "h5_files" if (root / "h5_files").is_dir() else root
    folder = "main_split_nobg" if data.variant == "OBJ_ONLY" else "main_split"
    changed = "_augmentedrot_scale75" if data.variant == "PB_T50_RS" else ""
    clouds: list[np.ndarray] = []
    names, labels, split = [], [], []
    for part, word in PARTS:
        path = home / folder / f"{word}_objectdataset{changed}.h5"
        if not path.is_file():
            raise UserError(f"{path}: no such file (data.root, data.variant = {data.variant})")
        points, numbers, called = read_equal_clouds(path)
        for number in numbers:
            if not number.isdigit() or int(number) >= len(SCANNED):
                raise UserError(
                    f"{path}: label {number} is none of ScanObjectNN's, 0 to {len(SCANNED) - 1}"
                )
        clouds += list(points)
        names += called
        labels += [SCANNED[int(number)] for number in numbers]
        split += [part] * len(points)
    held = HeldClouds(clouds, names)
    origin = f"ScanObjectNN, {data.variant}"
    return Records(held, labels, SCANNED, _given(split), origin, "research only")


def read_shapenet55(data: DataConfig) -> Records:
    """ShapeNet-55: ShapeNet-55/{train,test}.txt name SYNSET-ID.npy, and shapenet_pc/ holds them.

    A cloud's class is its synset. Raises UserError for the first file that is missing.
    """
    root = _root(data, "ShapeNet55-34")
    names, labels, split = [], [], []
    for part in ("train", "test"):
        where = root / "ShapeNet-55" / f"{part}.txt"
        for name in _lines(where):
            synset, apart, _ = name.partition("-")
            if not apart or not name.endswith(".npy"):
                raise UserError(f"{where}: {name!r} is no SYNSET-ID.npy")
            names.append(f"shapenet_pc/{name}")
            labels.append(synset)
            split.append(part)
    _refuse_missing(root, names)
    clouds = FileClouds(root, names, (), data.points)
    licence = "ShapeNet's terms of use"
    return Records(clouds, labels, sorted(set(labels)), _given(split), "ShapeNet-55", licence)


def read_shapenetpart(data: DataConfig, shapes: Sequence[str]) -> Records:
    """Clouds [N, 4], a part's code behind x, y, z; see read_coded. `shapes`: the categories that there may be.

    synsetoffset2category.txt names each category's folder, shuffled_{train,val,test}_file_list.json of train_test_split
    the clouds, and FOLDER/ID.txt holds x y z nx ny nz part a line. Raises UserError for the first missing or odd one.
    """
    root = _root(data, "shapenetcore_partanno_segmentation_benchmark_v0_normal")
    where = root / "synsetoffset2category.txt"
    folders = {}
    for line in _lines(where):
        name, _, folder = line.partition("\t") if "\t" in line else line.partition(" ")
        if name not in shapes or not folder.strip():
            raise UserError(f"{where}: {line!r} is no category of ShapeNetPart and its folder")
        folders[folder.strip()] = name
    names, labels, split = [], [], []
    for part in ("train", "val", "test"):
        listed = root / "train_test_split" / f"shuffled_{part}_file_list.json"
        for entry in _json_list(listed):
            folder, _, name = entry.removeprefix("shape_data/").partition("/")
            if folder not in folders or not name:
                raise UserError(f"{listed}: {entry!r} is no shape_data/FOLDER/ID of a category")
            names.append(f"{folder}/{name}.txt")
            labels.append(folders[folder])
            split.append(part)
    _refuse_missing(root, names)
    own = data.model_copy(update={"columns": PARTED, "label": PARTED[-1], "unlabelled": ()})
    clouds = CodedFiles(root, names, own)
    licence = "ShapeNet's terms of use"
    return Records(clouds, labels, list(shapes), _given(split), "ShapeNetPart", licence)


def _json_list(path: Path) -> list[str]:
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file (data.root)") from None
    except ValueError as error:
        raise UserError(f"{path}: is no JSON ({error})") from None
    if not isinstance(found, list) or not all(isinstance(entry, str) for entry in found):
        raise UserError(f"{path}: is no list of names")
    return found


def read_modelnet_fewshot(data: DataConfig) -> Records:
    """ModelNetFewshot: 5way_10shot/0.pkl to 9.pkl, each {"train": [(points, class, ...), ...], "test": [...]}.

    data.ways and data.shots name the folder and data.fold, 1 to 10, the file. The restricted reader reads them: nothing
    in a pickle is run. Raises UserError for a missing file and for other content.
    """
    root = _root(data, "ModelNetFewshot")
    if data.ways is None:
        raise UserError("data.ways is not set: ModelNetFewshot has 5 and 10, --set data.ways=5")
    path = root / f"{data.ways}way_{data.shots}shot" / f"{(data.fold or 1) - 1}.pkl"
    if not path.is_file():
        raise UserError(f"{path}: no such file (data.root, data.ways, data.shots, data.fold)")
    content = read_plain_pickle(path, allow=ARRAYS_ALONE)
    clouds: list[np.ndarray] = []
    names, labels, split = [], [], []
    for part in ("train", "test"):
        for number, sample in enumerate(_samples(content, part, path)):
            points, label = _labelled_cloud(sample, f"{path}: {part} {number}")
            clouds.append(points)
            names.append(f"{path.parent.name}/{path.stem}/{part}/{number}")
            labels.append(str(label))
            split.append(part)
    # The official head has an output for each of ModelNet40's classes, whatever an episode's are.
    classes = [str(k) for k in range(MODELNET_CLASSES)]
    held = HeldClouds(clouds, names)
    return Records(held, labels, classes, _given(split), "ModelNet40, few shots", "research only")


def _samples(content: object, part: str, path: Path) -> Sequence[object]:
    found = content.get(part, content.get(part.encode())) if isinstance(content, dict) else None
    if not isinstance(found, list | tuple) or not found:
        raise UserError(f'{path}: holds no list "{part}" of clouds with their classes')
    return found


def _labelled_cloud(sample: object, where: str) -> tuple[np.ndarray, int]:
    """(points [N, 3], class) of a sample (points [N, 3 and more], class, ...)."""
    points, label = sample[:2] if isinstance(sample, list | tuple) and len(sample) > 1 else (0, 0)
    xyz = np.asarray(points)
    if xyz.ndim != 2 or xyz.shape[1] < 3 or not len(xyz) or xyz.dtype.kind not in "fiu":
        raise UserError(f"{where} is not (points [points, 3], class, ...)")
    if not np.isfinite(xyz[:, :3]).all():
        raise UserError(f"{where} has points that are not finite")
    number = np.asarray(label).reshape(-1)
    if number.dtype.kind not in "iu" or len(number) != 1 or not 0 <= number[0] < MODELNET_CLASSES:
        raise UserError(f"{where}: class {label!r} is none of ModelNet40's, 0 to 39")
    return xyz[:, :3].astype(np.float64), int(number[0])


def _root(data: DataConfig, usual: str) -> Path:
    where = data.root or data.path
    if where is None:
        raise UserError(f"data.root is not set: give the folder {usual}, --set data.root=FOLDER")
    root = Path(where).expanduser()
    if not root.is_dir():
        raise no_folder(root)
    return root


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f"{path}: no such file (data.root)")
    text = path.read_text(encoding="utf-8", errors="replace")
    found = [line.strip() for line in text.splitlines() if line.strip()]
    if not found:
        raise UserError(f"{path}: names nothing")
    return found


def _refuse_missing(root: Path, names: Sequence[str]) -> None:
    gone = [name for name in names if not (root / name).is_file()]
    if gone:
        more = f" ({len(gone):,} of {len(names):,} are missing)" if len(gone) > 1 else ""
        raise UserError(f"{root / gone[0]}: no such file, but a list of the data names it{more}")


def _given(split: Sequence[str]) -> np.ndarray:
    return np.array(split, dtype=object)
