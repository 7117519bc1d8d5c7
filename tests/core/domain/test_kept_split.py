"""What a run keeps of its split comes back from JSON, and says what became of samples, doubles and parts."""

from __future__ import annotations

import json

import pytest

from isoform.core.domain.kept_split import (
    MOST_REST,
    KeptSplit,
    Samples,
    compare,
    find_exchanged,
)


def split(**samples: str) -> KeptSplit:
    """train="a1 b2 a3": names and, behind them, contents; labels are the letters."""
    made = {}
    for name, text in samples.items():
        words = text.split()
        letters, numbers = [word[0] for word in words], [word[1:] for word in words]
        made[name] = Samples(letters, numbers, letters)
    return KeptSplit(made)


KEPT = split(train="a1 b2 b3 c4 d5", val="e6 f7", test="g8 b9 h1")


def test_json_gives_the_same_back():
    full = KeptSplit(
        {"train": Samples(["\udcff.png"], ["c"], ["l"], [(3, 5, 7)]), "test": Samples(["x"], ["d"], ["m"])},
        ["y"], 1, {"cat": "1"}, {"": {"train": ("2024", "2025", 0, 11)}},
    )  # fmt: skip
    again = KeptSplit.from_json(json.loads(json.dumps(full.to_json())))
    assert again.to_json() == json.loads(json.dumps(full.to_json()))
    assert again.keys() == full.keys() and not compare(full, again)
    many = KeptSplit({}, [str(k) for k in range(MOST_REST + 1)], MOST_REST + 1)
    assert many.to_json() == {"splits": {}, "rest_count": MOST_REST + 1}


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (split(train="a1 b2 b3 c4 d5", val="e6 f7", test="g8 b9 h1"), ""),
        (split(train="a1 b2 b3 c4 d5 i5", val="e6 f7", test="g8 b9 h1"), "1 added (i)"),
        (split(train="a1 b2 b3 c4 d5", val="e6", test="g8 b9 h1 b2"), "1 added (b), 1 removed (f)"),
        (split(train="a1 b2 b4 c4 d5", val="e6 f7", test="g7 b9 h1"), "2 changed (b, g)"),
        (split(train="a1 b2 b3 c4", val="e6 f7 d5", test="g8 b9 h1"), "1 in another split (d)"),
        (
            split(train="d5 b2 b3 c4 a1", val="e6 f7", test="g8 b9 h1"),
            "they stand in another order",
        ),
    ],
)
def test_what_differs(now, said):
    found = compare(KEPT, now)
    assert found.describe() == said and bool(found) == bool(said)


def test_samples_in_no_split_are_known_by_name_or_by_number():
    then = KeptSplit(KEPT.splits, ["y", "z"], 2)
    now = KeptSplit(KEPT.splits, ["y", "x", "z"], 3)
    assert compare(then, now).describe() == "1 added (x)"
    assert compare(KeptSplit(KEPT.splits, [], 2), now).describe() == "1 more in no split"


def test_rows_are_found_in_the_run_s_order_doubles_by_their_place():
    names = list("hbgfebdcba")
    assert KEPT.rows_among(names) == {"train": [9, 1, 5, 7, 6], "val": [4, 3], "test": [2, 8, 0]}
    assert KEPT.rows_among(["b", "a"]) == {"train": [1, 0], "val": [], "test": []}


def test_samples_of_one_name_are_told_apart_by_what_they_hold():
    """The file's order isn't the split's: b9 of test stands before both of train."""
    words = ["h1", "b9", "g8", "f7", "e6", "b7", "b3", "d5", "c4", "b2", "a1"]
    found = KEPT.rows_among(
        [word[0] for word in words], lambda row: (words[row][1:], words[row][0])
    )
    assert found == {"train": [10, 9, 6, 8, 7], "val": [4, 3], "test": [2, 1, 0]}
    other = KEPT.rows_among(["b", "b", "b"], lambda row: ("293"[row], "other label"))
    assert other == {"train": [0, 2], "val": [], "test": [1]}
    changed = KEPT.rows_among(["b", "b", "b"], lambda row: ("294"[row], "b"))
    assert changed == {"train": [0, 2], "val": [], "test": [1]}
    more = KEPT.rows_among(["b", "b", "b", "b"], lambda row: ("2945"[row], "b"))
    assert more == {"train": [0], "val": [], "test": [1]}, "which of two is the one that changed?"


def test_exchanged_parts():
    then = {"cat": "1", "dog": "2", "owl": "3", "elk": "3"}
    assert find_exchanged(then, then) == []
    assert find_exchanged(then, {**then, "cat": "2", "dog": "1"}) == [("cat", "dog")]
    assert find_exchanged(then, {**then, "cat": "2"}) == []
    assert find_exchanged(then, {"cat": "2", "dog": "4"}) == []
