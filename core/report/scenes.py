"""The scripts of what a reader turns on a page: the shared one, and those of each kind of scene that the page shows.

A page lets run these alone, by their hashes, and its policy lets nothing be fetched: it opens offline, whatever a
script would like to do.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

DMOL = "vendor/3Dmol-min.js"  # npm's 3dmol, as it comes
DMOL_LICENCE = "vendor/3Dmol-LICENSE"
DMOL_VERSION = "2.5.5"
DMOL_SHA256 = "f7cc78921ae72e7623e89cdd111434f58c2efddd2ffda1cd212644b406fb8016"
_SHARED = "scenes.js"
SCRIPTS = {"points": ("points.js",), "balls": (DMOL, "balls.js")}  # by a scene's kind


def kind_of(scene: Mapping[str, Any]) -> str:
    """A scene's kind; runs of before there were kinds hold points."""
    return str(scene.get("kind", "points"))


def scripts_of(kinds: Iterable[str]) -> list[str]:
    """The texts of the scripts that scenes of these kinds need, in the order to run in; none for none."""
    names = [name for kind in sorted(set(kinds)) for name in SCRIPTS[kind]]
    return [_text(name) for name in ([_SHARED, *names] if names else [])]


def _text(name: str) -> str:
    """A script; that of others carries its licence to every page."""
    here = Path(__file__).parent
    text = (here / name).read_text(encoding="utf-8")
    if name != DMOL:
        return text
    licence = (here / DMOL_LICENCE).read_text(encoding="utf-8")
    return f"/*! 3Dmol.js {DMOL_VERSION}\n{licence}*/\n{text}"


def sources_of(scripts: Iterable[str]) -> str:
    """The scripts as a Content-Security-Policy names them."""
    digests = [hashlib.sha256(text.encode()).digest() for text in scripts]
    return " ".join(f"'sha256-{base64.b64encode(one).decode()}'" for one in digests)
