"""Few shots: episodes that are drawn, and the official ones."""

import json
import pickle
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import exit_code
from isoform.core.config import resolve_app
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.pointcloud import DOMAIN
from isoform.pointcloud.config import DataConfig
from isoform.pointcloud.data.fewer import draw_episode

from .small_sets import SMALL, prepared, run_cli, write_set


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shapes.npz")


@given(
    st.integers(0, 2**31), st.integers(1, 10), st.integers(2, 4), st.integers(1, 5),
    st.integers(1, 5),
)  # fmt: skip
def test_an_episode_has_ways_classes_of_shots_and_queries(seed, fold, ways, shots, queries):
    labels = np.tile(list("abcd"), 29).tolist()
    rows = {"train": np.arange(59), "val": np.arange(59, 67), "test": np.arange(67, 116)}
    data = DataConfig(split_seed=seed, folds=10, fold=fold, ways=ways, shots=shots, queries=queries)
    found = draw_episode(rows, labels, data, "here")
    assert found.keys() == {"train", "test"}
    assert np.array_equal(found["test"], draw_episode(rows, labels, data, "here")["test"])
    learned = set(found["train"].tolist())
    assert learned <= {*rows["train"].tolist(), *rows["val"].tolist()}
    assert set(found["test"].tolist()) <= set(rows["test"].tolist())
    for split, n in (("train", shots), ("test", queries)):
        counts = Counter(labels[row] for row in found[split])
        assert len(counts) == ways and set(counts.values()) == {n}
    assert {labels[row] for row in found["train"]} == {labels[row] for row in found["test"]}


def test_too_few_clouds_for_an_episode(data):
    with pytest.raises(UserError, match=r"0 classes have 10 training and 20 test clouds.*needs 2"):
        prepared(data, **{"data.ways": 2})
    with pytest.raises(UserError, match=r"which doesn't go with data.labels"):
        prepared(data, **{"data.ways": 2, "data.labels": 0.5})
    with pytest.raises(UserError, match=r"which doesn't go with model.kind = pretrain"):
        prepared(data, **{"data.ways": 2, "model.kind": "pretrain"})


def test_episodes_beside_each_other(data, tmp_path, capsys):
    run = tmp_path / "run"
    few = {"data.ways": 2, "data.shots": 5, "data.queries": 2, "data.path": data}
    sets = {**SMALL, **few, "train.epochs": 2}
    words = [word for k, v in sets.items() for word in ("--set", f"{k}={v}")]
    code, found = run_cli("train", "pointmae-own", *words, "--folds", 3, "--run-dir", run)
    assert code == 0 and found["folds"] == 3
    assert found["sizes"] == [{"train": 10, "test": 4}] * 3
    spread = found["metrics"]["test"]["top1"]
    each = [
        json.loads((run / f"fold-{k}" / "results.json").read_text())["metrics"]["test"]["top1"]
        for k in (1, 2, 3)
    ]
    assert spread["values"] == each and spread["mean"] == pytest.approx(np.mean(each))
    assert spread["std"] == pytest.approx(np.std(each, ddof=1))
    assert "val" not in found["metrics"]
    lines = (run / "fold-1" / "metrics.jsonl").read_text().splitlines()
    step = max(json.loads(line)["step"] for line in lines)
    assert RunFolder(run / "fold-1").step_of("best") == step  # never chosen on test
    said = capsys.readouterr().err
    assert said.count("few-shot episode") == 3 and "the last epoch is judged" in said
    assert "set aside" not in said
    code, again = run_cli("eval", run)
    assert code == 0 and again["metrics"]["top1"]["values"] == each
    assert exit_code("pointcloud", "predict", run, data) == 2
    assert "episodes learn different classes" in capsys.readouterr().err


def write_fewshot(root, ways=5, shots=10, folds=3, spoil=None):
    """The official layout, by pickle as its authors wrote it."""
    folder = root / f"{ways}way_{shots}shot"
    folder.mkdir(parents=True)
    for fold in range(folds):
        rng = np.random.default_rng(fold)
        content = {
            part: [
                (rng.normal(size=(73, 6)).astype("f4") * (1 + way), np.int64(way), "name")
                for way in range(ways)
                for _ in range(count)
            ]
            for part, count in (("train", shots), ("test", 20))
        }
        (folder / f"{fold}.pkl").write_bytes(pickle.dumps(spoil(content) if spoil else content))
    return root


FEWSHOT = {key: value for key, value in SMALL.items() if key != "data.source"}


def test_the_official_episodes_are_taken_whole(tmp_path):
    root = write_fewshot(tmp_path / "ModelNetFewshot")
    settings = {**FEWSHOT, "data.root": str(root), "data.folds": 10, "data.fold": 3}
    app = resolve_app("pointmae-fewshot", domain=DOMAIN, settings=settings)
    found = DOMAIN.prepare(app)
    clouds = found.data.clouds
    assert {split: len(rows) for split, rows in clouds.rows.items()} == {"train": 50, "test": 100}
    assert len(clouds.classes) == 40 and set(clouds.targets) == set(range(5))
    rng = np.random.default_rng(2)  # fold 3 is 2.pkl
    np.testing.assert_array_equal(
        clouds.records.clouds.read(0).xyz, rng.normal(size=(73, 6)).astype("f4")[:, :3]
    )
    assert found.config.head.outputs == 40


def test_the_official_episodes_are_trained_on(tmp_path):
    root = write_fewshot(tmp_path / "ModelNetFewshot", folds=2)
    words = [w for k, v in {**FEWSHOT, "train.epochs": 1, "data.root": root}.items()
             for w in ("--set", f"{k}={v}")]  # fmt: skip
    code, found = run_cli(
        "train", "pointmae-fewshot", *words, "--folds", 2, "--run-dir", tmp_path / "run"
    )
    assert code == 0 and len(found["metrics"]["test"]["top1"]["values"]) == 2


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("evil-was-here"),))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda content: {**content, "more": Evil()}, "it names pathlib"),
        (lambda content: {"train": content["train"]}, 'holds no list "test"'),
        (lambda content: {**content, "test": [(np.zeros((5, 2)), 1)]}, r"test 0 is not \(points"),
        (lambda content: {**content, "test": [(np.full((5, 3), np.nan), 1)]}, "not finite"),
        (lambda content: {**content, "test": [(np.zeros((5, 3)), 40)]}, "class 40 is none"),
    ],
)
def test_other_pickles_are_refused(tmp_path, monkeypatch, spoil, said):
    monkeypatch.chdir(tmp_path)
    root = write_fewshot(tmp_path / "ModelNetFewshot", folds=1, spoil=spoil)
    settings = {**FEWSHOT, "data.root": str(root)}
    with pytest.raises(UserError, match=said):
        DOMAIN.prepare(resolve_app("pointmae-fewshot", domain=DOMAIN, settings=settings))
    assert not (tmp_path / "evil-was-here").exists()


def test_a_missing_episode_is_named(tmp_path):
    root = write_fewshot(tmp_path / "ModelNetFewshot", folds=1)
    settings = {**FEWSHOT, "data.root": str(root), "data.shots": 20}
    with pytest.raises(UserError, match=r"5way_20shot.0.pkl: no such file"):
        DOMAIN.prepare(resolve_app("pointmae-fewshot", domain=DOMAIN, settings=settings))
