"""Clouds in class folders: root/train/CLASS/files (and val, test), root/CLASS/files, or root/CLASS/train/files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from isoform.core.data.below import LeftOut, files_below, name_below
from isoform.core.data.splits import split_of_word
from isoform.core.errors import UserError, printable
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.records import FileClouds, Records
from isoform.pointcloud.files import SUFFIXES

SURFACE = 4  # points drawn on a mesh for one that a training sees


def read_folder(data: DataConfig, least: int = 2) -> Records:
    """Every file of points below `data.root`; its class is the first folder that is no split.

    Hidden files, files that hold no points by their ending, and links that lead out of the root are skipped and named.
    Raises UserError where there is none, or fewer than `least` classes.
    """
    where = data.root or data.path
    if where is None:
        raise UserError(
            "data.root is not set: give the folder of the clouds, --set data.root=FOLDER"
        )
    root = Path(where).expanduser()
    if not root.is_dir():
        raise no_folder(root)
    names, labels, split = [], [], []
    skipped: list[tuple[str, str]] = []
    for path in list_files(root, skipped):
        parts = list(path.relative_to(root).parts[:-1])
        word = next((part for part in parts[:2] if split_of_word(part)), None)
        if word is not None:
            parts.remove(word)
        if not parts:
            skipped.append((name_below(path, root), "not in a class folder"))
            continue
        names.append(os.fspath(path.relative_to(root)))
        labels.append(printable(parts[0]))
        split.append((split_of_word(word) or "") if word else "")
    given = np.array(split, dtype=object)
    if not names:
        more = (
            f" ({len(skipped)} files skipped, such as {skipped[0][0]}: {skipped[0][1]})"
            if skipped
            else ""
        )
        raise UserError(
            f"{root}: no files of points in class folders; expected {root}/CLASS/*.ply{more}"
        )
    if 0 < (given == "").sum() < len(given):
        name = names[int(np.flatnonzero(given == "")[0])]
        raise UserError(
            f"{root}: some files lie in train, val or test and others, such as {name}, don't"
        )
    classes = sorted(set(labels))
    if len(classes) < least and data.classes is None:
        raise UserError(f"{root}: only one class folder ({classes[0]}); a classifier needs two")
    clouds = FileClouds(root, names, data.columns, SURFACE * data.points)
    return Records(clouds, labels, classes, given, str(root), "the data owner's", skipped)


def list_files(root: Path, skipped: LeftOut) -> list[Path]:
    """Files of points at any depth; see core/data/below.py."""
    other = "no file of points by its ending"
    return files_below(root, root, skipped, endings=SUFFIXES, other=other)


def no_folder(root: Path) -> UserError:
    """What is said of a data.root that is no folder."""
    what = (
        "is a file where data.root is a folder" if root.exists() else "no such folder (data.root)"
    )
    return UserError(f"{root}: {what}")
