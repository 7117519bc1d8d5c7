"""What needs no model is quick and loads no heavy library: processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys, time
from isoform.__main__ import main
sys.argv = ["isoform", *{argv!r}]
try:
    main()
except SystemExit as stop:
    assert stop.code == 0, stop.code
seconds = time.process_time()  # of the whole process: a busy machine makes the wall clock say nothing
heavy = {heavy!r} & set(sys.modules)
assert not heavy, heavy
print(seconds, file=sys.stderr)
"""
ALL_BUT_THE_STANDARD = {"torch", "numpy", "pydantic", "rich", "matplotlib", "jinja2"}
MODELS = {"torch", "matplotlib", "sklearn", "lightgbm"}


def seconds_of(argv: list[str], heavy: set[str]) -> float:
    """Processor seconds of a command line, which loads none of the libraries `heavy`."""
    code = CODE.format(argv=argv, heavy=heavy)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return float(done.stderr.splitlines()[-1])


def test_help_is_quick_and_imports_nothing_heavy():
    times = [seconds_of(["--help"], ALL_BUT_THE_STANDARD) for _ in range(3)]
    assert sorted(times)[1] < 0.2, times


def test_it_is_quick_and_imports_nothing_heavy():
    """The script that completes words, which a shell asks for as it starts."""
    assert seconds_of(["completion", "bash"], ALL_BUT_THE_STANDARD) < 0.3


@pytest.mark.parametrize("command", ["apps", "timeseries check", "timeseries train --help"])
def test_what_needs_no_model_imports_no_library_of_models(command, place):
    rows = [f"2024-03-{day:02},{day % 7 + 0.5 * (day % 3)}" for day in range(1, 32)]
    Path("x.csv").write_text("date,load\n" + "\n".join(rows) + "\n")
    argv = [*command.split(), *(["x.csv"] if command.endswith("check") else [])]
    argv += ["--set", "model.context=5", "--set", "model.horizon=2"] if "x.csv" in argv else []
    seconds_of(argv, MODELS)
    if "x.csv" in argv:
        assert Path("runs/check-x.csv.html").read_text().count("<polyline") == 1
