"""`python -m isoform.pointcloud.demo RUN [--out FILE]`: a picture of what a trained run says of its test clouds."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from isoform.core.cli import demo
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_trained
from isoform.core.report import drawing
from isoform.core.report.points import draw_still
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.figures import answer_scene
from isoform.pointcloud.task import task_from_run

CLOUDS = 12


def draw(
    run_dir: str | Path, out: str | Path | None = None, *, data: str | Path | None = None
) -> Path:
    """Test clouds and predictions of a run, written to `out` (default RUN/demo.png; .svg and .pdf work too).

    data: other clouds than the run's own, as for `isoform pointcloud eval --data`. Raises UserError where there is no
    classifier's run, or its data are no longer there.
    """
    path = Path(out) if out is not None else Path(run_dir) / "demo.png"
    drawing.kind_of(path)
    trained = load_trained(DOMAIN, run_dir)
    task = task_from_run(trained.config, trained.state, Path(data) if data is not None else None)
    if task.pretrains:
        raise UserError(f"{run_dir}: is a pretraining; its pictures stand in its report")
    split = "test" if "test" in task.data.rows else next(iter(task.data.rows))
    count = len(task.data.rows[split])
    chosen = np.linspace(0, count - 1, min(CLOUDS, count)).astype(int)
    with torch.no_grad():
        batch = task.collate([task.sample(split, int(i), None) for i in chosen])
        outputs = {n: value.numpy() for n, value in task.predict(trained.model, batch).items()}
    rows = task.data.rows[split][chosen]
    scene = answer_scene(task, rows, outputs["target"], task.guess(outputs))
    drawing.save(draw_still(scene), path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """The command; 2 for the user's mistake."""
    return demo.main("pointcloud", __doc__, draw, arguments)


if __name__ == "__main__":
    sys.exit(main())
