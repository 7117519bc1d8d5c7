"""Clouds of one shape are found whatever was done to them, and stay in one split and in one fold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.data.near import join_pairs, near_pairs
from isoform.pointcloud.ops import sample_surface

from .test_task import SMALL


def turn_of(rng):
    """A turn by any angle around one of the axes."""
    angle, axis = rng.uniform(0, 2 * np.pi), int(rng.integers(3))
    turn = np.eye(3)
    u, v = (axis + 1) % 3, (axis + 2) % 3
    turn[u, u] = turn[v, v] = np.cos(angle)
    turn[v, u], turn[u, v] = np.sin(angle), -np.sin(angle)
    return turn


def box(sizes, count, rng):
    """Points evenly on the faces of a box with a tower at one corner."""
    made = []
    for low, high in (((0, 0, 0), sizes), ((0, 0, sizes[2]), (0.3, 0.2, sizes[2] + 0.4))):
        low, high = np.array(low, float), np.array(high, float)
        corner = np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)])
        quads = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
        faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))])
        made.append(sample_surface(low + corner * (high - low), faces, count, rng)[0])
    return np.concatenate(made)


@given(seed=st.integers(0, 2**20))
@settings(max_examples=5, deadline=None)
def test_a_shape_is_found_again_and_others_are_not(seed):
    rng = np.random.default_rng(seed)
    one, other = (box(sizes, 401, rng) for sizes in ((1.0, 0.7, 0.5), (1.0, 0.35, 0.8)))
    noisy = one + rng.normal(0, 0.005, one.shape)
    clouds = [
        one,
        rng.permutation(one),
        noisy @ turn_of(rng).T * 1000 + [5e5, 5e6, 0],
        other,
        box((1.0, 0.7, 0.5), 383, rng) @ turn_of(rng).T * 0.01,
    ]
    distance = {(pair.first, pair.second): pair.distance for pair in near_pairs(clouds)}
    assert distance[0, 1] == pytest.approx(0, abs=1e-9) and distance[0, 2] < 0.6
    assert 0.8 < distance[0, 4] < 1.15
    assert join_pairs(5, near_pairs(clouds)).tolist() == [0, 0, 0, 1, 0]


def test_of_few_points_copies_alone_are_told():
    rng = np.random.default_rng(0)
    ball = rng.normal(size=(47, 3))
    clouds = [ball, ball[::-1] + rng.normal(0, 0.003, ball.shape), rng.normal(size=(47, 3))]
    assert [pair[:2] for pair in near_pairs(clouds)] == [(0, 1)]
    points = [np.zeros((1, 3)), np.ones((7, 3)), np.array([[0, 0, 0], [1, 0, 0.0]])]
    assert [pair[:2] for pair in near_pairs(points)] == [(0, 1)]  # one distinct point is one
    assert near_pairs([]) == [] and near_pairs([ball]) == []


def write_shapes(root, copies=3, shapes=5):
    """Two classes of `shapes` random clouds each, and noisy copies of every one."""
    rng = np.random.default_rng(0)
    for name in ("ball", "disc"):
        (root / name).mkdir(parents=True)
        for k in range(shapes):
            points = rng.normal(size=(61, 3)) * ((1, 1, 1) if name == "ball" else (1, 1, 0.1))
            for copy in range(copies):
                noise = rng.normal(0, 0.002, points.shape)
                moved = rng.permutation(points + noise) * (2.0 + copy)
                np.savetxt(root / name / f"{k}-{copy}.xyz", moved, fmt="%.5f")
    return root


def prepared(**changes):
    return DOMAIN.prepare(resolve_app("pointmae-own", domain=DOMAIN, settings={**SMALL, **changes}))


def test_clouds_of_one_shape_stay_together(tmp_path):
    data = {"data.root": str(write_shapes(tmp_path / "data")), "data.group": "near"}
    found = prepared(**data)
    assert any("30 clouds share 10 shapes and stay together" in line for line in found.notes)
    each = []
    for fold in (1, 2, 3):
        clouds = prepared(**data, **{"data.folds": 3, "data.fold": fold}).data.clouds
        names = clouds.records.clouds.names
        shapes = {s: {names[r][:-6] for r in rows} for s, rows in clouds.rows.items()}
        assert set(shapes) == {"train", "val", "test"}
        assert not (shapes["test"] & (shapes["train"] | shapes["val"]))
        assert not shapes["train"] & shapes["val"]
        each += sorted(shapes["test"])
    assert sorted(each) == [f"{name}/{k}" for name in ("ball", "disc") for k in range(5)]
    split = write_shapes(tmp_path / "split" / "all")
    for part, copies in (("train", "01"), ("test", "2")):
        for file in sorted(split.rglob("*.xyz")):
            if file.stem[-1] in copies:
                place = tmp_path / "split" / part / file.parent.name
                place.mkdir(parents=True, exist_ok=True)
                file.rename(place / file.name)
    (split / "ball").rmdir(), (split / "disc").rmdir(), split.rmdir()
    data = {"data.root": str(tmp_path / "split")}
    prepared(**data)
    with pytest.raises(UserError, match=r"lies in .*test.*data\.allow_leakage"):
        prepared(**data, **{"data.group": "near"})
    notes = prepared(**data, **{"data.group": "near", "data.allow_leakage": True}).notes
    assert any(line.startswith("warning: group") for line in notes)
    with pytest.raises(UserError, match="names a column of a table"):
        prepared(**data, **{"data.group": "site"})


def write_table(root):
    write_shapes(root / "clouds", copies=2)
    files = sorted((root / "clouds").rglob("*.xyz"))
    lines = [f"{file.relative_to(root)},{file.parent.name},{file.stem[0]}" for file in files]
    (root / "t.csv").write_text("\n".join(["file,label,site", *lines, "clouds/ball/0-0.xyz,,9"]))
    return root / "t.csv"


def test_a_table_names_clouds_classes_splits_and_groups(tmp_path):
    table = write_table(tmp_path)
    found = prepared(**{"data.table": str(table), "data.group": "site"})
    clouds = found.data.clouds
    names, groups = clouds.records.clouds.names, clouds.records.group
    assert len(clouds.records) == 20 and found.config.data.classes == ("ball", "disc")
    assert any("line 22 has no class" in line for line in found.lost)
    parts = {split: {groups[r] for r in rows} for split, rows in clouds.rows.items()}
    assert not parts["train"] & parts["test"] and not parts["train"] & parts["val"]
    task = DOMAIN.task(found)
    assert task.groups("test") == [str(groups[r]) for r in clouds.rows["test"]]
    assert names[0] == "clouds/ball/0-0.xyz"
    given = table.with_name("given.csv")
    rows = [f"clouds/{c}/{k}-0.xyz,{c},{s}" for c in ("ball", "disc") for k, s in enumerate(SPLITS)]
    given.write_text("\n".join(["place;kind;part", *rows]).replace(",", ";"))
    columns = {"data.paths": "place", "data.class_column": "kind", "data.split_column": "part"}
    clouds = prepared(**{"data.table": str(given), **columns}).data.clouds
    assert {s: len(rows) for s, rows in clouds.rows.items()} == {"train": 4, "val": 2, "test": 4}
    assert clouds.records.group is None


SPLITS = ("train", "Validation", "test", "test", "train")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("../out.xyz,ball,1", "leads out"),
        ("clouds/none.xyz,ball,1", r"no such file.*on_error"),
        (",ball,1", "line 22.*empty"),
        ("a,b,c,d", "4 cells"),
    ],
)
def test_a_row_that_is_wrong_is_named(line, said, tmp_path):
    table = write_table(tmp_path)
    lines = table.read_text().splitlines()
    table.write_text("\n".join([*lines[:-1], line]))
    with pytest.raises(UserError, match=said):
        prepared(**{"data.table": str(table)})


def test_what_a_table_lacks_is_said(tmp_path):
    table = str(write_table(tmp_path))
    with pytest.raises(UserError, match=r'no column "where" \(data\.group\)'):
        prepared(**{"data.table": table, "data.group": "where"})
    with pytest.raises(UserError, match=r'no column "path" \(data\.paths\), only file'):
        prepared(**{"data.table": table, "data.paths": "path"})
    with pytest.raises(UserError, match="in place of folders"):
        prepared(**{"data.table": table, "data.source": "set", "data.path": "a.npz"})
    with pytest.raises(UserError, match=r"data\.table is not set"):
        prepared(**{"data.source": "table"})
