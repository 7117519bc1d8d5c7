"""Files of points: every dialect gives the same cloud, and what is written holds all that was read."""

import io
import struct

import h5py
import laspy
import lzf
import numpy as np
import plyfile
import pytest

from isoform.core.errors import UserError
from isoform.pointcloud.files import read_cloud, write_cloud
from isoform.pointcloud.files.cloud import column

UTM = np.array([512_345.678, 5_432_109.125, 231.5])


def grid(count=1009, step=1e-3, seed=0):
    """Points a millimetre apart, far from the origin."""
    cells = np.random.default_rng(seed).permutation(30**3)[:count]
    return UTM + step * np.stack(np.unravel_index(cells, (30, 30, 30)), 1)


# .ply ----------------------------------------------------------------------------------------------------------------


VERTEX = [
    ("x", "f8"),
    ("y", "f8"),
    ("z", "f8"),
    ("red", "u1"),
    ("green", "u1"),
    ("scalar_Classification", "f4"),
]


def vertices(count=17):
    table = np.zeros(count, VERTEX)
    points = grid(count)
    for axis, name in enumerate("xyz"):
        table[name] = points[:, axis]
    table["red"] = np.arange(count) * 3
    table["scalar_Classification"] = np.arange(count) % 5
    return table


def ply(path, *, text=False, order="<", crlf=False, face_first=False, lists=False):
    table = vertices()
    if lists:
        wider = np.zeros(len(table), [*VERTEX, ("nb", "O")])
        for name, _ in VERTEX:
            wider[name] = table[name]
        wider["nb"] = [np.arange(k % 3, dtype="i4") for k in range(len(table))]
        table = wider
    face = np.array([([0, 1, 2, 3],), ([4, 5, 6],)], [("vertex_indices", "O")])
    face["vertex_indices"] = [np.array(list(one), "i4") for one in face["vertex_indices"]]
    elements = [
        plyfile.PlyElement.describe(table, "vertex", val_types={"nb": "i4"}),
        plyfile.PlyElement.describe(face, "face", val_types={"vertex_indices": "i4"}),
    ]
    data = plyfile.PlyData(
        elements[::-1] if face_first else elements, text=text, byte_order="=" if text else order
    )
    data.comments = ["made by nobody"]
    out = io.BytesIO()
    data.write(out)
    content = out.getvalue().replace(
        b"property double y\n", b"property double y\ncomment between\n"
    )
    if crlf:
        content = content.replace(b"\n", b"\r\n")
    path.write_bytes(content)
    return path


DIALECTS = {
    "ascii": {"text": True}, "little": {}, "big": {"order": ">"}, "crlf": {"text": True, "crlf": True},
    "face first": {"face_first": True}, "lists": {"lists": True}, "lists in text": {"lists": True, "text": True},
}  # fmt: skip


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ply_dialects_are_one_cloud(dialect, tmp_path):
    cloud = read_cloud(ply(tmp_path / "a.ply", **DIALECTS[dialect]))
    table = vertices()
    np.testing.assert_allclose(cloud.xyz, np.stack([table[a] for a in "xyz"], 1), rtol=1e-12)
    assert np.array_equal(cloud.fields["red"], table["red"])
    assert np.array_equal(column(cloud, "classification", "a"), table["scalar_Classification"])
    assert cloud.faces.tolist() == [[0, 1, 2], [0, 2, 3], [4, 5, 6]]
    assert any("nb" in note for note in cloud.notes) == ("lists" in dialect)


def test_a_ply_that_promises_too_much_is_refused(tmp_path):
    path = tmp_path / "a.ply"
    path.write_bytes(
        b"ply\nformat binary_little_endian 1.0\nelement vertex 999999999999\nproperty float x\nend_header\n1"
    )
    with pytest.raises(UserError, match="promised"):
        read_cloud(path)
    whole = ply(path).read_bytes()
    for cut in (5, 40, len(whole) - 3):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError, match=r"a\.ply"):
            read_cloud(path)


# .pcd ----------------------------------------------------------------------------------------------------------------


PCD = np.dtype([
    ("x", "<f8"), ("y", "<f8"), ("z", "<f8"), ("_1", "<u1", (4,)), ("intensity", "<f4"), ("_2", "<u1", (12,)),
    ("ring", "<u2"), ("label", "<u1"),
])  # fmt: skip


def pcd(path, data, lower=False):
    table = np.zeros(12, PCD)
    points = grid(12)
    points[[3, 7]] = np.nan
    for axis, name in enumerate("xyz"):
        table[name] = points[:, axis]
    table["intensity"], table["ring"], table["label"] = (
        np.arange(12) / 7,
        np.arange(12) * 5,
        np.arange(12) % 3,
    )
    types = "f f f u f u u u" if lower else "F F F U F U U U"
    head = (
        "# .PCD v0.7\nVERSION 0.7\nFIELDS x y z _ intensity _ ring label\nSIZE 8 8 8 1 4 1 2 1\n"
        f"TYPE {types}\nCOUNT 1 1 1 4 1 12 1 1\nWIDTH 4\nHEIGHT 3\nVIEWPOINT 1 2 3 1 0 0 0\nPOINTS 12\n"
        f"DATA {data}\n"
    ).encode()
    if data == "binary":
        body = table.tobytes()
    elif data == "binary_compressed":
        plain = b"".join(table[name].tobytes() for name in PCD.names)
        packed = lzf.compress(plain)
        body = struct.pack("<II", len(packed), len(plain)) + packed
    else:
        rows = [
            np.concatenate([np.atleast_1d(row[name]).astype(float) for name in PCD.names])
            for row in table
        ]
        body = "\n".join(" ".join(repr(float(v)) for v in row) for row in rows).encode()
    path.write_bytes(head + body)
    return table


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
def test_pcd_fields_padding_and_missing_points(data, lower, tmp_path):
    table = pcd(tmp_path / "a.pcd", data, lower)
    cloud = read_cloud(tmp_path / "a.pcd")
    assert list(cloud.fields) == ["intensity", "ring", "label"]
    for name, values in cloud.fields.items():
        assert np.array_equal(values, table[name]) and values.dtype == table[name].dtype
    assert np.array_equal(cloud.xyz[:, 1], table["y"], equal_nan=True)
    assert np.flatnonzero(~cloud.usable()).tolist() == [3, 7]
    assert any("VIEWPOINT" in note for note in cloud.notes)


@pytest.mark.parametrize("data", ["ascii", "binary", "binary_compressed"])
def test_a_pcd_cut_off_is_refused(data, tmp_path):
    pcd(tmp_path / "a.pcd", data)
    whole = (tmp_path / "a.pcd").read_bytes()
    (tmp_path / "a.pcd").write_bytes(whole[: int(len(whole) * 0.7)])
    with pytest.raises(UserError, match=r"a\.pcd"):
        read_cloud(tmp_path / "a.pcd")


# Text, arrays, meshes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3 40\n5 6 7 80\n",
        "# a comment\n1,2,3,40\n5,6,7,80\n",
        "2\n1 2 3 40\n5 6 7 80\n",
        "X;Y;Z;column 4\n1;2;3;40\n5;6;7;80\n",
        "// x y z\n1\t2\t3\t40\r\n5\t6\t7\t80\r\n",
    ],
)
def test_text_in_its_dialects(text, tmp_path):
    path = tmp_path / "a.xyz"
    path.write_bytes(text.encode())
    cloud = read_cloud(path)
    assert cloud.xyz.tolist() == [[1, 2, 3], [5, 6, 7]]
    assert cloud.fields["column 4"].tolist() == [40, 80]


def test_text_that_is_no_table(tmp_path):
    path = tmp_path / "a.txt"
    for text, said in {
        "1 2\n3 4\n": "no field z",
        "1 2 3\n4 5\n": "no table of numbers",
        "hello\nworld\n": "no line of numbers",
        "# nothing\n": "no line of numbers",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=said):
            read_cloud(path)
    path.write_text("1 2 3 4\n")
    with pytest.raises(UserError, match="4 columns, and 3 names"):
        read_cloud(path, ["x", "y", "z"])
    assert read_cloud(path, ["t", "x", "y", "z"]).xyz.tolist() == [[2, 3, 4]]


def test_arrays_and_their_fields(tmp_path):
    points, label = grid(23), np.arange(23) % 3
    np.save(tmp_path / "a.npy", np.c_[points, label])
    np.savez(
        tmp_path / "a.npz", xyz=points, label=label, names=np.array(["x", object()], dtype=object)
    )
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"], file["label"] = points, label
    records = np.zeros(23, [("X", "f8"), ("Y", "f8"), ("Z", "f8"), ("label", "i4")])
    for axis, name in enumerate("XYZ"):
        records[name] = points[:, axis]
    records["label"] = label
    np.save(tmp_path / "b.npy", records)
    for name in ("a.npy", "a.npz", "a.h5", "b.npy"):
        columns = ["x", "y", "z", "label"] if name == "a.npy" else []
        cloud = read_cloud(tmp_path / name, columns)
        assert np.array_equal(cloud.xyz, points) and np.array_equal(cloud.fields["label"], label)
        assert "names" not in cloud.fields


def test_a_pickle_inside_an_array_is_not_opened(tmp_path):
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"a\.npy"):
        read_cloud(tmp_path / "a.npy")
    head = b"\x93NUMPY\x01\x00" + struct.pack("<H", 70)
    told = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999, 3), }"
    (tmp_path / "b.npy").write_bytes(head + told.ljust(69) + b"\n")
    with pytest.raises(UserError, match="claims more numbers"):
        read_cloud(tmp_path / "b.npy")


def test_float_rows_without_names_are_asked_about(tmp_path):
    rows = np.arange(40, dtype="<f4").reshape(8, 5)
    rows.tofile(tmp_path / "a.bin")
    rows.tofile(tmp_path / "a.pcd.bin")
    with pytest.raises(UserError, match=r"4, 5, 8 columns would fit: name them with data\.columns"):
        read_cloud(tmp_path / "a.bin")
    with pytest.raises(UserError, match="no whole rows of 3"):
        read_cloud(tmp_path / "a.bin", ["x", "y", "z"])
    assert np.array_equal(read_cloud(tmp_path / "a.pcd.bin").fields["ring"], rows[:, 4])
    assert read_cloud(tmp_path / "a.bin", ["x", "y", "z", "i"]).xyz.shape == (10, 3)


def test_meshes_with_quads_and_colours(tmp_path):
    (tmp_path / "a.off").write_text("OFF4 1 0\n0 0 0\n1 0 0\n1 1 0\n0 1 0\n4 0 1 2 3\n")
    (tmp_path / "a.obj").write_text(
        "v 0 0 0 1 0 0\nv 1 0 0 0 1 0\nv 1 1 0 0 0 1\nv 0 1 0 1 1 1\nf 1 2 3 4\n"
    )
    for name in ("a.off", "a.obj"):
        cloud = read_cloud(tmp_path / name)
        assert cloud.xyz.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
        assert cloud.faces.shape == (2, 3)
    assert cloud.fields["green"].tolist() == [0, 255, 0, 255]
    (tmp_path / "b.obj").write_text("v 0 0 0\nv 1 0 0\n")
    assert read_cloud(tmp_path / "b.obj").faces is None
    triangle = np.zeros(1, [("n", "<f4", 3), ("v", "<f4", (3, 3)), ("a", "<u2")])
    triangle["v"] = [[[0, 0, 0], [1, 0, 0], [0, 1, 0]]]
    (tmp_path / "a.stl").write_bytes(b" " * 80 + struct.pack("<I", 1) + triangle.tobytes())
    assert read_cloud(tmp_path / "a.stl").faces.shape == (1, 3)
    for name in ("c.off", "c.obj", "c.stl"):
        (tmp_path / name).write_bytes(b"\x00\x01nonsense")
        with pytest.raises(UserError, match=name[:1]):
            read_cloud(tmp_path / name)


def test_files_that_are_none(tmp_path):
    (tmp_path / "a.ply").touch()
    for name, said in {
        "a.ply": "is empty",
        "b.ply": "no such file",
        "a.e57": "no file of points",
    }.items():
        with pytest.raises(UserError, match=said):
            read_cloud(tmp_path / name)


def test_returns_of_rays_that_met_nothing():
    from isoform.pointcloud.files import Cloud

    far = np.random.default_rng(0).normal(30, size=(101, 3))
    far[:5] = 0
    assert np.flatnonzero(Cloud(far).invalid_returns()).tolist() == [0, 1, 2, 3, 4]
    around = np.random.default_rng(0).normal(size=(10001, 3)) * 0.2
    around[0] = 0
    assert not Cloud(around).invalid_returns().any()


# .las ----------------------------------------------------------------------------------------------------------------


def las(path, version="1.4", fmt=6, count=1009, scale=1e-4, extra=True):
    header = laspy.LasHeader(point_format=fmt, version=version)
    header.scales, header.offsets = [scale] * 3, np.floor(UTM)
    if extra:
        header.add_extra_dim(
            laspy.ExtraBytesParams("plant height", "<u2", scales=[0.01], offsets=[0])
        )
        header.add_extra_dim(laspy.ExtraBytesParams("höhe", "3f4"))
        header.add_extra_dim(laspy.ExtraBytesParams("quality", "i2", no_data=[-9999]))
    made = laspy.LasData(header)
    points = grid(count)
    made.x, made.y, made.z = points.T
    made.classification = np.arange(count) % 7
    made.synthetic, made.withheld = np.arange(count) % 2, np.arange(count) % 3 == 0
    made.key_point = np.arange(count) % 5 == 0
    made.intensity = np.arange(count) * 13 % 60000
    if extra:
        made["plant height"] = np.arange(count) / 100
        made["höhe"] = np.arange(3 * count).reshape(-1, 3)
        made["quality"] = np.where(np.arange(count) % 4 == 0, -9999, 7)
    made.write(str(path))
    return points


@pytest.mark.parametrize("suffix", [".las", ".laz"])
def test_las_comes_back_with_all_that_it_held(suffix, tmp_path):
    points = las(tmp_path / f"a{suffix}")
    cloud = read_cloud(tmp_path / f"a{suffix}")
    np.testing.assert_allclose(cloud.xyz, points, atol=6e-5)
    assert len(np.unique(cloud.xyz, axis=0)) == len(points)
    assert np.isnan(cloud.fields["quality"][::4]).all() and cloud.fields["quality"][1] == 7
    label = np.arange(len(points)) % 41
    notes = write_cloud(
        tmp_path / f"b{suffix}", cloud, {"label": label.astype("u1"), "quality": label / 41}
    )
    assert notes == ["there is a field quality already: the new one is called quality 2"]
    one, two = laspy.read(tmp_path / f"a{suffix}"), laspy.read(tmp_path / f"b{suffix}")
    told = [las.vlrs.get("ExtraBytesVlr")[0].extra_bytes_structs for las in (one, two)]
    assert [list(part.no_data or []) for part in told[0]] == [
        list(part.no_data or []) for part in told[1]
    ][:3]
    for name in one.points.array.dtype.names:
        assert one.points.array[name].tobytes() == two.points.array[name].tobytes(), name
    assert np.array_equal(two["label"], label) and np.allclose(two["quality 2"], label / 41)
    assert (one.header.scales == two.header.scales).all() and (
        one.header.offsets == two.header.offsets
    ).all()


def test_a_label_that_an_old_format_can_not_hold(tmp_path):
    las(tmp_path / "a.las", version="1.2", fmt=1, extra=False)
    cloud = read_cloud(tmp_path / "a.las")
    few = np.arange(len(cloud)) % 32
    assert write_cloud(tmp_path / "b.las", cloud, {}, codes=few) == []
    same, source = laspy.read(tmp_path / "b.las"), laspy.read(tmp_path / "a.las")
    assert same.header.point_format.id == 1 and np.array_equal(same.classification, few)
    for flag in ("synthetic", "withheld", "key_point"):
        assert np.array_equal(same[flag], source[flag])
    many = np.arange(len(cloud)) % 41
    notes = write_cloud(tmp_path / "c.las", cloud, {}, codes=many)
    newer = laspy.read(tmp_path / "c.las")
    assert newer.header.point_format.id == 6 and "it is 6 now" in notes[0]
    assert np.array_equal(newer.classification, many) and np.array_equal(newer.X, source.X)
    for flag in ("synthetic", "withheld", "key_point"):
        assert np.array_equal(newer[flag], source[flag])


def test_the_points_count_and_not_the_header(tmp_path):
    las(tmp_path / "a.las")
    content = bytearray((tmp_path / "a.las").read_bytes())
    content[179:187] = struct.pack("<d", 1e9)  # the largest x
    (tmp_path / "b.las").write_bytes(content)
    assert any("bounds" in note for note in read_cloud(tmp_path / "b.las").notes)
    (tmp_path / "c.las").write_bytes(content[:-1000])
    with pytest.raises(UserError, match=r"cut off: 9\d\d of 1,009 points are whole"):
        read_cloud(tmp_path / "c.las")
    las(tmp_path / "d.laz")
    packed = (tmp_path / "d.laz").read_bytes()
    (tmp_path / "d.laz").write_bytes(packed[: len(packed) * 2 // 3])
    with pytest.raises(UserError, match=r"d\.laz"):
        read_cloud(tmp_path / "d.laz")


def test_what_a_damaged_header_says_of_points_is_refused_before_they_are_unpacked(tmp_path):
    """Thousands of fields of a point, with whose square time grows; another packing than the points have."""
    las(tmp_path / "a.las", count=3, extra=False)
    wide = bytearray((tmp_path / "a.las").read_bytes())
    wide[105:107] = struct.pack("<H", 30_000)  # bytes of a point
    (tmp_path / "a.las").write_bytes(wide + bytes(90_000))
    with pytest.raises(UserError, match=r"a point has 29,9\d\d fields, and 1,000 at most"):
        read_cloud(tmp_path / "a.las")
    las(tmp_path / "b.laz")
    packed = (tmp_path / "b.laz").read_bytes()
    record = packed.index(b"laszip encoded") + 16 + 4 + 32
    assert packed[record : record + 2] == b"\3\0", "in layers"
    (tmp_path / "b.laz").write_bytes(packed[:record] + b"\1\0" + packed[record + 2 :])
    with pytest.raises(UserError, match="packed in another way than is told"):
        read_cloud(tmp_path / "b.laz")


# Writing -------------------------------------------------------------------------------------------------------------


def test_every_kind_becomes_a_ply_in_its_own_frame(tmp_path):
    points = las(tmp_path / "a.las")
    cloud = read_cloud(tmp_path / "a.las")
    write_cloud(
        tmp_path / "b.ply",
        cloud,
        {"label": np.arange(len(cloud)), "intensity": np.ones(len(cloud))},
    )
    back = read_cloud(tmp_path / "b.ply")
    assert np.array_equal(back.xyz, cloud.xyz) and len(np.unique(back.xyz, axis=0)) == len(points)
    assert np.array_equal(back.fields["intensity"], cloud.fields["intensity"])
    assert (back.fields["intensity_2"] == 1).all()
    assert np.array_equal(back.fields["label"], np.arange(len(cloud)))
    assert np.array_equal(back.fields["plant_height"], cloud.fields["plant height"])
    with pytest.raises(UserError, match=r"from a \.las or \.laz alone"):
        write_cloud(tmp_path / "c.las", back, {})
    with pytest.raises(UserError, match="points are written as"):
        write_cloud(tmp_path / "c.xyz", back, {})
