"""`train --folds` on clouds: every cloud is tested on once, and the folds' models answer as one."""

import json
from pathlib import Path

import pytest

import isoform
from answers import rows_in
from commands import exit_code

from .test_task import SMALL, write_clouds


def test_folds_of_clouds_and_their_models_together(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_clouds(Path("data"))
    sets = [f"{key}={json.dumps(value)}" for key, value in SMALL.items()]
    sets = [word for one in [*sets, "data.root=data"] for word in ("--set", one)]
    train = ["pointcloud", "train", "pointmae-own", *sets, "--folds", "2", "--run-dir", "g"]
    code = exit_code(*train)
    assert code == 0, capsys.readouterr().err
    rows = rows_in("g/predictions.csv")
    files = [str(path.relative_to("data")) for path in Path("data").rglob("*.xyz")]
    assert sorted(row["input"] for row in rows) == sorted(files)
    discs = [sum("disc" in row["input"] for row in rows if row["fold"] == k) for k in "12"]
    assert sorted(discs) == [6, 7]
    inputs = [f"data/{name}" for name in files[:3]]
    each = [isoform.load(f"g/fold-{k}").predict(inputs) for k in (1, 2)]
    for i, row in enumerate(isoform.load("g").predict(inputs)):
        mean = (each[0][i]["p disc"] + each[1][i]["p disc"]) / 2
        assert row["p disc"] == pytest.approx(mean, abs=1e-6)


def test_folds_begin_from_the_pretrained_fold_of_their_number(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_clouds(Path("data"), counts=(7, 5))

    def train(app, *words, folds=2, **changes):
        settings = {**SMALL, "data.root": "data", "train.epochs": 1, **changes}
        sets = [w for key, value in settings.items() for w in ("--set", f"{key}={_toml(value)}")]
        command = ["pointcloud", "train", app, *sets, "--folds", str(folds), *words]
        code = exit_code(*command)
        return code, capsys.readouterr()

    pretraining = {"data.source": "folder", "decoder.dim": 12, "decoder.heads": 2}
    app = "pointmae-strokes-pretrain"
    code, said = train(app, "--run-dir", "before", **pretraining, **{"decoder.depth": 1})
    assert code == 0, said.err
    assert json.loads(Path("before/results.json").read_text())["metrics"]["test"]["loss"]
    code, said = train("pointmae-own", "--run-dir", "after", "--init", "before")
    assert code == 0, said.err
    for k in (1, 2):
        assert f'init = "before/fold-{k}"' in Path(f"after/fold-{k}/config.toml").read_text()
        first, then = (_tested(f"{group}/fold-{k}") for group in ("before", "after"))
        assert first == then
    assert "were trained on" not in said.out + said.err
    again = ("--run-dir", "no", "--init", "before")
    code, said = train("pointmae-own", *again, **{"data.split_seed": 1})
    assert code == 2 and "data.split_seed = 0, and these folds 1" in said.err
    code, said = train("pointmae-own", *again, folds=3)
    assert code == 2 and "data.folds = 2, and these folds 3" in said.err
    code, said = train("pointmae-own", *again, **{"data.group": "near"})
    assert code == 2 and "data.group = None" in said.err
    assert not Path("no").exists()


def _toml(value):
    return json.dumps(value)


def _tested(folder):
    return sorted(row["input"] for row in rows_in(f"{folder}/predictions.csv"))
