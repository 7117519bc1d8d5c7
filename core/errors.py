"""What a command can end with besides success: the user's mistake, a run that had to stop, one that was told to."""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 10_000  # characters of a sentence


class UserError(Exception):
    """The user's mistake, as one sentence: what, where, how to mend. The command line prints it and exits with 2.

    What a file said may be of any length: the middle of a sentence of more than LONGEST characters is left out.
    """

    def __str__(self) -> str:
        told = super().__str__()
        half = LONGEST // 2
        return told if len(told) <= LONGEST else f"{told[:half]} [...] {told[-half:]}"


class RunError(Exception):
    """A run that had to stop (the loss is NaN, the disk is full), as one sentence; the command line exits with 1."""


class Preempted(Exception):
    """A run that was told to stop (SIGTERM, Ctrl-C) and wrote a checkpoint; the command line exits with 75."""


def join_names(names: Iterable[object], most: int = 6, separator: str = ", ") -> str:
    """The first `most` names of a sentence, and how many more there are; "nothing" for none."""
    listed = [str(name) for name in names]
    more = len(listed) - most
    if not listed:
        return "nothing"
    return separator.join(listed[:most]) + (f" and {more:,} more" if more > 0 else "")


def printable(text: str) -> str:
    r"""Text without what UTF-8 can't hold: the byte FF of a file's name is written \xff, so that two names stay two.

    What Python read byte by byte, where the locale knows ASCII alone, becomes the letters that it is.
    """
    if text.isascii():
        return text
    try:
        name = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # no name of a file
        return text.encode("utf-8", "backslashreplace").decode()
    return name.decode("utf-8", "backslashreplace")


def count(number: int, thing: str, things: str = "") -> str:
    """ "1 molecule", "1,200 molecules"; `things` where the plural isn't made with an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
