"""Frames, draws, changes, strokes, scenes and tiles."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.pointcloud.data.scenes import CLASSES, make_scene
from isoform.pointcloud.data.strokes import read_strokes
from isoform.pointcloud.data.tiles import Votes, cover, cut_into_tiles
from isoform.pointcloud.data.transforms import (
    Augment,
    dominated_by_one,
    draw_points,
    frame_of,
    turn_around_z,
    turn_normals,
    upright,
)
from isoform.pointcloud.shape_features import (
    features_of_points,
    features_of_shape,
    height_above_ground,
)

RNG = np.random.default_rng


def test_a_frame_is_left_and_entered_again():
    far = RNG(0).normal(size=(101, 3)) * 0.01 + [512_345.678, 5_432_109.1, 231]
    frame = frame_of(far)
    own = frame.into(far)
    assert own.dtype == np.float32 and np.abs(own.mean(0)).max() < 1e-6
    assert np.linalg.norm(own, axis=1).max() == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(frame.back(own), far, atol=1e-8)
    assert len(np.unique(own, axis=0)) == 101
    kept = frame_of(far, "keep").into(far)
    np.testing.assert_allclose(np.ptp(kept, axis=0), np.ptp(far, axis=0), rtol=1e-5)


@pytest.mark.parametrize("up", ["x", "y", "z"])
def test_the_axis_that_points_upwards_becomes_z(up):
    file = RNG(1).normal(size=(97, 3)) * 2 + [11, 13, 17]
    frame = frame_of(file, "unit", up)
    own = frame.into(file)
    height = (file - file.mean(0))[:, "xyz".index(up)] / frame.size
    np.testing.assert_allclose(own[:, 2], height, atol=1e-6)
    np.testing.assert_allclose(upright(file, up)[:, 2], file[:, "xyz".index(up)])
    np.testing.assert_allclose(frame.back(own), file, atol=1e-6)
    assert np.linalg.det(frame.turn) == pytest.approx(1), "a rotation, no mirror"


@pytest.mark.parametrize("points", [0, 1, 2])
def test_small_and_equal_clouds_have_a_frame(points):
    equal = np.full((points, 3), 7.0)
    assert np.isfinite(frame_of(equal).into(equal)).all() and frame_of(equal).size == 1


def test_a_point_far_away_is_named():
    points = RNG(0).normal(size=(101, 3))
    assert dominated_by_one(points) is None
    points[37] = 1e9
    assert dominated_by_one(points) == 37


def test_points_are_drawn_as_asked():
    cloud = RNG(0).normal(size=(53, 4)).astype(np.float32)
    drawn = draw_points(cloud, 13, "random", RNG(1))
    assert len(set(drawn.tolist())) == 13 and not np.array_equal(
        drawn, draw_points(cloud, 13, "random", RNG(2))
    )
    assert draw_points(cloud, 13, "first").tolist() == list(range(13))
    far = draw_points(cloud, 13, "farthest")
    assert far[0] == 0 and len(set(far.tolist())) == 13
    few = draw_points(cloud[:5], 13, "farthest")
    assert few[:5].tolist() == list(range(5)) and len(few) == 13
    with pytest.raises(ValueError, match="without points"):
        draw_points(cloud[:0], 3, "first")


def test_normals_turn_with_their_plane():
    rng = RNG(0)
    plane = np.c_[rng.normal(size=(31, 2)), np.zeros(31), np.tile([0, 0, 1.0], (31, 1))]
    turn = turn_around_z(0.7) @ np.diag([2, 0.5, 3.0])
    tilt = np.array([[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]])
    matrix = turn @ tilt
    normals = turn_normals(plane[:, 3:], matrix)
    moved = plane[:, :3] @ matrix.T
    assert np.abs((moved - moved[0]) @ normals[0]).max() < 1e-9
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert (turn_normals(np.zeros((2, 3)), matrix) == 0).all()
    changed = Augment(scale=(0.5, 2), shift=3, yaw=180, normals=(3, 6))(
        plane.astype(np.float32), RNG(1)
    )
    assert np.abs((changed[:, :3] - changed[0, :3]) @ changed[0, 3:]).max() < 1e-5


def test_changes_are_drawn_from_the_generator_alone():
    cloud = RNG(0).normal(size=(31, 5)).astype(np.float32)
    change = Augment(scale=(0.5, 2), shift=0.1, yaw=30, noise=0.01)
    assert np.array_equal(change(cloud, RNG(1)), change(cloud, RNG(1)))
    assert not np.array_equal(change(cloud, RNG(1)), change(cloud, RNG(2)))
    assert np.array_equal(change(cloud, RNG(1))[:, 3:], cloud[:, 3:])
    assert np.array_equal(Augment()(cloud, RNG(1)), cloud)


def test_strokes_are_the_pixels_with_ink():
    clouds, digits, split = read_strokes()
    assert len(clouds) == len(digits) == 5000 and (split == "test").sum() == 1000
    assert all(
        np.abs(cloud[:, :2]).max() <= 1 and (cloud[:, 2] > 0).all() for cloud in clouds[::50]
    )
    assert min(map(len, clouds)) > 30 and max(map(len, clouds)) < 400
    one = clouds[int(np.flatnonzero(digits == 1)[0])]
    assert np.ptp(one[:, 1]) > np.ptp(one[:, 0])  # upright


def test_scenes_hold_all_classes_and_repeat():
    xyz, label = make_scene(RNG(5), 4001)
    again, _ = make_scene(RNG(5), 4001)
    assert np.array_equal(xyz, again) and not np.array_equal(
        xyz[:9], make_scene(RNG(6), 4001)[0][:9]
    )
    assert np.bincount(label, minlength=len(CLASSES)).min() > 5
    height = height_above_ground(xyz)
    assert np.median(height[label == 0]) < 0.5 < np.median(height[label == 1])


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 300),
    size=st.sampled_from([0.7, 3.1, 50.0]),
    overlap=st.sampled_from([0, 0.3, 0.5, 0.8]),
    least=st.sampled_from([1, 11]),
)
def test_tiles_hold_every_point(n, size, overlap, least):
    xyz = RNG(n).uniform(0, 10, (n, 3)) + np.array([5e5, 5e6, 200])
    tiles = cut_into_tiles(xyz, size, overlap, least)
    assert set(np.concatenate([tile.index for tile in tiles]).tolist()) == set(range(n))
    for tile in tiles:
        assert (np.abs(xyz[tile.index, :2] - tile.middle[:2]) <= size / 2 + 1e-6).all()
        assert tile.middle[2] == xyz[tile.index, 2].min()
        assert len(np.unique(tile.index)) == len(tile.index)


def test_votes_are_averaged_over_tiles():
    votes = Votes(4, 2)
    votes.add(np.array([0, 1, 1]), np.array([[1, 0], [0.5, 0.5], [0, 1.0]]))
    votes.add(np.array([0]), np.array([[0, 1.0]]))
    np.testing.assert_allclose(votes.mean(), [[0.5, 0.5], [0.25, 0.75], [0, 0], [0, 0]])


def test_draws_cover_a_tile():
    parts = list(cover(53, 17, RNG(0)))
    assert {len(part) for part in parts} == {17} and set(np.concatenate(parts).tolist()) == set(
        range(53)
    )


def test_features_of_shapes_and_points_are_finite_for_any_cloud():
    for cloud in (np.zeros((1, 3)), np.zeros((7, 3)), RNG(0).normal(size=(40, 3)) * 1e6, np.eye(3)):
        assert (
            features_of_shape(cloud).shape == (54,) and np.isfinite(features_of_shape(cloud)).all()
        )
        assert features_of_points(cloud).shape == (len(cloud), 7)
        assert np.isfinite(features_of_points(cloud)).all()
    flat = np.c_[RNG(0).random((200, 2)), np.zeros(200)]
    assert features_of_points(flat)[:, 1].min() > 0.99  # a level plane
    upright = flat[:, [0, 2, 1]]
    assert features_of_points(upright)[:, 1].max() < 0.1
