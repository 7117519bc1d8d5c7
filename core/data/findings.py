"""What was noticed or chosen while data were read: a line each, with the columns and rows that it is about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NAMED = 5  # columns, rows or cells that a line names


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know about their data.

    columns, rows   what it is about; rows are numbered as an editor shows them. Empty: the file as a whole.
    """

    text: str
    columns: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()

    def __str__(self) -> str:
        if not self.columns:
            return self.text
        word = "column" if len(self.columns) == 1 else f"{len(self.columns):,} columns"
        quoted = [f'"{name}"' for name in self.columns]
        return f"{word} {some(quoted)}: {self.text}"


def some(items: Sequence[str], most: int = NAMED) -> str:
    """ "a, b, c and 7 more"."""
    more = f" and {len(items) - most:,} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of one text and other columns become one, so that 5,000 columns with a decimal comma are one line."""
    by_text: dict[str, Finding] = {}
    for one in findings:
        before = by_text.get(one.text)
        if before is None:
            by_text[one.text] = one
        elif set(one.columns) - set(before.columns):
            columns = tuple(dict.fromkeys((*before.columns, *one.columns)))
            by_text[one.text] = Finding(one.text, columns, (*before.rows, *one.rows))
    return list(by_text.values())
