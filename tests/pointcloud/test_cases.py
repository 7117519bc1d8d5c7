"""Small inputs on which public tools went wrong, through the product's own doors. P2, P3, ... number the kinds.

Kinds whose tests stand elsewhere: dialects of .ply and .pcd, extra bytes (P5, P6, P7) in test_files.py, extra
dimensions and frames (P5, P16) in test_scan_features.py, normals (P13) in test_features.py and test_data.py,
parts (P18) in test_parts.py, other numbers of points (P19) in test_protocols.py.
"""

import json
import struct

import laspy
import numpy as np
import pytest

import isoform
from commands import exit_code
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.data.records import usable_cloud
from isoform.pointcloud.data.scenes import make_scene
from isoform.pointcloud.files import read_cloud, write_cloud
from isoform.pointcloud.files.cloud import column

from .test_files import grid, las, pcd, ply
from .test_segment import CODES, TINY, UTM, write_scan
from .test_task import SMALL, write_clouds


def command(*words):
    return exit_code("pointcloud", *words)


@pytest.fixture(scope="module")
def labeller(tmp_path_factory):
    """A run that labels points; what it learned doesn't matter."""
    folder = tmp_path_factory.mktemp("scans")
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        write_scan(folder / "data" / split / f"{seed}.las", seed, points=700, unlabelled=11)
    settings = {**TINY, "data.root": str(folder / "data")}
    run = isoform.train(
        "pointcloud/pointmae-seg-own", settings, run_dir=folder / "run", progress=False
    )
    return run.folder


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A run that classifies clouds; what it learned doesn't matter."""
    folder = tmp_path_factory.mktemp("clouds")
    data = write_clouds(folder / "data", counts=(7, 7))
    settings = {**SMALL, "train.epochs": 1, "data.root": str(data)}
    run = isoform.train("pointcloud/pointmae-own", settings, run_dir=folder / "run", progress=False)
    return run.folder, data


# P2, P3, P4, P17: .las ----------------------------------------------------------------------------------------------


def test_p2_labelling_merges_no_points(labeller, tmp_path):
    points = grid(1000)
    las(tmp_path / "a.las", count=1000, extra=False)
    np.savetxt(tmp_path / "a.xyz", points, fmt="%.4f")
    write_cloud(tmp_path / "a.ply", read_cloud(tmp_path / "a.xyz"), {})
    for name, out in (
        ("a.las", "b.las"),
        ("a.las", "c.ply"),
        ("a.xyz", "d.ply"),
        ("a.ply", "e.ply"),
    ):
        assert command("label", labeller, tmp_path / name, "--out", tmp_path / out) == 0
        before, after = read_cloud(tmp_path / name), read_cloud(tmp_path / out)
        assert np.array_equal(before.xyz, after.xyz)
        assert len(np.unique(after.xyz, axis=0)) == 1000
    assert (laspy.read(tmp_path / "b.las").header.scales == 1e-4).all()


def test_p3_a_frame_that_was_changed_stays_as_it_is(labeller, tmp_path):
    las(tmp_path / "a.las", extra=False)
    changed = laspy.read(tmp_path / "a.las")
    offsets = np.floor(UTM) + np.array([100, -1000, 7])
    changed.change_scaling(scales=[5e-4, 1e-3, 2e-4], offsets=offsets)
    changed.write(str(tmp_path / "b.las"))
    assert command("label", labeller, tmp_path / "b.las", "--out", tmp_path / "c.las") == 0
    before, after = laspy.read(tmp_path / "b.las"), laspy.read(tmp_path / "c.las")
    for axis in "XYZ":
        assert np.array_equal(before[axis], after[axis])
    assert np.array_equal(before.xyz, after.xyz)


def test_p4_the_class_overlap_becomes_a_flag_where_a_format_has_one(tmp_path):
    las(tmp_path / "a.las", version="1.2", fmt=1, extra=False)
    source = laspy.read(tmp_path / "a.las")
    source.classification = np.arange(1009) % 13
    source.write(str(tmp_path / "a.las"))
    cloud = read_cloud(tmp_path / "a.las")
    write_cloud(tmp_path / "b.las", cloud, {}, codes=np.arange(1009) % 32)
    assert laspy.read(tmp_path / "b.las").point_format.id == 1
    (note,) = write_cloud(tmp_path / "c.las", cloud, {}, codes=np.arange(1009) % 41)
    newer = laspy.read(tmp_path / "c.las")
    assert "don't fit" in note and np.array_equal(newer.classification, np.arange(1009) % 41)
    assert np.array_equal(newer.overlap, np.arange(1009) % 13 == 12)
    for flag in ("synthetic", "withheld", "key_point"):
        assert np.array_equal(newer[flag], source[flag])


def with_count(content, count):
    """A header of LAS 1.2 that speaks of `count` points."""
    changed = bytearray(content)
    changed[107:111] = struct.pack("<I", count)
    return bytes(changed)


def test_p17_the_points_count_and_not_the_header(tmp_path):
    points = las(tmp_path / "a.las", version="1.2", fmt=3, extra=False)
    whole = (tmp_path / "a.las").read_bytes()
    for said in (0, 1000):
        (tmp_path / "b.las").write_bytes(with_count(whole, said))
        cloud = read_cloud(tmp_path / "b.las")
        np.testing.assert_allclose(cloud.xyz, points, atol=6e-5)
        assert any(f"speaks of {said:,} points and 1,009" in note for note in cloud.notes)
        assert write_cloud(tmp_path / "c.las", cloud, {"label": np.arange(1009)}) == []
        assert laspy.read(tmp_path / "c.las").header.point_count == 1009
    (tmp_path / "b.las").write_bytes(with_count(whole, 5000))
    with pytest.raises(UserError, match="cut off: 1,009 of 5,000 points are whole"):
        read_cloud(tmp_path / "b.las")
    las(tmp_path / "a.laz", version="1.2", fmt=3, extra=False)
    packed = (tmp_path / "a.laz").read_bytes()
    (tmp_path / "b.laz").write_bytes(with_count(packed, 0))
    with pytest.raises(UserError, match="speaks of 0 points, and compressed ones follow"):
        read_cloud(tmp_path / "b.laz")
    (tmp_path / "b.laz").write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(UserError, match=r"b\.laz: .*of 1,009"):
        read_cloud(tmp_path / "b.laz")
    made = laspy.LasData(laspy.LasHeader(point_format=6, version="1.4"))
    made.write(str(tmp_path / "none.laz"))
    assert len(read_cloud(tmp_path / "none.laz")) == 0


def test_p17_old_versions_records_behind_the_points_and_waveforms(labeller, tmp_path):
    points = las(tmp_path / "a.las", version="1.2", fmt=1, extra=False)
    content = bytearray((tmp_path / "a.las").read_bytes())
    content[25] = 0  # LAS 1.0
    (tmp_path / "old.las").write_bytes(content)
    header = laspy.LasHeader(point_format=6, version="1.4")
    header.scales, header.offsets = [1e-4] * 3, np.floor(UTM)
    made = laspy.LasData(header)
    made.x, made.y, made.z = points.T
    made.evlrs = laspy.vlrs.vlrlist.VLRList([laspy.VLR("someone", 17, "a note", b"12345678" * 9)])
    made.write(str(tmp_path / "behind.las"))
    wave = laspy.LasHeader(point_format=4, version="1.3")
    wave.scales, wave.offsets = [1e-4] * 3, np.floor(UTM)
    made = laspy.LasData(wave)
    made.x, made.y, made.z = points.T
    made["wavepacket_offset"] = np.arange(len(points)) * 256
    made.write(str(tmp_path / "wave.las"))
    for name in ("old", "behind", "wave"):
        out = tmp_path / f"{name}-out.las"
        assert command("label", labeller, tmp_path / f"{name}.las", "--out", out) == 0
        before, after = laspy.read(tmp_path / f"{name}.las"), laspy.read(out)
        np.testing.assert_allclose(before.xyz, points, atol=6e-5)
        for dimension in before.point_format.dimension_names:
            if dimension != "classification":
                assert np.array_equal(before[dimension], after[dimension]), (name, dimension)
    (record,) = laspy.read(tmp_path / "behind-out.las").evlrs
    assert record.record_data == b"12345678" * 9


# P6, P7: other files -------------------------------------------------------------------------------------------------


def test_p6_points_without_coordinates_come_back_in_their_places(labeller, tmp_path):
    table = pcd(tmp_path / "a.pcd", "binary_compressed")
    assert command("label", labeller, tmp_path / "a.pcd", "--out", tmp_path / "b.ply") == 0
    found = read_cloud(tmp_path / "b.ply")
    assert np.array_equal(found.xyz[:, 0], table["x"], equal_nan=True)
    for name in ("intensity", "ring"):
        assert np.array_equal(found.fields[name], table[name])
    assert np.array_equal(found.fields["label"], table["label"])  # the file's own
    label = found.fields["label_2"]
    assert np.flatnonzero(label == 0).tolist() == [3, 7] and set(label) <= {0, *CODES.tolist()}


@pytest.mark.parametrize(("kind", "factor"), [("uchar", 1), ("ushort", 257), ("float", 1 / 255)])
def test_p7_colours_come_as_their_file_has_them(kind, factor, tmp_path):
    grey = np.arange(7) * 36
    rows = [f"{k} {k * k} 1e6 {value * factor:.9g}" for k, value in enumerate(grey.tolist())]
    head = ["ply", "format ascii 1.0", "element vertex 7", "property double x", "property double y"]
    head += ["property double z", "comment of nobody", f"property {kind} diffuse_red", "end_header"]
    (tmp_path / "a.ply").write_bytes("\r\n".join([*head, *rows, ""]).encode())
    cloud = read_cloud(tmp_path / "a.ply")
    np.testing.assert_allclose(column(cloud, "Diffuse Red", "a") / factor, grey, rtol=1e-6)
    assert cloud.xyz[3].tolist() == [3, 9, 1e6]
    write_cloud(tmp_path / "b.ply", cloud, {})
    again = read_cloud(tmp_path / "b.ply")
    assert again.fields["diffuse_red"].dtype == cloud.fields["diffuse_red"].dtype
    assert (
        ply(tmp_path / "c.ply", order=">").stat().st_size
        and read_cloud(tmp_path / "c.ply").xyz.all()
    )


# P9: codes -----------------------------------------------------------------------------------------------------------


def test_p9_codes_have_gaps_and_some_are_absent_or_new(labeller, tmp_path, capsys):
    codes = np.array([2, 6, 15, 41, 2])
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        own = codes if split == "test" else CODES
        write_scan(tmp_path / split / f"{seed}.las", seed, 500, own, unlabelled=13)
    sets = [w for k, v in TINY.items() for w in ("--set", f"{k}={json.dumps(v)}")]
    sets += ["--set", f"data.root={json.dumps(str(tmp_path))}"]
    assert command("check", "pointmae-seg-own", *sets, "--json", "--page", tmp_path / "p.html") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["points"]) == {"2", "6", "7", "15", "17"}  # 0 is no class
    assert found["points"]["17"]["test"] == 0 < found["points"]["17"]["train"]
    assert list(found["unseen_codes"]) == ["41"] and found["unseen_codes"]["41"] > 0
    out = tmp_path / "out.las"
    assert command("label", labeller, tmp_path / "test" / "2.las", "--out", out) == 0
    assert set(np.unique(laspy.read(out).classification)) <= set(CODES.tolist())


# P11, P15: clouds ----------------------------------------------------------------------------------------------------


def degenerate():
    rng = np.random.default_rng(0)
    line = np.linspace(0, 1, 43)[:, None] * [1, 2, 3]
    plane = np.c_[rng.random((43, 2)), np.zeros(43)]
    far = np.concatenate([rng.normal(size=(47, 3)), [[1e9, 0, 0]]])
    return {
        "one": np.ones((1, 3)), "two": np.eye(3)[:2], "equal": np.full((41, 3), 7.0), "line": line, "plane": plane,
        "far": far, "twice": np.repeat(rng.normal(size=(23, 3)), 2, 0),
        "gaps": np.where(rng.random((41, 1)) < 0.5, np.nan, rng.normal(size=(41, 3))),
    }  # fmt: skip


def test_p11_degenerate_clouds_have_an_answer(classifier, tmp_path, capsys):
    run, _ = classifier
    for name, points in degenerate().items():
        np.savetxt(tmp_path / f"{name}.xyz", points)
    (tmp_path / "none.xyz").write_text("# x y z\n")
    (tmp_path / "nan.xyz").write_text("nan nan nan\n" * 3)
    files = sorted(tmp_path.glob("*.xyz"))
    assert command("predict", run, *files, "--out", tmp_path / "a.jsonl") == 0
    rows = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row["input"] for row in rows] == [str(file) for file in files]
    for row in rows:
        if row["error"]:
            assert "none.xyz: holds no" in row["error"] or "3 points has coord" in row["error"]
        else:
            assert np.isfinite([row["p ball"], row["p disc"]]).all()
    assert sum(bool(row["error"]) for row in rows) == 2
    assert "in 1 of 10 clouds one point lies so far away" in capsys.readouterr().err


def test_p11_degenerate_clouds_are_named_and_trained_on(tmp_path, capsys):
    data = write_clouds(tmp_path / "data", counts=(7, 7))
    for name, points in degenerate().items():
        for label in ("ball", "disc"):
            np.savetxt(data / label / f"{name}-{label}.xyz", points + (label == "ball"))
    (data / "ball" / "cut.ply").write_bytes(b"ply\nformat ascii 1.0\nelement vertex 9\n")
    (data / "disc" / "mesh.off").write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n2 0 0\n3 0 1 2\n")
    (data / "disc" / "points.off").write_text("OFF\n3 0 0\n0 0 0\n1 0 0\n2 0 1\n")
    sets = {**SMALL, "train.epochs": 1, "data.root": str(data), "data.on_error": "skip"}
    words = [w for k, v in sets.items() for w in ("--set", f"{k}={json.dumps(v)}")]
    words += ["--json"]
    assert command("check", "pointmae-own", *words, "--page", tmp_path / "p.html") == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["unreadable"]) == {"ball/cut.ply", "disc/mesh.off"}
    assert "without area" in found["unreadable"]["disc/mesh.off"]
    assert set(found["dominated"]) == {"ball/far-ball.xyz", "disc/far-disc.xyz"}
    assert {"ball/equal-ball.xyz", "disc/one-disc.xyz"} <= set(found["all_points_equal"])
    assert found["few_points"]["disc/points.off"] == 3 and found["missing"]["ball/gaps-ball.xyz"]
    assert command("train", "pointmae-own", *words, "--run-dir", tmp_path / "run") == 0
    told = json.loads(capsys.readouterr().out)["metrics"]["test"]
    assert np.isfinite(told["loss"])


def test_p12_surfaces_of_files_are_sampled_evenly(tmp_path):
    """Two triangles of area 1 and 9, one without any, a quad, and parts of one file at other scales."""
    (tmp_path / "a.off").write_text(
        "OFF\n7 3 0\n0 0 0\n2 0 0\n0 1 0\n10 0 0\n16 0 0\n10 3 0\n5 5 5\n3 0 1 2\n3 3 4 5\n3 6 6 6\n"
    )
    (tmp_path / "b.obj").write_text(
        "o small\nv 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nf 1 2 3 4\n"
        "o large\nv 10 0 0\nv 13 0 0\nv 13 3 0\nv 10 3 0\nf 5 6 7 8\n"
    )
    for name in ("a.off", "b.obj"):
        found = usable_cloud(tmp_path / name, (), 20_011).xyz
        share = np.mean(found[:, 0] >= 10)
        assert abs(share - 0.9) < 3 * np.sqrt(0.09 / 20_011)
        assert not (found == 5).all(1).any()
    right = found[found[:, 0] >= 10]
    upper = right[:, 1] > right[:, 0] - 10  # the two halves of the quad
    assert abs(upper.mean() - 0.5) < 3 * np.sqrt(0.25 / len(right))


def test_p15_rays_that_met_nothing_count_for_no_frame(classifier, labeller, tmp_path, capsys):
    run, _ = classifier
    scan = make_scene(np.random.default_rng(3), 900, 9.0)[0][:570] + np.array([30, 20, 1])
    hidden = np.random.default_rng(0).permutation(600)[:30]
    whole = np.zeros((600, 4), np.float32)
    whole[np.setdiff1d(np.arange(600), hidden), :3] = scan
    whole[:, 3] = np.where(whole[:, 0] == 0, 0, 17)
    whole.tofile(tmp_path / "a.bin")
    names = ("x", "y", "z", "intensity")
    cloud = read_cloud(tmp_path / "a.bin", names)
    assert np.array_equal(np.flatnonzero(~cloud.usable()), np.sort(hidden))
    one, two = isoform.load(run).predict([whole, whole[whole[:, 0] > 0]])
    assert one["p ball"] == pytest.approx(two["p ball"], abs=1e-6)
    np.save(tmp_path / "a.npy", whole[:, :3])
    assert command("label", labeller, tmp_path / "a.npy", "--out", tmp_path / "b.ply") == 0
    label = read_cloud(tmp_path / "b.ply").fields["label"]
    assert np.array_equal(np.flatnonzero(label == 0), np.sort(hidden)) and len(label) == 600
    data = write_clouds(tmp_path / "data", counts=(5, 5))
    np.save(data / "ball" / "scan.npy", whole[:, :3])
    capsys.readouterr()
    assert command("check", data, "--page", tmp_path / "p.html") == 0
    said = capsys.readouterr().out
    assert "empty returns at the origin, left out: 30 in 1 file: ball/scan.npy" in said


# check ---------------------------------------------------------------------------------------------------------------


def test_check_tells_units_colours_and_near_duplicates(tmp_path, capsys, monkeypatch):
    data = write_clouds(tmp_path / "data", counts=(31, 3))
    for split in ("train", "test"):
        (data / split).mkdir()
    for name in ("ball", "disc"):
        for file in sorted((data / name).iterdir()):
            place = data / ("test" if file.stem in ("01", "02") else "train") / name
            place.mkdir(exist_ok=True)
            file.rename(place / file.name)
        (data / name).rmdir()
    points = np.loadtxt(data / "train" / "ball" / "07.xyz")
    np.savetxt(data / "train" / "ball" / "07.xyz", points * 1000)
    noisy = np.loadtxt(data / "train" / "ball" / "08.xyz")[::-1]
    noisy += np.random.default_rng(0).normal(0, 0.002, noisy.shape)
    np.savetxt(data / "test" / "ball" / "near.xyz", noisy)
    for name, most in (("a", 255), ("b", 65535)):
        colours = np.linspace(0, most, 40)
        table = np.c_[np.random.default_rng(most).normal(size=(40, 3)), colours, colours, colours]
        head = "x y z red green blue"
        np.savetxt(data / "train" / "disc" / f"{name}.txt", table, header=head, comments="")
    assert command("check", data, "--json", "--page", tmp_path / "p.html") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["mixed_units"]["ball"]["fewer"] == ["train/ball/07.xyz"]
    assert "millimetres" in found["mixed_units"]["ball"]["units"]
    assert {depth: len(names) for depth, names in found["mixed_colours"].items()} == {
        "8 bits": 1,
        "16 bits": 1,
    }
    assert found["near_leaks"] == [["test: test/ball/near.xyz", "train: train/ball/08.xyz"]]
    assert not found["leaks"] and found["near_duplicates"] and not found["duplicates"]
    assert command("check", data, "--page", tmp_path / "p.html") == 0
    said = capsys.readouterr().out
    assert "no leakage" not in said
    assert "no cloud lies in several splits point for point" in said
    for part in ("class ball mixes metres and millimetres", "colours of mixed depth", "data.group"):
        assert part in said
    monkeypatch.setattr(
        "isoform.pointcloud.check.MANY", 3
    )  # of more, shapes are compared on request
    assert command("check", data, "--page", tmp_path / "p.html") == 0
    said = capsys.readouterr().out
    assert "more than 3 clouds" in said and "near.xyz" not in said


def test_check_tells_how_tiles_fit_and_scans_in_other_units(tmp_path):
    for split, seed in (("train", 0), ("val", 1), ("test", 2)):
        write_scan(tmp_path / split / f"{seed}.las", seed, points=500, unlabelled=11)
    cloud = read_cloud(tmp_path / "test" / "2.las")
    table = np.c_[(cloud.xyz - UTM) * 1000, cloud.fields["classification"]]
    np.savetxt(
        tmp_path / "train" / "mm.txt", table, header="x y z classification", comments="", fmt="%.3f"
    )
    app = resolve_app(
        "pointmae-seg-own",
        domain=DOMAIN,
        settings={**TINY, "data.root": str(tmp_path), "data.tile": 12_000.0},
    )
    report = DOMAIN.check(app)
    assert report.data["mixed_units"]["fewer"] == ["train/mm.txt"]
    assert report.data["tiles"]["points"]["median"] > 97 * 3
    text = "\n".join(report.lines)
    assert "a draw shows 97" in text
    assert "the scans mix metres and millimetres" in text
