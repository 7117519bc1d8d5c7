"""Trained weights that come with isoform: zoo/NAME stands for an export that lies in the package.

Each is a folder of model.safetensors (its weights as float16, its settings beside them) and card.md, which says with
which command it was trained.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from pathlib import Path

from isoform.core.errors import UserError, join_names

_NAME = re.compile(r"zoo/([a-z0-9-]+)")


def located(path: str | Path) -> Path:
    """The file of zoo/NAME from any working directory; other paths stay, and so do such names that don't come along.

    Raises UserError for a name that isn't there.
    """
    path = Path(path)
    named = _NAME.fullmatch(path.as_posix())
    if named is None:
        return path
    file = folder() / named[1] / "model.safetensors"
    if not file.is_file():
        if path.exists():
            return path
        there = [f"zoo/{name}" for name in names()] or ["none"]
        raise UserError(f"{path}: no such weights come with isoform; there are {join_names(there)}")
    return file


def folder() -> Path:
    """Where they lie."""
    return Path(str(importlib.resources.files("isoform") / "zoo"))


def names() -> list[str]:
    """Of all that come along."""
    return sorted(one.parent.name for one in folder().glob("*/model.safetensors"))


def sha256_of(path: Path) -> str:
    """Hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
