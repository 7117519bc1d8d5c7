"""`make demo`: trains and evaluates every app called NAME-demo, prints one table and writes one page with all reports.

python demos/all.py [FOLDER]        FOLDER (default runs/demo) is replaced
"""

from __future__ import annotations

import importlib.resources
import shutil
import sys
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import isoform
from isoform.core.errors import Preempted, UserError
from isoform.core.report.page import write_report

HIGHER_IS_BETTER = ("top", "balanced", "macro", "roc", "average", "r2")


def row(results: Mapping[str, Any], seconds: float) -> dict[str, str]:
    """One line of the table: the first test metric that the baselines share, and the best of them."""
    metrics = results["metrics"]["test"]
    baselines = {name: found["test"] for name, found in results["baselines"].items() if "test" in found}
    counts = ("loss", "windows")
    shared = [name for name in metrics if name not in counts and all(name in found for found in baselines.values())]
    headline = shared[0] if shared else next(iter(metrics))
    best = max if headline.startswith(HIGHER_IS_BETTER) else min
    name = best(baselines, key=lambda baseline: baselines[baseline][headline], default=None)
    return {
        "app": f"{results['domain']}/{results['app']}",
        "parameters": f"{results['parameters']:,}",
        "test metric": headline,
        "model": f"{metrics[headline]:.4g}",
        "best baseline": f"{baselines[name][headline]:.4g} ({name})" if name else "",
        "seconds": f"{seconds:.0f}",
    }


def run_all(folder: Path) -> None:
    """Trains every demo into FOLDER/APP and sums up."""
    tables = tomllib.loads((importlib.resources.files("isoform") / "apps.toml").read_text("utf-8"))
    apps = [(domain, app) for domain in tables for app in tables[domain] if app.endswith("-demo")]
    shutil.rmtree(folder, ignore_errors=True)
    rows = []
    for domain, app in apps:
        start = time.perf_counter()
        run = isoform.train(f"{domain}/{app}", run_dir=folder / app)
        rows.append(row(run.results, time.perf_counter() - start))
    page = write_report([folder / app for _, app in apps], folder / "index.html")
    table = Table(*rows[0], title="What each demo reached on data it had not seen")
    for found in rows:
        table.add_row(*found.values())
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    print(f"All reports on one page: {page}")


if __name__ == "__main__":
    try:
        run_all(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
    except (UserError, Preempted) as error:
        sys.exit(str(error))
