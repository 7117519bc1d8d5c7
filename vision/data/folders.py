"""Images in class folders, which class_folders.py finds."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from isoform.core.data.below import files_below, name_below
from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.class_folders import find_class_folders
from isoform.vision.data.images import EXTENSIONS
from isoform.vision.data.records import FileImages, Records, sorted_classes

IMAGENET = "ILSVRC2012 from https://image-net.org (agree to its terms there), one folder a class in train/ and val/"


def read_folder(data: DataConfig, *, official_val_is_test: bool = False) -> Records:
    """Every image below `data.root`, its class the first folder below the split, below the root or above the splits.

    Hidden files, files that are no images by their ending, and (without data.follow_links) links that lead out of the
    root are skipped and named in `Records.skipped`. official_val_is_test: ImageNet's habit, whose test labels are not
    public: `val` becomes the test split and a new one is drawn from train.
    """
    root = _root(data)
    skipped: list[tuple[str, str]] = []
    names: list[str] = []
    labels: list[str] = []
    split: list[str] = []
    folders = find_class_folders(root, skipped)
    for part, name, folder in folders.found:
        files = list_images(folder, root, skipped, follow=data.follow_links)
        if not files and not folder.is_symlink():  # that of a link was named by list_images
            skipped.append((name_below(folder, root), "a class folder without images"))
        names += [os.fspath(file.relative_to(root)) for file in files]
        labels += [name] * len(files)
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
        findings=folders.findings,
        origin=str(root),
        licence="the data owner's",
    )


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
    folder: Path, root: Path, skipped: list[tuple[str, str]], *, follow: bool = False
) -> list[Path]:
    """Image files below `folder` at any depth, in the order of their paths; what is left out goes to `skipped`.

    follow   links to folders, and links that lead out of the root, are read like anything else; each folder once
    """
    other = "not an image by its ending"
    return files_below(folder, root, skipped, endings=EXTENSIONS, other=other, follow=follow)


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
