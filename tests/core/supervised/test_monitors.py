"""Which validation metric chooses the best checkpoint."""

from __future__ import annotations

import numpy as np
import pytest

from isoform.core.errors import UserError
from isoform.core.supervised.metrics import (
    binary_target_metrics,
    multiclass_metrics,
    multilabel_metrics,
    regression_metrics,
    softmax,
)
from isoform.core.supervised.monitors import MONITORS, has_both_kinds, resolve_monitor


def test_unset_it_is_the_kinds_own() -> None:
    assert resolve_monitor(None, "multiclass") == ("top1", "max")
    assert resolve_monitor(None, "multilabel") == ("average_precision", "max")
    assert resolve_monitor(None, "regression") == ("rmse", "min")
    assert resolve_monitor(None, "regression", default="mae") == ("mae", "min")
    assert resolve_monitor(None, "binary", np.zeros((5, 1)), default="loss") == ("loss", "min")


def test_every_metric_on_offer_is_measured() -> None:
    rng = np.random.default_rng(0)
    p, labels = softmax(rng.normal(size=(31, 5))), rng.integers(0, 2, (31, 5)).astype(float)
    measured = {
        "multiclass": multiclass_metrics(p, rng.integers(0, 5, 31)),
        "multilabel": multilabel_metrics(p, labels),
        "binary": binary_target_metrics(p, labels, "abcde"),
        "regression": regression_metrics(p, labels, "abcde", [1.0] * 5),
    }
    for kind, metrics in measured.items():
        assert set(MONITORS[kind]) <= metrics.keys()
        for name in MONITORS[kind]:
            assert resolve_monitor(name, kind)[1] == (
                "min" if name in ("loss", "rmse", "mae") else "max"
            )


def test_another_metric_is_refused_with_the_list() -> None:
    with pytest.raises(
        UserError, match="rmse is no metric of multiclass; there are top1, balanced"
    ):
        resolve_monitor("rmse", "multiclass")
    with pytest.raises(UserError, match="did you mean balanced_accuracy"):
        resolve_monitor("balanced_acuracy", "multiclass")
    with pytest.raises(UserError, match="top1 is no metric of forecasts; there are mse, mae, mase"):
        resolve_monitor("top1", "forecasts")


def test_nothing_is_ranked_where_one_kind_is_alone() -> None:
    assert has_both_kinds(np.array([0, 0, 2])) and not has_both_kinds(np.array([-1, 2, 2]))
    mixed = np.array([[0.0, 1], [np.nan, 1], [1, np.nan]])
    assert has_both_kinds(mixed) and not has_both_kinds(mixed[:2])
    assert resolve_monitor("roc_auc", "binary", mixed) == ("roc_auc", "max")
    with pytest.raises(UserError, match="roc_auc ranks samples of two kinds"):
        resolve_monitor("roc_auc", "binary", mixed[:2])
    assert resolve_monitor("loss", "binary", mixed[:2]) == ("loss", "min")
    assert resolve_monitor(None, "multilabel", mixed) == ("average_precision", "max")
    assert resolve_monitor(None, "multilabel", mixed[:2]) == ("loss", "min")
