"""Every app of a benchmark on a miniature of its official files: read, two training steps, judged (`smoke`)."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import isoform
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.data.official import SCANNED

SMALL = {
    "data.points": 61, "tokeniser.groups": 7, "tokeniser.group_size": 5, "tokeniser.widths": [3, 5, 7],
    "tokeniser.position_hidden": 3, "backbone.dim": 12, "backbone.depth": 1, "backbone.heads": 2, "train.epochs": 1,
    "train.batch": 8, "eval.baselines": [],
}  # fmt: skip
SPLITS = {
    "train": 17,
    "test": 5,
}  # clouds; a tenth of the former chooses the checkpoint, which leaves two batches


def modelnet40(root):
    """Two of the classes; a class's name may hold underscores."""
    rng = np.random.default_rng(0)
    root.mkdir()
    (root / "modelnet40_shape_names.txt").write_text("airplane\nnight_stand\n\n")
    at = 0
    for split, count in SPLITS.items():
        names = []
        for row in range(count):
            at += 1
            label = ("airplane", "night_stand")[row % 2]
            names.append(f"{label}_{at:04}")
            (root / label).mkdir(exist_ok=True)
            points = rng.normal(size=(73, 6)) * (1, 1, 1 + row % 2, 1, 1, 1)
            np.savetxt(root / label / f"{names[-1]}.txt", points, "%.6f", delimiter=",")
        (root / f"modelnet40_{split}.txt").write_text("\n".join(names) + "\n")
    return root


def scanobjectnn(root):
    """All three variants, each with other points."""
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(1)
    for folder, changed in (
        ("main_split", ""),
        ("main_split_nobg", ""),
        ("main_split", "_augmentedrot_scale75"),
    ):
        (root / "h5_files" / folder).mkdir(parents=True, exist_ok=True)
        for word, count in zip(("training", "test"), SPLITS.values(), strict=True):
            where = root / "h5_files" / folder / f"{word}_objectdataset{changed}.h5"
            with h5py.File(where, "w") as file:
                file["data"] = rng.normal(size=(count, 73, 3)).astype("f4")
                file["label"] = (np.arange(count) % 2 * 14).astype("i4")
                file["mask"] = np.zeros((count, 73), "i4")
    return root


def shapenet55(root):
    """Two synsets; of one of them no test cloud."""
    rng = np.random.default_rng(2)
    (root / "ShapeNet-55").mkdir(parents=True)
    (root / "shapenet_pc").mkdir()
    for split, count in SPLITS.items():
        names = [
            f"{'02691156' if split == 'test' or row % 2 else '04379243'}-{split}{row:02}.npy"
            for row in range(count)
        ]
        for name in names:
            np.save(root / "shapenet_pc" / name, rng.normal(size=(73, 3)).astype("f4"))
        (root / "ShapeNet-55" / f"{split}.txt").write_text("\n".join(names))
    return root


MINIATURES = {
    "pointmae-modelnet40": modelnet40, "pointmae-scanobjectnn": scanobjectnn,
    "pointmae-shapenet55-pretrain": shapenet55,
}  # fmt: skip


def prepared(app, root, **settings):
    settings = {**SMALL, "data.root": str(root), **settings}
    return DOMAIN.prepare(resolve_app(app, domain=DOMAIN, settings=settings)).data.clouds


@pytest.mark.parametrize("app", MINIATURES)
def test_a_benchmark_trains_on_its_official_layout(app, tmp_path):
    root = MINIATURES[app](tmp_path / "data")
    settings = {**SMALL, "data.root": str(root)}
    if app.endswith("pretrain"):
        settings |= {"decoder.dim": 12, "decoder.heads": 2, "decoder.depth": 1}
    run = isoform.train(f"pointcloud/{app}", settings, run_dir=tmp_path / "run", progress=False)
    lines = (run.folder / "metrics.jsonl").read_text().splitlines()
    assert run.results["status"] == "finished" and json.loads(lines[-1])["step"] == 2
    assert math.isfinite(run.metrics["test"]["loss"])
    assert prepared(app, root).records.split.tolist() == ["train"] * 17 + ["test"] * 5


def test_classes_and_points_are_the_files_own(tmp_path):
    data = prepared("pointmae-modelnet40", modelnet40(tmp_path / "a"))
    assert list(data.classes) == ["airplane", "night_stand"]
    assert data.records.clouds.names[1] == "night_stand/night_stand_0002.txt"
    assert data.targets[:4].tolist() == [0, 1, 0, 1] and data.cloud(0).shape == (73, 3)
    data = prepared("pointmae-shapenet55-pretrain", shapenet55(tmp_path / "b"))
    assert list(data.classes) == ["02691156", "04379243"]


def test_variants_are_other_files(tmp_path):
    root = scanobjectnn(tmp_path / "data")
    found = {
        variant: prepared("pointmae-scanobjectnn", root, **{"data.variant": variant})
        for variant in ("OBJ_BG", "OBJ_ONLY", "PB_T50_RS")
    }
    assert len({data.digest for data in found.values()}) == 3
    assert all(tuple(data.classes) == SCANNED for data in found.values())
    assert found["OBJ_BG"].targets[:3].tolist() == [0, 14, 0]
    h5 = prepared("pointmae-scanobjectnn", root / "h5_files")  # as a folder of its own
    assert h5.digest == found["PB_T50_RS"].digest


GONE = {
    "modelnet40_shape_names.txt": "pointmae-modelnet40",
    "modelnet40_train.txt": "pointmae-modelnet40",
    "night_stand/night_stand_0002.txt": "pointmae-modelnet40",
    "h5_files/main_split/test_objectdataset_augmentedrot_scale75.h5": "pointmae-scanobjectnn",
    "ShapeNet-55/test.txt": "pointmae-shapenet55-pretrain",
    "shapenet_pc/02691156-test03.npy": "pointmae-shapenet55-pretrain",
}


@pytest.mark.parametrize("name", GONE)
def test_a_missing_file_is_named_in_a_sentence(name, tmp_path):
    app = GONE[name]
    root = MINIATURES[app](tmp_path / "data")
    (root / name).unlink()
    with pytest.raises(UserError) as error:
        prepared(app, root)
    assert f"{root / name}: no such file" in str(error.value) and "\n" not in str(error.value)


def test_what_is_no_official_layout_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        prepared("pointmae-modelnet40", tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"data\.root is not set"):
        app = resolve_app("pointmae-scanobjectnn", domain=DOMAIN, settings=SMALL)
        DOMAIN.prepare(app)
    root = modelnet40(tmp_path / "a")
    with (root / "modelnet40_test.txt").open("a") as file:
        file.write("sofa_0001\n")
    with pytest.raises(UserError, match="sofa_0001 is of no class"):
        prepared("pointmae-modelnet40", root)
    root = shapenet55(tmp_path / "b")
    (root / "ShapeNet-55" / "train.txt").write_text("02691156.npy\n")
    with pytest.raises(UserError, match="no SYNSET-ID"):
        prepared("pointmae-shapenet55-pretrain", root)
    h5py = pytest.importorskip("h5py")
    root = scanobjectnn(tmp_path / "c")
    path = root / "h5_files/main_split/training_objectdataset_augmentedrot_scale75.h5"
    with h5py.File(path, "a") as file:
        file["label"][3] = 15
    with pytest.raises(UserError, match="label 15 is none of ScanObjectNN's, 0 to 14"):
        prepared("pointmae-scanobjectnn", root)
