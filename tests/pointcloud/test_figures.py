"""Pictures of clouds: triples that turn together, colours of parts, features as colours."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.report.points import COLOURS, MOST, NONE
from isoform.pointcloud.feature_figure import RANGE, palette_of, principal_colours
from isoform.pointcloud.segment_figures import parts_scene

CLASSES = [f"part {k}" for k in range(11)]


def test_a_cloud_is_shown_true_said_and_where_they_differ():
    xyz = np.random.default_rng(0).normal(size=(7, 3))
    true = np.array([3, 3, 5, 5, -1, 8, 8])
    said = np.array([3, 5, 5, 8, 5, 8, 3])
    scene = parts_scene([xyz], [true], [said], CLASSES)
    assert list(scene.names) == ["part 3", "part 5", "part 8", "right, or not judged"]
    assert list(scene.palette) == [*COLOURS[:3], NONE] and scene.columns == (3, 1)
    one, two, wrong = scene.views
    assert one.colour.tolist() == [0, 0, 1, 1, 3, 2, 2]
    assert two.colour.tolist() == [0, 1, 1, 2, 1, 2, 0]
    assert wrong.colour.tolist() == [3, 0, 3, 1, 3, 3, 2] and wrong.caption == "differs: 50.0%"
    assert {view.frame for view in scene.views} == {0}
    for view in scene.views:
        np.testing.assert_array_equal(view.points, xyz)


@given(st.integers(1, 5), st.integers(0, 2**31))
def test_classes_keep_their_colours_over_clouds(count, seed):
    rng = np.random.default_rng(seed)
    clouds = [rng.normal(size=(int(rng.integers(1, 30)), 3)) for _ in range(count)]
    true = [rng.integers(-1, 11, len(cloud)) for cloud in clouds]
    said = [rng.integers(11, size=len(cloud)) for cloud in clouds]
    scene = parts_scene(clouds, true, said, CLASSES, names=[f"cloud {k}" for k in range(count)])
    assert len(scene.views) == 3 * count and len(scene.palette) == len(scene.names)
    for k in range(count):
        a, b, wrong = scene.views[3 * k : 3 * k + 3]
        known = true[k] >= 0
        names = np.array([*scene.names])
        assert names[a.colour[known]].tolist() == [CLASSES[c] for c in true[k][known]]
        assert names[b.colour].tolist() == [CLASSES[c] for c in said[k]]
        assert ((wrong.colour < len(names) - 1) == (known & (true[k] != said[k]))).all()
        assert f"cloud {k}" in a.caption and a.frame == wrong.frame == k


def test_large_clouds_are_thinned_alike():
    xyz = np.random.default_rng(0).normal(size=(MOST, 3))
    label = np.arange(MOST) % 7
    scene = parts_scene([xyz, xyz], [label] * 2, [label] * 2, CLASSES)
    assert sum(len(view.points) for view in scene.views) <= MOST
    np.testing.assert_array_equal(scene.views[0].points, scene.views[2].points)
    assert scene.views[2].caption == "differs: 0.0%"


def test_like_features_have_like_colours():
    rng = np.random.default_rng(0)
    axes = np.linalg.qr(rng.normal(size=(13, 13)))[0][:3]
    parts = rng.normal(size=(101, 3)) * (7, 3, 1)
    colours, share = principal_colours(parts @ axes + 5)
    assert share == pytest.approx(1) and colours.min() == RANGE[0] and colours.max() == RANGE[1]
    for k in range(3):  # each component is one part of the colour, but for its sign
        inside = (colours[:, k] > RANGE[0]) & (colours[:, k] < RANGE[1])
        assert abs(np.corrcoef(colours[inside, k], parts[inside, k])[0, 1]) > 0.95
    again, _ = principal_colours(-(parts @ -axes) + 5)
    np.testing.assert_allclose(again, colours, atol=1e-9)


@pytest.mark.parametrize(("tokens", "features"), [(1, 5), (2, 5), (7, 2), (5, 1)])
def test_few_tokens_have_colours_too(tokens, features):
    colours, share = principal_colours(np.random.default_rng(0).normal(size=(tokens, features)))
    assert colours.shape == (tokens, 3) and np.isfinite(colours).all() and 0 <= share <= 1 + 1e-9


@pytest.mark.parametrize("tokens", [31, 1009])
def test_a_palette_is_small_and_near(tokens):
    colours = np.random.default_rng(0).uniform(size=(tokens, 3))
    palette, number = palette_of(colours)
    assert len(palette) <= 256 and number.shape == (tokens,)
    parts = [[int(palette[k][i : i + 2], 16) / 255 for i in (1, 3, 5)] for k in number]
    assert np.abs(np.array(parts) - colours).max() < (0.002 + 0.5 / 255 if tokens < 256 else 0.11)


def test_reports_hold_points_that_turn(tmp_path):
    import isoform

    from .test_task import SMALL, write_clouds

    data = write_clouds(tmp_path / "data")
    more = {"data.source": "folder", "data.root": str(data), "train.epochs": 1}
    settings = {**SMALL, **more, "decoder.dim": 12, "decoder.heads": 2, "decoder.depth": 1}
    app = "pointcloud/pointmae-strokes-pretrain"
    run = isoform.train(app, settings, run_dir=tmp_path / "pre", progress=False)
    triples, features = json.loads((run.folder / "figures.json").read_text())
    captions = [view["caption"] for view in triples["scene"]["views"]]
    assert captions[1::3] == ["masked"] * 3 and triples["scene"]["names"] == [
        "seen",
        "hidden",
        "drawn",
    ]
    assert all(c.startswith("original\n") for c in captions[::3])
    assert all(c.startswith("reconstructed\ndistance ") for c in captions[2::3])
    assert [view["frame"] for view in triples["scene"]["views"]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert "principal components" in features["caption"]
    assert all(1 <= len(view["palette"]) <= 7 for view in features["scene"]["views"])
    page = (run.folder / "report.html").read_text()
    assert page.count('<div class="scene">') == 2
    run = isoform.train(
        "pointcloud/pointmae-own", {**SMALL, **more}, run_dir=tmp_path / "own", progress=False
    )
    figures = json.loads((run.folder / "figures.json").read_text())
    assert "scene" in figures[-1] and figures[0]["scene"]["names"] in ([], ["right", "wrong"])
