"""`make demo`: trains and evaluates every app called NAME-demo, prints one table and writes a page with a card of each.

python demos/all.py [FOLDER]        FOLDER (default runs/demo) is replaced
"""

from __future__ import annotations

import importlib.resources
import multiprocessing
import shutil
import sys
import time
import tomllib
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import isoform
from isoform.core.errors import Preempted, UserError
from isoform.core.report.formatting import number
from isoform.core.report.page import write_report
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.results import headline


def row(results: Mapping[str, Any], seconds: float) -> dict[str, str]:
    """One line of the table: what the run is judged by, beside its best baseline."""
    found = headline(results)
    assert found is not None, "a finished run has its monitored metric"
    return {
        "app": f"{results['domain']}/{results['app']}",
        "parameters": f"{results['parameters']:,}",
        "test metric": found.metric,
        "model": number(found.value),
        "best baseline": f"{number(found.baseline_value)} ({found.baseline})"
        if found.baseline
        else "",
        "seconds": f"{seconds:.0f}",
    }


def train_app(app: str, folder: Path) -> None:
    """Trains and evaluates one app."""
    isoform.train(app, run_dir=folder)


def run_all(folder: Path) -> None:
    """Trains every demo into FOLDER/APP and sums up."""
    tables = tomllib.loads((importlib.resources.files("isoform") / "apps.toml").read_text("utf-8"))
    apps = [(domain, app) for domain in tables for app in tables[domain] if app.endswith("-demo")]
    shutil.rmtree(folder, ignore_errors=True)
    rows = []
    # A process for each, so that none holds the libraries and data of the one before: its peak memory is its own.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context, max_tasks_per_child=1) as fresh:
        for domain, app in apps:
            start = time.perf_counter()
            fresh.submit(train_app, f"{domain}/{app}", folder / app).result()
            rows.append(row(RunFolder(folder / app).results(), time.perf_counter() - start))
    page = write_report([folder / app for _, app in apps], folder / "index.html")
    table = Table(*rows[0], title="What each demo reached on data it had not seen")
    for found in rows:
        table.add_row(*found.values())
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    print(f"A card of each, with its report: {page}")


if __name__ == "__main__":
    try:
        run_all(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
    except (UserError, Preempted) as error:
        sys.exit(str(error))
