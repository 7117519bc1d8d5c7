"""`python -m isoform.vision.demo RUN [--out FILE]`: a picture of what a trained run says of its test images."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from isoform.core.cli import demo
from isoform.core.inference.run_model import load_trained
from isoform.core.report import drawing
from isoform.vision import DOMAIN
from isoform.vision.data.dataset import spread
from isoform.vision.figures import draw_grid, guess_of, map_cell
from isoform.vision.maps import attention_map

IMAGES, COLUMNS = 12, 6


def draw(
    run_dir: str | Path, out: str | Path | None = None, *, data: str | Path | None = None
) -> Path:
    """Test images, predictions and attention of a run, written to `out` (default RUN/demo.png; .svg and .pdf work too).

    data: other images than the run's own, as for `isoform vision eval --data`. Raises UserError where there is no run,
    or its data are no longer there.
    """
    run = Path(run_dir)
    path = Path(out) if out is not None else run / "demo.png"
    drawing.kind_of(path)
    trained = load_trained(DOMAIN, run)
    task = DOMAIN.task_from_run(
        trained.config, trained.state, Path(data) if data is not None else None
    )
    model = trained.model
    split = "test" if "test" in task.data.rows else next(iter(task.data.rows))
    rows = task.data.rows[split]
    known = np.flatnonzero(np.isin(rows, task.data.complete_rows(rows)))
    chosen = spread(known, IMAGES)
    with torch.no_grad():
        batch = task.collate([task.sample(split, int(i), None) for i in chosen])
        outputs = {name: value.numpy() for name, value in task.predict(model, batch).items()}
    guess = task.guess(outputs)
    maps = attention_map(model, batch["image"])
    cells = []
    for start in range(
        0, len(chosen), COLUMNS
    ):  # a row of images above a row of what the model looked at
        part = range(start, min(start + COLUMNS, len(chosen)))
        for i in part:
            image = task.data.fitted(int(rows[chosen[i]]))
            target = outputs["target"][i]
            cells.append(
                (image, *guess_of(task.kind, task.classes, guess[i], target, task.decision))
            )
        cells += [map_cell(maps[i]) for i in part]
    drawing.save(draw_grid(cells, min(COLUMNS, len(chosen))), path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """The command; 2 for the user's mistake."""
    return demo.main("vision", __doc__, draw, arguments)


if __name__ == "__main__":
    sys.exit(main())
