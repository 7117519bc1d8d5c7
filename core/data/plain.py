"""The fast way through a large plain text: every record a line of as many cells as there are names, none quoted.

pyarrow splits such a body and reads its numbers many times faster than the csv module does. What it would do otherwise
than `delimited` is looked for before; whatever isn't plain beyond doubt goes the slow way, and gives the same table.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

LARGE = 2**20  # characters from which on it is worth the import of pyarrow
_BLOCK = 2**24  # bytes that are split at a time; no line is longer
# What str.strip takes away, beside the blank and the ends of lines.
_BLANKS = tuple(c for c in map(chr, range(0x3001)) if c.isspace() and c not in " \n")


class ArrowText:
    """A column of cells as pyarrow holds them: [n] strings, null where there is nothing."""

    def __init__(self, array: pa.ChunkedArray) -> None:
        self._array = array

    def __len__(self) -> int:
        return len(self._array)

    def cells(self) -> list[str]:
        """The cells, "" where there is nothing."""
        return self._array.fill_null("").to_pylist()

    def __iter__(self) -> Iterator[str]:
        """The cells that aren't empty, for a look that mostly ends at the first few."""
        for chunk in self._array.chunks:
            for start in range(0, len(chunk), 1000):
                yield from chunk.slice(start, 1000).drop_null().to_pylist()

    def holds(self, character: str) -> bool:
        """Whether a cell has this character in it."""
        import pyarrow.compute as pc

        return bool(pc.any(pc.match_substring(self._array, character)).as_py())

    def numbers(self) -> np.ndarray | None:
        """float64 [n], NaN for empty cells; None where a cell is anything but a plain, finite number."""
        import pyarrow as pa

        try:
            read = self._array.cast(pa.float64())
        except pa.ArrowInvalid:
            return None
        values = np.array(read.fill_null(math.nan).to_numpy(), np.float64)
        return values if np.isfinite(values).sum() == len(values) - read.null_count else None


def split_plain(body: str, names: Sequence[str], delimiter: str) -> dict[str, ArrowText] | None:
    """The columns of the lines of a text, by their names; None where the text may not be plain."""
    try:
        import pyarrow as pa
        from pyarrow import csv
    except ImportError:
        return None
    if body.count("\r") == body.count("\r\n"):
        body = body.replace("\r\n", "\n")
    if not _is_plain(body, len(names), delimiter):
        return None
    try:
        read = csv.read_csv(
            pa.BufferReader(body.encode()),
            csv.ReadOptions(use_threads=False, block_size=_BLOCK, column_names=list(names)),
            csv.ParseOptions(
                delimiter=delimiter, quote_char=False, double_quote=False, escape_char=False
            ),
            csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                null_values=[""],
                strings_can_be_null=True,
            ),
        )
    except pa.ArrowInvalid:  # a line of another number of cells, or one longer than a block
        return None
    return {name: ArrowText(read.column(name)) for name in names}


def _is_plain(body: str, width: int, delimiter: str) -> bool:
    """Whether no cell is quoted or has blanks around it, and no line is empty; the number of cells isn't looked at."""
    empty = delimiter * (width - 1)
    around = (f" {delimiter}", f"{delimiter} ", "\n ", " \n", "\n\n", f"\n{empty}\n", '"')
    first, last = body[: width + 1], body[-width - 2 :]
    return (
        bool(body)
        and not any(blank in body for blank in _BLANKS if blank != delimiter)
        and not any(mark in body for mark in around)
        and not first.startswith((" ", "\n", "\ufeff", f"{empty}\n"))
        and not last.endswith((" ", f"\n{empty}"))
        and body != empty
    )
