"""The pictures of a vision report: samples, the worst mistakes, what the model looks at, confusion, calibration.

C channels, H x W pixels, n test images whose targets are known, K classes, labels or targets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor, nn

from isoform.core.domain import Figure, File
from isoform.core.report.classification import (
    MOST_ROWS,
    calibration_figure,
    class_table,
    confusion_figure,
    sorting_figure,
)
from isoform.core.report.drawing import (
    INK,
    SERIES,
    label,
    short,
    to_svg,
    to_table,
)
from isoform.core.supervised.decision import Decision, as_labels
from isoform.core.supervised.metrics import binary_metrics, confusion
from isoform.vision.data.dataset import spread
from isoform.vision.data.values import to_float
from isoform.vision.heads import blocks_of, names_of, true_classes
from isoform.vision.maps import attention_map
from isoform.vision.nearest import nearest_training

if TYPE_CHECKING:
    from isoform.vision.task import VisionTask

POINTS, RIGHT, WRONG = SERIES[0], SERIES[2], SERIES[6]
SAMPLES, MISTAKES, LOOKED_AT = 18, 12, 6  # images of a picture
MOST_TARGETS = 6  # scatter plots

Cell = tuple[
    Tensor, str, bool | None
]  # image [C, H, W], caption, whether the answer is right (None: no matter)


@dataclass(frozen=True)
class Answers:
    """What the model says of the test images whose targets are known.

    samples [n] of the test split
    rows    [n] of the data
    guess   [n, K] probabilities, or numbers in the targets' units
    target  [n] classes, or [n, K]
    """

    samples: np.ndarray
    rows: np.ndarray
    guess: np.ndarray
    target: np.ndarray


def figures(
    task: VisionTask,
    model: nn.Module,
    outputs: Mapping[str, np.ndarray],
) -> list[Figure]:
    """Pictures of the test split's predictions."""
    rows = task.data.rows["test"]
    known = np.flatnonzero(np.isin(rows, task.data.complete_rows(rows)))
    answers = Answers(known, rows[known], task.guess(outputs)[known], outputs["target"][known])
    look = _attention_figure(task, model)
    if not len(answers.rows):
        return [look]
    if task.kind == "regression":
        return [_scatter_figure(task, answers), _largest_errors(task, model, answers), look]
    if task.kind == "multihead":
        return [look, *_head_figures(task, outputs)]
    labels = as_labels(task.kind, answers.guess, answers.target)
    if task.kind == "multilabel":
        sorting = sorting_figure(task.classes, *labels, task.decision, "images")
        worst = _worst_labels(task, model, answers)
        return [_sample_grid(task, answers), *worst, sorting, _label_table(task, answers), look]
    guessed = task.decision.classes(answers.guess)
    counts = confusion(guessed, answers.target, len(task.classes))
    found = [_sample_grid(task, answers), *_worst_mistakes(task, model, answers), look]
    found.append(confusion_figure(counts, task.classes, "images"))
    if len(task.classes) == 2:
        found.append(sorting_figure(task.classes[1:], *labels, task.decision, "images"))
    likelier = answers.guess.argmax(1)
    found.append(calibration_figure(answers.guess.max(1), likelier == answers.target))
    found.append(class_table(counts, task.classes, "images"))
    return found


def _head_figures(task: VisionTask, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
    """Confusion and classes of every head, over the images whose class it is known of."""
    found, guess = [], task.guess(outputs)
    for column, block in blocks_of(task.classes).items():
        true, names = true_classes(outputs["target"], block), names_of(task.classes, block)
        known = true >= 0
        if known.any():
            counts = confusion(guess[known, block].argmax(1), true[known], len(names))
            each = [confusion_figure(counts, names, "images"), class_table(counts, names, "images")]
            found += [replace(one, caption=f"{column}: {one.caption}") for one in each]
    return found


def picture(image_CHW: Tensor) -> np.ndarray:
    """[H, W] or [H, W, 3] in [0, 1]: what a person can look at, the first channels of images that have many."""
    array = to_float(image_CHW).numpy()
    if array.min() < 0 or array.max() > 1:
        extent = max(float(array.max() - array.min()), 1e-6)
        array = (array - array.min()) / extent
    if array.shape[0] in (1, 2):
        return array[0]
    return array[:3].transpose(1, 2, 0)


def show(image_CHW: Tensor, task: VisionTask) -> Tensor:
    """A fitted image as a cell shows it: from the training images' lowest value, black, to their highest."""
    span = task.preprocess.span
    image = to_float(image_CHW)
    return image if span is None else span.to_unit(image).clamp(0, 1)


def draw_grid(cells: Sequence[Cell], columns: int = 6, together: int = 1) -> Any:
    """A matplotlib figure of images with captions; a right answer is written in green, a wrong one in red.

    together   of so many in a row the last has more room behind it
    """
    from matplotlib.figure import Figure as Plot

    rows = -(-len(cells) // columns)
    plot = Plot(figsize=(1.1 * columns, 1.4 * rows), layout="constrained")
    room = [0.35] if together > 1 else []
    widths = ([1] * together + room) * (columns // together)
    places = plot.subplots(rows, len(widths), squeeze=False, width_ratios=widths)
    for place in places.ravel():
        place.set_axis_off()
    shown = places[:, np.equal(widths, 1)].ravel()
    colours = {None: INK, True: RIGHT, False: WRONG}
    for place, (image, caption, right) in zip(shown, cells, strict=False):
        place.imshow(picture(image), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        # Its place is told, so that no ticks are made and measured to find it.
        place.set_title(caption, y=1.0, fontsize=8, color=colours[right], parse_math=False)
    return plot


def guess_of(
    kind: str,
    classes: Sequence[str],
    guess: np.ndarray,
    target: np.ndarray,
    decision: Decision,
) -> tuple[str, bool | None]:
    """(caption, right or wrong) of one image, from its guess [K] and its target."""
    if kind == "regression":
        return f"{guess[0]:.4g}\nis {target[0]:.4g}", None
    if kind == "multilabel":
        said = decision.yes(guess)
        named = [short(name, 12) for name, yes in zip(classes, said, strict=True) if yes]
        right = (said == (target > 0.5)).all()
        return ", ".join(named[:3]) or "(none)", bool(right)
    guessed, true = int(decision.classes(guess[None])[0]), int(target)
    caption = f"{short(classes[guessed], 11)} {guess[guessed]:.0%}"
    if guessed == true:
        return caption, True
    return f"{caption}\nis {short(classes[true], 11)}", False


def _cell(task: VisionTask, answers: Answers, i: int) -> Cell:
    image = show(task.data.fitted(int(answers.rows[i])), task)
    guess, target = answers.guess[i], answers.target[i]
    caption, right = guess_of(task.kind, task.classes, guess, target, task.decision)
    return image, caption, right


def _sample_grid(task: VisionTask, answers: Answers) -> Figure:
    n = len(answers.rows)
    chosen = np.linspace(0, n - 1, min(SAMPLES, n)).astype(int)
    cells = [_cell(task, answers, i) for i in chosen]
    return Figure(
        "Test images, evenly spaced, and what the model says of them", to_svg(draw_grid(cells))
    )


def _worst_mistakes(task: VisionTask, model: nn.Module, answers: Answers) -> list[Figure]:
    wrong = np.flatnonzero(task.decision.classes(answers.guess) != answers.target)
    if not len(wrong):
        return []
    surest_first = np.argsort(-answers.guess[wrong].max(1), kind="stable")
    caption = f"The surest of {len(wrong)} mistakes on {len(answers.rows)} test images"
    return [_beside_training(task, model, answers, wrong[surest_first][:MISTAKES], caption)]


def _worst_labels(task: VisionTask, model: nn.Module, answers: Answers) -> list[Figure]:
    off = np.abs(answers.guess - answers.target).max(1)
    said = task.decision.yes(answers.guess)
    wrong = np.flatnonzero((said != (answers.target > 0.5)).any(1))
    if not len(wrong):
        return []
    worst = wrong[np.argsort(-off[wrong], kind="stable")][:MISTAKES]
    caption = f"The surest mistakes, on {len(wrong)} of {len(answers.rows)} test images"
    return [_beside_training(task, model, answers, worst, caption)]


def _beside_training(
    task: VisionTask, model: nn.Module, answers: Answers, chosen: np.ndarray, caption: str
) -> Figure:
    """Chosen test images, each with the nearest training image beside it, and below their names and files."""
    near, among = nearest_training(task, model, "test", answers.samples[chosen])
    cells: list[Cell] = []
    table: list[list[str | File]] = []
    for place, i in enumerate(chosen.tolist()):
        cells.append(_cell(task, answers, i))
        given, said = _given(task, answers.target[i]), _said(task, answers.guess[i])
        table.append([_file(task, answers.rows[i]), given, said])
        if among:
            row = int(task.data.rows["train"][near[place]])
            its = _given(task, task.data.targets[row])
            cells.append((task.data.fitted(row), f"like\n{short(its, 11)}", None))
            table[-1] += [_file(task, row), its]
    head = ["test image", "given", "the model says"]
    if among:
        head += ["nearest training image", "given"]
        caption += (
            f"; to the right of each the most alike, to the trunk, of {among:,} training images"
        )
    svg = to_svg(draw_grid(cells, 8 if among else 6, together=2 if among else 1))
    return Figure(caption, svg, head=head, rows=table)


def _file(task: VisionTask, row: int) -> File:
    images = task.data.records.images
    return File(images.names[int(row)], images.path(int(row)))


def _said(task: VisionTask, guess_K: np.ndarray) -> str:
    """What the model answers to one image."""
    if task.kind == "regression":
        return _numbers(guess_K)
    if task.kind == "multilabel":
        return _named(task, task.decision.yes(guess_K[None])[0])
    said = int(task.decision.classes(guess_K[None])[0])
    return f"{task.classes[said]} {guess_K[said]:.0%}"


def _given(task: VisionTask, target: np.ndarray) -> str:
    """The target of one image: a class, or labels or numbers [K]."""
    if task.kind == "regression":
        return _numbers(target)
    if task.kind == "multilabel":
        return _named(task, target > 0.5)
    return task.classes[int(target)] if target >= 0 else "(unknown)"


def _numbers(values_K: np.ndarray) -> str:
    return ", ".join(f"{value:.4g}" for value in values_K[:MOST_TARGETS])


def _named(task: VisionTask, which_K: np.ndarray) -> str:
    return ", ".join(task.classes[k] for k in np.flatnonzero(which_K)) or "(none)"


def _attention_figure(task: VisionTask, model: nn.Module) -> Figure:
    rows = spread(task.data.rows["test"], LOOKED_AT)
    images = [task.data.fitted(int(row)) for row in rows]
    device = next(model.parameters()).device
    maps = attention_map(model, task.preprocess(images).to(device)).float().cpu()
    cells: list[Cell] = [(show(image, task), "", None) for image in images]
    cells += [map_cell(one) for one in maps]
    who = "the class token" if task.config.tokeniser.class_token else "the average patch"
    return Figure(
        f"Test images, and where {who} looks in the last block",
        to_svg(draw_grid(cells, len(images))),
    )


def map_cell(map_hw: Tensor) -> Cell:
    """A map of attention as an image, its highest share white."""
    return map_hw[None] / map_hw.max(), "", None


def _label_table(task: VisionTask, answers: Answers) -> Figure:
    rows = []
    for k, name in enumerate(task.classes[:MOST_ROWS]):
        positive = answers.target[:, k] > 0.5
        found = binary_metrics(answers.guess[:, k], positive)
        scores = [_number(found.get(metric)) for metric in ("average_precision", "roc_auc")]
        rows.append([name, str(int(positive.sum())), *scores])
    return Figure(
        "Labels on test", html=to_table(["label", "images", "average precision", "ROC AUC"], rows)
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _scatter_figure(task: VisionTask, answers: Answers) -> Figure:
    from matplotlib.figure import Figure as Plot

    count = min(len(task.classes), MOST_TARGETS)
    plot = Plot(figsize=(3.4 * count, 3.2), layout="constrained")
    for k, axes in enumerate(plot.subplots(1, count, squeeze=False).ravel()):
        true, predicted = answers.target[:, k], answers.guess[:, k]
        axes.scatter(true, predicted, s=9, color=POINTS, alpha=0.6, lw=0)
        ends = [min(true.min(), predicted.min()), max(true.max(), predicted.max())]
        axes.plot(ends, ends, color=INK, lw=0.8, ls=":")
        label(axes, f"true {short(task.classes[k])}", "predicted")
    return Figure(
        "Predicted against true values on test; the dotted line is equality", to_svg(plot)
    )


def _largest_errors(task: VisionTask, model: nn.Module, answers: Answers) -> Figure:
    error = np.abs(answers.guess - answers.target) / np.asarray(task.scaling.std)
    largest_first = np.argsort(-error.max(1), kind="stable")
    name = short(task.classes[0])
    caption = f"The largest errors on {len(answers.rows)} test images ({name})"
    return _beside_training(task, model, answers, largest_first[:MISTAKES], caption)
