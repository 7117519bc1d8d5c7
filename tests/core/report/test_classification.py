"""Curves of how well probabilities sort, and where on them the threshold stands."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure as Plot

from isoform.core.report.classification import curves_of, draw_sorting, sorting_figure
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.metrics import average_precision, roc_auc


@pytest.mark.parametrize("levels", [3, 17, 5000])
def test_curves_enclose_what_the_metrics_say(levels: int) -> None:
    rng = np.random.default_rng(levels)
    true = rng.random(211) < 0.3
    score = rng.integers(0, levels, 211) / levels + 0.2 * true
    fall, rise, precision = curves_of(score, true)
    assert np.trapezoid(rise, fall) == pytest.approx(roc_auc(score, true))
    assert (np.diff(rise) * precision[1:]).sum() == pytest.approx(average_precision(score, true))
    assert (fall[0], rise[0], fall[-1], rise[-1]) == (0, 0, 1, 1)


def test_long_curves_are_thinned() -> None:
    rng = np.random.default_rng(0)
    true = rng.random(7001) < 0.1
    score = rng.random(7001) + true
    fall, rise, _ = curves_of(score, true)
    assert len(rise) < 300 and np.trapezoid(rise, fall) == pytest.approx(
        roc_auc(score, true), abs=0.01
    )


def test_the_thresholds_stand_on_the_curves() -> None:
    """A dot a label, where sensitivity and specificity are those of its threshold; one kind alone has no curve."""
    rng = np.random.default_rng(3)
    target = np.array([rng.random(101) < 0.4, rng.random(101) < 0.7, np.ones(101)], float).T
    target[::7, 0] = np.nan
    score = np.clip(0.3 * target + 0.7 * rng.random((101, 3)), 0, 1)
    score = np.nan_to_num(score, nan=0.5)
    decision = Decision(np.array([0.35, 0.6, 0.5]))
    left, right = Plot().subplots(1, 2)
    assert draw_sorting((left, right), ["a", "b", "c"], score, target, decision) == 2
    dots = [tuple(dot.get_offsets()[0]) for dot in left.collections]
    for k, (false, found) in enumerate(dots):
        known = np.isfinite(target[:, k])
        true, said = target[known, k] > 0.5, score[known, k] >= decision.threshold_K[k]
        assert (false, found) == pytest.approx((said[~true].mean(), said[true].mean()))
        recall, precision = right.collections[k].get_offsets()[0]
        assert (recall, precision) == pytest.approx((found, true[said].mean()))
    shown = sorting_figure(["a", "b", "c"], score, target, decision, "images")
    assert "101 test images, the first 2 of 3 labels" in shown.caption
    assert "the thresholds, a 0.35, b 0.6" in shown.caption
    alone = sorting_figure(["a"], score[:, :1], target[:, :1], Decision(), "images")
    assert alone.caption.endswith("the dot: the threshold, 0.5")
