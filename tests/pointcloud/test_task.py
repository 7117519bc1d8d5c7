"""The point cloud domain from data to answers: training, pretraining, predicting, and what is refused."""

import json

import numpy as np
import pytest
import torch

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core import api
from isoform.core.config import load_run_config, resolve_app
from isoform.core.errors import Preempted, UserError
from isoform.core.runs.folder import RunFolder
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.config import MaskConfig
from isoform.pointcloud.data.transforms import turn_around_z
from isoform.pointcloud.masks import count_masked, mask_of
from own_exports import assert_exports_come_back

SMALL = {
    "data.points": 61, "tokeniser.groups": 7, "tokeniser.group_size": 5, "tokeniser.widths": [3, 5, 7],
    "tokeniser.position_hidden": 3, "backbone.dim": 12, "backbone.depth": 1, "backbone.heads": 2, "head.widths": [11],
    "train.epochs": 2, "train.batch": 8, "eval.baselines": [],
}  # fmt: skip


def write_clouds(root, counts=(17, 13), suffix=".xyz", seed=0):
    """Balls and discs of 40 to 90 points, a folder a class."""
    rng = np.random.default_rng(seed)
    for name, count in zip(("ball", "disc"), counts, strict=True):
        (root / name).mkdir(parents=True, exist_ok=True)
        for k in range(count):
            points = rng.normal((500_000, 5_000_000, 3), size=(rng.integers(40, 90), 3))
            if name == "disc":
                points[:, 2] = 3
            np.savetxt(root / name / f"{k:02}{suffix}", points, fmt="%.4f")
    return root


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clouds")
    data = write_clouds(folder / "data")
    run = isoform.train(
        "pointcloud/pointmae-own",
        {**SMALL, "data.root": str(data)},
        run_dir=folder / "run",
        progress=False,
    )
    return run.folder, data


def test_a_folder_is_trained_on_and_predicted(trained, tmp_path):
    run, data = trained
    results = json.loads((run / "results.json").read_text())
    assert {"top1", "roc_auc", "loss"} <= results["metrics"]["test"].keys()
    files = sorted((data / "disc").iterdir())
    rows = isoform.load(run).predict([str(file) for file in files])
    assert [row["input"] for row in rows] == [str(file) for file in files]
    assert {row["prediction"] for row in rows} <= {"ball", "disc"} and not any(
        r["error"] for r in rows
    )
    answers = {row["input"]: row for row in rows_in(run / "predictions.csv")}
    for name, answer in answers.items():
        (row,) = isoform.load(run).predict([str(data / name)])
        assert row["p disc"] == pytest.approx(float(answer["p disc"]), abs=1e-6)
    counts = results.get("suspected_labels", {})
    likelier = [max(("ball", "disc"), key=lambda c: float(r[f"p {c}"])) for r in answers.values()]
    wrong = [a != r["target"] for a, r in zip(likelier, answers.values(), strict=True)]
    assert counts.get("test", 0) == sum(wrong)
    if counts:
        assert len(rows_in(run / "suspected_labels.csv")) == sum(counts.values())
    assert (run / "report.html").read_text().count("<svg") >= 3
    assert isoform.load(run).embed([str(files[0])]).shape == (1, 24)


def test_arrays_and_bad_inputs_keep_their_rows(trained, tmp_path):
    run, _ = trained
    (tmp_path / "bad.ply").write_bytes(b"ply\n")
    rows = isoform.load(run).predict(
        [np.random.default_rng(0).normal(size=(500, 3)), tmp_path / "bad.ply", np.zeros((3, 2))]
    )
    assert rows[0]["prediction"] in ("ball", "disc") and not rows[0]["error"]
    assert "bad.ply" in rows[1]["error"] and "[points, 3]" in rows[2]["error"]
    cloud = np.random.default_rng(1).normal(size=(47, 3))
    predict = isoform.load(run).predict
    for one in (cloud, cloud.astype(np.float32), torch.tensor(cloud)):  # of one cloud a row
        (row,) = predict(one)
        assert row["p disc"] == pytest.approx(predict([cloud])[0]["p disc"], abs=1e-6)
    assert isoform.load(run).embed(cloud).shape == (1, 24)
    assert [bool(row["error"]) for row in predict(np.stack([cloud] * 5))] == [False] * 5
    assert len(predict(cloud[:, :2])) == 1 and "[points, 3]" in predict(cloud[:, :2])[0]["error"]
    one, five, million = (np.full((n, 3), 7.0) for n in (1, 5, 3000))
    assert all(not row["error"] for row in isoform.load(run).predict([one, five, million]))


def test_a_cloud_is_the_same_wherever_it_lies(trained):
    run, _ = trained
    predictor = isoform.load(run)
    points = np.random.default_rng(3).normal(size=(57, 3))
    far = points * 3 + [512_345.678, 5_432_109, 100]
    a, b = predictor.predict([points, far])
    assert a["p disc"] == pytest.approx(b["p disc"], abs=1e-5)
    together = predictor.predict([points, np.random.default_rng(4).normal(size=(45, 3))])[0]
    assert together["p disc"] == pytest.approx(a["p disc"], abs=1e-6)


def test_more_points_than_in_training_are_said(trained, capsys, tmp_path):
    run, _ = trained
    np.save(tmp_path / "many.npy", np.random.default_rng(0).normal(size=(997, 3)))
    assert exit_code("pointcloud", "predict", run, tmp_path / "many.npy") == 0
    assert "more points than the 61" in capsys.readouterr().err


def test_exports_come_back(trained, tmp_path):
    run, data = trained
    assert_exports_come_back(DOMAIN, run, [str(data / "ball" / "00.xyz")], tmp_path)


def test_the_graph_answers_as_the_model(trained, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    run, data = trained
    api.export(DOMAIN, run, "onnx", tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "a.onnx"))
    predictor = isoform.load(run).inner
    files = [
        str(data / "ball" / "00.xyz"),
        str(data / "disc" / "00.xyz"),
        str(data / "disc" / "01.xyz"),
    ]
    ((_, batch),) = predictor.batches(files, {})
    from isoform.core.inference.run_model import load_trained

    graph = DOMAIN.graph(load_trained(DOMAIN, run))
    inputs = {n: v.numpy() for n, v in graph.inputs_of(batch["points"], batch["lengths"]).items()}
    with torch.no_grad():
        ours = predictor.run(predictor.model, batch).numpy()
    np.testing.assert_allclose(session.run(None, inputs)[0], ours, atol=1e-5)


def pretraining(tmp_path, **changes):
    settings = {**SMALL, "decoder.dim": 12, "decoder.heads": 2, "decoder.depth": 1, **changes}
    data = tmp_path / "data"
    if not data.exists():
        write_clouds(data)
    settings |= {"data.source": "folder", "data.root": str(data)}
    return settings


@pytest.mark.parametrize("kind", ["random", "block"])
def test_pretraining_starts_a_classifier(kind, tmp_path, capsys):
    settings = pretraining(
        tmp_path, **{"mask.kind": kind, "loss.chamfer": "cdl1" if kind == "block" else "cdl2"}
    )
    run = isoform.train(
        "pointcloud/pointmae-strokes-pretrain", settings, run_dir=tmp_path / "run", progress=False
    )
    assert np.isfinite(run.results["metrics"]["test"]["loss"])
    assert "hidden and drawn again" in (run.folder / "report.html").read_text()
    again = DOMAIN.task_from_run(load_run_config(run.folder, DOMAIN), api_state(run.folder), None)
    assert again.sizes() == {"train": 24, "val": 3, "test": 3}
    fine = {k: v for k, v in settings.items() if not k.startswith(("decoder", "mask", "loss"))}
    isoform.train(
        "pointcloud/pointmae-own",
        {**fine, "backbone.drop_path": 0.0, "train.init": str(run.folder)},
        run_dir=tmp_path / "fine",
        progress=True,
    )
    assert "initial weights: " in capsys.readouterr().out
    with pytest.raises(UserError, match="no classes to predict"):
        isoform.load(run.folder).predict([np.zeros((9, 3))])
    assert isoform.load(run.folder).embed(
        [np.random.default_rng(0).normal(size=(50, 3))]
    ).shape == (1, 24)


def api_state(folder):
    return DOMAIN.state_schema().model_validate(RunFolder(folder).read_json("task.json"))


def test_masks_hide_as_many_patches_in_every_cloud():
    noise = torch.rand(5, 13, generator=torch.Generator().manual_seed(0))
    centres = torch.randn(5, 13, 3, generator=torch.Generator().manual_seed(1))
    for kind in ("random", "block"):
        mask = mask_of(MaskConfig(kind=kind), noise, centres)
        assert mask.sum(1).tolist() == [7] * 5
    b = int(noise[0, 0] * 13)
    apart = (centres[0] - centres[0, b]).norm(dim=1)
    assert apart[mask[0]].max() < apart[~mask[0]].min()
    assert count_masked(MaskConfig(ratio=0.6), 64) == 38
    assert [count_masked(MaskConfig(ratio=ratio), 2) for ratio in (0.1, 0.9)] == [1, 1]


@pytest.mark.parametrize("app", ["pointmae-own", "pointmae-strokes-pretrain"])
def test_a_killed_run_goes_on_bit_for_bit(app, tmp_path):
    settings = pretraining(tmp_path, **{"backbone.dropout": 0.1, "train.checkpoint_every": 2})
    if app == "pointmae-own":
        settings = {k: v for k, v in settings.items() if not k.startswith("decoder")}
    whole = isoform.train(f"pointcloud/{app}", settings, run_dir=tmp_path / "whole", progress=False)
    torn = tmp_path / "torn"

    def killed(self, line, _count=[0]):  # noqa: B006
        _count[0] += 1
        if _count[0] == 4:
            raise Preempted("here")
        return append(self, line)

    append = RunFolder.append_metrics
    RunFolder.append_metrics = killed
    try:
        with pytest.raises(Preempted):
            isoform.train(f"pointcloud/{app}", settings, run_dir=torn, progress=False)
    finally:
        RunFolder.append_metrics = append
    isoform.train(f"pointcloud/{app}", settings, run_dir=torn, resume=True, progress=False)
    one, two = (
        RunFolder(folder).load_weights("last", ema=False) for folder in (whole.folder, torn)
    )
    assert one.keys() == two.keys() and all(torch.equal(one[name], two[name]) for name in one)


def test_what_the_data_lack_is_refused(tmp_path):
    def train(**settings):
        isoform.train(
            "pointcloud/pointmae-own",
            {**SMALL, **settings},
            run_dir=tmp_path / "no",
            progress=False,
        )

    with pytest.raises(UserError, match=r"data\.root is not set"):
        train()
    with pytest.raises(UserError, match="no such folder"):
        train(**{"data.root": str(tmp_path / "nowhere")})
    (tmp_path / "cloud.ply").touch()
    with pytest.raises(UserError, match=r"is a file where data\.root is a folder"):
        train(**{"data.root": str(tmp_path / "cloud.ply")})
    (tmp_path / "a" / "one").mkdir(parents=True)
    with pytest.raises(UserError, match="no files of points"):
        train(**{"data.root": str(tmp_path / "a")})
    data = write_clouds(tmp_path / "data")
    (data / "ball" / "torn.ply").write_bytes(b"ply\nformat")
    with pytest.raises(UserError, match=r"torn\.ply.*data\.on_error = skip"):
        train(**{"data.root": str(data)})
    assert not (tmp_path / "no").exists()


def test_a_class_that_a_run_does_not_know_is_named(trained, tmp_path, capsys):
    data = write_clouds(tmp_path / "data", counts=(3, 2))
    (data / "weird").mkdir()
    (data / "disc" / "00.xyz").rename(data / "weird" / "00.xyz")
    assert exit_code("pointcloud", "eval", trained[0], "--data", data) == 2
    assert "class 'weird' is none of the 2 known ones" in capsys.readouterr().err


def test_check_finds_what_is_twice_and_far_away(tmp_path, capsys):
    data = write_clouds(tmp_path / "data", counts=(7, 7))
    for split, files in (("train", range(5)), ("test", range(5, 7))):
        for name in ("ball", "disc"):
            (data / split / name).mkdir(parents=True)
            for k in files:
                (data / name / f"{k:02}.xyz").rename(data / split / name / f"{k:02}.xyz")
    for name in ("ball", "disc"):
        (data / name).rmdir()
    (data / "test" / "ball" / "again.xyz").write_text(
        (data / "train" / "ball" / "00.xyz").read_text()
    )
    with (data / "train" / "disc" / "01.xyz").open("a") as file:
        file.write("1e9 1e9 1e9\n")
    (data / "train" / "disc" / "note.md").write_text("no cloud")
    code = exit_code("pointcloud", "check", data)
    said = capsys.readouterr().out
    assert code == 2 and "LEAKAGE, clouds in several splits: 1" in said
    assert "point far away" in said and "note.md" in said and "8 train" in said


def test_check_measures_no_file_without_points(tmp_path, capsys):
    data = write_clouds(tmp_path / "data", counts=(7, 7))
    sides = []
    for name in ("nothing.npy", "nowhere.npy"):  # no point, and none with coordinates
        assert (
            exit_code("pointcloud", "check", data, "--set", 'data.on_error="skip"', "--json") == 0
        )
        sides.append(json.loads(capsys.readouterr().out.splitlines()[-1])["extent"])
        np.save(data / "ball" / name, np.full((len(sides) - 1, 3), np.nan, np.float32))
    exit_code("pointcloud", "check", data, "--set", 'data.on_error="skip"', "--json")
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert len(found["unreadable"]) == 2 and found["extent"] == sides[0] == sides[1]
    assert found["extent"]["least"] > 0


def test_sets_of_equal_clouds_in_one_file(tmp_path):
    h5py = pytest.importorskip("h5py")
    rng = np.random.default_rng(0)
    points = rng.normal(size=(31, 43, 3)).astype(np.float16)
    labels = np.arange(31) % 3
    np.savez(
        tmp_path / "a.npz",
        points=points,
        labels=labels,
        names=np.array([f"c{k}" for k in range(31)]),
    )
    for part, rows in (("train", slice(20)), ("test", slice(20, 31))):
        with h5py.File(tmp_path / f"b_{part}.h5", "w") as file:
            file["data"], file["label"] = points[rows], labels[rows, None].astype("u1")

    def prepared(path):
        app = resolve_app(
            "pointmae-own",
            domain=DOMAIN,
            settings={**SMALL, "data.source": "set", "data.path": str(path)},
        )
        return DOMAIN.prepare(app)

    one, two = prepared(tmp_path / "a.npz"), prepared(tmp_path / "b_train.h5")
    assert one.config.data.classes == two.config.data.classes == ("0", "1", "2")
    assert one.data.clouds.records.clouds.names[4] == "c4"
    assert two.data.clouds.rows["test"].tolist() == list(range(20, 31))
    assert np.array_equal(one.data.clouds.digests_N, two.data.clouds.digests_N)
    np.savez(tmp_path / "c.npz", points=points[0], labels=labels)
    with pytest.raises(UserError, match=r"\[clouds, points, 3\]"):
        prepared(tmp_path / "c.npz")


def test_meshes_are_sampled_and_the_same_every_time(tmp_path):
    from isoform.pointcloud.data.records import usable_cloud

    (tmp_path / "a.off").write_text("OFF\n4 2 0\n0 0 0\n2 0 0\n2 1 0\n0 1 0\n3 0 1 2\n3 0 2 3\n")
    one, two = (usable_cloud(tmp_path / "a.off", (), 53).xyz for _ in range(2))
    assert one.shape == (53, 3) and np.array_equal(one, two) and (one[:, 2] == 0).all()
    assert one[:, 0].max() > 1.5 and one[:, 0].min() < 0.5


def test_a_turn_of_training_clouds_is_around_the_vertical_axis(tmp_path):
    data = write_clouds(tmp_path / "data")
    app = resolve_app(
        "pointmae-own",
        domain=DOMAIN,
        settings={
            **SMALL,
            "data.root": str(data),
            "augment.scale": [1.0, 1.0],
            "augment.shift": 0.0,
        },
    )
    task = DOMAIN.task(DOMAIN.prepare(app))
    sample = task.sample("train", 0, np.random.default_rng(0))
    row = int(task.data.rows["train"][0])
    whole = task.data.cloud(row)
    if len(whole) <= 61:
        np.testing.assert_allclose(sample.points[:, 2], whole[:, 2], atol=1e-6)
        np.testing.assert_allclose(
            np.linalg.norm(sample.points, axis=1), np.linalg.norm(whole, axis=1), atol=1e-5
        )
    assert turn_around_z(0.3).shape == (3, 3)


def test_unsure_answers_and_other_monitors(trained, tmp_path):
    run, data = trained
    predictor = isoform.load(run)
    predictor.demand(0.999)
    (row,) = predictor.predict([str(data / "ball" / "00.xyz")])
    assert row["prediction"] == "undecided"
    settings = {
        **SMALL,
        "data.root": str(data),
        "train.monitor": "loss",
        "eval.threshold": "youden",
    }
    one = isoform.train(
        "pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False
    )
    assert one.results["monitor"] == "loss" and "intervals" in one.results
    settings = {**settings, "model.kind": "pretrain", "decoder.dim": 12, "decoder.heads": 2}
    with pytest.raises(UserError, match="judged by its loss"):
        isoform.train("pointcloud/pointmae-own", settings, run_dir=tmp_path / "no", progress=False)
