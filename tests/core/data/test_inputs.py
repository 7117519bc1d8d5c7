"""What counts as one input of `predict` and `embed`, and what as several."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.data.inputs import list_inputs
from isoform.core.errors import UserError

FRAME = pd.DataFrame({"smiles": ["C", "CC"], "y": [1, 2]})


@given(st.text() | st.binary() | st.integers() | st.builds(Path, st.sampled_from(["a", "b/c"])))
def test_a_text_a_path_and_an_object_are_one(value) -> None:
    assert list_inputs(value) == [value] == list_inputs([value]) == list_inputs((value,))


def test_a_table_is_one_and_a_list_of_them_several() -> None:
    assert list_inputs(FRAME)[0] is FRAME and len(list_inputs([FRAME, FRAME, "a"])) == 3


def test_what_can_be_walked_through_is_several() -> None:
    assert list_inputs(FRAME["smiles"]) == ["C", "CC"]
    assert list_inputs(iter("ab")) == ["a", "b"] and list_inputs([]) == []
    assert len(list_inputs(np.zeros((3, 5, 7)))) == 3


@pytest.mark.parametrize("value", [{"a": 1}, {"a"}, frozenset("a")])
def test_what_has_no_order_is_refused(value) -> None:
    with pytest.raises(UserError, match="is no list of inputs; give one input, or a list of them"):
        list_inputs(value)
