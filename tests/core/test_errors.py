"""Sentences for the user."""

from __future__ import annotations

import pytest

from isoform.core.errors import LONGEST, UserError


@pytest.mark.parametrize("length", [LONGEST - 8, 3 * LONGEST])
def test_a_sentence_says_where_and_how_to_mend_however_long_a_cell_is(length: int) -> None:
    told = str(UserError(f"a.csv: {'x' * length}; mend it"))
    assert told.startswith("a.csv: xxx") and told.endswith("xxx; mend it")
    assert len(told) <= LONGEST + len(" [...] ")
    assert ("[...]" in told) == (length > LONGEST - 17)


def test_a_short_sentence_is_left_alone() -> None:
    assert str(UserError("a.csv: is empty")) == "a.csv: is empty"
