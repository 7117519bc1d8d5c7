"""The command line, in the process of the tests."""

from __future__ import annotations

from isoform.core.cli import main
from isoform.registry import domains


def exit_code(*words: object) -> int:
    """That of `isoform WORDS`."""
    return main([str(word) for word in words], domains=domains())
