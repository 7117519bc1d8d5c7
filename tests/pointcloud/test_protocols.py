"""How a trained encoder is judged: with fewer labels, by a linear probe, a linear SVM, few shots, votes and draws."""

import argparse
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import isoform
from commands import exit_code
from isoform.core import api
from isoform.core.data.splits import keep_labelled
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_trained
from isoform.core.runs.folder import RunFolder
from isoform.pointcloud import DOMAIN, svm
from isoform.pointcloud.data.draws import Draws
from isoform.pointcloud.task import task_from_run
from isoform.pointcloud.votes import Voting

from .small_sets import DECODER, SMALL, prepared, run_cli, write_set


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shapes.npz")


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """A run that saw no label."""
    settings = {**SMALL, **DECODER, "model.kind": "pretrain", "train.epochs": 1}
    return isoform.train(
        "pointcloud/pointmae-own",
        {**settings, "data.path": str(data)},
        run_dir=tmp_path_factory.mktemp("pretrained") / "run",
        progress=False,
    ).folder


# Fewer labels ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=47), st.integers(0, 2**31))
def test_a_share_of_every_class_and_smaller_ones_within_larger(labels, seed):
    rows = np.arange(0, len(labels), 2)
    counts = {name: sum(labels[row] == name for row in rows) for name in "abc"}
    before = set(rows.tolist())
    for share in (1.0, 0.5, 0.1, 1e-9):
        kept = keep_labelled(rows, labels, share, seed)
        assert kept.tolist() == sorted(set(kept.tolist()))
        assert set(kept.tolist()) <= before
        before = set(kept.tolist())
        for name, there in counts.items():
            want = max(1, round(share * there)) if there else 0
            assert sum(labels[row] == name for row in kept) == want


def test_fewer_labels_leave_validation_and_test_as_they_are(data):
    whole = prepared(data).data.clouds
    few = prepared(data, **{"data.labels": 0.2, "train.seed": 5})
    told = [line for line in few.notes if line.startswith("data.labels")]
    rows = few.data.clouds.rows
    assert set(rows["train"]) < set(whole.rows["train"])
    for split in ("val", "test"):
        assert np.array_equal(rows[split], whole.rows[split])
    assert len(told) == 1 and f"{len(whole.rows['train']) - len(rows['train'])} training" in told[0]
    again = prepared(data, **{"data.labels": 0.2, "train.seed": 6}).data.clouds
    assert np.array_equal(again.rows["train"], rows["train"])
    other = prepared(data, **{"data.labels": 0.2, "data.split_seed": 1}).data.clouds
    assert not np.array_equal(other.rows["train"], rows["train"])


def test_the_run_keeps_its_share(data, tmp_path):
    settings = {**SMALL, "data.path": str(data), "data.labels": 0.2, "train.epochs": 1}
    run = isoform.train(
        "pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False
    )
    kept = RunFolder(run.folder).split()
    assert {split: len(part.names) for split, part in kept.splits.items()} == dict(
        json.loads((run.folder / "task.json").read_text())["data"]["sizes"]
    )
    assert len(kept.splits["train"].names) == 3 * round(0.2 * 25)


@pytest.mark.parametrize("kind", ["pretrain", "segment"])
def test_what_learns_from_no_labels_has_no_share_of_them(data, kind):
    with pytest.raises(UserError, match=r"data.labels = 0.2 .* leave it out"):
        prepared(data, **{"data.labels": 0.2, "model.kind": kind})


# Linear probes --------------------------------------------------------------------------------------------------------


def test_a_probe_of_a_pretrained_encoder_changes_the_last_layer_alone(data, pretrained, tmp_path):
    settings = {**SMALL, "data.path": str(data), "train.init": str(pretrained)}
    run = isoform.train(
        "pointcloud/pointmae-probe", settings, run_dir=tmp_path / "run", progress=False
    )
    before = RunFolder(pretrained).load_weights("best")
    after = RunFolder(run.folder).load_weights("best")
    trunk = {name for name in after if not name.startswith("head.")}
    assert trunk == {name for name in before if name.startswith(("tokeniser.", "backbone."))}
    assert all(torch.equal(after[name], before[name]) for name in trunk)
    assert {name for name in after if name.startswith("head.")} == {
        "head.out.weight",
        "head.out.bias",
    }
    assert after["head.out.weight"].shape == (3, 24)
    points = np.random.default_rng(0).normal(size=(57, 3))
    one, other = isoform.load(pretrained), isoform.load(run.folder)
    np.testing.assert_allclose(one.embed([points]), other.embed([points]), atol=1e-6)
    assert run.metrics["test"]["top1"] > 0.6


def test_a_random_encoder_is_said_to_be_one(data, tmp_path):
    said = []
    settings = {**SMALL, "data.path": str(data), "data.labels": 0.2}
    request = api.Request(DOMAIN, "pointmae-probe", settings=settings)
    api.train(request, tmp_path / "run", progress=False, say=said.append)
    assert any("the frozen trunk is random" in line for line in said)


def test_a_head_of_layers_is_no_linear_probe(data, pretrained, tmp_path):
    settings = {**SMALL, "data.path": str(data), "train.probe": True}
    with pytest.raises(UserError, match=r"set head.widths = \[\]"):
        isoform.train("pointcloud/pointmae-own", settings, run_dir=tmp_path / "run", progress=False)
    with pytest.raises(UserError, match=r"class_token = false leaves out"):
        prepared(data, **{"tokeniser.class_token": False})


# Linear SVM -----------------------------------------------------------------------------------------------------------


def test_the_svm_is_scikit_learns_on_embedded_features(data, pretrained, tmp_path):
    from sklearn.svm import LinearSVC

    code, found = run_cli("svm", pretrained, "--out", tmp_path / "svm.json")
    assert code == 0 and json.loads((tmp_path / "svm.json").read_text())["C"] == found["C"]
    clouds = prepared(data).data.clouds
    assert found["clouds"] == {split: len(rows) for split, rows in clouds.rows.items()}
    predictor = isoform.load(pretrained)
    x, y = {}, {}
    for split, rows in clouds.rows.items():
        x[split] = predictor.embed([clouds.records.clouds.read(row).xyz for row in rows])
        y[split] = clouds.targets[rows]
    mean, std = x["train"].mean(0), x["train"].std(0) + svm.LEAST_DEVIATION
    right = {}
    for strength in svm.STRENGTHS:
        model = LinearSVC(C=strength, max_iter=svm.ITERATIONS, random_state=0)
        model.fit((x["train"] - mean) / std, y["train"])
        right[strength] = {
            split: (model.predict((x[split] - mean) / std) == y[split]).mean()
            for split in ("val", "test")
        }
    best = max(right, key=lambda strength: right[strength]["val"])
    assert found["C"] == best
    for split in ("val", "test"):
        assert found["metrics"][split]["top1"] == pytest.approx(right[best][split])
    assert found["val_top1_by_C"] == {
        f"{c:g}": pytest.approx(one["val"]) for c, one in right.items()
    }


@given(st.permutations(range(29)))
@settings(max_examples=10, deadline=None)
def test_the_svms_choice_never_depends_on_test(order):
    rng = np.random.default_rng(0)
    x = {split: rng.normal(size=(n, 5)) for split, n in (("train", 37), ("val", 23), ("test", 29))}
    y = {split: rng.integers(3, size=len(one)) for split, one in x.items()}
    first = svm.fit_svm(x, y, 3)
    other = svm.fit_svm(x, {**y, "test": y["test"][list(order)]}, 3)
    assert (first.strength, first.tried) == (other.strength, other.tried)
    assert first.metrics["val"] == other.metrics["val"]


def test_an_svm_on_other_clouds_and_on_fewer_labels(data, pretrained, tmp_path):
    out = ("--out", tmp_path / "svm.json")
    _, own = run_cli("svm", pretrained, *out)
    _, few = run_cli("svm", pretrained, "--set", "data.labels=0.2", *out)
    assert few["clouds"] == {**own["clouds"], "train": 3 * round(0.2 * own["clouds"]["train"] / 3)}
    other = write_set(tmp_path / "other.npz", each=17, seed=7)
    code, found = run_cli("svm", pretrained, "--data", other, *out)
    assert code == 0 and sum(found["clouds"].values()) == 3 * 17 and found["data"] == "other.npz"


def test_an_imported_encoder_is_given_clouds(data, pretrained, tmp_path, capsys):
    api.export(DOMAIN, pretrained, "official", tmp_path / "official.pth")
    sets = ("tokeniser.groups=7", "tokeniser.group_size=5", "backbone.heads=2", "decoder.heads=2",
            "tokeniser.origin_rule=0.0", "data.points=61")  # fmt: skip
    words = [word for text in sets for word in ("--set", text)]
    imported = tmp_path / "imported"
    code, _ = run_cli("import", tmp_path / "official.pth", *words, "--out", imported)
    assert code == 0
    assert exit_code("pointcloud", "svm", imported) == 2
    assert "has no clouds of its own" in capsys.readouterr().err
    code, found = run_cli("svm", imported, "--data", data)
    own = run_cli("svm", pretrained, "--out", tmp_path / "svm.json")[1]
    assert code == 0 and found["metrics"] == own["metrics"] and found["C"] == own["C"]


def test_test_clouds_that_the_encoder_knows_are_counted(data, pretrained, tmp_path, capsys):
    run_cli("svm", pretrained, "--out", tmp_path / "svm.json")
    assert "was trained on" not in capsys.readouterr().err
    run_cli("svm", pretrained, "--set", "data.split_seed=1", "--out", tmp_path / "svm.json")
    kept = {split: set(rows.tolist()) for split, rows in prepared(data).data.clouds.rows.items()}
    test = set(prepared(data, **{"data.split_seed": 1}).data.clouds.rows["test"].tolist())
    known = len(test & (kept["train"] | kept["val"]))
    assert f"{known} of {len(test)} clouds of test are among those" in capsys.readouterr().err


def test_what_an_svm_refuses(data, pretrained, tmp_path, capsys):
    words = ["pointcloud", "svm", str(pretrained)]
    assert exit_code(*words, "--set", "train.lr=1") == 2
    assert "only the clouds can be changed" in capsys.readouterr().err
    np.savez(
        tmp_path / "one.npz",
        points=np.random.default_rng(0).normal(size=(9, 30, 3)),
        labels=["a"] * 9,
    )
    assert exit_code(*words, "--data", tmp_path / "one.npz") == 2
    assert "one class only" in capsys.readouterr().err
    assert not (pretrained / "svm.json").exists()


# Votes and draws ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier(data, tmp_path_factory):
    settings = {**SMALL, "data.path": str(data), "train.epochs": 3}
    folder = tmp_path_factory.mktemp("classifier") / "run"
    return isoform.train("pointcloud/pointmae-own", settings, run_dir=folder, progress=False).folder


def test_the_plain_score_stays_what_it_was_beside_votes(classifier, tmp_path):
    code, found = run_cli("vote", classifier, "--draws", 3, "--out", tmp_path / "votes.json")
    results = json.loads((classifier / "results.json").read_text())["metrics"]["test"]
    assert code == 0 and found["plain"] == pytest.approx(results)
    assert found.keys() & {"one_vote", "best_of_votes_chosen_on_test"} == {"one_vote"}
    assert not (classifier / "votes.json").exists()
    code, best = run_cli("vote", classifier, "--draws", 3, "--best-of", 4)
    assert code == 0 and best["one_vote"] == found["one_vote"]
    chosen = best["best_of_votes_chosen_on_test"]
    assert chosen["votes"] == 4 and chosen["comparable"] is False
    assert chosen["least"] <= found["one_vote"]["top1"] <= chosen["top1"]
    assert chosen["least"] <= chosen["mean"] <= chosen["top1"]
    assert json.loads((classifier / "votes.json").read_text())["plain"] == best["plain"]


def test_a_vote_is_the_mean_of_logits_over_draws(classifier):
    trained = load_trained(DOMAIN, classifier)
    state = trained.state.model_copy(update={"kept": RunFolder(classifier).split()})
    task = task_from_run(trained.config, state, None)
    voting = Voting(task, trained.model, "test", 3, "fp32")
    want = []
    for cloud in voting.clouds:
        draws = [torch.from_numpy(cloud[number])[None] for number in (3, 4, 5)]
        with torch.no_grad():
            want.append(torch.stack([trained.model(draw)[0] for draw in draws]).double().mean(0))
    np.testing.assert_allclose(voting.vote(1), torch.stack(want).numpy(), atol=1e-5)
    row = int(task.data.rows["test"][0])
    drawn = [voting.clouds[0][number] for number in (0, 0, 1)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    assert len(drawn[0]) == 61 and len(task.data.cloud(row)) == 83


def test_votes_are_about_classes(pretrained, capsys):
    assert exit_code("pointcloud", "vote", pretrained) == 2
    assert "votes are about classes" in capsys.readouterr().err


@given(st.integers(1, 200), st.integers(1, 67), st.integers(0, 2**31), st.integers(0, 99))
def test_draws_are_points_of_the_cloud_each_once(n, points, key, number):
    cloud = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    drawn = Draws(cloud, points, key)[number]
    assert len(drawn) == min(n, points)
    assert len(np.unique(drawn, axis=0)) == len(drawn)
    assert {*map(tuple, drawn.tolist())} <= {*map(tuple, cloud.tolist())}


def test_other_numbers_of_points_than_in_training(classifier, tmp_path, capsys):
    """P19: a model trained at one number of points is asked about others."""
    rng = np.random.default_rng(0)
    np.save(tmp_path / "few.npy", rng.normal(size=(29, 3)))
    np.save(tmp_path / "many.npy", rng.normal(size=(4999, 3)))
    files = [str(tmp_path / name) for name in ("few.npy", "many.npy")]
    answers = {}
    for options in ((), ("--draws", 1), ("--draws", 5), ("--points", "keep")):
        code, found = run_cli("predict", classifier, *files, *options)
        said = capsys.readouterr().err
        assert code == 0 and "1 of 2 clouds have fewer points than any" in said and "(83)" in said
        assert "1 of 2 clouds have more points than the 61" in said
        answers[options] = [row["p disc"] for row in found["rows"]]
        told = {"--draws": "drawn of each, 5 times", "--points": "answers to denser clouds"}
        if options and options[1] != 1:
            assert told[options[0]] in said
        else:
            assert "as many were chosen of each" in said
    plain = answers[()]
    assert answers["--draws", 1] == plain
    for options in (("--draws", 5), ("--points", "keep")):
        few, many = answers[options]
        assert few == pytest.approx(plain[0], abs=1e-6) and abs(many - plain[1]) > 1e-6
    predictor = isoform.load(classifier)
    predictor.adopt(argparse.Namespace(draws=5, points="trained"))
    alone = predictor.predict([files[1]])[0]["p disc"]
    assert alone == pytest.approx(answers["--draws", 5][1], abs=1e-6)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--draws", "0"), "should be at least 1"),
        (("--draws", "3", "--points", "keep"), "leave one out"),
    ],
)
def test_draws_that_make_no_sense(classifier, tmp_path, capsys, options, said):
    np.save(tmp_path / "one.npy", np.zeros((5, 3)))
    words = ["pointcloud", "predict", str(classifier), str(tmp_path / "one.npy"), *options]
    assert exit_code(*words) == 2
    assert said in capsys.readouterr().err
