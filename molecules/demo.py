"""`python -m isoform.molecules.demo RUN [--out FILE]`: a picture of what a trained run says of its test molecules."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from torch import nn

from isoform.core.cli import demo
from isoform.core.engine.evaluate import evaluate
from isoform.core.inference.run_model import load_trained
from isoform.core.report import drawing
from isoform.core.report.classification import (
    MOST_CLASSES,
    draw_confusion,
    draw_reliability,
    draw_sorting,
)
from isoform.core.supervised.metrics import confusion, reliability
from isoform.molecules import DOMAIN
from isoform.molecules.cases import Cases, explain_cases, rank_cases
from isoform.molecules.drawings import colour_of, pixels, scale_of
from isoform.molecules.figures import draw_parity
from isoform.molecules.task import MoleculesTask, task_from_run

ROWS, COLUMNS = 3, 4  # of molecules


def draw(
    run_dir: str | Path, out: str | Path | None = None, *, data: str | Path | None = None
) -> Path:
    """A run's predictions against the truth, and test molecules with what their atoms contribute; or what it generates.

    Written to `out` (default RUN/demo.png). data: other molecules than the run's own, as for `isoform molecules eval
    --data`. Raises UserError where there is no run, or its data are no longer there.
    """
    path = Path(out) if out is not None else Path(run_dir) / "demo.png"
    drawing.kind_of(path)
    trained = load_trained(DOMAIN, run_dir)
    if trained.config.model.family == "adit":
        from isoform.molecules.adit.demo import draw_samples

        return draw_samples(trained, path)
    task = task_from_run(trained.config, trained.state, Path(data) if data is not None else None)
    model = trained.model
    split = "test" if "test" in task.data.rows else next(iter(task.data.rows))
    outputs = evaluate(task, model, split, precision_name=trained.precision)[1]
    guess, target = task.guess(outputs), outputs["target"]
    cases = rank_cases(task, guess, target)
    drawn = task.data.has_smiles and len(cases.order) > 0
    if drawn:
        plot = Figure(figsize=(13, 5.2), layout="constrained")
        parts: Any = plot.subfigures(1, 2, width_ratios=[1, 1.75])
        draw_answers(parts[0], task, guess, target, cases.target)
        _draw_molecules(parts[1], task, model, cases, split)
    else:
        plot = Figure(figsize=(5, 5), layout="constrained")
        draw_answers(plot, task, guess, target, cases.target)
    drawing.save(plot, path)
    return path


def draw_answers(
    onto: Any, task: MoleculesTask, guess: np.ndarray, target: np.ndarray, k: int
) -> None:
    """Of numbers one target's, of labels the first targets' curves, of classes what is taken for what."""
    if task.kind == "regression":
        draw_parity(onto.subplots(), task, guess, target, k)
    elif task.kind == "binary":
        draw_sorting(onto.subplots(2, 1), task.data.names, guess, target, task.decision)
    else:
        known, names = target >= 0, task.data.names
        said, true = guess[known], target[known]
        if len(names) <= MOST_CLASSES:
            counts = confusion(task.decision.classes(said), true, len(names))
            draw_confusion(onto.subplots(), counts, names)
        else:
            found = reliability(said.max(1), said.argmax(1) == true)
            draw_reliability(
                onto.subplots(), *found, "probability of the guess", "share that is right"
            )


def _draw_molecules(
    onto: Any, task: MoleculesTask, model: nn.Module, cases: Cases, split: str
) -> None:
    """Molecules evenly spaced over the split, in the colours of their atoms' contributions."""
    known = np.sort(cases.order)
    count = min(ROWS * COLUMNS, len(known))
    chosen = known[np.linspace(0, len(known) - 1, count).astype(int)]
    cells = explain_cases(task, model, cases, chosen.tolist(), split)
    scale = scale_of(cells)
    places = onto.subplots(ROWS, COLUMNS)
    for place, cell in zip(places.ravel(), cells, strict=False):
        picture = pixels(cell, scale)
        if picture is not None:
            place.imshow(picture, interpolation="antialiased")
        words = "\n".join(drawing.short(line, 30) for line in cell.words)
        place.set_title(words, fontsize=7.5, color=drawing.INK, parse_math=False, y=-0.3)
    for place in places.ravel():
        place.set_axis_off()
    colours = [colour_of(value, 1.0) for value in np.linspace(-1, 1, 41)]
    shades = LinearSegmentedColormap.from_list("contributions", colours)
    colouring = ScalarMappable(Normalize(-scale, scale), shades)
    bar = onto.colorbar(colouring, ax=places, shrink=0.6, extend="both")
    unit = f" ({cases.contributed})" if cases.contributed else ""
    bar.set_label(f"what an atom adds{unit}", color=drawing.INK, fontsize=8)
    bar.ax.tick_params(colors=drawing.INK, labelsize=7)


def main(arguments: list[str] | None = None) -> int:
    """The command; 2 for the user's mistake."""
    return demo.main("molecules", __doc__, draw, arguments)


if __name__ == "__main__":
    sys.exit(main())
