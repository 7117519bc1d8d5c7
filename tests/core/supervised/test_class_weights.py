"""Balanced weights: each kind weighs as much as any other, 1 on average; what is missing isn't counted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isoform.core.errors import UserError
from isoform.core.supervised.class_weights import (
    balanced_class_weights,
    balanced_label_weights,
    combine_weights,
    normalise_sample_weights,
    positive_weights,
    weights_of_classes,
    weights_of_labels,
)


def test_classes_weigh_the_same_in_sum() -> None:
    classes = np.repeat([0, 1, 3, -1], [11, 2, 5, 7])  # class 2 and 4 don't occur
    weights = balanced_class_weights(classes, 5)
    assert weights.dtype == torch.float32 and weights.shape == (5,)
    counts = np.array([11, 2, 5])
    assert (weights.numpy()[[0, 1, 3]] * counts).tolist() == pytest.approx([18 / 3] * 3)
    assert np.average(weights.numpy()[[0, 1, 3]], weights=counts) == pytest.approx(1)
    assert balanced_class_weights(np.full(3, -1), 5).isfinite().all()


def test_classes_with_the_bits_of_the_formula() -> None:
    target = np.random.default_rng(0).integers(0, 7, 101)
    counts = np.bincount(target, minlength=11)
    expected = (len(target) / (np.maximum(counts, 1) * (counts > 0).sum())).astype(np.float32)
    np.testing.assert_array_equal(balanced_class_weights(target, 11).numpy(), expected)


def test_labels_of_each_target_weigh_the_same_in_sum() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((61, 3)) < [0.5, 0.1, 0.9]).astype(float)
    labels[rng.random(labels.shape) < 0.2] = np.nan
    weights = balanced_label_weights(labels).numpy()
    for k in range(3):
        no, yes = (labels[:, k] == 0).sum(), (labels[:, k] == 1).sum()
        assert weights[k] * [no, yes] == pytest.approx([(no + yes) / 2] * 2)
    one_sided = balanced_label_weights(np.ones((5, 1))).numpy()
    assert one_sided[0, 1] == 1, "a label that is always there is no rare one"


def test_positive_weights() -> None:
    labels = np.zeros((307, 3), np.float32)
    labels[:3, 0] = 1
    labels[:300, 2] = 1
    labels[300:, 1] = np.nan
    expected = [
        np.float32((307 - 3) / 3) if (307 - 3) / 3 < 100 else 100.0,
        100.0,
        np.float32(7 / 300),
    ]
    assert positive_weights(labels).tolist() == [pytest.approx(value) for value in expected]
    rng = np.random.default_rng(2)
    labels = (rng.random((101, 5)) < 0.3).astype(np.float32)
    positive = labels.sum(0)
    theirs = np.clip((len(labels) - positive) / np.maximum(positive, 1), 0.01, 100).astype(
        np.float32
    )
    np.testing.assert_array_equal(positive_weights(labels).numpy(), theirs)


def test_sample_weights_are_one_on_average_in_training() -> None:
    weights, train = np.random.default_rng(3).random(29), np.arange(0, 29, 2)
    found = normalise_sample_weights(weights, train, "t.csv")
    assert found[train].mean().item() == pytest.approx(1) and len(found) == 29
    np.testing.assert_array_equal(
        found.numpy(), (weights / weights[train].mean()).astype(np.float32)
    )
    weights[train] = 0
    with pytest.raises(UserError, match=r"t\.csv: all training samples have weight 0"):
        normalise_sample_weights(weights, train, "t.csv")


def test_weights_of_a_batch() -> None:
    weight_C = torch.tensor([2.0, 3.0, 5.0])
    assert weights_of_classes(torch.tensor([2, -1, 1]), weight_C).tolist() == [5, 2, 3]
    weight_K2 = torch.tensor([[2.0, 3.0], [5.0, 7.0]])
    assert weights_of_labels(torch.tensor([[0.0, 1.0], [1.0, 0.0]]), weight_K2).tolist() == [
        [2, 7],
        [3, 5],
    ]
    samples, labels = torch.tensor([2.0, 3.0]), torch.tensor([[1.0, 5.0, 7.0], [1.0, 2.0, 3.0]])
    assert combine_weights(samples, labels).tolist() == [[2, 10, 14], [3, 6, 9]]
    assert combine_weights(samples, samples).tolist() == [4, 9]
    assert combine_weights(None, labels) is labels and combine_weights(samples, None) is samples
    assert combine_weights(None, None) is None
