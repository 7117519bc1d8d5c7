"""Rows of a table of predictions, of every kind, with and without calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.supervised.conformal import Calibration
from isoform.core.supervised.metrics import sigmoid
from isoform.core.supervised.rows import (
    SHOWN_CLASSES,
    entropy,
    name_of_input,
    put_in_front,
    rows_of,
)


def test_numbers() -> None:
    assert rows_of("regression", ["a"], np.array([[1.5], [2.5]])) == [
        {"prediction": 1.5},
        {"prediction": 2.5},
    ]
    assert rows_of("regression", ["a", "b"], np.array([[1.5, 2.5]])) == [
        {"prediction a": 1.5, "prediction b": 2.5}
    ]


def test_numbers_with_intervals() -> None:
    radius = Calibration((0.9,), radius_RK=np.array([[0.25, np.nan]]))
    row = rows_of("regression", ["a", "b"], np.array([[1.5, 2.5]]), radius)[0]
    assert row == {
        "prediction a": 1.5,
        "low 0.9 a": 1.25,
        "high 0.9 a": 1.75,
        "uncertainty a": 0.25,
        "prediction b": 2.5,
    }


def test_binary_targets() -> None:
    row = rows_of("binary", ["toxic"], np.array([[0.9]]))[0]
    assert row == {
        "prediction": 1,
        "probability": 0.9,
        "uncertainty": pytest.approx(0.468996, abs=1e-6),
    }
    bound = Calibration((0.9,), label_RK=np.array([[0.3, 0.9]]))
    row = rows_of("binary", ["toxic", "soluble"], np.array([[0.9, 0.2]]), bound)[0]
    assert (row["set 0.9 toxic"], row["set 0.9 soluble"]) == ("1", "0|1")
    assert (row["prediction toxic"], row["prediction soluble"]) == (1, 0)


def test_sets_of_labels() -> None:
    rows = rows_of("multilabel", ["a", "b", "c"], np.array([[0.9, 0.2, 0.5], [0.1, 0.2, 0.3]]))
    assert rows[0] == {
        "prediction": "a|c",
        "probability": "0.9|0.5",
        "p a": 0.9,
        "p b": 0.2,
        "p c": 0.5,
    }
    assert rows[1]["prediction"] == rows[1]["probability"] == ""


def test_classes() -> None:
    bound = Calibration((0.9,), class_R=np.array([0.7]))
    rows = rows_of(
        "multiclass", ["a", "b", "c"], np.array([[0.1, 0.5, 0.4], [1.0, 0.0, 0.0]]), bound
    )
    assert list(rows[0]) == [
        "prediction",
        "probability",
        "p a",
        "p b",
        "p c",
        "set 0.9",
        "uncertainty",
    ]
    assert (rows[0]["prediction"], rows[0]["probability"], rows[0]["set 0.9"]) == ("b", 0.5, "b|c")
    assert rows[1]["uncertainty"] == 0 and 0 < rows[0]["uncertainty"] < 1


@pytest.mark.parametrize("kind", ["multiclass", "multilabel"])
def test_many_classes_have_no_columns(kind: str) -> None:
    for classes in (SHOWN_CLASSES, SHOWN_CLASSES + 1):
        guess = np.full((1, classes), 1 / classes)
        row = rows_of(kind, [str(k) for k in range(classes)], guess)[0]
        assert ("p 0" in row) == (classes <= SHOWN_CLASSES)


def test_uncertainty_is_in_units_of_its_maximum() -> None:
    assert entropy(np.full(7, 1 / 7)) == pytest.approx(1, abs=1e-12)
    assert entropy(np.array([1.0, 0, 0])) == 0
    assert entropy(np.array([0.5, 0.5, 0])) == pytest.approx(np.log(2) / np.log(3), abs=1e-6)


def test_names_of_inputs() -> None:
    assert name_of_input("a.png", 3) == "a.png" and name_of_input(Path("b") / "c.png", 0) == str(
        Path("b") / "c.png"
    )
    assert name_of_input(np.zeros(2), 3) == "ndarray 3"


def test_an_interval_of_a_logarithm_is_a_factor() -> None:
    calibration = Calibration((0.9,), radius_RK=np.array([[2.0, 3.0]]))
    guess = np.array([[50.0, 5.0]])
    row = rows_of("regression", ["a", "b"], guess, calibration, log=(True, False))[0]
    assert (row["low 0.9 a"], row["high 0.9 a"]) == (0.5, 5000) and row["uncertainty a"] == 2499.75
    assert (row["low 0.9 b"], row["high 0.9 b"], row["uncertainty b"]) == (2, 8, 3)


def test_columns_of_the_input_stand_in_front_and_are_renamed_where_they_clash() -> None:
    given = [{"id": "a", "p": "9", "p (input)": "8"}, {}, {"note": "n"}]
    rows = [{"input": name, "p": 0.5, "error": ""} for name in "xyz"]
    made = put_in_front(given, rows)
    names = ["id", "p (input)", "p (input) (input)", "note", "input", "p", "error"]
    assert [list(row) for row in made] == [names] * 3
    assert list(made[0].values()) == ["a", "9", "8", None, "x", 0.5, ""]
    assert made[1]["id"] is None and made[2]["note"] == "n"
    assert put_in_front([{}, {}, {}], rows) == rows and put_in_front([], []) == []


@given(st.lists(st.floats(-30, 30, width=32), min_size=2, max_size=7, unique=True))
def test_no_two_probabilities_become_one(logits: list[float]) -> None:
    """Nor does a small one become 0."""
    p = sigmoid(np.array(logits, np.float32)[:, None])
    shown = [row["probability"] for row in rows_of("binary", ["a"], p)]
    assert shown == p[:, 0].tolist() and 0 not in shown
    small = rows_of("binary", ["a"], p.astype(np.float32))
    assert [np.float32(row["probability"]) for row in small] == p.astype(np.float32)[:, 0].tolist()
    classes = rows_of("multiclass", ["a", "b"], np.concatenate([p, 1 - p], 1))
    assert [row["p a"] for row in classes] == shown


def test_numbers_of_32_bits_have_no_digits_beyond_their_own() -> None:
    (row,) = rows_of("multilabel", ["a", "b"], np.array([[0.7, 1e-9]], np.float32))
    assert (row["p a"], row["p b"], row["probability"]) == (0.7, 1e-9, "0.7")
