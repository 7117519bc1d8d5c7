"""Files that a page names: a picture's table in figures.json, and its links for as long as the files are there.

A link is the file's path from a folder, as bytes with `%` for what a URL can't hold, so a name in any encoding keeps
its meaning; it never names the machine. What is shown of a name is text in any case.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from isoform.core.domain import Figure, File


def figure_json(figure: Figure, folder: Path) -> dict[str, Any]:
    """A picture as figures.json has it; files by their paths from `folder`, the run's."""
    rows = [[_cell(cell, folder) for cell in row] for row in figure.rows]
    found = {"caption": shown(figure.caption), "svg": figure.svg, "html": figure.html}
    table = {"head": list(figure.head), "rows": rows} if rows else {}
    scene = {"scene": dict(figure.scene)} if figure.scene is not None else {}
    return {**found, **table, **scene}


def _cell(cell: str | File, folder: Path) -> str | dict[str, str]:
    if isinstance(cell, str):
        return shown(cell)
    if cell.path is None:
        return shown(cell.name)
    return {"name": shown(cell.name), "file": relative(cell.path, folder)}


def table_of(figure: Mapping[str, Any], folder: Path, beside: Path) -> list[list[tuple[str, str]]]:
    """(text, link) of each cell of a picture's table; the link is "" where there is no file, or no longer.

    folder   of the run     beside   that of the page, from which links go
    """
    rows: Sequence[Sequence[str | Mapping[str, str]]] = figure.get("rows", ())
    return [
        [
            (cell, "")
            if isinstance(cell, str)
            else (cell["name"], link(cell["file"], folder, beside))
            for cell in row
        ]
        for row in rows
    ]


def link(file: str, folder: Path, beside: Path) -> str:
    """From `beside` to what `relative` gave from `folder`; "" where there is no such file now."""
    path = Path(os.path.abspath(folder), os.fsdecode(unquote_to_bytes(file)))
    return relative(path, beside) if path.is_file() else ""


def relative(path: Path, folder: Path) -> str:
    """A path from `folder` as a URL."""
    return quote(os.fsencode(os.path.relpath(path, folder)))


def shown(name: str) -> str:
    """A name as text: bytes that are none in UTF-8, which Python keeps as surrogates, become the replacement mark."""
    return "".join("�" if "\ud800" <= c <= "\udfff" else c for c in name)
