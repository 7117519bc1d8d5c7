"""The pictures of a molecules report: prediction against truth, error by size, best and worst molecules, their atoms.

N molecules, K targets, C classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from isoform.core.domain import Figure
from isoform.core.report.classification import (
    MOST_ROWS,
    calibration_figure,
    class_table,
    confusion_figure,
    sorting_figure,
)
from isoform.core.report.drawing import INK, label, short, to_svg, to_table
from isoform.core.runs.results import describe_importance
from isoform.core.supervised.decision import as_labels
from isoform.core.supervised.metrics import confusion
from isoform.molecules.cases import Cases, explain_cases, rank_cases
from isoform.molecules.drawings import scale_of, sheet

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from isoform.molecules.task import MoleculesTask

MOST_PANELS = 6  # targets in one picture
SHOWN = 6  # molecules of the best, and of the worst
_BLUE, _SOFT, _DARK = "#2f5bd0", "#9fb4ea", "#14265c"
_MOST_SIZES = 14  # bars of the error by size
_MOST_MARKS = 1500  # that stay shapes; more become pixels


def figures(
    task: MoleculesTask, model: nn.Module, outputs: Mapping[str, np.ndarray]
) -> list[Figure]:
    """Pictures of the test molecules."""
    guess, target = task.guess(outputs), outputs["target"]
    draw = {"regression": _regression, "binary": _binary, "multiclass": _multiclass}[task.kind]
    found = draw(task, guess, target)
    cases = rank_cases(task, guess, target)
    return [
        *found[:1],
        *_molecules(task, model, cases),
        *found[1:],
        *_sizes(task, cases, outputs["atoms"]),
    ]


def units_of(task: MoleculesTask) -> list[str]:
    """The targets' units, "" where unknown."""
    missing = len(task.data.names) - len(task.data.units)
    return [*task.data.units, *[""] * missing]


def _named(task: MoleculesTask, k: int) -> str:
    name, unit = short(task.data.names[k]), units_of(task)[k]
    return f"{name} ({short(unit)})" if unit else name


# Numbers --------------------------------------------------------------------------------------------------------------


def _regression(task: MoleculesTask, guess: np.ndarray, target: np.ndarray) -> list[Figure]:
    from matplotlib.figure import Figure as Plot

    targets = len(task.data.names)
    panels = min(targets, MOST_PANELS)
    columns = min(panels, 3)
    rows = -(-panels // columns)
    width, height = (3.6, 3.2) if panels > 1 else (4.2, 3.7)
    plot = Plot(figsize=(width * columns, height * rows), layout="constrained")
    axes = plot.subplots(rows, columns, squeeze=False).ravel()
    for place in axes[panels:]:
        place.set_axis_off()
    for k, place in enumerate(axes[:panels]):
        draw_parity(place, task, guess, target, k)
    more = f", the first {panels} of {targets} targets" if panels < targets else ""
    caption = f"Predicted against true values of {len(target):,} test molecules{more}; the dotted line is equality"
    held = _coverage(task, guess, target)
    if held:
        caption += f"; {held}"
    found = [Figure(caption, to_svg(plot))]
    if targets > 1:
        found.append(_target_table(task, guess, target))
    return found


def draw_parity(
    axes: Axes, task: MoleculesTask, guess: np.ndarray, target: np.ndarray, k: int
) -> None:
    """One target's predictions over its true values, with the error and the explained share in the corner."""
    known = np.isfinite(target[:, k])
    true, said = target[known, k], guess[known, k]
    many = len(true) > _MOST_MARKS
    size, alpha = (5, 0.25) if many else (11, 0.55)
    axes.scatter(true, said, s=size, color=_BLUE, alpha=alpha, lw=0, rasterized=many)
    if len(true):
        both = np.concatenate([true, said])
        low, high = float(both.min()), float(both.max())
        room = 0.04 * (high - low) or 1.0
        ends = (low - room, high + room)
        axes.plot(ends, ends, color=INK, lw=0.8, ls=":")
        axes.set(xlim=ends, ylim=ends)
        text = _words_of(true, said, units_of(task)[k])
        axes.text(
            0.04,
            0.96,
            text,
            transform=axes.transAxes,
            va="top",
            fontsize=9,
            color=INK,
            parse_math=False,
        )
    axes.set_aspect("equal")
    label(axes, f"true {_named(task, k)}", f"predicted {_named(task, k)}")


def _words_of(true: np.ndarray, said: np.ndarray, unit: str) -> str:
    error = float(np.abs(said - true).mean())
    words = f"MAE {error:.3g} {short(unit)}".strip()
    explained = _explained(true, said)
    return f"{words}\nR² {explained:.3f}" if np.isfinite(explained) else words


def _explained(true: np.ndarray, said: np.ndarray) -> float:
    spread = float(np.square(true - true.mean()).sum())
    if spread <= 0:
        return float("nan")
    return 1 - float(np.square(said - true).sum()) / spread


def _coverage(task: MoleculesTask, guess: np.ndarray, target: np.ndarray) -> str:
    """What the conformal intervals hold, as part of a sentence."""
    if task.calibration is None:
        return ""
    shown = []
    learned = task.scaling.learned  # what intervals are of
    for name, value in task.calibration.coverage(learned(guess), learned(target)).items():
        words = name.split()
        if words[0] == "coverage" and len(words) == 2:
            shown.append(f"{value:.1%} for {float(words[1]):.0%}")
    return f"intervals hold {', '.join(shown)}" if shown else ""


def _target_table(task: MoleculesTask, guess: np.ndarray, target: np.ndarray) -> Figure:
    """Each target with its own metrics, the worst first."""
    found = task.score(guess, target)
    regression, several = task.kind == "regression", len(task.data.names) > 1
    metrics = ("mae", "rmse", "r2", "spearman") if regression else ("roc_auc", "average_precision")
    judged_by = "r2" if regression else "roc_auc"
    units, known = units_of(task), np.isfinite(target).sum(0)
    rows, order = [], []
    for k, name in enumerate(task.data.names):
        own = {
            metric: found.get(f"{metric} {name}" if several else metric, float("nan"))
            for metric in metrics
        }
        row = [name, units[k]] if regression else [name]
        row.append(f"{known[k]:,}")
        if not regression:
            share = float(np.nanmean(target[:, k])) if known[k] else float("nan")
            row.append(_number(share))
        row += [_number(value) for value in own.values()]
        rows.append(row)
        order.append(np.nan_to_num(own[judged_by], nan=2.0))
    chosen = np.argsort(order, kind="stable")[:MOST_ROWS]
    more = (
        f", the {MOST_ROWS} worst of {len(rows)}" if len(rows) > MOST_ROWS else ", the worst first"
    )
    head = ["target", "unit", "labels"] if regression else ["target", "labels", "share of 1"]
    head += [metric.replace("_", " ") for metric in metrics]
    return Figure(f"Targets on test{more}", html=to_table(head, [rows[k] for k in chosen]))


# Classes --------------------------------------------------------------------------------------------------------------


def _binary(task: MoleculesTask, guess: np.ndarray, target: np.ndarray) -> list[Figure]:
    names = task.data.names
    found = [sorting_figure(names, guess, target, task.decision, "molecules")]
    known = np.isfinite(target)
    if known.any():
        said, true = guess[known], target[known] > 0.5
        found.append(calibration_figure(said, true, "probability of 1", "share that is 1"))
    if len(names) > 1:
        found.append(_target_table(task, guess, target))
    return found


def _multiclass(task: MoleculesTask, guess: np.ndarray, target: np.ndarray) -> list[Figure]:
    known = target >= 0
    said, true, names = guess[known], target[known], task.data.names
    if not len(true):
        return []
    counts = confusion(task.decision.classes(said), true, len(names))
    found = [confusion_figure(counts, names, "molecules")]
    if len(names) == 2:
        labels = as_labels(task.kind, said, true)
        found.append(sorting_figure(names[1:], *labels, task.decision, "molecules"))
    found.append(calibration_figure(said.max(1), said.argmax(1) == true))
    found.append(class_table(counts, names, "molecules"))
    return found


# Molecules ------------------------------------------------------------------------------------------------------------


def _molecules(task: MoleculesTask, model: nn.Module, cases: Cases) -> list[Figure]:
    """The worst and the best as drawn molecules; none for data that are graphs alone."""
    if not task.data.has_smiles or not len(cases.order):
        return []
    count = min(SHOWN, len(cases.order))
    worst, best = cases.order[:count], cases.best(count)
    cells = explain_cases(task, model, cases, [*worst, *best])
    scale, unit = scale_of(cells), cases.contributed
    of_target = f" of {short(cases.name, 30)}" if len(task.data.names) > 1 and cases.name else ""
    worst_title, best_title = cases.titles
    caption = (
        f"{worst_title}{of_target} on {len(cases.order):,} test molecules; orange atoms raise {cases.raised}, blue "
        "ones lower it, beside the same graph with the average atom in every place"
    )
    shares = task.importance(model, "test")
    said = (
        f"{describe_importance(shares, 'test')}; atoms are coloured by what the graph contributes"
    )
    hangs_on = f"; {said}" if shares else ""
    return [
        Figure(caption + hangs_on, sheet(cells[:count], 3, scale, unit)),
        Figure(
            f"{best_title}{of_target}; colours as above{hangs_on}",
            sheet(cells[count:], 3, scale, unit),
        ),
    ]


def _sizes(task: MoleculesTask, cases: Cases, atoms: np.ndarray) -> list[Figure]:
    """The error over the number of atoms: quartiles and mean."""
    if not len(cases.order):
        return []
    from matplotlib.figure import Figure as Plot

    groups = by_size(atoms[cases.order], cases.error)
    plot = Plot(figsize=(5.6, 3.2), layout="constrained")
    axes = plot.subplots()
    places = np.arange(len(groups))
    means = [errors.mean() for _, errors in groups]
    if cases.share:
        axes.bar(places, means, color=_SOFT, width=0.7)
    else:
        quartiles = [np.quantile(errors, (0.25, 0.5, 0.75)) for _, errors in groups]
        low, middle, high = np.array(quartiles).T
        axes.bar(places, high - low, bottom=low, color=_SOFT, width=0.6, label="middle half")
        axes.scatter(places, middle, color=_BLUE, marker="_", s=150, lw=2, label="median")
        axes.scatter(places, means, color=_DARK, s=12, label="mean")
        plot.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False, labelcolor=INK)
    axes.use_sticky_edges = (
        False  # of one molecule the bar has no height, and would be the border of the picture
    )
    axes.set_ylim(bottom=0)
    axes.set_xticks(places, [f"{name}\n{len(errors):,}" for name, errors in groups], fontsize=7.5)
    label(axes, "atoms, and below how many molecules", cases.measure)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    measure = cases.measure[:1].upper() + cases.measure[1:]
    return [Figure(f"{measure} by size on test", to_svg(plot))]


def by_size(atoms: np.ndarray, errors: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """(sizes, the errors of molecules of these sizes), ascending: every size, or ranges with about equally many."""
    sizes = np.unique(atoms)
    if len(sizes) > _MOST_SIZES:
        ranked = np.sort(atoms)
        lows = np.unique(
            ranked[np.linspace(0, len(ranked), _MOST_SIZES, endpoint=False).astype(int)]
        )
    else:
        lows = sizes
    place = np.searchsorted(lows, atoms, side="right") - 1
    found = []
    for i in range(len(lows)):
        mine = place == i
        first, last = int(atoms[mine].min()), int(atoms[mine].max())
        found.append((str(first) if first == last else f"{first}-{last}", errors[mine]))
    return found


def _number(value: Any) -> str:
    return "-" if not np.isfinite(value) else f"{value:.4g}"
