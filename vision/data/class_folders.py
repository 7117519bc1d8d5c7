"""Where the classes and the splits are in a folder of images.

root/train/CLASS/files (and val, test)      root/CLASS/train/files      root/CLASS/files
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from isoform.core.data.below import name_below
from isoform.core.data.splits import split_of_word
from isoform.core.errors import UserError, join_names, printable

_SPLIT_AND_MORE = re.compile(r"(train|val|valid|test)[^a-z]", re.IGNORECASE)  # "train-2020"


@dataclass
class ClassFolders:
    """The folders as (split or "", class, folder), and lines on how they were understood."""

    found: list[tuple[str, str, Path]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)


def find_class_folders(root: Path, skipped: list[tuple[str, str]]) -> ClassFolders:
    """Finds the folders of every class and split; entries that belong to none go to `skipped` with the reason.

    Raises UserError where two folders mean one split, or the classes look like splits.
    """
    splits = _split_folders(root)
    if splits is not None:
        _skip_others(root, root, splits, skipped)
        folders = [
            (split_of_word(split.name) or "", printable(one.name), one)
            for split in splits
            for one in _class_folders(split, root, skipped)
        ]
        return ClassFolders(folders)
    classes = _class_folders(root, root, skipped)
    _refuse_splits_as_classes(root, classes)
    inside = {one: _splits_inside(one) for one in classes}
    if classes and all(inside.values()):
        folders = []
        for one, parts in inside.items():
            _refuse_twice(one, parts)
            _skip_others(one, root, parts, skipped)
            name = printable(one.name)
            folders += [(split_of_word(part.name) or "", name, part) for part in parts]
        return ClassFolders(folders, ["the splits lie inside the class folders (CLASS/train, ...)"])
    mixed = [part.relative_to(root) for parts in inside.values() for part in parts]
    findings = []
    if mixed:
        findings.append(
            f"read as parts of their classes, though called like splits: {join_names(mixed)}; for splits give each "
            "class the same ones"
        )
    return ClassFolders([("", printable(one.name), one) for one in classes], findings)


def _split_folders(root: Path) -> list[Path] | None:
    """The folders of the splits, or None where the root holds classes: `train` must hold folders to be a split."""
    found = [one for one in _folders(root) if split_of_word(one.name)]
    trains = [one for one in found if split_of_word(one.name) == "train"]
    if any(_folders(one) for one in trains):
        _refuse_twice(root, found)
        return found
    others = [one for one in _folders(root) if one not in found and not one.name.startswith(".")]
    return found if found and not others and all(_folders(one) for one in found) else None


def _splits_inside(folder: Path) -> list[Path]:
    """The splits in a class folder that holds nothing but splits, `train` among them."""
    below = [one for one in _folders(folder) if not one.name.startswith(".")]
    words = {split_of_word(one.name) for one in below}
    return below if "train" in words and None not in words else []


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in sorted(folder.iterdir()) if entry.is_dir()]


def _class_folders(folder: Path, root: Path, skipped: list[tuple[str, str]]) -> list[Path]:
    found = []
    for entry in sorted(folder.iterdir()):
        if not entry.is_dir():
            skipped.append((name_below(entry, root), "not in a class folder"))
        elif entry.name.startswith("."):
            skipped.append((name_below(entry, root), "hidden"))
        else:
            found.append(entry)
    return found


def _skip_others(
    folder: Path, root: Path, splits: Sequence[Path], skipped: list[tuple[str, str]]
) -> None:
    for entry in sorted(folder.iterdir()):
        if entry not in splits:
            skipped.append((name_below(entry, root), "beside the folders of the splits"))


def _refuse_twice(folder: Path, splits: Sequence[Path]) -> None:
    if len({split_of_word(one.name) for one in splits}) < len(splits):
        names = ", ".join(one.name for one in splits)
        raise UserError(f"{folder}: two folders mean the same split ({names}); keep one of each")


def _refuse_splits_as_classes(root: Path, classes: Sequence[Path]) -> None:
    names = [one.name for one in classes]
    if len(names) > 1 and all(_SPLIT_AND_MORE.match(f"{name}.") for name in names):
        raise UserError(
            f"{root}: its folders ({join_names(names)}) look like splits and would be read as classes; call them "
            "train, val and test, with a folder a class in each"
        )
