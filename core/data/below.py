"""The files below a folder that a domain reads, and why each of the others is left out."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

from isoform.core.errors import join_names, printable

LeftOut = list[tuple[str, str]]  # (name relative to the root, why)


def files_below(
    folder: Path,
    root: Path,
    skipped: LeftOut,
    *,
    endings: Collection[str],
    other: str,
    follow: bool | None = None,
) -> list[Path]:
    """Files below `folder` at any depth, in the order of their paths; what is left out goes to `skipped`.

    endings  those that are read, in lower case         other  why a file of another ending isn't
    follow   links to folders, and links that lead out of the root, are read like anything else, each folder once;
             False: they are left out, and the reason names the key; None: there is no such key
    """
    hint = "; see data.follow_links" if follow is False else ""
    if folder.is_symlink() and folder != root and not follow:
        skipped.append((name_below(folder, root), f"a link to a folder{hint}"))
        return []
    files: list[Path] = []
    home, been = root.resolve(), {folder.resolve()}
    for here, folders, found in os.walk(folder, followlinks=bool(follow)):
        for name in sorted(folders):
            path = Path(here, name)
            reason = "hidden" if name.startswith(".") else ""
            if path.is_symlink() and not reason:
                reason = "" if follow else f"a link to a folder{hint}"
            if follow and not reason and path.resolve() in been:
                reason = "a folder that was read under another name"
            been.add(path.resolve())
            if reason:
                folders.remove(name)
                skipped.append((name_below(path, root), reason))
        folders.sort()
        for path in _files(here, found):
            if path.name.startswith("."):
                reason = "hidden"
            elif path.suffix.lower() not in endings:
                reason = other
            elif path.is_symlink() and not (follow or path.resolve().is_relative_to(home)):
                reason = f"a link that leads out of the data folder{hint}"
            elif not path.is_file():
                reason = "not a regular file"
            else:
                files.append(path)
                continue
            skipped.append((name_below(path, root), reason))
    return files


def _files(here: str, names: Collection[str]) -> Iterator[Path]:
    return (Path(here, name) for name in sorted(names))


def name_below(path: Path, root: Path) -> str:
    """Relative to the root, as text that any encoder takes."""
    return printable(os.fspath(path.relative_to(root)))


def warn_of_left_out(folder: Path, skipped: LeftOut) -> None:
    """A warning with the first names, for inputs of `predict`; nothing where nothing is left out."""
    if skipped:
        named = join_names(f"{name} ({why})" for name, why in skipped)
        warnings.warn(f"{folder}: {len(skipped)} left out: {named}", stacklevel=2)
