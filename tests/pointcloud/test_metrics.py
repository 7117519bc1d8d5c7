"""Intersections over unions, by both conventions for a part that nobody sees."""

import math

import numpy as np
import pytest

from isoform.pointcloud.metrics import part_metrics, shape_metrics


def test_an_absent_part_is_left_out_and_a_missing_label_counts_nothing():
    target = np.array([0, 0, 1, 1, -1, 1])
    guess = np.array([0, 1, 1, 1, 2, 1])
    found = part_metrics(guess, target, ["a", "b", "c"])
    assert found["iou a"] == pytest.approx(1 / 2) and found["iou b"] == pytest.approx(3 / 4)
    assert "iou c" not in found and found["miou"] == pytest.approx(5 / 8)
    assert found["accuracy"] == pytest.approx(4 / 5)
    assert math.isnan(part_metrics(guess, np.full(6, -1), ["a", "b", "c"])["miou"])


def test_the_two_conventions_for_absent_parts():
    parts = {"mug": [0, 1], "table": [2, 3, 4]}
    targets = [np.array([0, 0, 1, 1]), np.array([0, 0, 0, 0]), np.array([2, 2, 3, 3])]
    guesses = [np.array([0, 0, 1, 0]), np.array([0, 0, 0, 0]), np.array([2, 2, 3, 3])]
    found = shape_metrics(guesses, targets, ["mug", "mug", "table"], parts)
    first = (2 / 3 + 1 / 2) / 2
    assert found["instance_miou official"] == pytest.approx((first + 1 + 1) / 3)
    assert found["instance_miou strict"] == pytest.approx((first + 1 + 1) / 3)
    worse = [guesses[0], np.array([0, 0, 0, 1]), guesses[2]]
    found = shape_metrics(worse, targets, ["mug", "mug", "table"], parts)
    second = (3 / 4 + 0) / 2  # the part is guessed: it counts in both
    assert found["instance_miou official"] == pytest.approx((first + second + 1) / 3)
    wrong = [guesses[0], guesses[1], np.array([2, 3, 3, 3])]
    found = shape_metrics(wrong, targets, ["mug", "mug", "table"], parts)
    table = [1 / 2, 2 / 3]
    assert found["instance_miou official"] == pytest.approx((first + 1 + (sum(table) + 1) / 3) / 3)
    assert found["instance_miou strict"] == pytest.approx((first + 1 + sum(table) / 2) / 3)
    assert found["class_miou strict"] == pytest.approx(((first + 1) / 2 + sum(table) / 2) / 2)
