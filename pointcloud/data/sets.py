"""Many equal clouds in one file: .npz or .h5 with points [clouds, points, 3] and their labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.features import COLOURS, OWN_NORMALS, parse_features
from isoform.pointcloud.data.records import HeldClouds, Records
from isoform.pointcloud.files.arrays import read_all_arrays
from isoform.pointcloud.files.cloud import usual_names

POINTS, LABELS, NAMES = ("points", "data", "xyz"), ("labels", "label", "y"), ("names", "name")
PARTS = {"normal": OWN_NORMALS[0], "normals": OWN_NORMALS[0], "rgb": COLOURS, "colors": COLOURS}


def read_set(data: DataConfig, code: str = "", least: int = 2) -> Records:
    """Points, labels (numbers or words), and names where there are some; test data lie beside as NAME_test.SUFFIX.

    code    name of an array [clouds, points] that stands behind x, y, z then
    least   number of classes

    Raises UserError for arrays that make no set of clouds.
    """
    where = data.path or data.root
    if where is None:
        raise UserError("data.path is not set: give a .npz or .h5 of points and labels")
    path = Path(where).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file (data.path)")
    parts = [("", path)]
    beside = path.with_name(path.name.replace("train", "test"))
    if beside != path and beside.is_file():
        parts = [("train", path), ("test", beside)]
    clouds: list[np.ndarray] = []
    fields: dict[str, list[np.ndarray]] = {}
    labels: list[str] = []
    names: list[str] = []
    split: list[str] = []
    for part, file in parts:
        points, own, called = read_equal_clouds(file, code)
        clouds += list(points)
        for name, values in _fields_of(file, data).items():
            fields.setdefault(name, []).extend(values)
        labels += own
        names += called
        split += [part] * len(points)
    classes = sorted(
        set(labels), key=lambda name: (len(name), name) if name.isdigit() else (0, name)
    )
    if len(classes) < least and data.classes is None:
        raise UserError(f"{path}: holds one class only ({classes[0]})")
    found = [f"{beside.name} beside it is the test split"] if len(parts) > 1 else []
    whole = {name: values for name, values in fields.items() if len(values) == len(clouds)}
    held = HeldClouds(clouds, names, whole)
    given = np.array(split, dtype=object)
    return Records(held, labels, classes, given, str(path), "the data owner's", [], found)


def read_equal_clouds(path: Path, code: str = "") -> tuple[np.ndarray, list[str], list[str]]:
    """(points [clouds, points, 3], labels as text, names) of a .npz or .h5. Raises UserError for other arrays.

    With `code` the array of that name, [clouds, points], is a fourth channel.
    """
    arrays = read_all_arrays(path)
    points = _one_of(arrays, POINTS, path)
    if points.ndim != 3 or points.shape[2] < 3:
        raise UserError(
            f"{path}: points are {points.shape}, and a set of clouds is [clouds, points, 3]"
        )
    labels = _one_of(arrays, LABELS, path).reshape(-1)
    if len(labels) != len(points):
        raise UserError(f"{path}: {len(points)} clouds and {len(labels)} labels")
    xyz = points[..., :3]
    if code:
        codes = _one_of(arrays, (code,), path)
        if codes.shape != points.shape[:2]:
            raise UserError(
                f"{path}: {code} is {codes.shape}, and points are {points.shape}: one number a point is wanted"
            )
        xyz = np.concatenate([xyz, codes[..., None]], 2, dtype=np.float64)
    names = next((arrays[name] for name in NAMES if name in arrays), None)
    called = [f"{path.stem}/{row}" for row in range(len(points))]
    if names is not None and len(names) == len(points):
        called = [_text(name) for name in names.tolist()]
    return xyz, [_text(label) for label in labels.tolist()], called


def _fields_of(path: Path, data: DataConfig) -> dict[str, np.ndarray]:
    """Name -> [clouds, points] of what a set holds beside coordinates, where data.features ask for some of it.

    Columns behind x, y, z have the names of data.columns; arrays of the same clouds and points have their own.
    """
    if all(one.computed for one in parse_features(data.features)):
        return {}
    arrays = read_all_arrays(path)
    points = _one_of(arrays, POINTS, path)
    names = data.columns or usual_names(points.shape[2])
    if len(names) != points.shape[2]:
        raise UserError(
            f"{path}: points have {points.shape[2]} columns, and {len(names)} names are given (data.columns)"
        )
    found = {name: points[..., k] for k, name in enumerate(names) if k > 2}
    for name, values in arrays.items():
        if values.shape == points.shape[:2]:
            found[name] = values
        elif name in PARTS and values.shape == (*points.shape[:2], 3):
            found |= {part: values[..., k] for k, part in enumerate(PARTS[name])}
    return found


def _one_of(arrays: Mapping[str, np.ndarray], names: tuple[str, ...], path: Path) -> np.ndarray:
    for name in names:
        if name in arrays:
            return arrays[name]
    raise UserError(f"{path}: has none of {', '.join(names)}, but {', '.join(arrays) or 'nothing'}")


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
