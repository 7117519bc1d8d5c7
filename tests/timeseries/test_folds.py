"""`train --folds` on series: a rolling origin, and its models as one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import isoform
from isoform.core.errors import UserError
from isoform.timeseries import DOMAIN
from isoform.timeseries.task import TimeseriesTask

from .runs import CONTEXT, HORIZON, app, frame, saved

APPS = f"""
[timeseries.tiny]
data = {{path = "series.csv", drop = ["temp"]}}
model = {{context = {CONTEXT}, horizon = {HORIZON}}}
backbone = {{dim = 16, depth = 1, heads = 2, mlp_dim = 16, order = "post", eps = 1e-5}}
train = {{epochs = 1, batch = 32, lr = 3e-3, weight_decay = 0.0}}
eval.baselines = ["last"]
"""


def test_folds_of_time_never_train_on_what_comes_after(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TimeseriesTask, "figures", lambda self, model, outputs: [])
    saved(frame(), Path("series.csv"))
    Path("apps.toml").write_text(APPS)
    train = ["train", "tiny", "--apps", "apps.toml", "--folds", 3, "--run-dir", "g"]
    code, out, _ = cli(*train)
    assert code == 0 and "fold 2 of 3 by rolling origin" in out
    found = json.loads(Path("g/results.json").read_text())
    assert len(found["metrics"]["test"]["mae"]["values"]) == 3
    states = [json.loads(Path(f"g/fold-{k}/task.json").read_text()) for k in (1, 2, 3)]
    assert states[0]["scaling"] == states[1]["scaling"] == states[2]["scaling"]
    with xr.open_dataset("g/predictions.nc", engine="h5netcdf") as joined:
        fold, origin = joined.fold.values, joined.origin.values
    assert set(fold) == {1, 2, 3} and (np.diff(fold) >= 0).all()
    assert len(np.unique(origin)) == len(origin), "a window is tested on once"
    for k, state in enumerate(states, 1):
        until = np.datetime64(state["fitted_until"][""])
        assert (origin[fold == k] >= until).all()
    assert sum(sizes["test"] for sizes in found["sizes"]) >= len(fold)
    trained = [sizes["train"] for sizes in found["sizes"]]
    assert trained == sorted(trained) and trained[0] < trained[2]
    each = [isoform.load(f"g/fold-{k}").forecast("series.csv") for k in (1, 2, 3)]
    both = isoform.load("g").forecast("series.csv")
    mine = np.stack([one["mean"].values for one in each])
    np.testing.assert_allclose(both["mean"].values, mine.mean(0), rtol=1e-4)
    assert not np.allclose(mine[0], mine[2], rtol=1e-3)
    assert isoform.load("g").state.fitted_until == states[2]["fitted_until"]
    code, out, _ = cli("eval", "g/fold-2", "--json")
    again = json.loads(out.splitlines()[-1])["metrics"]["mae"]
    assert again == pytest.approx(found["metrics"]["test"]["mae"]["values"][1], rel=1e-5)
    assert cli(*train, "--resume")[1].count("this run is finished") == 3


def prepared(path: Path, **data: object):
    return DOMAIN.prepare(app(path, data=data)).data


def test_a_fold_is_a_block_of_time_and_knows_nothing_of_what_follows(tmp_path):
    table = frame()
    path = saved(table, tmp_path / "series.csv")
    cuts = [prepared(path, folds=4, fold=k).cuts[0] for k in (1, 2, 3, 4)]
    for k, cut in enumerate(cuts):
        assert cut["train"][0] == 0 and cut["train"][1] == cut["val"][0]
        assert cut["val"][1] == cut["test"][0] == 431 * (k + 1) // 5
        assert cut["test"][1] == 431 * (k + 2) // 5
    # What lies behind a fold's block changes nothing of what it trains and tests on.
    second = prepared(path, folds=4, fold=2)
    noise = table.copy()
    stop = cuts[1]["test"][1]
    for column in noise.columns[1:]:
        noise.loc[stop:, column] = 1e3 + np.arange(len(table) - stop)
    other = prepared(saved(noise, tmp_path / "noise.csv"), folds=4, fold=2)
    assert second.sizes() == other.sizes()
    for split in ("train", "val", "test"):
        places = range(second.sizes()[split])
        a, b = (data.batch(split, places) for data in (second, other))
        assert all(a[name].equal(b[name]) for name in a)


def test_folds_of_time_that_hold_nothing_or_are_cut_by_dates_are_refused(tmp_path):
    path = saved(frame(), tmp_path / "series.csv")
    with pytest.raises(UserError, match=r"take fewer folds, or a shorter model\.horizon|too few"):
        prepared(path, folds=80, fold=70)
    with pytest.raises(UserError, match=r"data\.test_from cut time once"):
        prepared(path, folds=3, fold=1, test_from="2026-03-10")


def test_series_cut_by_date_share_the_borders_of_their_folds(tmp_path):
    table = frame(rows=211)
    late = frame(rows=151, start="2026-03-05")
    both = [one.assign(id=name) for name, one in (("a", table), ("b", late))]
    path = saved(pd.concat(both), tmp_path / "series.csv")
    data = prepared(path, folds=3, fold=2, id=["id"], split="date", panel="series")
    borders = []
    for series, cut in zip(data.panel, data.cuts, strict=True):
        time = series.time.values
        borders.append([time[cut["test"][0]], time[cut["test"][1] - 1]])
    assert borders[0] == borders[1]
