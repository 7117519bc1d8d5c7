"""`train --folds` on molecules: folds of whole molecules, series and frameworks, and their models as one."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem.rdMolDescriptors import CalcNumRings

import isoform
from answers import rows_in
from isoform.core.engine.groups import judge_groups
from isoform.core.errors import UserError
from isoform.molecules.data.groups import cluster_groups, scaffold_groups
from isoform.molecules.prepare import prepare
from isoform.molecules.task import MoleculesTask

from .runs import TEXTS, app, table, task_of

SERIES = [f"s{k % 13}" if k % 17 else "" for k in range(67)]

APPS = """
[molecules.tiny]
data = {path = "molecules.csv", label = "id", targets = ["label"], canonical = true, group = "series"}
backbone = {dim = 16, depth = 1, heads = 2, mlp_dim = 16, order = "pre", eps = 1e-5}
train = {epochs = 1, batch = 16, lr = 3e-3, weight_decay = 0.0}
eval.baselines = []
"""


@pytest.fixture
def cli(cli, tmp_path, monkeypatch):
    """67 molecules of 13 series; words behind `isoform molecules` -> (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(MoleculesTask, "figures", lambda self, model, outputs: [])
    table(Path("molecules.csv"), series=SERIES)
    Path("apps.toml").write_text(APPS)
    return partial(cli, "molecules")


@pytest.mark.parametrize("descriptors", [False, True])
def test_folds_by_series_and_their_models_together(cli, descriptors):
    train = ["train", "tiny", "--apps", "apps.toml", "--folds", 2, "--run-dir", "g"]
    sets = ["--set", "head.descriptors=true"] if descriptors else []
    assert cli(*train, *sets)[0] == 0
    rows = rows_in("g/predictions.csv")
    assert sorted(row["input"] for row in rows) == sorted(f"m{k}" for k in range(67))
    series = dict(zip((f"m{k}" for k in range(67)), SERIES, strict=True))
    fold_of: dict[str, set[str]] = {}
    for row in rows:
        fold_of.setdefault(series[row["input"]], set()).add(row["fold"])
    assert all(len(folds) == 1 for name, folds in fold_of.items() if name)
    found = json.loads(Path("g/results.json").read_text())
    assert [sum(sizes.values()) for sizes in found["sizes"]] == [67, 67]
    assert found["groups"]["test"]["count"] == 13 and found["groups"]["test"]["without"] == 4
    each = [isoform.load(f"g/fold-{k}") for k in (1, 2)]
    assert each[0].scaling != each[1].scaling
    texts = list(TEXTS[:7])
    mine = [[row["prediction"] for row in one.predict(texts)] for one in each]
    both = isoform.load("g")
    got = both.predict(texts)
    np.testing.assert_allclose([row["prediction"] for row in got], np.mean(mine, 0), rtol=1e-4)
    assert not np.allclose(mine[0], mine[1], rtol=1e-3)
    training = [set(one.state.training) for one in each]
    assert set(both.state.training) == training[0] | training[1] > training[0]
    assert len(both.nearest.training) == len(training[0] | training[1])
    bounds = [one.calibration.radius_RK for one in each]
    assert both.calibration is not None
    np.testing.assert_allclose(both.calibration.radius_RK, np.mean(bounds, 0))
    _code, out, _ = cli("eval", "g/fold-2", "--json")
    again = json.loads(out.splitlines()[-1])["metrics"]["mae"]
    assert again == pytest.approx(found["metrics"]["test"]["mae"]["values"][1], rel=1e-5)


@pytest.mark.parametrize("split", ["random", "scaffold", "cluster"])
def test_what_a_split_keeps_together_folds_do_too(tmp_path, split):
    path = table(tmp_path / "molecules.csv", "binary", series=SERIES)
    tested: list[str] = []
    shares = []
    for fold in (1, 2, 3):
        data = {"split": split, "folds": 3, "fold": fold}
        data |= {"group": "series"} if split == "random" else {}
        config = app(path, data={**app(path).data.model_dump(exclude_unset=True), **data})
        found = prepare(config).data
        names, rows = np.array(found.molecules.names), found.rows
        assert sum(map(len, rows.values())) == 67 and not set(rows["train"]) & set(rows["test"])
        smiles = found.molecules.smiles
        find = {"scaffold": scaffold_groups, "cluster": cluster_groups}.get(split)
        groups = np.array(found.molecules.groups if find is None else find(smiles)).astype(str)
        parts = [set(groups[rows[split]]) - {""} for split in ("train", "val", "test")]
        assert all(parts) and not (
            parts[0] & parts[1] or parts[0] & parts[2] or parts[1] & parts[2]
        )
        tested += names[rows["test"]].tolist()
        shares.append(float(found.targets("test").mean()))
    assert sorted(tested) == sorted(f"m{k}" for k in range(67))
    if split == "random":
        assert max(shares) - min(shares) < 0.25


def test_frameworks_are_groups_where_they_split(tmp_path):
    path = table(tmp_path / "molecules.csv")
    base = app(path).data.model_dump(exclude_unset=True)
    task = task_of(app(path, data={**base, "split": "scaffold", "folds": 3, "fold": 1}))
    smiles, groups = task.data.smiles("test"), task.groups("test")
    assert len(groups) == len(smiles) == task.sizes()["test"]
    for text, group in zip(smiles, groups, strict=True):
        rings = CalcNumRings(Chem.MolFromSmiles(text))
        assert (group == "acyclic") == (rings == 0)
        assert rings == 0 or CalcNumRings(Chem.MolFromSmiles(group)) == rings
    assert len(set(groups)) > 1
    target = task.data.targets("test")
    found = judge_groups(task, "test", {"prediction": target + 1.5, "target": target})
    assert sum(one["samples"] for one in found["metrics"].values()) <= len(smiles)
    assert all(one["mae"] == pytest.approx(1.5) for one in found["metrics"].values())
    assert task_of(app(path)).groups("test") is None


def test_folds_draw_their_own_splits(tmp_path):
    path = table(tmp_path / "molecules.csv")
    base = app(path).data.model_dump(exclude_unset=True)
    with pytest.raises(UserError, match=r"data\.counts draws one split and data\.folds several"):
        prepare(app(path, data={**base, "counts": [30, 20, 17], "folds": 3, "fold": 1}))
    with pytest.raises(UserError, match=r"has 67 groups of molecules and data\.folds = 68"):
        prepare(app(path, data={**base, "folds": 68, "fold": 1}))
