"""The pictures of a vision report: samples, the worst mistakes, what the model looks at, confusion, calibration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from isoform.core.domain import Figure
from isoform.core.report.classification import MOST_ROWS, calibration_figure, class_table, confusion_figure
from isoform.core.report.drawing import INK, label, short, to_svg, to_table
from isoform.core.supervised import metrics as M
from isoform.vision.data.dataset import spread
from isoform.vision.data.transforms import to_float
from isoform.vision.maps import attention_map

if TYPE_CHECKING:
    from isoform.vision.task import VisionTask

_RIGHT, _WRONG = "#2a9163", "#c43a5e"


def figures(task: VisionTask, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
    """Pictures of the test split's predictions."""
    target, look = outputs["target"], _attention_figure(task, model)
    if task.kind == "regression":
        return [*_regression_figures(task, outputs["prediction"], target), look]
    probability = task.probability(outputs)
    if task.kind == "multilabel":
        return [_sample_grid(task, probability, target), _label_table(task, probability, target), look]
    counts = M.confusion(probability.argmax(1), target, len(task.classes))
    found = [_sample_grid(task, probability, target)]
    worst = _worst_mistakes(task, probability, target)
    found += [worst, look] if worst else [look]
    found.append(confusion_figure(counts, task.classes, "images"))
    found.append(calibration_figure(probability.max(1), probability.argmax(1) == target))
    found.append(class_table(counts, task.classes, "images"))
    return found


def picture(image_CHW: Tensor) -> np.ndarray:
    """[H, W] or [H, W, 3] in [0, 1]: what a person can look at, the first channels of images that have many."""
    array = to_float(image_CHW).numpy()
    if array.min() < 0 or array.max() > 1:
        array = (array - array.min()) / max(float(array.max() - array.min()), 1e-6)
    return array[0] if array.shape[0] in (1, 2) else array[:3].transpose(1, 2, 0)


def draw_grid(cells: Sequence[tuple[Tensor, str, bool | None]], columns: int = 6) -> Any:
    """A matplotlib figure of images [C, H, W] with captions; True is written in green, False in red."""
    from matplotlib.figure import Figure as Plot

    rows = -(-len(cells) // columns)
    plot = Plot(figsize=(1.1 * columns, 1.4 * rows), layout="constrained")
    axes = np.atleast_1d(plot.subplots(rows, columns, squeeze=False)).ravel()
    for place in axes:
        place.set_axis_off()
    for place, (image, caption, right) in zip(axes, cells, strict=False):
        place.imshow(picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        colour = INK if right is None else _RIGHT if right else _WRONG
        place.set_title(caption, fontsize=8, color=colour, parse_math=False)
    return plot


def guess_of(kind: str, classes: Sequence[str], guess: np.ndarray, target: np.ndarray) -> tuple[str, bool | None]:
    """(caption, right or wrong) of one image."""
    if kind == "multiclass":
        k, true = int(guess.argmax()), int(target)
        caption = f"{short(classes[k], 11)} {guess[k]:.0%}"
        return (caption, True) if k == true else (f"{caption}\nis {short(classes[true], 11)}", False)
    if kind == "multilabel":
        named = [short(name, 12) for name, p in zip(classes, guess, strict=True) if p >= 0.5]
        return ", ".join(named[:3]) or "(none)", bool(((guess >= 0.5) == (target > 0.5)).all())
    return f"{guess[0]:.4g}\nis {target[0]:.4g}", None


def _sample_grid(task: VisionTask, guess: np.ndarray, target: np.ndarray) -> Figure:
    chosen = np.linspace(0, len(guess) - 1, min(18, len(guess))).astype(int)
    cells = [_cell(task, i, guess, target) for i in chosen]
    return Figure("Test images, evenly spaced, and what the model says of them", to_svg(draw_grid(cells)))


def _cell(task: VisionTask, i: int, guess: np.ndarray, target: np.ndarray) -> tuple[Tensor, str, bool | None]:
    rows = task.data.rows["test"]
    return (task.data.fitted(int(rows[i])), *guess_of(task.kind, task.classes, guess[i], target[i]))


def _worst_mistakes(task: VisionTask, probability: np.ndarray, target: np.ndarray) -> Figure | None:
    wrong = np.flatnonzero(probability.argmax(1) != target)
    if not len(wrong):
        return None
    chosen = wrong[np.argsort(-probability[wrong].max(1), kind="stable")][:12]
    cells = [_cell(task, i, probability, target) for i in chosen]
    return Figure(f"The surest of {len(wrong)} mistakes on {len(target)} test images", to_svg(draw_grid(cells)))


def _attention_figure(task: VisionTask, model: nn.Module) -> Figure:
    rows = spread(task.data.rows["test"], 6)
    images = [task.data.fitted(int(row)) for row in rows]
    device = next(model.parameters()).device
    maps = attention_map(model, task.preprocess(images).to(device)).float().cpu()
    cells: list[tuple[Tensor, str, bool | None]] = [(image, "", None) for image in images]
    cells += [(one[None] / one.max(), "", None) for one in maps]
    who = "the class token" if task.config.tokeniser.class_token else "all patches on average"
    return Figure(f"Test images, and where {who} looks in the last block", to_svg(draw_grid(cells, len(images))))


def _label_table(task: VisionTask, probability: np.ndarray, target: np.ndarray) -> Figure:
    rows = []
    for k, name in enumerate(task.classes[:MOST_ROWS]):
        found = M.binary_metrics(probability[:, k], target[:, k] > 0.5)
        rows.append([name, str(int((target[:, k] > 0.5).sum())), _number(found.get("average_precision", np.nan)),
                     _number(found.get("roc_auc", np.nan))])  # fmt: skip
    return Figure("Labels on test", html=to_table(["label", "images", "average precision", "ROC AUC"], rows))


def _regression_figures(task: VisionTask, prediction: np.ndarray, target: np.ndarray) -> list[Figure]:
    from matplotlib.figure import Figure as Plot

    k = min(len(task.classes), 6)
    plot = Plot(figsize=(3.4 * k, 3.2), layout="constrained")
    for i, axes in enumerate(plot.subplots(1, k, squeeze=False).ravel()):
        axes.scatter(target[:, i], prediction[:, i], s=9, color="#2f5bd0", alpha=0.6, lw=0)
        ends = [
            float(min(target[:, i].min(), prediction[:, i].min())),
            float(max(target[:, i].max(), prediction[:, i].max())),
        ]
        axes.plot(ends, ends, color=INK, lw=0.8, ls=":")
        label(axes, f"true {short(task.classes[i])}", "predicted")
    scaled = np.abs(prediction - target) / task.target_std.numpy()
    worst = np.argsort(-scaled.max(1), kind="stable")[:12]
    cells = [_cell(task, i, prediction, target) for i in worst]
    return [
        Figure("Predicted against true values on test; the dotted line is equality", to_svg(plot)),
        Figure(f"The largest errors on {len(target)} test images ({short(task.classes[0])})", to_svg(draw_grid(cells))),
    ]


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
