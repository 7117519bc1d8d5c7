"""How a trained encoder is judged: with fewer labels, by a linear probe, a linear SVM, few shots, votes and draws."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import isoform
from isoform.core.config import resolve_app
from isoform.core.data.splits import keep_labelled
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.pointcloud import DOMAIN

CLASSES = ("ball", "disc", "rod")
SMALL = {
    "data.source": "set", "data.points": 61, "tokeniser.groups": 7, "tokeniser.group_size": 5,
    "tokeniser.widths": [3, 5, 7], "tokeniser.position_hidden": 3, "backbone.dim": 12, "backbone.depth": 1,
    "backbone.heads": 2, "train.batch": 8, "eval.baselines": [],
}  # fmt: skip
DECODER = {"decoder.dim": 12, "decoder.heads": 2, "decoder.depth": 1}


def write_set(path, each=31, points=83, seed=0):
    """Balls, discs and rods, as many of each, in one .npz."""
    rng = np.random.default_rng(seed)
    clouds = rng.normal(size=(3 * each, points, 3))
    clouds[each : 2 * each, :, 2] *= 0.1
    clouds[2 * each :, :, 1:] *= 0.1
    np.savez(path, points=clouds, labels=np.repeat(CLASSES, each))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shapes.npz")


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """A run that saw no label."""
    settings = {**SMALL, **DECODER, "model.kind": "pretrain", "train.epochs": 1}
    return isoform.train(
        "pointcloud/pointmae-own",
        {**settings, "data.path": str(data)},
        run_dir=tmp_path_factory.mktemp("pretrained") / "run",
        progress=False,
    ).folder


def prepared(data, **settings):
    app = resolve_app(
        "pointmae-own", domain=DOMAIN, settings={**SMALL, "data.path": str(data), **settings}
    )
    return DOMAIN.prepare(app)


# Fewer labels ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=47), st.integers(0, 2**31))
def test_a_share_of_every_class_and_smaller_ones_within_larger(labels, seed):
    rows = np.arange(0, len(labels), 2)
    counts = {name: sum(labels[row] == name for row in rows) for name in "abc"}
    before = set(rows.tolist())
    for share in (1.0, 0.5, 0.1, 1e-9):
        kept = keep_labelled(rows, labels, share, seed)
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert set(kept.tolist()) <= before
        before = set(kept.tolist())
        for name, there in counts.items():
            want = max(1, round(share * there)) if there else 0
            assert sum(labels[row] == name for row in kept) == want


def test_fewer_labels_leave_validation_and_test_as_they_are(data):
    whole = prepared(data).data.clouds
    few = prepared(data, **{"data.labels": 0.2, "train.seed": 5})
    told = [line for line in few.notes if line.startswith("data.labels")]
    rows = few.data.clouds.rows
    assert set(rows["train"]) < set(whole.rows["train"])
    for split in ("val", "test"):
        assert np.array_equal(rows[split], whole.rows[split])
    assert len(told) == 1 and f"{len(whole.rows['train']) - len(rows['train'])} training" in told[0]
    again = prepared(data, **{"data.labels": 0.2, "train.seed": 6}).data.clouds
    assert np.array_equal(again.rows["train"], rows["train"])
    other = prepared(data, **{"data.labels": 0.2, "data.split_seed": 1}).data.clouds
    assert not np.array_equal(other.rows["train"], rows["train"])


def test_the_run_keeps_its_share(data, tmp_path):
    settings = {**SMALL, "data.path": str(data), "data.labels": 0.2, "train.epochs": 1}
    run = isoform.train(
        "pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False
    )
    kept = RunFolder(run.folder).split()
    assert {split: len(part.names) for split, part in kept.splits.items()} == dict(
        json.loads((run.folder / "task.json").read_text())["data"]["sizes"]
    )
    assert len(kept.splits["train"].names) == 3 * round(0.2 * 25)


@pytest.mark.parametrize("kind", ["pretrain", "segment"])
def test_what_learns_from_no_labels_has_no_share_of_them(data, kind):
    with pytest.raises(UserError, match=r"data.labels = 0.2 .* leave it out"):
        prepared(data, **{"data.labels": 0.2, "model.kind": kind})


# Linear probes --------------------------------------------------------------------------------------------------------


def test_a_probe_of_a_pretrained_encoder_changes_the_last_layer_alone(data, pretrained, tmp_path):
    settings = {**SMALL, "data.path": str(data), "train.init": str(pretrained)}
    run = isoform.train(
        "pointcloud/pointmae-probe", settings, run_dir=tmp_path / "run", progress=False
    )
    before = RunFolder(pretrained).load_weights("best")
    after = RunFolder(run.folder).load_weights("best")
    trunk = {name for name in after if not name.startswith("head.")}
    assert trunk == {name for name in before if name.startswith(("tokeniser.", "backbone."))}
    assert all(torch.equal(after[name], before[name]) for name in trunk)
    assert {name for name in after if name.startswith("head.")} == {
        "head.out.weight",
        "head.out.bias",
    }
    assert after["head.out.weight"].shape == (3, 24)
    points = np.random.default_rng(0).normal(size=(57, 3))
    one, other = isoform.load(pretrained), isoform.load(run.folder)
    np.testing.assert_allclose(one.embed([points]), other.embed([points]), atol=1e-6)
    assert run.metrics["test"]["top1"] > 0.6


def test_a_random_encoder_is_said_to_be_one(data, tmp_path):
    said = []
    settings = {**SMALL, "data.path": str(data), "data.labels": 0.2}
    from isoform.core import api

    request = api.Request(DOMAIN, "pointmae-probe", settings=settings)
    api.train(request, tmp_path / "run", progress=False, say=said.append)
    assert any("the frozen trunk is random" in line for line in said)


def test_a_head_of_layers_is_no_linear_probe(data, pretrained, tmp_path):
    settings = {**SMALL, "data.path": str(data), "train.probe": True}
    with pytest.raises(UserError, match=r"set head.widths = \[\]"):
        isoform.train("pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"class_token = false leaves out"):
        prepared(data, **{"tokeniser.class_token": False})
