"""What is asked of answers in every domain: the sentence of a refusal, and the rows of a csv."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from isoform.core.errors import UserError


def refusal(act: Callable[[], object], *words: str) -> str:
    """The one sentence that `act()` is refused with, which holds every word."""
    with pytest.raises(UserError) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text
    return text


def rows_in(path: str | Path) -> list[dict[str, str]]:
    """{column: cell} of each row of a csv."""
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
