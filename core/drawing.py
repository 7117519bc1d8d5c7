"""What the pictures of all domains share: SVG in the page's own text colour, quiet axes, tables, short names.

Names come from a user's data: matplotlib escapes them in SVG, `html.escape` in tables; none is read as TeX.
"""

from __future__ import annotations

import html
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK = "#010203"  # stands for the reader's text colour, light or dark
FRAME = "#9ca0ab"


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
    """A matplotlib figure as SVG text that takes the page's text colour."""
    import matplotlib

    settings: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "isoform", "text.parse_math": False}
    buffer = io.StringIO()
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a glyph that matplotlib's font lacks: the browser has it
        plot.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    return buffer.getvalue().replace(INK, "currentColor")


def to_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table of texts."""

    def line(tag: str, cells: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(short(cell, 60))}</{tag}>" for cell in cells) + "</tr>"

    return f"<table><thead>{line('th', head)}</thead><tbody>{''.join(line('td', row) for row in rows)}</tbody></table>"
