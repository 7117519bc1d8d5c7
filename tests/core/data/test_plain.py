"""The fast way through a plain text gives the table that the slow one gives, or leaves the text to it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st

from isoform.core.data import plain
from isoform.core.data.frame import to_frame
from isoform.core.data.read import table_of
from isoform.core.data.text import Limits, Raw
from isoform.core.errors import UserError

CELLS = st.one_of(
    st.sampled_from(
        ["1.5", "-2", "3", "0.25", "40", "7e3", "1.105", "2.330", "-9999", "1E-7", "+3", "007", ".5", "5.", "1.5 "]
    ),
    st.sampled_from(
        ["", "NA", "nan", "inf", "-", "1,5", "1.234,5", "2_0", "x", "Ü", "a b", " ", "12 %", '"q"', "True", "1e999"]
    ),
    st.floats(allow_nan=False, width=64).map(repr),
    st.integers(-(10**17), 10**17).map(str),
)  # fmt: skip
PLAIN = st.floats(-1e6, 1e6).map(repr)


def read(text: str, limits: Limits = Limits(), decimal: str = "auto"):  # noqa: B008
    """Everything that a table says, with NaN as a word so that it compares equal."""
    try:
        table = table_of(Raw("t.csv", "t.csv", text.encode(), ""), "csv", limits)
    except UserError as error:
        return str(error)
    table.settle(["gone", -9999], decimal)
    frame = to_frame(table, table.names[:1])
    said = [str(one) for one in table.findings]
    numbers = {name: table.numbers(name) for name in table.names}
    for one in numbers.values():
        one.plain = False
    cells = {name: table.cells(name) for name in table.names}
    kinds = [str(kind) for kind in frame.dtypes]
    rows = [table.row_name(row) for row in range(len(table))]
    shown = repr(({k: vars(v) for k, v in numbers.items()}, frame.to_dict("list")))
    exact = [one.values.tobytes() for one in numbers.values() if not np.isnan(one.values).any()]
    return cells, rows, table.ragged, table.delimiter, kinds, said, shown, exact


def both(text: str, **options):
    """(what the fast way gives, what the slow one gives)."""
    with pytest.MonkeyPatch.context() as patch, np.printoptions(threshold=10**6, precision=17):
        patch.setattr(plain, "LARGE", 1)
        fast = read(text, **options)
        patch.setattr(plain, "LARGE", 1 << 60)
        return fast, read(text, **options)


@st.composite
def texts(draw) -> str:
    """A table, mostly regular, with all that makes one irregular now and then."""
    width = draw(st.integers(1, 4))
    delimiter = draw(st.sampled_from(",;\t|"))
    kinds = [draw(st.sampled_from([CELLS, PLAIN, PLAIN])) for _ in range(width)]
    rows = [[draw(kind) for kind in kinds] for _ in range(draw(st.integers(0, 11)))]
    for place in draw(st.lists(st.integers(0, 10), max_size=1)):
        change = draw(
            st.sampled_from([[], [""], ["1"] * (width + 1), [""] * width, [""] * (width + 1)])
        )
        rows.insert(place, change)
    lines = [delimiter.join(f"c{i}" for i in range(width)), *map(delimiter.join, rows)]
    before = draw(st.sampled_from(["", "", "# a comment\n", "sep=;\n", "\ufeff"]))
    end = draw(st.sampled_from(["\n", "\n", "\r\n", "\r"]))
    return before + end.join(lines) + draw(st.sampled_from([end, "", end + end, " "]))  # fmt: skip


@given(texts(), st.sampled_from(["auto", ".", ","]))
@example("a,b\n1.5,2\n,3\n", "auto")
@example("a,b\n1.105,2\n2.330,\n", "auto")
@example("a;b\n1.105;2,5\n2.330;3,5\n", "auto")
@example("a,b\n1.5,2\n1.5", "auto")
@example("a\n1\n\n2\n", "auto")
@example("a,b\n1,2\n,\n3,4\n", "auto")
@example("a,b\n1,2\n,", "auto")
@example("a,b\n,\n1,2\n", "auto")
@example("a,b\nx\u00a0,2\n", "auto")
@example("a,b\n1,True\n2,False\n", "auto")
def test_the_fast_way_gives_what_the_slow_one_gives(text: str, decimal: str) -> None:
    fast, slow = both(text, decimal=decimal)
    assert fast == slow
    event("refused" if isinstance(fast, str) else "read")


def wide(end: str = "\n") -> str:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame(rng.normal(size=(29, 7)).round(3))
    frame.insert(0, "date", pd.date_range("2024-03-01", periods=29, freq="h").astype(str))
    frame["whole"], frame["gap"] = np.arange(29), frame[0].where(frame[0] > 0)
    return frame.to_csv(index=False, lineterminator=end)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_plain_text_goes_the_fast_way(end: str, monkeypatch) -> None:
    text = wide(end)
    fast, slow = both(text)
    assert fast == slow and "int64" in fast[4]
    monkeypatch.setattr(plain, "LARGE", 1)
    table = table_of(Raw("t.csv", "t.csv", text.encode(), ""), "csv")
    assert all(isinstance(column, plain.ArrowText) for column in table.columns.values())
    assert [table.numbers(name).plain for name in table.names] == [False] + [True] * 9


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("2024-03-01 05", '"2024-03-01 05', 1).replace(":00,", ':00",', 1),
        lambda text: text.replace("\n", "\n\n", 3),
        lambda text: text.replace(",", ", ", 11),
        lambda text: text + "1,2\n",
        lambda text: text + "," * 9 + "\n",
        lambda text: text.replace("\n", ",\n"),
    ],
    ids=["quotes", "empty lines", "blanks", "ragged", "a row without cells", "trailing delimiters"],
)
def test_what_is_not_plain_goes_the_slow_way(change, monkeypatch) -> None:
    text = change(wide())
    fast, slow = both(text)
    assert fast == slow
    assert plain.split_plain(text.partition("\n")[2], [f"c{i}" for i in range(10)], ",") is None


def test_more_cells_than_the_limit_are_refused_alike() -> None:
    fast, slow = both(wide(), limits=Limits(cells=97))
    assert fast == slow and "has more than 9 rows" in fast
