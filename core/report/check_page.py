"""The page that `check` writes: what was found, line by line, then pictures and tables. One file that opens offline.

Everything that comes from a user's data is escaped by jinja2; pictures stand in img elements, in which nothing runs,
except those that the suite itself drew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from isoform.core.report.templates import template

WIDE = 8  # columns of a table that fit on a page; more scroll inside of its frame, and that is said


@dataclass(frozen=True)
class Picture:
    """One of `png` and `svg` (base64, for an img element), or `drawn`, an SVG that the suite drew, put in as it is.

    size   (width, height) in pixels, where the picture doesn't tell
    """

    caption: str
    png: str = ""
    svg: str = ""
    drawn: str = ""
    size: tuple[int, int] | None = None

    @property
    def source(self) -> str:
        """The address of the img element, "" where there is nothing to show."""
        if self.png:
            return f"data:image/png;base64,{self.png}"
        return f"data:image/svg+xml;base64,{self.svg}" if self.svg else ""

    @property
    def markup(self) -> Markup:
        """`drawn`, marked as safe."""
        return Markup(self.drawn)


@dataclass(frozen=True)
class Group:
    """Pictures under one heading; `layout` is "thumbnails" (pixels shown as squares), "drawings" or "curves"."""

    heading: str
    pictures: Sequence[Picture]
    layout: str = "drawings"


@dataclass(frozen=True)
class Listing:
    """Cells of text under one heading, the names of the columns in front."""

    heading: str
    names: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)

    @property
    def note(self) -> str:
        """What is said above a table that is wider than the page."""
        return (
            f"{len(self.names)} columns: the table scrolls sideways"
            if len(self.names) > WIDE
            else ""
        )


def render_check_page(
    title: str,
    lines: Sequence[str],
    leakage: str = "",
    groups: Sequence[Group] = (),
    tables: Sequence[Listing] = (),
) -> str:
    """The page as HTML.

    leakage   a sentence that says what leaks, "" where nothing does
    """
    return template("check.html.j2").render(
        title=title, lines=lines, leakage=leakage, groups=groups, tables=tables
    )
