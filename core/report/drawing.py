"""What the pictures of all domains share: SVG in the page's own text colour, quiet axes, tables, short names.

Names come from a user's data: matplotlib escapes them in SVG, `html.escape` in tables; none is read as TeX.
"""

from __future__ import annotations

import html
import io
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoform.core.data import writers
from isoform.core.errors import UserError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"  # stands for the reader's text colour, light or dark
FRAME = "#9ca0ab"
# The page's colours of lines (style.css) as pictures name them: there each has a lighter one for dark paper.
SERIES = ("#2f5bd0", "#d9622b", "#2a9163", "#9a3fb5", "#b58a00", "#128ba3", "#c43a5e", "#6b6f7a")
PICTURES = (".png", ".svg", ".pdf")


def short(name: str, most: int = 18) -> str:
    """A name for a picture: one line, printable, not longer than `most`."""
    clean = "".join(c if c.isprintable() else " " for c in name)
    return clean if len(clean) <= most else clean[: most - 1] + "…"


def label(axes: Axes, x: str, y: str) -> None:
    """Names of the two axes, in the page's colours."""
    axes.set_xlabel(x, color=INK, parse_math=False)
    axes.set_ylabel(y, color=INK, parse_math=False)
    axes.tick_params(colors=INK)
    for side in axes.spines.values():
        side.set_color(FRAME)


def to_svg(plot: Any) -> str:
    """A matplotlib figure as SVG text that takes the page's colours: text and black ones, and those of SERIES."""
    import matplotlib

    settings: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": "isoform",
        "text.parse_math": False,
    }
    buffer = io.StringIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that matplotlib's font lacks: the browser has it
        plot.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue().replace(INK, "currentColor")
    svg = re.sub(r"(?<=: )#000000\b", "currentColor", svg)
    for place, colour in enumerate(SERIES):
        svg = svg.replace(f": {colour}", f": var(--series-{place}, {colour})")
    return svg


def picture(plot: Any, path: str | Path) -> bytes:
    """A matplotlib figure in the format that the file's ending names. Raises UserError for another one."""
    kind = kind_of(path)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that matplotlib's font lacks
        plot.savefig(buffer, format=kind, dpi=150)
    return (
        buffer.getvalue().replace(INK.encode(), b"#000000") if kind == "svg" else buffer.getvalue()
    )


def kind_of(path: str | Path) -> str:
    """A picture's format, by its ending. Raises UserError for one that isn't drawn."""
    if Path(path).suffix.lower() not in PICTURES:
        raise UserError(f"{path}: a picture ends in {', '.join(PICTURES)}; give it one of these")
    return Path(path).suffix.lower()[1:]


def save(plot: Any, path: str | Path) -> None:
    """Writes a picture, whole or not at all."""
    writers.write_atomically(path, picture(plot, path))


def to_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of texts."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return (
            "<tr>"
            + "".join(f"<{tag}>{html.escape(short(cell, 60))}</{tag}>" for cell in cells)
            + "</tr>"
        )

    return f"<table><thead>{line('th', head)}</thead><tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
