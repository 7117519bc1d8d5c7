"""`train --launch 2`: a rank that is killed, a launcher that is told to stop, and a run that goes on in one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import exit_code
from isoform.core.cli import launch
from isoform.core.cli.launch import told, without_launch
from isoform.core.runs.folder import RunFolder

from .test_many_processes import CLOSE, furthest
from .vision import runs

APP = """
[vision.little]
data.root = "{root}"
augment.degrees = 10.0
tokeniser = {{ image = 8, patch = 4, channels = 3 }}
backbone = {{ dim = 12, depth = 2, heads = 3, dropout = 0.1 }}
train = {{ epochs = 60, batch = 10, log_every = 1, checkpoint_every = 3, precision = "fp32" }}
eval.baselines = []
"""


def ranks_of(launcher: int) -> dict[int, int]:
    """{rank: process} of the living children of a launcher."""
    found = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            names = (place / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == launcher:
            found |= {
                int(n.removeprefix(b"RANK=")): int(place.name)
                for n in names
                if n.startswith(b"RANK=")
            }
    return found


def wait_for_step(run: RunFolder, step: int, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not any(line["step"] >= step for line in run.metrics()):
        time.sleep(0.005)
    assert process.poll() is None, process.communicate()


def test_a_killed_rank_and_a_stopped_launcher_cost_nothing(tmp_path: Path) -> None:
    root = runs.folders(tmp_path / "data", (11, 13), 3, "uint8")
    apps = tmp_path / "apps.toml"
    apps.write_text(APP.format(root=root))
    words = ["vision", "train", "little", "--apps", str(apps), "--run-dir"]
    torn = RunFolder(tmp_path / "torn")
    command = [sys.executable, "-m", "isoform", *words, str(torn.path), "--launch", "2"]
    environment = {**os.environ, "ISOFORM_TIMEOUT": "100"}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as launcher:
        try:
            wait_for_step(torn, 7, launcher)
            first = ranks_of(launcher.pid)
            os.kill(first[1], signal.SIGKILL)
            wait_for_step(torn, 23, launcher)
            assert not set(first.values()) & set(ranks_of(launcher.pid).values()), "all start again"
            launcher.send_signal(signal.SIGTERM)
            said, _ = launcher.communicate(timeout=300)
        finally:
            launcher.kill()
    assert launcher.returncode == 75, said
    assert said.count("2 processes: a step's 10 samples are 2 micro-batches of 5") == 1, said
    assert said.count("resuming") == 1 and "stopped by a signal" in said, said
    assert torn.results()["status"] == "preempted"
    # The same command without --launch goes on; and so would it have ended undisturbed, in one process.
    assert exit_code(*words, torn.path, "--resume") == 0
    sets = ["--set", "train.batch=5", "--set", "train.accumulate=2"]
    assert exit_code(*words, tmp_path / "whole", *sets) == 0
    assert furthest(torn.path, tmp_path / "whole") < CLOSE


def test_a_mistake_is_said_once_and_not_tried_again(tmp_path: Path) -> None:
    apps = tmp_path / "apps.toml"
    apps.write_text(APP.format(root=tmp_path / "nowhere"))
    command = [sys.executable, "-m", "isoform", "vision", "train", "little", "--apps", str(apps)]
    found = subprocess.run(
        [*command, "--launch", "2", "--json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert found.returncode == 2, found.stderr
    assert found.stderr.count("nowhere") == 1
    assert json.loads(found.stdout.splitlines()[-1])["exit"] == 2


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (["--seeds", "2"], "--seeds and --folds train their runs in one process"),
        (["--folds", "3"], "--seeds and --folds train their runs in one process"),
        (["--epochs", "many"], "--epochs"),
    ],
)
def test_a_mistake_under_torchrun_is_the_main_process_s_to_say(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    form: list[str],
    said: str,
) -> None:
    """Another process waits with its end, for torchrun would end the main one; it speaks where that one doesn't."""
    monkeypatch.setattr(launch, "_PATIENCE", 0.5)
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = ["vision", "train", "vit-mnist-tiny", "--run-dir", str(tmp_path / "run"), *form]

    def told_by(rank: int) -> str:
        monkeypatch.setenv("RANK", str(rank))
        assert exit_code(*command) in (0, 2)
        return capsys.readouterr().err

    assert said in told_by(0)
    began = time.monotonic()
    assert said in told_by(1), "nobody else did"
    assert time.monotonic() - began >= 0.5
    monkeypatch.setenv("ISOFORM_CODES", str(tmp_path))
    assert said in told_by(0)
    assert told_by(1) == "", "the main process did"
    (tmp_path / "0").write_text("75")
    assert said in told_by(1), "the main process did well"


def test_the_launched_command_line_and_its_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert without_launch(["a", "--launch", "3", "b", "--launch=3"]) == ["a", "b"]
    assert told(2) == 2
    monkeypatch.setenv("ISOFORM_CODES", str(tmp_path))
    monkeypatch.setenv("RANK", "1")
    assert [told(code) for code in (0, 1, 2, 75)] == [0, 1, 0, 0]
    assert (tmp_path / "1").read_text() == "75"
