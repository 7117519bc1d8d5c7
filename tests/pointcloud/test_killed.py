"""`pointmae-tiny`, killed by SIGKILL in the middle of an epoch, ends as the run that was left alone, bit for bit."""

import json
import signal
import subprocess
import sys

import pytest

import isoform
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder

from .test_task import write_clouds

DIES = """
import json, os, signal, sys
import isoform
from isoform.core.runs.folder import RunFolder
append = RunFolder.append_metrics
def deadly(self, line):
    append(self, line)
    if line["step"] == 5:
        os.kill(os.getpid(), signal.SIGKILL)
RunFolder.append_metrics = deadly
app, settings, folder = sys.argv[1:]
isoform.train(app, json.loads(settings), run_dir=folder, progress=False)
"""
KINDS = {
    "classify": ("pointcloud/pointmae-tiny", {}),
    "pretrain": (
        "pointcloud/pointmae-tiny",
        {"model.kind": "pretrain", "decoder.dim": 16, "decoder.depth": 1, "decoder.heads": 2},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_bit_for_bit(kind, tmp_path):
    data = write_clouds(tmp_path / "data")
    app, more = KINDS[kind]
    settings = {"data.source": "folder", "data.root": str(data), "train.batch": 4, **more}
    settings |= {"train.log_every": 1, "train.checkpoint_every": 2, "train.epochs": 3}
    settings["eval.baselines"] = []
    whole = isoform.train(app, settings, run_dir=tmp_path / "whole", progress=False)
    torn = tmp_path / "torn"
    words = [sys.executable, "-c", DIES, app, json.dumps(settings), str(torn)]
    assert subprocess.run(words, capture_output=True).returncode == -signal.SIGKILL
    assert RunFolder(torn).results()["status"] == "running"
    isoform.train(app, settings, run_dir=torn, resume=True, progress=False)
    ends = [_last(folder) for folder in (whole.folder, torn)]
    for one, two in zip(*ends, strict=True):
        assert one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
    metrics = [RunFolder(folder).results()["metrics"] for folder in (whole.folder, torn)]
    assert metrics[0] == metrics[1]


def _last(folder):
    place = folder / "checkpoints"
    found = checkpoint.read(checkpoint.place(place, checkpoint.steps(place)[-1]))
    return found.model, found.optimizer
