"""Lines of findings: which ones are of one kind, and how many of a kind are shown."""

from isoform.core.data.findings import NAMED, fold


def test_many_lines_of_a_kind_are_folded_in_their_place():
    sentinels = [
        f'column "t{k}": holds -999 in {k} cells and is otherwise 0.{k} to 5'
        for k in range(NAMED + 7)
    ]
    bounds = [f"\"t{k}\": {k} censored values count as their bound: '>{k}'" for k in range(NAMED)]
    given = ["first", *sentinels, "between", *bounds, "last"]
    found = fold(given)
    assert found[: 1 + NAMED] == given[: 1 + NAMED]
    assert found[1 + NAMED : 3 + NAMED] == ["  and 7 more such lines", "between"]
    assert found[3 + NAMED :] == [*bounds, "last"]
    assert fold(given, 2)[3] == f"  and {NAMED + 5} more such lines"


def test_lines_of_other_kinds_stay():
    lines = ["the unit of x is nM", "the unit is told by y", "the column z", *"abcdefgh"]
    assert fold(lines, 1) == lines
    assert fold([]) == []
