"""Features of a scan's points: what is stored beside them is read, and comes back; frames that files keep."""

import json

import laspy
import numpy as np
import pytest

import isoform
from answers import rows_in
from isoform.core.inference.run_model import load_trained
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.features import FeatureReader, height_above_ground
from isoform.pointcloud.data.scan_points import ScanPoints
from isoform.pointcloud.data.scenes import make_scene
from isoform.pointcloud.files import read_cloud
from isoform.pointcloud.files.ply import write_ply

from .small_sets import label
from .test_features import RNG, SHIFTED, reader, scene
from .test_segment import CODES, TINY, UTM


def write_las(path, seed, points=1500, shift=UTM):
    """Two records of extra bytes, names that aren't plain, one scaled, one of three, one with no data; bytes untold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    xyz, label = make_scene(RNG(seed), points, 12.0)
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.offsets, header.scales = np.floor(shift), np.full(3, 0.001)
    header.add_extra_dim(laspy.ExtraBytesParams("plant height", "<u2", scales=[0.01], offsets=[0]))
    header.add_extra_dim(laspy.ExtraBytesParams("höhe", "3f4"))
    header.add_extra_dim(laspy.ExtraBytesParams("quality", "i2", no_data=[-9999]))
    header.add_extra_dim(laspy.ExtraBytesParams("confidence", "f4"))
    las = laspy.LasData(header)
    las.x, las.y, las.z = (xyz + shift).T
    n, rng = len(xyz), RNG(seed)
    las.classification = CODES[label].astype(np.uint8)
    las.intensity = rng.integers(0, 65_000, n)
    las.synthetic, las.withheld = rng.random(n) < 0.3, rng.random(n) < 0.2
    las.key_point, las.overlap = rng.random(n) < 0.1, rng.random(n) < 0.4
    las.return_number, las.number_of_returns = 1 + np.arange(n) % 3, np.full(n, 3)
    las["plant height"] = rng.uniform(0, 600, n)
    las["höhe"] = rng.normal(size=(n, 3))
    las["quality"] = np.where(rng.random(n) < 0.25, -9999, rng.integers(-50, 50, n))
    las["confidence"] = rng.random(n)
    las.write(str(path))
    split_record(path)
    return path


def split_record(path):
    """The record of extra bytes becomes two, of 2 and 2 dimensions, as some writers do."""
    las = laspy.read(path)
    (record,) = las.vlrs.get("ExtraBytesVlr")
    whole = record.record_data_bytes()
    las.vlrs = type(las.vlrs)([one for one in las.vlrs if one is not record])
    raw = path.read_bytes()
    offset = len(raw) - len(las.points) * las.header.point_format.size
    size = int.from_bytes(raw[94:96], "little")
    head = bytearray(raw[:size])
    body = whole[: 2 * 192], whole[2 * 192 :]
    records = b"".join(
        b"\0\0" + b"LASF_Spec".ljust(16, b"\0") + (4).to_bytes(2, "little")
        + len(part).to_bytes(2, "little") + bytes(32) + part
        for part in body
    )  # fmt: skip
    assert offset == int.from_bytes(raw[96:100], "little")
    head[96:100] = (size + len(records)).to_bytes(4, "little")
    head[100:104] = (2).to_bytes(4, "little")
    path.write_bytes(bytes(head) + records + raw[offset:])


FEATURES = ["plant height/600", "quality/50", "intensity/65535", "height_above_ground/5", "normals"]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for split, seed in (("train", 0), ("val", 2), ("test", 3)):
        write_las(folder / "data" / split / f"{seed}.las", seed)
    settings = {
        **TINY,
        "data.root": str(folder / "data"),
        "data.features": FEATURES,
        "data.voxel": 0.4,
    }
    run = isoform.train(
        "pointcloud/pointmae-seg-own", settings, run_dir=folder / "run", progress=False
    )
    return run.folder, folder / "data"


@pytest.fixture(scope="module")
def plain(scans, tmp_path_factory):
    """A run on coordinates alone."""
    settings = {**TINY, "data.root": str(scans[1])}
    folder = tmp_path_factory.mktemp("plain")
    return isoform.train(
        "pointcloud/pointmae-seg-own", settings, run_dir=folder / "run", progress=False
    ).folder


def test_extra_dimensions_are_features_and_come_back(scans, tmp_path, capsys):
    run, data = scans
    scan = data / "test" / "3.las"
    before = laspy.read(scan)
    assert len(before.vlrs.get("ExtraBytesVlr")) == 2
    read = reader("plant height/600", "quality/50")
    cloud = read_cloud(scan)
    found = read.read(cloud, "a")
    stored = cloud.carrier.points.array
    np.testing.assert_allclose(found[:, 0], stored["plant height"] * 0.01 / 600, rtol=1e-6)
    none = stored["quality"] == -9999
    assert 0 < none.sum() == read.missing["quality"] and (found[none, 1] == 0).all()
    np.testing.assert_allclose(found[~none, 1], stored["quality"][~none] / 50, rtol=1e-6)
    out = tmp_path / "out.las"
    assert label(run, scan, "--out", out) == 0
    told = capsys.readouterr().out
    assert "points thinned to" in told and f"no data, read as 0: {none.sum():,}" not in told
    assert "read as 0:" in told and "tiles of 7 in the scan's unit" in told
    assert_only_labelled(scan, out, "confidence 2")
    (record,) = laspy.read(out).vlrs.get("ExtraBytesVlr")
    told = {one.format_name(): one for one in record.extra_bytes_structs}
    assert list(told) == ["plant height", "höhe", "quality", "confidence", "confidence 2"]
    assert told["quality"].no_data == [-9999] and told["plant height"].scale == [0.01]


def assert_only_labelled(scan, out, confidence):
    """Byte for byte the same points, flags and extra bytes; a class and a confidence more."""
    before, after = laspy.read(scan), laspy.read(out)
    old, new = (las.points.array.view("u1").reshape(len(las.points), -1) for las in (before, after))
    assert new.shape[1] == old.shape[1] + 4  # of the confidence
    place = before.points.array.dtype.fields["classification"][1]
    for column in range(old.shape[1]):
        if column != place:
            np.testing.assert_array_equal(new[:, column], old[:, column])
    assert (after.header.scales == before.header.scales).all()
    assert (after.header.offsets == before.header.offsets).all()
    assert set(np.unique(after.classification)) <= set(CODES.tolist())
    assert (np.asarray(after[confidence]) > 0).all()


def test_bytes_that_nobody_tells_of_come_back(scans, plain, tmp_path):
    """A point record longer than its dimensions."""
    scan = scans[1] / "test" / "3.las"
    raw = bytearray(scan.read_bytes())
    start, size = int.from_bytes(raw[96:100], "little"), int.from_bytes(raw[94:96], "little")
    raw[96:100], raw[100:104] = size.to_bytes(4, "little"), bytes(4)  # no records
    bare = tmp_path / "bare.las"
    bare.write_bytes(bytes(raw[:size]) + bytes(raw[start:]))
    before = laspy.read(bare)
    assert before.point_format.num_extra_bytes == 2 + 12 + 2 + 4
    assert label(plain, bare, "--out", tmp_path / "out.las") == 0
    assert_only_labelled(bare, tmp_path / "out.las", "confidence")


def test_every_point_of_a_thinned_scan_is_judged(scans):
    run, data = scans
    results = json.loads((run / "results.json").read_text())
    assert {"miou", "accuracy"} <= results["metrics"]["test"].keys()
    found = load_trained(DOMAIN, run)
    task = DOMAIN.task_from_run(found.config, found.state, None)
    (row,) = task.data.rows("test")
    points = task.data.scans[row].points
    assert (
        100 < len(points.thinned.kept) < len(points.xyz) == len(laspy.read(data / "test" / "3.las"))
    )
    drawn = {
        int(k) for i in range(task.sizes()["test"]) for k in task.sample("test", i, None).chosen
    }
    assert drawn == set(points.thinned.kept.tolist())
    sample = task.sample("test", 0, None)
    assert sample.points.shape[1] == 3 + 7 == found.config.tokeniser.channels
    np.testing.assert_array_equal(sample.points[:, 3:], points.features[sample.chosen])
    joined = task.accumulator("test")
    rng = RNG(0)
    for index in range(task.sizes()["test"]):
        chosen = task.sample("test", index, None).chosen
        joined.add(
            [index], {"chosen": chosen[None], "probability": rng.random((1, len(chosen), 5))}
        )
    probability = joined.outputs()["probability"]
    assert (probability > 0).all()
    np.testing.assert_array_equal(probability, probability[points.thinned.answers(points.xyz)])


def test_features_of_a_scan_are_those_of_its_file(scans):
    _, data = scans
    config = DataConfig(features=FEATURES, source="scans", tile=7.0, voxel=0.0)
    cloud = read_cloud(data / "test" / "3.las")
    points = ScanPoints.of(cloud, config, FeatureReader(config), "a")
    assert points.thinned is None
    np.testing.assert_allclose(points.features[:, 2], cloud.fields["intensity"] / 65535, rtol=1e-6)
    height = height_above_ground(cloud.xyz, 7.0, 0.05) / 5
    np.testing.assert_allclose(points.features[:, 3], height, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(points.features[:, 4:], axis=1), 1, atol=1e-5)


def test_a_scan_without_a_feature_is_one_sentence(scans, tmp_path, capsys):
    np.savetxt(tmp_path / "bare.xyz", scene(5)[0])
    assert label(scans[0], tmp_path / "bare.xyz", "--out", tmp_path / "a.ply") == 2
    assert "bare.xyz: has no field 'plant height'; there are none" in capsys.readouterr().err
    assert not (tmp_path / "a.ply").exists()


# frames ---------------------------------------------------------------------------------------------------------------


def test_outputs_lie_where_their_inputs_do(plain, tmp_path):
    """One cloud in local coordinates and in UTM: each comes back in its own frame, and with the same labels."""
    far = write_las(tmp_path / "far.las", 7, shift=np.floor(SHIFTED))
    las = laspy.read(far)
    local = np.stack([las.X, las.Y, las.Z], 1) * 0.001
    write_ply(tmp_path / "near.ply", local, {"höhe": np.asarray(las["höhe"])[:, 0]})
    for scan, out in (
        (far, tmp_path / "far out.las"),
        (tmp_path / "near.ply", tmp_path / "near out.ply"),
    ):
        assert label(plain, scan, "--out", out) == 0
        assert read_cloud(out).xyz.tobytes() == read_cloud(scan).xyz.tobytes()
    ours = np.asarray(laspy.read(tmp_path / "far out.las").classification)
    assert (ours == read_cloud(tmp_path / "near out.ply").fields["label"]).mean() > 0.99
    shifts = rows_in(plain / "predictions_tiles.csv")
    task = DOMAIN.task_from_run(*_of(plain), None)
    (row,) = task.data.rows("test")
    assert len(shifts) == len(task.data.tiles[row]) and shifts[0]["input"] == "test/3.las"
    for told, tile in zip(shifts, task.data.tiles[row], strict=True):
        middle = [float(told[axis]) for axis in ("shift x", "shift y", "shift z")]
        assert middle == tile.middle.tolist() and int(told["points"]) == len(tile.index)


def _of(run):
    found = load_trained(DOMAIN, run)
    return found.config, found.state
