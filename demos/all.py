"""`make demo`: trains and evaluates every app called NAME-demo, prints one table and writes one page with all reports.

python demos/all.py [FOLDER]        FOLDER (default runs/demo) is replaced
"""

from __future__ import annotations

import importlib.resources
import shutil
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import jinja2
from rich.console import Console
from rich.table import Table

import isoform

# Each report is a whole page of its own, so it keeps its styles and scripts inside a frame of the one file.
PAGE = jinja2.Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>isoform: one backbone, {{ rows | length }} demo(s)</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
  table { border-collapse: collapse }
  td, th { padding: .3rem 1rem .3rem 0; text-align: left; border-bottom: 1px solid #ccc }
  iframe { width: 100%; height: 90vh; border: 1px solid #ccc; border-radius: .5rem }
</style>
<h1>isoform: one backbone, {{ rows | length }} demo(s)</h1>
<table><tr>{% for name in rows[0] %}<th>{{ name }}</th>{% endfor %}</tr>
{% for row in rows %}<tr>{% for value in row.values() %}<td>{{ value }}</td>{% endfor %}</tr>{% endfor %}</table>
{% for name, report in reports.items() %}<h2>{{ name }}</h2><iframe title="{{ name }}" srcdoc="{{ report }}"></iframe>
{% endfor %}</html>
""")


def row(results: dict[str, Any], seconds: float) -> dict[str, str]:
    """One line of the table: the first test metric that the baselines share, and the best of them."""
    metrics = results["metrics"]["test"]
    baselines = {name: found["test"] for name, found in results["baselines"].items() if "test" in found}
    shared = [name for name in metrics if name != "loss" and all(name in found for found in baselines.values())]
    headline = shared[0] if shared else next(iter(metrics))
    best = max if headline.startswith(("top", "balanced", "macro", "roc", "average", "r2")) else min
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
    rows, reports = [], {}
    for domain, app in apps:
        start = time.perf_counter()
        run = isoform.train(f"{domain}/{app}", run_dir=folder / app)
        rows.append(row(dict(run.results), time.perf_counter() - start))
        reports[f"{domain}/{app}"] = (folder / app / "report.html").read_text()
    table = Table(*rows[0], title="What each demo reached on data it had not seen")
    for found in rows:
        table.add_row(*found.values())
    Console(width=None if sys.stdout.isatty() else 110).print(table)
    (folder / "index.html").write_text(PAGE.render(rows=rows, reports=reports))
    print(f"All reports on one page: {folder / 'index.html'}")


if __name__ == "__main__":
    run_all(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/demo"))
