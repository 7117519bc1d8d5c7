"""Metrics against scikit-learn's."""

import numpy as np
import pytest

from isoform.vision import metrics as M

sklearn = pytest.importorskip("sklearn.metrics")


def test_labels_as_scikit_learn():
    rng = np.random.default_rng(1)
    p, y = rng.random((61, 5)), (rng.random((61, 5)) < 0.3).astype(np.float32)
    y[:, 2] = 0
    p[:, 2] *= 0.4
    found, kept = M.multilabel_metrics(p, y), [0, 1, 3, 4]
    assert found["average_precision"] == pytest.approx(sklearn.average_precision_score(y[:, kept], p[:, kept]))
    assert found["roc_auc"] == pytest.approx(sklearn.roc_auc_score(y[:, kept], p[:, kept]))
    assert found["macro_f1"] == pytest.approx(sklearn.f1_score(y[:, kept], p[:, kept] >= 0.5, average="macro"))
    assert found["exact_match"] == pytest.approx(sklearn.accuracy_score(y > 0.5, p >= 0.5))
    assert M.multilabel_metrics(np.zeros((3, 2)), np.zeros((3, 2)))["average_precision"] == 0


def test_numbers_as_scikit_learn():
    rng = np.random.default_rng(2)
    y, p = rng.normal(size=(53, 2)) * [1, 100], rng.normal(size=(53, 2))
    found = M.regression_metrics(p, y, ["a", "b"], [1, 100])
    assert found["mae"] == pytest.approx(sklearn.mean_absolute_error(y, p))
    assert found["rmse"] == pytest.approx(sklearn.root_mean_squared_error(y, p))
    assert found["r2"] == pytest.approx(sklearn.r2_score(y, p))
    assert found["mae b"] == pytest.approx(sklearn.mean_absolute_error(y[:, 1], p[:, 1]))
    assert M.regression_metrics(np.ones((3, 1)), np.ones((3, 1)), ["a"], [1])["r2"] == 0
