"""Pictures of classifiers that several domains show: confusion, calibration, classes. C classes, N samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isoform.core.domain import Figure
from isoform.core.drawing import INK, label, short, to_svg, to_table
from isoform.core.metrics import CALIBRATION_BINS, per_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 30  # in a picture of the confusion matrix
MOST_ROWS = 100  # in the table of classes


def draw_confusion(counts_CC: np.ndarray, classes: Sequence[str]) -> Any:
    """A matplotlib figure: rows are the true classes, columns the guessed ones, shades a row's shares."""
    from matplotlib.figure import Figure as Plot

    k = len(classes)
    plot = Plot(figsize=(2.2 + 0.36 * k, 1.8 + 0.36 * k), layout="constrained")
    fill_confusion(plot.subplots(), counts_CC, classes)
    return plot


def fill_confusion(axes: Axes, counts_CC: np.ndarray, classes: Sequence[str]) -> None:
    """The same onto axes."""
    share = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    for a, b in zip(*np.nonzero(counts_CC), strict=True):
        axes.text(b, a, str(counts_CC[a, b]), ha="center", va="center", fontsize=7,
                  color="white" if share[a, b] > 0.5 else "#1c1d22")  # fmt: skip
    names = [short(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    label(axes, "guessed", "true")


def confusion_figure(counts_CC: np.ndarray, classes: Sequence[str], what: str) -> Figure:
    """The confusion matrix of few classes as a picture; of many, the most frequent confusions. `what`: the samples."""
    if len(classes) <= MOST_CLASSES:
        drawn = to_svg(draw_confusion(counts_CC, classes))
        return Figure("Confusion on test: rows are the true classes, shades their shares", drawn)
    off = counts_CC - np.diag(np.diag(counts_CC))
    order = np.argsort(-off, axis=None, kind="stable")[:20]
    pairs = [(k // len(classes), k % len(classes)) for k in order if off.flat[k]]
    body = [[classes[a], classes[b], str(off[a, b])] for a, b in pairs]
    return Figure("The most frequent confusions on test", html=to_table(["true", "guessed", what], body))


def reliability(sure_N: np.ndarray, right_N: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(mean probability, share that is true, number) of probabilities in equal bins; NaN where a bin is empty."""
    place = np.minimum((sure_N * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    counts = np.bincount(place, minlength=CALIBRATION_BINS)
    with np.errstate(invalid="ignore"):
        sure = np.bincount(place, sure_N, CALIBRATION_BINS) / counts
        return sure, np.bincount(place, right_N, CALIBRATION_BINS) / counts, counts


def draw_reliability(axes: Axes, sure: np.ndarray, share: np.ndarray, counts: np.ndarray, x: str, y: str) -> None:
    """Bins as dots, as large as they hold samples, beside the dotted line where probabilities mean what they say."""
    axes.plot([0, 1], [0, 1], color=INK, lw=0.8, ls=":")
    used = counts > 0
    axes.scatter(sure[used], share[used], s=10 + 150 * counts[used] / counts.max(), color="#2f5bd0", alpha=0.7, lw=0)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    label(axes, x, y)


def class_table(counts_CC: np.ndarray, classes: Sequence[str], what: str) -> Figure:
    """Precision, recall and F1 of each class, the worst first. `what`: the samples."""
    recall, precision, f1, n = per_class(counts_CC)
    order = np.argsort(np.nan_to_num(f1, nan=2.0), kind="stable")[:MOST_ROWS]
    rows = [[classes[k], str(n[k]), _number(precision[k]), _number(recall[k]), _number(f1[k])] for k in order]
    more = f", the {MOST_ROWS} worst of {len(classes)}" if len(classes) > MOST_ROWS else ""
    head = ["class", what, "precision", "recall", "F1"]
    return Figure(f"Classes on test, worst first{more}", html=to_table(head, rows))


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
