"""What a command says: lines and tables on stdout, complaints on stderr; with --json one object as the last line."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO

from isoform.core.errors import printable

SECONDS_BETWEEN_LINES = 30


class Console:
    """The two streams of a command. With `json`, stdout carries the object alone and everything else goes to stderr.

    `quiet`: another process says it; only what failed is said.
    """

    def __init__(self, json: bool = False, quiet: bool = False) -> None:
        self.json, self.quiet = json and not quiet, quiet
        self.result: dict[str, Any] = {}

    def say(self, *lines: str) -> None:
        """Lines for the reader."""
        if self.quiet:
            return
        _write(sys.stderr if self.json else sys.stdout, *lines)

    def warn(self, line: str) -> None:
        """A line that must not mix with results."""
        if self.quiet:
            return
        _write(sys.stderr, line)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
        """A table: drawn on a terminal, aligned plain text in a pipe."""
        cells = [[_text(cell) for cell in row] for row in rows]
        if sys.stdout.isatty() and not self.json:
            from rich.console import Console as Terminal
            from rich.table import Table
            from rich.text import Text

            drawn = Table(title=title or None, title_justify="left")
            for column in columns:
                drawn.add_column(column)
            for row in cells:
                drawn.add_row(*map(Text, row))  # Text: a bracket in a name is no markup
            Terminal().print(drawn)
            return
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (columns, *cells)]
        self.say(*([title] if title else []), *lines)

    def track(self, parts: Sequence[Any], doing: str) -> Iterator[Any]:
        """The parts of some long work: a bar on a terminal, in a pipe a line every half minute, both on stderr."""
        if sys.stderr.isatty():
            from rich.console import Console as Terminal
            from rich.progress import track

            yield from track(parts, doing, console=Terminal(stderr=True), transient=True)
            return
        said = time.monotonic()
        for number, part in enumerate(parts):
            if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                self.warn(f"{doing}: {number} of {len(parts)}")
            yield part

    def fail(self, message: str, code: int, debug: bool) -> int:
        """Says what went wrong, with the traceback of the exception at hand where `debug`; returns `code`."""
        said = [message]
        if debug:
            import traceback

            said.insert(0, traceback.format_exc().rstrip())
        if code == 1 or not self.quiet:
            _write(sys.stderr, *said)
        self.result |= {"error": message}
        return code

    def finish(self, code: int) -> None:
        """The last line of stdout with --json."""
        if self.json:
            _write(sys.stdout, to_json(self.result | {"exit": code}))


@contextmanager
def said_by(console: Console) -> Iterator[None]:
    """Warnings of isoform's code as lines of the console; those of libraries, which no user can mend, are dropped."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("default", category=UserWarning, module=r"isoform(\.|$)")
        warnings.showwarning = lambda message, *_: console.warn(str(message))
        yield


def speak_any_encoding() -> None:
    r"""Characters that the terminal's or the pipe's encoding lacks are written as \u1234, and end no command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _write(stream: TextIO, *lines: str) -> None:
    stream.write("".join(f"{printable(line)}\n" for line in lines))
    stream.flush()


def to_json(value: Any) -> str:
    """One line of JSON; what isn't finite becomes null, numpy's numbers Python's, a path its text."""
    import json

    from isoform.core.data.writers import plain_json  # here, so that a parser is made without it

    return json.dumps(plain_json(value, str), ensure_ascii=False, default=str)


def _text(cell: Any) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell)
