"""`python -m isoform.timeseries.demo RUN [--out FILE]`: a picture of what a trained run says of its test windows."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from matplotlib.figure import Figure

from isoform.core import api
from isoform.core.cli import demo
from isoform.core.config import load_run_config
from isoform.core.report import drawing
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN, plots
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.figures import draw_map, spread
from isoform.timeseries.state import TimeseriesState
from isoform.timeseries.task import task_from_run


def draw(
    run_dir: str | Path, out: str | Path | None = None, *, data: str | Path | None = None
) -> Path:
    """Test windows of a run, forecast with intervals, and what looks at what: `out` (default RUN/demo.png).

    data: other series than the run's own, as for `isoform timeseries eval --data`. Raises UserError where there is no
    run, or its data are no longer there.
    """
    run = RunFolder(run_dir)
    path = Path(out) if out is not None else run.path / "demo.png"
    drawing.kind_of(path)
    config = cast(TimeseriesApp, load_run_config(run.path, DOMAIN))
    task = task_from_run(config, run.state(TimeseriesState), None if data is None else Path(data))
    windows, predictor = task.data, api.load_predictor(DOMAIN, run.path)
    made: Any = predictor  # forecasts too, beyond what every domain's does
    split = "test" if "test" in windows.sizes() else next(iter(windows.sizes()))
    pairs = windows.where(split, spread(windows.sizes()[split], 3))
    levels = made.wanted_levels(None)
    forecasts = made.run(windows, pairs, levels)
    variates = spread(len(windows.variates), 2 if len(windows.variates) > 1 else 1)
    chosen = [(n, int(v)) for n in range(len(pairs)) for v in variates]
    curves = plots.window_curves(
        windows, chosen, pairs, forecasts.mean_nHV, forecasts.quantiles_nHVQ, levels
    )
    mapped = len(windows.variates) > 1
    plot = Figure(figsize=(10.4, 11.5 if mapped else 8), layout="constrained")
    parts: Any = plot.subfigures(2, 1, height_ratios=[2, 1]) if mapped else [plot]
    plots.draw(curves, windows.panel.tz, len(variates), onto=parts[0])
    if mapped:
        draw_map(parts[1], windows, made.model, split)
    drawing.save(plot, path)
    return path


def main(arguments: list[str] | None = None) -> int:
    """The command; 2 for the user's mistake."""
    return demo.main("timeseries", __doc__, draw, arguments)


if __name__ == "__main__":
    sys.exit(main())
