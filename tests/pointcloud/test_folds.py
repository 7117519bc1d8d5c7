"""`train --folds` on clouds: every cloud is tested on once, and the folds' models answer as one."""

import csv
import json
from pathlib import Path

import pytest

import isoform
from isoform.core.cli import main
from isoform.pointcloud import DOMAIN

from .test_task import SMALL, write_clouds


def test_folds_of_clouds_and_their_models_together(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_clouds(Path("data"))
    sets = [f"{key}={json.dumps(value)}" for key, value in SMALL.items()]
    sets = [word for one in [*sets, "data.root=data"] for word in ("--set", one)]
    train = ["pointcloud", "train", "pointmae-own", *sets, "--folds", "2", "--run-dir", "g"]
    code = main(train, domains={"pointcloud": lambda: DOMAIN})
    assert code == 0, capsys.readouterr().err
    with open("g/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    files = [str(path.relative_to("data")) for path in Path("data").rglob("*.xyz")]
    assert sorted(row["input"] for row in rows) == sorted(files)
    discs = [sum("disc" in row["input"] for row in rows if row["fold"] == k) for k in "12"]
    assert sorted(discs) == [6, 7]
    inputs = [f"data/{name}" for name in files[:3]]
    each = [isoform.load(f"g/fold-{k}").predict(inputs) for k in (1, 2)]
    for i, row in enumerate(isoform.load("g").predict(inputs)):
        mean = (each[0][i]["p disc"] + each[1][i]["p disc"]) / 2
        assert row["p disc"] == pytest.approx(mean, abs=1e-6)
