"""Images in class folders: root/train/CLASS/files (and val, test), or root/CLASS/files."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from isoform.core.data.splits import SPLIT_WORDS
from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.images import EXTENSIONS
from isoform.vision.data.records import FileImages, Records, sorted_classes

IMAGENET = "ILSVRC2012 from https://image-net.org (agree to its terms there), one folder a class in train/ and val/"


def read_folder(data: DataConfig, *, official_val_is_test: bool = False) -> Records:
    """Every image below `data.root`, its class the first folder below the split (or below the root).

    Hidden files, files that are no images by their ending, and links that lead out of the root are skipped and named in
    `Records.skipped`. official_val_is_test: ImageNet's habit, whose test labels are not public: `val` becomes the test
    split and a new one is drawn from train.
    """
    root = _root(data)
    skipped: list[tuple[str, str]] = []
    names: list[str] = []
    labels: list[str] = []
    split: list[str] = []
    for part, folder in _parts(root, skipped):
        for class_folder, files in _class_folders(folder, root, skipped):
            names += [os.fspath(file.relative_to(root)) for file in files]
            labels += [printable(class_folder.name)] * len(files)
            split += [part] * len(files)
    if not names:
        more = (
            f" ({len(skipped)} entries skipped, such as {skipped[0][0]}: {skipped[0][1]})"
            if skipped
            else ""
        )
        raise UserError(
            f"{root}: no images in class folders; expected {root}/CLASS/*.jpg or {root}/train/CLASS/*.jpg{more}"
        )
    given = np.array(split)
    if official_val_is_test and not (given == "test").any():
        given[given == "val"] = "test"
    classes = sorted_classes(labels)
    _refuse_unseen(labels, given, root)
    if len(classes) < 2 and data.classes is None:
        raise UserError(
            f"{root}: only one class folder ({classes[0]}); a classifier needs at least two"
        )
    return Records(
        images=FileImages(root, names),
        labels=labels,
        classes=classes,
        kind="multiclass",
        split=given,
        group=_groups(data, names),
        skipped=skipped,
        origin=str(root),
        licence="the data owner's",
    )


def _parts(root: Path, skipped: list[tuple[str, str]]) -> list[tuple[str, Path]]:
    """(split, its folder), or the root alone where it holds classes."""
    splits = _split_folders(root)
    if splits is None:
        return [("", root)]
    for entry in sorted(root.iterdir()):
        if entry not in splits:
            skipped.append((_name(entry, root), "beside the folders of the splits"))
    return [(SPLIT_WORDS[folder.name.lower()], folder) for folder in splits]


def _class_folders(
    folder: Path, root: Path, skipped: list[tuple[str, str]]
) -> Iterator[tuple[Path, list[Path]]]:
    """Each folder of a class with its images; what is none goes to `skipped`."""
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            skipped.append((_name(entry, root), "not in a class folder"))
        elif entry.name.startswith("."):
            skipped.append((_name(entry, root), "hidden"))
        else:
            files = list_images(entry, root, skipped)
            if files:
                yield entry, files
            elif not entry.is_symlink():  # that of a link was named by list_images
                skipped.append((_name(entry, root), "a class folder without images"))


def read_imagenet(data: DataConfig) -> Records:
    """ImageNet-1k: root/{train,val}/CLASS/files, or the same below root/ILSVRC/Data/CLS-LOC."""
    root = _root(data, f"; it holds {IMAGENET}")
    inner = root / "ILSVRC" / "Data" / "CLS-LOC"
    root = inner if inner.is_dir() else root
    for name in ("train", "val"):
        if not (root / name).is_dir():
            raise UserError(f"{root / name}: missing; it is part of {IMAGENET}")
        if not any(entry.is_dir() for entry in (root / name).iterdir()):
            raise UserError(
                f"{root / name}: has no class folders; sort its images into n01440764, n01443537, ..."
            )
    return read_folder(data.model_copy(update={"root": str(root)}), official_val_is_test=True)


def list_images(
    folder: Path,
    root: Path,
    skipped: list[tuple[str, str]],
) -> list[Path]:
    """Image files below `folder` at any depth, in the order of their paths; what is left out goes to `skipped`."""
    files: list[Path] = []
    home = root.resolve()
    if folder.is_symlink():
        skipped.append((_name(folder, root), "a link to a folder"))
        return files
    for here, folders, found in os.walk(folder):
        for name in sorted(folders):
            path = Path(here, name)
            if name.startswith(".") or path.is_symlink():
                folders.remove(name)
                skipped.append(
                    (_name(path, root), "hidden" if name.startswith(".") else "a link to a folder")
                )
        folders.sort()
        for name in sorted(found):
            path = Path(here, name)
            if name.startswith("."):
                reason = "hidden"
            elif path.suffix.lower() not in EXTENSIONS:
                reason = "not an image by its ending"
            elif path.is_symlink() and not path.resolve().is_relative_to(home):
                reason = "a link that leads out of the data folder"
            elif not path.is_file():
                reason = "not a regular file"
            else:
                files.append(path)
                continue
            skipped.append((_name(path, root), reason))
    return files


def _root(data: DataConfig, hint: str = "") -> Path:
    where = data.root or data.path
    if where is None:
        raise UserError(
            f"data.root is not set: give the folder of the images, --set data.root=FOLDER{hint}"
        )
    root = Path(where).expanduser()
    if not root.exists():
        raise UserError(f"{root}: no such folder (data.root){hint}")
    if not root.is_dir():
        raise UserError(f"{root}: is a file where data.root is the folder of the images{hint}")
    return root


def _split_folders(root: Path) -> list[Path] | None:
    """The folders of the splits, or None where the root holds classes: `train` must hold folders to be a split."""
    found = [
        entry
        for entry in sorted(root.iterdir())
        if entry.is_dir() and entry.name.lower() in SPLIT_WORDS
    ]
    if any(
        SPLIT_WORDS[f.name.lower()] == "train" and any(e.is_dir() for e in f.iterdir())
        for f in found
    ):
        twice = {SPLIT_WORDS[folder.name.lower()] for folder in found}
        if len(twice) < len(found):
            names = ", ".join(folder.name for folder in found)
            raise UserError(f"{root}: two folders mean the same split ({names}); keep one of each")
        return found
    only_splits = found and all(
        e in found or not e.is_dir() or e.name.startswith(".") for e in root.iterdir()
    )
    return (
        found if only_splits and all(any(e.is_dir() for e in f.iterdir()) for f in found) else None
    )


def _refuse_unseen(labels: list[str], split: np.ndarray, root: Path) -> None:
    if not (split == "train").any():
        return
    trained = {label for label, part in zip(labels, split, strict=True) if part == "train"}
    unseen = sorted(set(labels) - trained)
    if unseen:
        raise UserError(
            f'{root}: class "{unseen[0]}" ({len(unseen)} such) has images in val or test but none in train'
        )


def _groups(data: DataConfig, names: list[str]) -> np.ndarray | None:
    if data.group is None:
        return None
    try:
        pattern = re.compile(data.group)
    except re.error as error:
        raise UserError(f"data.group = {data.group!r} is no regular expression: {error}") from None
    groups = []
    for name in names:
        match = pattern.search(name)
        if match is None:
            raise UserError(
                f"data.group = {data.group!r} is not found in {name}; it must match every path"
            )
        groups.append(match.group(1) if pattern.groups else match.group())
    return np.array(groups, dtype=object)


def _name(path: Path, root: Path) -> str:
    return printable(os.fspath(path.relative_to(root)))


def printable(name: str) -> str:
    """A file's name as text that any encoder takes, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "replace")
