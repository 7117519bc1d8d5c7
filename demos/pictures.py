"""One picture of all demos, with what each reached beside its best baseline.

python demos/pictures.py [FOLDER] [OUT]    FOLDER (default runs/demo) is what `make demo` wrote; OUT: FOLDER/demos.png
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import imread

from isoform.core.report.formatting import number
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.results import headline

COLUMNS = 2
WIDTH = 4.5  # of a column, in inches
SHORTEST, TALLEST = 0.4, 0.62  # of its width: a taller picture is cut at its widest gap between


def main(folder: Path, out: Path) -> None:
    """Draws each run by its own domain's demo, side by side."""
    runs = sorted(path.parent for path in folder.glob("*/results.json"))
    rows = -(-len(runs) // COLUMNS)
    size = (COLUMNS * WIDTH, rows * (TALLEST * WIDTH + 0.5))
    figure = Figure(size, layout="constrained", dpi=110)
    cells = figure.subplots(rows, COLUMNS, squeeze=False).flatten()
    for axes in cells:
        axes.axis("off")
    for axes, run in zip(cells, runs, strict=False):
        results = RunFolder(run).results()
        draw = importlib.import_module(f"isoform.{results['domain']}.demo").draw
        axes.imshow(upper_part(imread(draw(run))))
        axes.set_anchor("N")
        axes.set_title(title_of(results), loc="left", fontsize=8)
    figure.savefig(out)
    print(out)


def upper_part(picture: np.ndarray) -> np.ndarray:
    """The rows of a picture [H, W, C] above its widest gap within SHORTEST to TALLEST, all of one that is no taller."""
    first, limit = (int(part * picture.shape[1]) for part in (SHORTEST, TALLEST))
    if len(picture) <= limit:
        return picture
    drawn = np.flatnonzero((picture[:limit, :, :3] <= 0.99).any((1, 2)))
    drawn = np.concatenate([[first], drawn[drawn >= first], [limit]])
    gaps = np.diff(drawn)
    return picture[: drawn[gaps.argmax()] + 1]


def title_of(results: dict) -> str:
    """What a run reached beside its best baseline."""
    found = headline(results)
    assert found is not None, "a finished run has its monitored metric"
    title = f"{results['domain']}/{results['app']}\ntest {found.metric} {number(found.value)}"
    if not found.baseline:
        return title
    return f"{title}, best baseline {number(found.baseline_value)} ({found.baseline})"


if __name__ == "__main__":
    given = [Path(text) for text in sys.argv[1:]]
    folder = given[0] if given else Path("runs/demo")
    main(folder, given[1] if len(given) > 1 else folder / "demos.png")
