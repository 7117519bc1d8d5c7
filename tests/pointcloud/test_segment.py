"""Classes of points: training on labelled scans, judging every point, and scans that come back with labels."""

import json

import laspy
import numpy as np
import pytest
import torch

import isoform
from answers import rows_in
from isoform.core.engine.evaluate import evaluate
from isoform.core.errors import Preempted, UserError
from isoform.core.inference.run_model import evaluate_run, load_trained
from isoform.core.runs.folder import RunFolder
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data import scans
from isoform.pointcloud.data.features import FeatureReader
from isoform.pointcloud.data.scenes import make_scene
from isoform.pointcloud.files import read_cloud
from isoform.pointcloud.segment_task import task_of_scans

from .small_sets import label
from .test_task import SMALL

UTM = np.array([512_345.678, 5_432_109.125, 231.5])
CODES = np.array([2, 6, 15, 17, 7])  # of the made scenes' classes: as ASPRS has them, with gaps
TINY = {
    **SMALL,
    "data.points": 97,
    "data.tile": 7.0,
    "tokeniser.groups": 11,
    "backbone.depth": 2,
    "parts.blocks": [0, 1],
    "parts.propagation": [13, 11],
    "train.epochs": 1,
}


def write_scan(path, seed, points=1500, codes=CODES, unlabelled=0):
    """A made scene as .las in a UTM frame, with a field of its own; its first points have no label."""
    path.parent.mkdir(parents=True, exist_ok=True)
    xyz, label = make_scene(np.random.default_rng(seed), points, 12.0)
    las = laspy.create(point_format=6, file_version="1.4")
    las.header.offsets, las.header.scales = UTM, np.full(3, 0.001)
    las.x, las.y, las.z = (xyz + UTM).T
    las.classification = codes[label].astype(np.uint8)
    las.classification[:unlabelled] = 0
    las.intensity = np.arange(len(xyz)) % 65_521
    las.add_extra_dim(laspy.ExtraBytesParams("echo width", np.float32))
    las["echo width"] = np.random.default_rng(seed).random(len(xyz), np.float32)
    las.write(str(path))
    return path


def write_data(root):
    for split, seeds in (("train", (0, 1)), ("val", (2,)), ("test", (3,))):
        for seed in seeds:
            write_scan(root / split / f"{seed}.las", seed, unlabelled=23)
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    data = write_data(folder / "data")
    settings = {**TINY, "data.root": str(data), "eval.baselines": ["majority", "point_forest"]}
    run = isoform.train(
        "pointcloud/pointmae-seg-own", settings, run_dir=folder / "run", progress=False
    )
    return run.folder, data


def own_task(run):
    found = load_trained(DOMAIN, run)
    return task_of_scans(found.config, found.state, None), found.model


def test_scans_are_trained_on_beside_baselines(trained):
    run, _ = trained
    results = json.loads((run / "results.json").read_text())
    assert {"miou", "accuracy", "loss", "iou 2", "iou 17"} <= results["metrics"]["test"].keys()
    forest = results["baselines"]["point_forest"]["test"]
    assert forest["miou"] > results["baselines"]["majority"]["test"]["miou"] > 0
    assert RunFolder(run).state(DOMAIN.state_schema()).classes == ("2", "6", "7", "15", "17")
    (row,) = rows_in(run / "predictions.csv")
    assert row["input"] == "test/3.las"
    assert float(row["miou"]) == pytest.approx(results["metrics"]["test"]["miou"])
    assert "by its classes" in (run / "report.html").read_text()


def test_an_evaluation_sees_every_point_whatever_the_batch(trained):
    run, _ = trained
    task, model = own_task(run)
    seen = [task.sample("test", index, None).chosen for index in range(task.sizes()["test"])]
    (row,) = task.data.rows("test")
    assert set(np.concatenate(seen).tolist()) == set(range(len(task.data.scans[row].xyz)))
    metrics, outputs = evaluate(task, model, "test")
    stored = json.loads((run / "results.json").read_text())["metrics"]["test"]
    assert metrics == pytest.approx(stored, abs=1e-6)
    np.testing.assert_allclose(outputs["probability"].sum(1), 1, atol=1e-5)
    assert (outputs["target"] < 0).sum() == 23
    task.config = task.config.model_copy(
        update={"eval": task.config.eval.model_copy(update={"batch": 3})}
    )
    _, others = evaluate(task, model, "test")
    np.testing.assert_allclose(others["probability"], outputs["probability"], atol=1e-5)


def test_a_torn_training_goes_on_bit_for_bit(trained, tmp_path):
    _, data = trained
    settings = {**TINY, "data.root": str(data), "train.epochs": 2, "train.checkpoint_every": 3}
    settings["train.log_every"] = 1
    app = "pointcloud/pointmae-seg-own"
    whole = isoform.train(app, settings, run_dir=tmp_path / "whole", progress=False)
    append = RunFolder.append_metrics

    def stop(self, row):
        append(self, row)
        if row.get("step") == 5:
            raise Preempted("here")

    RunFolder.append_metrics = stop
    try:
        with pytest.raises(Preempted):
            isoform.train(app, settings, run_dir=tmp_path / "torn", progress=False)
    finally:
        RunFolder.append_metrics = append
    isoform.train(app, settings, run_dir=tmp_path / "torn", resume=True, progress=False)
    one, two = (
        RunFolder(folder).load_weights("last", ema=False)
        for folder in (whole.folder, tmp_path / "torn")
    )
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_a_las_comes_back_with_labels_and_all_else(trained, tmp_path):
    run, data = trained
    scan, out = data / "test" / "3.las", tmp_path / "new" / "labelled.las"
    assert label(run, scan, "--out", out) == 0
    before, after = laspy.read(scan), laspy.read(out)
    for name in before.point_format.dimension_names:
        if name != "classification":
            np.testing.assert_array_equal(after[name], before[name])
    assert (after.header.scales == before.header.scales).all()
    assert set(np.unique(after.classification)) <= set(CODES.tolist())
    task, model = own_task(run)
    _, outputs = evaluate(task, model, "test")
    codes = np.sort(CODES)[outputs["probability"].argmax(1)]
    assert (np.asarray(after.classification) == codes).mean() > 0.999  # but for ties
    np.testing.assert_allclose(after["confidence"], outputs["probability"].max(1), atol=1e-5)
    assert [file.name for file in out.parent.iterdir()] == ["labelled.las"]


def test_less_sure_points_and_those_that_lie_nowhere_are_unclassified(trained, tmp_path, capsys):
    run, _ = trained
    xyz, _ = make_scene(np.random.default_rng(5), 900, 9.0)
    xyz = np.concatenate([xyz[:100], [[np.nan, 1, 2]], xyz[100:]])
    np.savetxt(tmp_path / "one.xyz", xyz)
    assert label(run, tmp_path / "one.xyz", "--out", tmp_path / "a.ply") == 0
    found = read_cloud(tmp_path / "a.ply")
    np.testing.assert_array_equal(found.xyz, xyz)
    code, confidence = found.fields["label"], found.fields["confidence"]
    assert np.flatnonzero(code == 0).tolist() == [100] and confidence[100] == 0
    least = float(np.median(confidence))
    capsys.readouterr()
    words = (run, tmp_path / "one.xyz", "--out", tmp_path / "b.ply", "--min-probability", least)
    assert label(*words, "--json") == 0
    (told,) = json.loads(capsys.readouterr().out)["scans"]
    code = read_cloud(tmp_path / "b.ply").fields["label"]
    np.testing.assert_array_equal(code == 0, confidence < np.float32(least))
    assert 0 < told["unclassified"] == (code == 0).sum() < told["points"] == len(xyz)


def test_several_scans_go_into_a_folder_and_none_is_overwritten(trained, tmp_path, capsys):
    run, data = trained
    more = tmp_path / "more.txt"
    np.savetxt(more, make_scene(np.random.default_rng(5), 300, 9.0)[0])
    assert label(run, data / "val", more, "--out", tmp_path / "out") == 0
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["2.las", "more.ply"]
    for words, said in (
        ((data / "val" / "2.las", "--out", data / "val" / "2.las"), "overwrite"),
        ((data / "train", "--out", tmp_path / "a.las"), "folder"),
        ((more, "--out", tmp_path / "a.las"), "name a .ply"),
        ((more, "--out", tmp_path / "a.obj"), "written as .ply"),
        ((more, "--out", tmp_path / "a.ply", "--min-probability", "1.5"), "between 0 and 1"),
    ):
        capsys.readouterr()
        assert label(run, *words) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "a.las").exists()
    with pytest.raises(UserError, match="isoform pointcloud label"):
        isoform.load(run).predict([str(more)])


def test_codes_that_no_training_has_are_said_and_absent_ones_have_no_iou(trained, tmp_path):
    run, _ = trained
    write_scan(tmp_path / "other.las", 6, codes=np.array([2, 6, 15, 41, 2]))
    found = evaluate_run(DOMAIN, run, data=tmp_path / "other.las", out=tmp_path / "out")
    assert {"miou", "iou 2", "iou 6"} <= found["metrics"].keys()
    task = task_of_scans(*_config(run), tmp_path / "other.las")
    assert (task.data.targets[0] < 0).sum() == (task.data.scans[0].code == 41).sum() > 0
    data = write_data(tmp_path / "data")
    write_scan(data / "test" / "3.las", 6, codes=np.array([2, 6, 15, 41, 2]))
    notes = DOMAIN.prepare(_app(data)).notes
    assert any("code 41 is none of the classes" in line for line in notes)
    assert any("test holds no point of 7, 17" in line for line in notes)


def _config(run):
    found = load_trained(DOMAIN, run)
    return found.config, found.state


def _app(data, **more):
    from isoform.core.config import resolve_app

    settings = {**TINY, "data.root": str(data), **more}
    return resolve_app("pointmae-seg-own", domain=DOMAIN, settings=settings)


def test_what_the_scans_lack_is_refused(trained, tmp_path):
    _, data = trained

    def refused(match, **settings):
        with pytest.raises(UserError, match=match):
            DOMAIN.task(DOMAIN.prepare(_app(data, **settings)))

    refused("no field 'species'", **{"data.label": "species"})
    refused("holds fractions", **{"data.label": "echo width"})
    refused("numbered 0 to 1", **{"parts.blocks": [0, 2]})
    refused("set it to scenes or scans", **{"data.source": "folder"})
    refused("set model.kind = segment", **{"model.kind": "classify"})
    refused("no metric of parts", **{"train.monitor": "top1"})
    with pytest.raises(UserError, match="no folder val"):
        DOMAIN.prepare(_app(_only_train(tmp_path / "half")))


def _only_train(root):
    write_scan(root / "train" / "0.las", 0)
    return root


def test_equal_scans_in_two_splits_are_leakage(tmp_path):
    data = write_data(tmp_path / "data")
    write_scan(data / "test" / "again.las", 0, unlabelled=5)
    with pytest.raises(UserError, match=r"test/again\.las \(test\) = train/0\.las \(train\)"):
        DOMAIN.prepare(_app(data))
    assert DOMAIN.check(_app(data)).leakage
    report = DOMAIN.check(_app(data, **{"data.allow_leakage": True}))
    assert not report.leakage and any("6: " in line for line in report.lines)


def test_made_scenes_are_always_the_same(monkeypatch):
    monkeypatch.setattr(scans, "SCENES", ("train", "val"))
    reader = FeatureReader(DataConfig())
    one, two = (scans.made_scenes(reader.data, reader) for _ in range(2))
    assert [scan.split for scan in one] == ["train", "val"]
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.xyz, b.xyz)
        assert set(np.unique(a.code)) == {1, 2, 3, 4, 5}
    prepared = DOMAIN.prepare(_app("unused", **{"data.source": "scenes"}))
    assert prepared.config.data.classes[0] == "ground" and prepared.config.head.outputs == 5
