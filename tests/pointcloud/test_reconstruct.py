"""Hidden patches drawn again: seen points stay what they were, drawn ones lie in the file's frame."""

import json

import numpy as np
import pytest
import torch

import isoform
from commands import exit_code
from isoform.core.errors import UserError
from isoform.pointcloud.config import MaskConfig, PointcloudApp
from isoform.pointcloud.data.transforms import UPRIGHT
from isoform.pointcloud.files import read_cloud
from isoform.pointcloud.pointmae.model import build_model
from isoform.pointcloud.prepare import update
from isoform.pointcloud.reconstruct import draw_again

from .test_task import SMALL, write_clouds

PATCHES = {"groups": 11, "group_size": 5, "widths": (3, 5, 7), "position_hidden": 3}
TRUNK = {"dim": 12, "depth": 1, "heads": 2}
OFFICIAL = {**TRUNK, "qkv_bias": False, "eps": 1e-5, "position": "readd"}
UTM = np.array([512_345.678, 5_432_109.125, 231.5])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("redrawn")
    data = write_clouds(folder / "data")
    decoder = {f"decoder.{key}": value for key, value in TRUNK.items()}
    settings = {
        **SMALL,
        **decoder,
        "data.source": "folder",
        "data.root": str(data),
        "train.epochs": 1,
    }
    run = isoform.train(
        "pointcloud/pointmae-strokes-pretrain", settings, run_dir=folder / "run", progress=False
    )
    return run.folder, data


def reconstruct(*words):
    words = ["pointcloud", "reconstruct", *map(str, words)]
    return exit_code(*words)


def model_of(ratio=0.6, **data):
    config = PointcloudApp.model_validate(
        {
            "domain": "pointcloud",
            "app": "a",
            "model": {"kind": "pretrain"},
            "tokeniser": PATCHES,
            "backbone": OFFICIAL,
            "decoder": OFFICIAL,
            "mask": {"ratio": ratio},
            "data": data,
        }
    )
    return build_model(config).eval(), config


def test_seen_and_hidden_points_are_those_of_the_patches():
    model, config = model_of()
    points = np.random.default_rng(0).normal(size=(97, 3)).astype(np.float32)
    noise = np.linspace(0, 1, 11, endpoint=False, dtype=np.float32)  # hides the first six patches
    made = draw_again(model, config, points, noise)
    assert made.drawn.shape == (6 * 5, 3) and not (made.seen & made.hidden).any()
    # The patches anew, by distances in float64: centres are the farthest points from the first one on.
    far = points.astype(np.float64)
    centres = [0]
    for _ in range(10):
        apart = np.square(far[:, None] - far[centres]).sum(2).min(1)
        centres.append(int(apart.argmax()))
    members = np.square(far[:, None] - far[centres]).sum(2).argsort(0)[:5]
    seen = set(members[:, 6:].ravel().tolist())
    assert set(np.flatnonzero(made.seen).tolist()) == seen
    assert set(np.flatnonzero(made.hidden).tolist()) == set(members[:, :6].ravel().tolist()) - seen
    # The centre's distance is that of patches drawn as their middles.
    own = far[members[:, :6]] - far[centres[:6]]
    squares = np.square(own).sum(2)
    assert made.centre == pytest.approx(float(squares.min(0).mean() + squares.mean()), rel=1e-5)


def test_a_run_draws_in_the_frame_of_the_file(trained):
    run, _ = trained
    model = isoform.load(run)
    xyz = np.random.default_rng(0).normal(size=(53, 3))
    near, far = model.reconstruct(xyz), model.reconstruct(13 * xyz + UTM)
    # Which patches are hidden depends on the cloud; asked for of the moved one by the same noise:
    assert {tuple(p) for p in far.kept} | {tuple(p) for p in far.hidden} <= {
        tuple(p) for p in 13 * xyz + UTM
    }, "points come back as they were, to the last bit"
    assert len(far.drawn) == far.masked * 5 == 4 * 5 and far.drawn.dtype == np.float64
    assert (
        np.abs(far.drawn - UTM).max() < 13 * 10 and np.isfinite([near.distance, far.centre]).all()
    )
    again = model.reconstruct(xyz)
    np.testing.assert_array_equal(again.drawn, near.drawn)
    others = [model.reconstruct(xyz, seed=seed).kept for seed in range(1, 6)]
    assert any(len(o) != len(near.kept) or (o != near.kept).any() for o in others)
    more = model.reconstruct(xyz, mask_ratio=0.8)
    assert (near.masked, more.masked, near.patches) == (4, 5, 7)


def test_a_moved_cloud_has_its_drawn_points_moved(trained, monkeypatch):
    import isoform.pointcloud.reconstruct as module

    run, _ = trained
    model = isoform.load(run)
    monkeypatch.setattr(module, "digest_of", lambda points: 7)  # the same patches of both
    xyz = np.random.default_rng(0).normal(size=(53, 3))
    near, far = model.reconstruct(xyz), model.reconstruct(xyz + UTM)
    np.testing.assert_allclose(far.drawn - UTM, near.drawn, atol=1e-4)
    assert far.distance == pytest.approx(near.distance, rel=1e-3)
    lying = xyz @ UPRIGHT["y"]  # the same cloud in a file whose y points upwards
    model.inner.config = update(model.inner.config, data={"up": "y"})
    np.testing.assert_allclose(
        model.reconstruct(lying).drawn @ UPRIGHT["y"].T, near.drawn, atol=1e-4
    )
    model.inner.config = update(model.inner.config, data={"up": "z", "scale": "unit"})
    small, large = model.reconstruct(xyz), model.reconstruct(16 * xyz + UTM)
    np.testing.assert_allclose((large.drawn - UTM) / 16, small.drawn, atol=1e-4)
    assert large.distance == pytest.approx(small.distance, rel=1e-3)


@pytest.mark.parametrize("points", [1, 3, 6, 500])
def test_any_number_of_points_is_drawn(trained, points):
    run, _ = trained
    made = isoform.load(run).reconstruct(np.random.default_rng(1).normal(size=(points, 3)))
    assert made.points == points and len(made.kept) + len(made.hidden) == min(points, 61)
    assert len(made.kept) >= 1 and len(made.drawn) == 4 * 5 and np.isfinite(made.drawn).all()
    same = isoform.load(run).reconstruct(np.full((points, 3), 7.0))
    assert np.isfinite(same.drawn).all() and np.isfinite(same.distance)


def test_a_cloud_is_written_with_what_was_drawn(trained, tmp_path, capsys):
    run, data = trained
    cloud, out = data / "ball" / "00.xyz", tmp_path / "new" / "out.ply"
    words = (run, cloud, "--out", out, "--original", tmp_path / "was.ply", "--seed", "3")
    assert reconstruct(*words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    (row,) = told["clouds"]
    assert told["distance"] == "cdl2" and row["distance"] > 0 < row["centre"]
    made, was, xyz = read_cloud(out), read_cloud(tmp_path / "was.ply"), np.loadtxt(cloud)
    drawn, hidden = made.fields["drawn"] == 1, was.fields["hidden"] == 1
    assert drawn.sum() == row["drawn"] == 4 * 5 and hidden.sum() == row["hidden"]
    np.testing.assert_array_equal(made.xyz[~drawn], was.xyz[~hidden])
    assert {tuple(p) for p in was.xyz} <= {tuple(p) for p in xyz} and len(was) == min(len(xyz), 61)
    assert np.abs(made.xyz[drawn] - xyz.mean(0)).max() < 30
    first = out.read_bytes()
    assert reconstruct(*words) == 0
    said = capsys.readouterr().out
    assert out.read_bytes() == first and "every point in its patch's middle: " in said
    assert f"{row['distance']:.4g}" in said and "in 4 of 7 patches" in said
    assert [file.name for file in out.parent.iterdir()] == ["out.ply"], "no half file is left"


def test_several_go_into_a_folder_each_as_by_itself(trained, tmp_path, capsys):
    run, data = trained
    assert (
        reconstruct(run, data / "disc", "--out", tmp_path / "all", "--original", tmp_path / "was")
        == 0
    )
    assert "mean of 13 clouds: " in capsys.readouterr().out
    names = [f"{k:02}.ply" for k in range(13)]
    assert sorted(file.name for file in (tmp_path / "all").iterdir()) == names
    assert sorted(file.name for file in (tmp_path / "was").iterdir()) == names
    assert reconstruct(run, data / "disc" / "04.xyz", "--out", tmp_path / "one.ply") == 0
    assert (tmp_path / "one.ply").read_bytes() == (tmp_path / "all" / "04.ply").read_bytes()


def test_what_cannot_be_drawn_is_one_sentence(trained, tmp_path, capsys):
    run, data = trained
    cloud, out = data / "ball" / "00.xyz", tmp_path / "out.ply"
    read_cloud(cloud)
    (tmp_path / "empty.xyz").write_text("nan nan nan\n")
    for words, said in (
        ((cloud, "--out", tmp_path / "a.las"), "written as .ply"),
        ((data / "ball", "--out", out), "of 17 files of points it is a folder"),
        ((cloud, data / "disc" / "00.xyz", "--out", tmp_path), "have one name"),
        ((cloud, "--out", out, "--original", out), "where --out is written"),
        ((cloud, "--out", out, "--mask-ratio", "1"), "between 0 and 1"),
        ((cloud, "--out", out, "--seed", "-1"), "seed -1"),
        ((tmp_path / "none.xyz", "--out", out), "no such file"),
        ((tmp_path / "empty.xyz", "--out", out), "has coordinates"),
    ):
        capsys.readouterr()
        assert reconstruct(run, *words) == 2, words
        error = capsys.readouterr().err
        assert said in error and error.count("\n") <= 2
    assert not out.exists() and sorted(f.name for f in tmp_path.iterdir()) == ["empty.xyz"]
    with pytest.raises(UserError, match=r"\[points, 3\]"):
        isoform.load(run).reconstruct(np.zeros((0, 3)))


def test_an_official_pretraining_draws_too(tmp_path, capsys):
    from isoform.pointcloud.pointmae.pretrained import export_official

    model, config = model_of()
    weights = export_official(config, model.state_dict(), None, "pointmae-pretrain")
    torch.save({"base_model": {f"module.{k}": v for k, v in weights.items()}}, tmp_path / "a.pth")
    sets = [f"tokeniser.groups={PATCHES['groups']}", "backbone.heads=2", "decoder.heads=2"]
    words = ["pointcloud", "import", str(tmp_path / "a.pth"), "--out", str(tmp_path / "run")]
    for one in sets:
        words += ["--set", one]
    assert exit_code(*words) == 0
    np.savetxt(tmp_path / "one.xyz", np.random.default_rng(0).normal(size=(97, 3)) + UTM)
    assert reconstruct(tmp_path / "run", tmp_path / "one.xyz", "--out", tmp_path / "out.ply") == 0
    assert "in 6 of 11 patches" in capsys.readouterr().out


def test_a_classifier_draws_nothing(tmp_path, capsys):
    data = write_clouds(tmp_path / "data", counts=(7, 5))
    settings = {**SMALL, "data.root": str(data), "train.epochs": 1}
    run = isoform.train(
        "pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False
    )
    words = (run.folder, data / "ball" / "00.xyz", "--out", tmp_path / "out.ply")
    assert reconstruct(*words) == 2
    assert "reconstruct takes a pretraining" in capsys.readouterr().err
    assert not (tmp_path / "out.ply").exists() and MaskConfig().ratio == 0.6
