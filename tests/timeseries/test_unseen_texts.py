"""Texts that no training row has are no columns: what comes later changes nothing that is trained on."""

from __future__ import annotations

import numpy as np
import pytest

from isoform.timeseries.prepare import prepare_panel

from .panels import app, panel, series, walk

ROWS, VAL = 211, 148  # the first row behind training: 0.7 of all
NAMES = ["sky=rain", "sky=hail", "sky=sun", "wind"]


def flags(later: str) -> np.ndarray:
    """[ROWS, 4]: rain and sun in turn, and from validation on what `later` says; the last column is measured."""
    found = np.zeros((ROWS, 4))
    found[:, 3] = walk(ROWS, 1)[:, 0]
    found[np.arange(ROWS), 2 * (np.arange(ROWS) % 2)] = 1
    found[VAL:, :3] = np.eye(3)[NAMES.index(later)]
    return found


def prepared(names, values, kind="known"):
    made = panel(series(walk(ROWS, 2), **{kind: values}).assign_coords({kind: list(names)}))
    return prepare_panel(app(11, 5), made)


@pytest.mark.parametrize("kind", ["past", "known"])
def test_a_text_behind_training_changes_nothing_that_is_trained_on(kind: str) -> None:
    hail = prepared(NAMES, flags("sky=hail"), kind)
    without = prepared([NAMES[0], *NAMES[2:]], flags("sky=sun")[:, [0, 2, 3]], kind)
    assert (
        getattr(hail.data, kind) == getattr(without.data, kind) == ["sky=rain", "sky=sun", "wind"]
    )
    one, other = (data.data.batch("train", range(23)) for data in (hail, without))
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert np.array_equal(value, other[name], equal_nan=True), name
    line = "in no row of training, and so taken for none of the known texts: sky=hail"
    assert line in hail.notes and line not in without.notes


def test_a_text_of_training_and_a_measured_column_stay() -> None:
    values = flags("sky=rain")
    values[7, :3] = [0, 1, 0]
    values[:VAL, 3] = 0
    found = prepared([*NAMES[:3], "a=b"], values)
    assert found.data.known == [*NAMES[:3], "a=b"]  # not of 0 and 1 alone
    assert not any("in no row" in line for line in found.notes)


def test_a_text_of_a_series_that_only_tests_is_no_column() -> None:
    starts = {"shop=a": "2024-01-01", "shop=b": "2024-01-01", "shop=c": "2024-01-08"}
    members = [
        series(walk(ROWS, 1), static=np.eye(3)[k], start=start, id=name).assign_coords(
            static=list(starts)
        )
        for k, (name, start) in enumerate(starts.items())
    ]
    cut = {"split": "date", "val_from": "2024-01-06", "test_from": "2024-01-08"}
    found = prepare_panel(app(11, 5, **cut), panel(*members))
    assert found.data.static == ["shop=a", "shop=b"]
    assert any(line.endswith("known texts: shop=c") for line in found.notes)
