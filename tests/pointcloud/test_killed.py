"""`pointmae-tiny`, killed by SIGKILL in the middle of an epoch, ends as the run that was left alone, bit for bit."""

import pytest

import isoform
from isoform.core.runs.folder import RunFolder
from killed import last, run_and_die

from .test_task import write_clouds

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
    run_and_die(app, settings, torn, 5)
    isoform.train(app, settings, run_dir=torn, resume=True, progress=False)
    ends = [last(folder) for folder in (whole.folder, torn)]
    for one, two in zip(*ends, strict=True):
        assert one.keys() == two.keys() and all(one[name].equal(two[name]) for name in one)
    metrics = [RunFolder(folder).results()["metrics"] for folder in (whole.folder, torn)]
    assert metrics[0] == metrics[1]
