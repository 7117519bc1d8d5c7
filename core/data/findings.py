"""What was noticed or chosen while data were read: a line each, with the columns and rows that it is about."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

NAMED = 5  # columns, rows or cells that a line names, and lines of one kind
# What makes two lines of one kind differ: names and cells in quotes, and numbers.
_PARTICULARS = re.compile(r"""("[^"]*"|'[^']*'|[-+]?\d[\w.,+-]*)""")
_ALIKE = 4  # words of a line, without those, that tell its kind


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
    by_text: dict[str, tuple[dict[str, None], list[int]]] = {}
    for one in findings:
        if one.text not in by_text:
            by_text[one.text] = (dict.fromkeys(one.columns), list(one.rows))
            continue
        columns, rows = by_text[one.text]
        if not columns.keys() >= set(one.columns):
            columns.update(dict.fromkeys(one.columns))
            rows += one.rows
    return [Finding(text, tuple(columns), tuple(rows)) for text, (columns, rows) in by_text.items()]


def fold(lines: Iterable[str], most: int = NAMED) -> list[str]:
    """Lines without those of a kind that `most` are shown of: what is said of each of 600 columns is no reading.

    In the place of what is left out stands how many lines it was. Two lines are of one kind where they begin alike but
    for names in quotes and numbers.
    """
    given = list(lines)
    kinds = [tuple(_PARTICULARS.sub("", line).split()[:_ALIKE]) for line in given]
    whole, seen, found = Counter(kinds), Counter[tuple[str, ...]](), []
    for kind, line in zip(kinds, given, strict=True):
        seen[kind] += 1
        if seen[kind] <= most:
            found.append(line)
        if seen[kind] == most < whole[kind]:
            found.append(f"  and {whole[kind] - most:,} more such lines")
    return found
