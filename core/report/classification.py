"""Pictures of classifiers that several domains show: confusion, calibration, classes. C classes, N samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from isoform.core.domain import Figure
from isoform.core.report.drawing import INK, SERIES, label, short, to_svg, to_table
from isoform.core.report.formatting import fraction
from isoform.core.supervised.metrics import mean_distance, per_class, reliability

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_CLASSES = 30  # in a picture of the confusion matrix
MOST_ROWS = 100  # in a table


def draw_confusion(axes: Axes, counts_CC: np.ndarray, classes: Sequence[str]) -> None:
    """Rows are the true classes, columns the guessed ones, shades a row's shares."""
    share = counts_CC / np.maximum(counts_CC.sum(1, keepdims=True), 1)
    axes.imshow(share, cmap=_shades(), vmin=0, vmax=1)
    for a, b in zip(*np.nonzero(counts_CC), strict=True):
        colour = "white" if share[a, b] > 0.7 else INK
        axes.text(b, a, str(counts_CC[a, b]), ha="center", va="center", fontsize=7, color=colour)
    names = [short(name) for name in classes]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=8, parse_math=False)
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    label(axes, "guessed", "true")


def _shades() -> Any:
    """A colormap from the paper, light or dark, to blue."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("shades", [f"{SERIES[0]}00", SERIES[0]])


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
    axes.scatter(sure[used], share[used], s=size, color=SERIES[0], alpha=0.7, lw=0)
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
