"""What is read beside coordinates, large clouds thinned before anything is drawn, and frames that files keep."""

import numpy as np
import pytest
import torch

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_trained
from isoform.core.runs.folder import RunFolder
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.dataset import frame_cloud
from isoform.pointcloud.data.features import (
    FeatureReader,
    count_channels,
    height_above_ground,
    normal_columns,
    parse_features,
    upward_normals,
)
from isoform.pointcloud.data.scenes import make_scene
from isoform.pointcloud.data.thinning import thin
from isoform.pointcloud.data.transforms import Augment
from isoform.pointcloud.files import Cloud
from isoform.pointcloud.pointmae.patches import cut_into_patches

from .test_segment import UTM
from .test_task import SMALL

RNG = np.random.default_rng
SHIFTED = np.add(UTM, (0.25, -7, 3))


def reader(*features, **data):
    return FeatureReader(DataConfig(features=features, **data))


def scene(seed, points=900, size=9.0):
    return make_scene(RNG(seed), points, size)


# which features -------------------------------------------------------------------------------------------------------


def test_features_make_channels():
    names = ("intensity/255", "a/b", "nx", "ny", "nz", "height_above_ground/5", "plant height")
    parsed = parse_features(names)
    assert [one.divisor for one in parsed] == [255, 1, 1, 1, 1, 5, 1] and parsed[1].name == "a/b"
    assert count_channels(names) == 10 and normal_columns(names) == (5, 8)
    assert count_channels(("normals", "z2")) == 7 and normal_columns(("z2", "normals")) == (4, 7)
    assert count_channels(()) == 3 and normal_columns(("intensity/9",)) is None


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("red",), "8 bits are red/255"),
        (("green/256",), "16 bits green/65535"),
        (("red/255", "blue/65535"), "have one depth"),
        (("intensity/0",), "above 0"),
        (("intensity/-3",), "above 0"),
        (("normals/2",), "normals by none"),
        (("nx", "nz", "ny"), "name nx, ny, nz"),
        (("ny",), "name nx, ny, nz"),
        (("normals", "nx", "ny", "nz"), "one kind of normals"),
        (("a", "a/3"), "named twice"),
    ],
)
def test_features_that_make_no_sense(names, said):
    with pytest.raises(ValueError, match=said):
        DataConfig(features=names)


def test_fields_are_divided_and_what_is_missing_is_counted():
    values = np.array([0, 513, np.nan, 1026, np.inf])
    cloud = Cloud(RNG(0).normal(size=(5, 3)), {"Plant Height": values, "ring": np.arange(5)})
    read = reader("plant_height/513", "ring")
    found = read.read(cloud, "a.las")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[0, 0], [1, 1], [0, 2], [2, 3], [0, 4]])
    assert read.notes()[1] == "values that are missing or no data, read as 0: 2 of plant_height"
    with pytest.raises(
        UserError, match=r"b\.las: has no field 'echo'; there are Plant Height, ring"
    ):
        reader("echo").read(cloud, "b.las")
    with pytest.raises(UserError, match="waves holds no number a point"):
        reader("waves").read(Cloud(cloud.xyz, {"waves": np.zeros((5, 3))}), "c")
    large = reader("ring")
    large.read(Cloud(cloud.xyz, {"ring": 1009 * np.arange(5)}), "d")
    assert any("warning: ring goes from 0 to 4036" in line for line in large.notes())


def test_colours_of_another_depth_are_named():
    def coloured(brightest, kind=np.uint16):
        ramp = np.linspace(0, brightest, 7).astype(kind)
        return Cloud(RNG(0).normal(size=(7, 3)), {"red": ramp // 2, "green": ramp, "blue": ramp})

    names = [f"{colour}/65535" for colour in ("red", "green", "blue")]
    read = reader(*names)
    read.read(coloured(65_000), "a.las")
    assert not any("mixed" in line for line in read.notes())
    read.read(coloured(251), "b.las")
    read.read(coloured(0), "black.las")
    (told,) = [line for line in read.notes() if "mixed colour depth" in line]
    assert "1 file, such as b.las" in told and "8 bits" in told
    with pytest.raises(UserError, match=r"c\.las: mixed colour depth.* 65,000, as of 16 bits"):
        reader("red/255", "green/255").read(coloured(65_000), "c.las")
    np.testing.assert_allclose(
        reader("red/255").read(coloured(255, np.uint8), "d")[:, 0].max(), 127 / 255
    )


def test_height_is_over_the_ground_of_the_square():
    rng = RNG(0)
    xyz = np.c_[rng.uniform(0, 7, (3001, 2)), np.zeros(3001)] + SHIFTED
    ground = np.where(xyz[:, 0] - xyz[:, 0].min() < 3.5, 0, 11.0)  # a step
    above = rng.uniform(0, 5, 3001) * (rng.random(3001) < 0.5)
    xyz[:, 2] += ground + above
    found = height_above_ground(xyz, 3.5, 0.05)
    np.testing.assert_allclose(found, above, atol=1e-9)
    xyz[17, 2] -= 50  # one return from under the ground moves nobody but itself
    again = height_above_ground(xyz, 3.5, 0.05)
    others = np.arange(3001) != 17
    np.testing.assert_allclose(again[others], above[others], atol=1e-9)
    assert again[17] < -40 and len(height_above_ground(np.zeros((0, 3)))) == 0
    whole = reader("height_above_ground/2").read(Cloud(xyz[others]), "a")
    np.testing.assert_allclose(whole[:, 0], (above + ground)[others] / 2, rtol=1e-6)


def test_normals_point_upwards_and_are_of_length_1():
    rng = RNG(0)
    x, y = rng.uniform(-3, 3, (2, 211))
    normal = np.array([-0.5, 0.25, 1]) / np.linalg.norm([-0.5, 0.25, 1])
    plane = np.c_[x, y, 0.5 * x - 0.25 * y] + SHIFTED
    found = upward_normals(plane)
    np.testing.assert_allclose(found, np.tile(normal, (211, 1)), atol=2e-4)
    assert (upward_normals(plane[:2]) == 0).all() and len(upward_normals(plane[:0])) == 0


def test_normals_turn_with_the_points_and_scale_inversely():
    rng = RNG(3)
    xy = rng.normal(size=(53, 2))
    slope = np.array([0.6, 0, 0.8])
    cloud = np.c_[
        xy[:, 0] * 0.8, xy[:, 1], -xy[:, 0] * 0.6, np.full(53, 7.0), np.tile(slope, (53, 1))
    ]
    columns = normal_columns(("echo", "normals"))
    for seed in range(5):
        change = Augment(scale=(0.3, 3), shift=5, yaw=180, normals=columns)
        moved = change(cloud.astype(np.float32), RNG(seed)).astype(np.float64)
        apart = moved[1:, :3] - moved[0, :3]
        assert np.abs(apart @ moved[0, 4:]).max() < 1e-5  # still at right angles to the plane
        np.testing.assert_allclose(np.linalg.norm(moved[:, 4:], axis=1), 1, atol=1e-6)
        assert (moved[:, 3] == 7).all()
    quarter = Augment(yaw=0, shift=9, normals=columns)(cloud.astype(np.float32), RNG(0))
    np.testing.assert_allclose(quarter[:, 4:], cloud[:, 4:], atol=1e-7)  # a shift leaves them


def test_patches_are_centred_in_coordinates_alone():
    points = torch.from_numpy(RNG(0).normal(size=(2, 61, 5)).astype(np.float32))
    config = resolve_app("pointmae-own", domain=DOMAIN, settings=SMALL).tokeniser
    patches = cut_into_patches(points, config)
    nearest = patches.points[:, :, 0]
    assert (nearest[..., :3] == 0).all()
    of_centre = {tuple(row[:3].tolist()): row[3:] for row in points.flatten(0, 1)}
    for centre, own in zip(patches.centres.flatten(0, 1), nearest.flatten(0, 1), strict=True):
        assert torch.equal(own[3:], of_centre[tuple(centre.tolist())])


# clouds ---------------------------------------------------------------------------------------------------------------


def write_clouds(root, suffix=".txt"):
    """Two classes of one shape that only the field `echo` tells apart."""
    rng = RNG(0)
    for name, echo in (("dark", 100), ("light", 3000)):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(13):
            points = rng.normal(SHIFTED, size=(rng.integers(40, 90), 3))
            table = np.c_[points, rng.normal(echo, 20, len(points)), points[:, 2]]
            np.savetxt(root / name / f"{k:02}{suffix}", table, header="", fmt="%.4f")
    return root


ECHO = {
    **SMALL,
    "data.columns": ["x", "y", "z", "echo", "again"],
    "data.features": ["echo/3000", "height_above_ground/2", "normals"],
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    settings = {**ECHO, "data.root": str(write_clouds(folder / "data")), "train.epochs": 4}
    settings["train.lr"] = 3e-3
    run = isoform.train("pointcloud/pointmae-own", settings, run_dir=folder / "run", progress=False)
    return run.folder, folder / "data"


def test_clouds_are_told_apart_by_a_feature(trained):
    run, data = trained
    config = load_trained(DOMAIN, run).config
    assert config.tokeniser.channels == 8
    weight = RunFolder(run).load_weights("best")["tokeniser.encoder.point.weight"]
    assert weight.shape[1] == 8
    files = sorted(data.glob("*/*.txt"))
    rows = isoform.load(run).predict([str(file) for file in files])
    told = {row["input"]: row for row in rows}
    for row in rows_in(run / "predictions.csv"):
        assert float(row["p dark"]) == pytest.approx(
            told[str(data / row["input"])]["p dark"], abs=1e-6
        )
    arrays = [np.loadtxt(file) for file in files[:3]]
    again = isoform.load(run).predict(arrays)
    assert [row["p dark"] for row in again] == pytest.approx(
        [r["p dark"] for r in rows[:3]], abs=1e-6
    )
    (refused,) = isoform.load(run).predict([arrays[0][:, :3]])
    assert "[points, 5: x, y, z, echo, again]" in refused["error"]


def test_what_the_features_are_is_said(trained, capsys):
    run, data = trained
    facts = DOMAIN.graph(load_trained(DOMAIN, run)).facts
    assert facts["features"] == ["echo/3000", "height_above_ground/2", "normals"]
    report = DOMAIN.check(app(data))
    assert any(line.startswith("features, divided: echo 0.0") for line in report.lines)
    assert exit_code("pointcloud", "predict", run, data / "dark" / "00.txt") == 0
    assert "features, divided: echo" in capsys.readouterr().err


def app(data, kind="pointmae-own", **more):
    settings = {**ECHO, "data.root": str(data), **more}
    return resolve_app(kind, domain=DOMAIN, settings=settings)


def test_channels_that_contradict_the_features_are_refused(trained):
    _, data = trained
    with pytest.raises(UserError, match=r"tokeniser.channels = 5: .* make 8; leave it out"):
        DOMAIN.prepare(app(data, **{"tokeniser.channels": 5}))
    with pytest.raises(UserError, match="has no field 'red'; there are echo, again"):
        DOMAIN.prepare(app(data, **{"data.features": ["red/255"]}))


def test_a_feature_that_changed_is_another_cloud(trained, tmp_path):
    _, data = trained
    before = DOMAIN.prepare(app(data)).data.clouds
    other = write_clouds(tmp_path / "data")
    place = other / "dark" / "03.txt"
    table = np.loadtxt(place)
    table[5, 3] += 1
    np.savetxt(place, table, fmt="%.4f")
    after = DOMAIN.prepare(app(other)).data.clouds
    assert (before.digests_N != after.digests_N).sum() == 1
    plain = {"data.features": ["height_above_ground"]}  # coordinates alone
    one, two = (DOMAIN.prepare(app(root, **plain)).data.clouds for root in (data, other))
    np.testing.assert_array_equal(one.digests_N, two.digests_N)


def test_weights_of_coordinates_answer_the_same_with_features_at_first(trained, tmp_path):
    run, data = trained
    plain = {
        **SMALL,
        "data.columns": ECHO["data.columns"],
        "data.root": str(data),
        "train.epochs": 1,
    }
    first = isoform.train("pointcloud/pointmae-own", plain, run_dir=tmp_path / "a", progress=False)
    wider = DOMAIN.task(DOMAIN.prepare(app(data)))
    model = wider.build().eval()
    weights = RunFolder(first.folder).load_weights("best")
    model.load_state_dict(wider.adapt_weights(weights, model))
    narrow = load_trained(DOMAIN, first.folder).model.eval()
    batch = wider.collate([wider.sample("test", k, None) for k in range(2)])
    with torch.no_grad():
        one = model(batch["points"], batch["lengths"])
        two = narrow(batch["points"][..., :3].contiguous(), batch["lengths"])
    torch.testing.assert_close(one, two, atol=1e-6, rtol=0)
    notes = DOMAIN.prepare(app(data, **{"train.init": str(first.folder)})).notes
    assert any("start at 0" in line for line in notes)
    other = DOMAIN.task(DOMAIN.prepare(app(data, **{"data.features": ["echo/3000"]})))
    with pytest.raises(UserError, match="read 8 channels of a point and this model 4"):
        other.adapt_weights(RunFolder(run).load_weights("best"), other.build())


def test_a_set_of_clouds_has_features_too(tmp_path):
    rng = RNG(0)
    points = rng.normal(size=(11, 59, 5))
    np.savez(
        tmp_path / "a.npz",
        points=points,
        labels=np.arange(11) % 2,
        normal=np.tile([0, 0.6, 0.8], (11, 59, 1)),
        ring=np.arange(11 * 59).reshape(11, 59),
    )
    names = {
        "data.features": ["nx", "ny", "nz", "ring/649", "v"],
        "data.columns": ["x", "y", "z", "u", "v"],
    }
    settings = {**SMALL, **names, "data.source": "set", "data.path": str(tmp_path / "a.npz")}
    data = DOMAIN.prepare(resolve_app("pointmae-own", domain=DOMAIN, settings=settings)).data.clouds
    found = data.cloud(7)
    np.testing.assert_allclose(found[:, 3:6], np.tile([0, 0.6, 0.8], (59, 1)), atol=1e-7)
    np.testing.assert_allclose(found[:, 6], np.arange(7 * 59, 8 * 59) / 649, rtol=1e-6)
    np.testing.assert_allclose(found[:, 7], points[7, :, 4], rtol=1e-6)


def test_colours_of_a_mesh_are_carried_to_its_surface(tmp_path):
    corners = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0]])
    text = "".join(f"v {x} {y} {z} {x} {y} 0\n" for x, y, z in corners) + "f 1 2 3\n"
    (tmp_path / "a.obj").write_text(text)
    from isoform.pointcloud.data.records import usable_cloud

    cloud = usable_cloud(tmp_path / "a.obj", (), 101)
    found = reader("red/255", "green/255").read(cloud, "a.obj")
    np.testing.assert_allclose(found, cloud.xyz[:, :2], atol=3e-3)


# large clouds ---------------------------------------------------------------------------------------------------------


def test_thinning_keeps_the_files_own_points():
    xyz = RNG(0).uniform(0, 3, (7919, 3)) + SHIFTED
    found = thin(xyz, 0.5, least=8)
    assert 6**3 <= len(found.kept) <= 7**3 and (np.diff(found.kept) > 0).all()
    again = thin(xyz, 0.5, least=8)
    np.testing.assert_array_equal(found.kept, again.kept)
    assert str(found).startswith("7,919 points thinned to") and str(found).endswith(
        "by voxels of 0.5"
    )
    answers = found.answers(xyz)
    np.testing.assert_array_equal(answers[found.kept], found.kept)
    apart = np.linalg.norm(xyz[:, None] - xyz[found.kept][None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(xyz - xyz[answers], axis=1), apart.min(1), atol=1e-9)
    assert thin(xyz, 0, least=8) is None and thin(xyz, None, least=8) is None


def test_only_beyond_a_million_points_is_thinned_by_itself(monkeypatch):
    from isoform.pointcloud.data import thinning

    monkeypatch.setattr(thinning, "LARGE", 5000)
    xyz = RNG(0).uniform(0, 3, (7919, 3))
    assert thin(xyz[:5000], None, least=100) is None
    found = thin(xyz, None, least=100)
    assert 100 <= len(found.kept) <= 8 * 100 and found.edge == pytest.approx(3 / 8, rel=1e-3)
    assert thin(xyz, None, edge=0.7).edge == 0.7
    xyz[17] = 1e5  # an outlier leaves as many of the others
    assert len(thin(xyz, None, least=100).kept) >= 100
    assert (
        thin(np.full((7919, 3), 7.0), None, least=100) is None
    )  # and what is all in one place stays


def test_a_large_cloud_is_thinned_alike_wherever_it_is_read(trained, tmp_path, capsys, monkeypatch):
    from isoform.pointcloud.data import thinning

    run, _ = trained
    monkeypatch.setattr(thinning, "LARGE", 5000)
    xyz = RNG(0).normal(size=(7919, 3)) + SHIFTED
    table = np.c_[xyz, RNG(1).normal(3000, 20, (7919, 2))]
    np.save(tmp_path / "large.npy", table)
    assert exit_code("pointcloud", "predict", run, tmp_path / "large.npy") == 0
    assert "large.npy: 7,919 points thinned to " in capsys.readouterr().err
    config = DataConfig(points=61, features=ECHO["data.features"])
    cloud = Cloud(xyz, {"echo": table[:, 3]})
    framed = frame_cloud(cloud, config, FeatureReader(config), "a")
    assert len(framed.points) == 8 * 61 and framed.thinned is not None
    own = {row.tobytes() for row in (table[:, 3] / 3000).astype(np.float32)}
    assert {row.tobytes() for row in framed.points[:, 3]} <= own


def test_an_evaluation_and_a_prediction_see_the_same_points(tmp_path):
    """Of a cloud of more than 8 times data.points both choose from the same ones."""
    rng = RNG(0)
    for k in range(12):
        place = tmp_path / "data" / ("a", "b")[k % 2] / f"{k}.npy"
        place.parent.mkdir(parents=True, exist_ok=True)
        np.save(place, rng.normal(size=(997, 3)) * [1, 1, k % 2])
    settings = {**SMALL, "data.root": str(tmp_path / "data"), "train.epochs": 1}
    run = isoform.train(
        "pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False
    )
    for row in rows_in(run.folder / "predictions.csv"):
        (told,) = isoform.load(run.folder).predict([str(tmp_path / "data" / row["input"])])
        assert told["p a"] == pytest.approx(float(row["p a"]), abs=1e-6)


def test_a_unit_is_kept_on_request(tmp_path, capsys):
    rng = RNG(0)
    for name, size in (("large", 5), ("small", 2)):  # of one shape: the unit alone tells
        (tmp_path / "data" / name).mkdir(parents=True)
        for k in range(13):
            np.savetxt(
                tmp_path / "data" / name / f"{k}.xyz", size * rng.normal(size=(67, 3)) + SHIFTED
            )
    settings = {
        **SMALL,
        "data.root": str(tmp_path / "data"),
        "data.scale": "keep",
        "train.epochs": 1,
    }
    run = isoform.train(
        "pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False
    )
    task = DOMAIN.task(
        DOMAIN.prepare(resolve_app("pointmae-own", domain=DOMAIN, settings=settings))
    )
    rows = range(len(task.data.records))
    reach = {
        task.data.records.clouds.names[k]: np.ptp(task.data.cloud(k), axis=0).max() for k in rows
    }
    assert min(v for name, v in reach.items() if name < "small") > 15
    xyz = np.loadtxt(tmp_path / "data" / "small" / "0.xyz")
    one, two = isoform.load(run.folder).predict([xyz, 1000 * xyz])
    assert one["p small"] != pytest.approx(two["p small"], abs=1e-3)
    place = str(tmp_path / "data" / "small" / "0.xyz")
    assert exit_code("pointcloud", "predict", run.folder, place) == 0
    assert "the unit is kept (data.scale = keep)" in capsys.readouterr().err
