"""Pictures of classifiers that several domains show: confusion, calibration, classes, how well probabilities sort.

C classes, K labels, N samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.drawing import INK, label, short, to_svg, to_table
from isoform.core.report.formatting import fraction
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.metrics import (
    average_precision,
    mean_distance,
    per_class,
    reliability,
    roc_auc,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 30  # in a picture of the confusion matrix
MOST_ROWS = 100  # in a table
MOST_CURVES = 6  # labels in one picture
_MOST_POINTS = 250  # of a curve
_LINES = ("#2f5bd0", "#d9622b", "#2a9163", "#9a3fb5", "#b58a00", "#128ba3")


def draw_confusion(axes: Axes, counts_CC: np.ndarray, classes: Sequence[str]) -> None:
    """Rows are the true classes, columns the guessed ones, shades a row's shares."""
    share = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for a, b in zip(*np.nonzero(counts_CC), strict=True):
        colour = "white" if share[a, b] > 0.5 else "#1c1d22"
        axes.text(b, a, str(counts_CC[a, b]), ha="center", va="center", fontsize=7, color=colour)
    names = [short(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    label(axes, "guessed", "true")


def confusion_figure(counts_CC: np.ndarray, classes: Sequence[str], what: str) -> Figure:
    """The confusion matrix of few classes as a picture; of many, the most frequent confusions. `what`: the samples."""
    if len(classes) <= MOST_CLASSES:
        from matplotlib.figure import Figure as Plot

        cells = 0.36 * len(classes)
        plot = Plot(figsize=(2.2 + cells, 1.8 + cells), layout="constrained")
        draw_confusion(plot.subplots(), counts_CC, classes)
        return Figure(
            "Confusion on test: rows are the true classes, shades their shares", to_svg(plot)
        )
    off = counts_CC - np.diag(np.diag(counts_CC))
    order = np.argsort(-off, axis=None, kind="stable")[:20]
    body = []
    for k in order:
        true, guessed = divmod(int(k), len(classes))
        if off[true, guessed]:
            body.append([classes[true], classes[guessed], str(off[true, guessed])])
    return Figure(
        "The most frequent confusions on test", html=to_table(["true", "guessed", what], body)
    )


def draw_reliability(
    axes: Axes, sure: np.ndarray, share: np.ndarray, counts: np.ndarray, x: str, y: str
) -> None:
    """Bins as dots, as large as they hold samples, beside the dotted line where probabilities mean what they say."""
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    used = counts > 0
    size = 10 + 150 * counts[used] / counts.max()
    axes.scatter(sure[used], share[used], s=size, color="#2f5bd0", alpha=0.7, lw=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    label(axes, x, y)


def calibration_figure(
    sure_N: np.ndarray,
    right_N: np.ndarray,
    x: str = "probability of the guess",
    y: str = "share that is right",
) -> Figure:
    """Whether probabilities mean what they say; the caption gives the expected calibration error (Guo et al. 2017)."""
    from matplotlib.figure import Figure as Plot

    sure, share, counts = reliability(sure_N, right_N)
    plot = Plot(figsize=(3.8, 3.4), layout="constrained")
    draw_reliability(plot.subplots(), sure, share, counts, x, y)
    error = mean_distance(sure, share, counts)
    text = f"Calibration on test: on the dotted line probabilities mean what they say (error {error:.3f})"
    return Figure(text, to_svg(plot))


def class_table(counts_CC: np.ndarray, classes: Sequence[str], what: str) -> Figure:
    """Precision, recall and F1 of each class, the worst first. `what`: the samples."""
    recall, precision, f1, n = per_class(counts_CC)
    order = np.argsort(np.nan_to_num(f1, nan=2.0), kind="stable")[:MOST_ROWS]
    rows = []
    for k in order:
        shares = [fraction(value[k]) for value in (precision, recall, f1)]
        rows.append([classes[k], str(n[k]), *shares])
    more = f", the {MOST_ROWS} worst of {len(classes)}" if len(classes) > MOST_ROWS else ""
    head = ["class", what, "precision", "recall", "F1"]
    return Figure(f"Classes on test, worst first{more}", html=to_table(head, rows))


def sorting_figure(
    names: Sequence[str],
    probability_NK: np.ndarray,
    target_NK: np.ndarray,
    decision: Decision,
    what: str,
) -> Figure:
    """ROC and precision-recall curves of labels (of two classes of the second one), with their thresholds as dots.

    target_NK   1 yes, 0 no, NaN = missing
    what        the samples
    """
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(7.4, 3.8), layout="constrained")
    drawn = draw_sorting(plot.subplots(1, 2), names, probability_NK, target_NK, decision)
    more = f", the first {drawn} of {len(names)} labels" if drawn < len(names) else ""
    return Figure(
        f"How well probabilities sort {len(target_NK):,} test {what}{more}: the area below the left curve is the ROC "
        f"AUC, below the right one the average precision; dotted: by chance; the dot: {_told(names, decision)}",
        to_svg(plot),
    )


def _told(names: Sequence[str], decision: Decision) -> str:
    threshold_K = decision.threshold_K
    if threshold_K is None:
        return "the threshold, 0.5"
    if len(threshold_K) == 1:
        return f"the threshold, {threshold_K[0]:.4g}"
    shown = zip(names[:MOST_CURVES], threshold_K, strict=False)
    return "the thresholds, " + ", ".join(f"{short(name)} {value:.4g}" for name, value in shown)


def draw_sorting(
    axes: Sequence[Axes],
    names: Sequence[str],
    probability_NK: np.ndarray,
    target_NK: np.ndarray,
    decision: Decision,
) -> int:
    """The curves of `sorting_figure`, onto two axes, of the first labels that are both yes and no; how many."""
    left, right = axes
    left.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    said_NK = decision.yes(probability_NK)
    drawn = 0
    for k in range(len(names)):
        known = np.isfinite(target_NK[:, k])
        true = target_NK[known, k] > 0.5
        if drawn == MOST_CURVES or true.all() or not true.any():
            continue
        colour, name = _LINES[drawn], short(names[k], 14)
        score, said = probability_NK[known, k], said_NK[known, k]
        fall, rise, precision = curves_of(score, true)
        left.plot(fall, rise, color=colour, lw=1.5, label=f"{name} {roc_auc(score, true):.3f}")
        sorted_well = average_precision(score, true)
        right.step(
            rise, precision, color=colour, lw=1.5, where="pre", label=f"{name} {sorted_well:.3f}"
        )
        right.axhline(true.mean(), color=colour, lw=0.8, ls=":")
        found, false = said[true].mean(), said[~true].mean()
        left.scatter([false], [found], s=30, color=colour, zorder=3)
        if said.any():
            right.scatter([found], [true[said].mean()], s=30, color=colour, zorder=3)
        drawn += 1
    label(left, "share of no found wrongly (1 - specificity)", "share of yes found (sensitivity)")
    label(right, "share of yes found (recall)", "right among those found (precision)")
    for place in (left, right):
        place.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.03))
    if drawn:
        left.legend(loc="lower right", fontsize=8, frameon=False, labelcolor=INK)
        right.legend(loc="lower left", fontsize=8, frameon=False, labelcolor=INK)
    return drawn


def curves_of(score_N: np.ndarray, true_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(false-positive rate, recall, precision) at every threshold that tells two scores apart, thinned for drawing.

    From (0, 0) to (1, 1); both kinds must be there.
    """
    order = np.argsort(-score_N, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(score_N[order]) != 0, True))
    hits = np.cumsum(true_N[order])[ends]
    found = ends + 1
    if len(ends) > _MOST_POINTS:
        some = np.unique(np.linspace(0, len(ends) - 1, _MOST_POINTS).round().astype(int))
        hits, found = hits[some], found[some]
    rise = np.append(0.0, hits / true_N.sum())
    fall = np.append(0.0, (found - hits) / (~true_N).sum())
    precision = hits / found
    return fall, rise, np.append(precision[0], precision)
