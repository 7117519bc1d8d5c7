"""Runs whose series are told apart by two columns, store and item, from training to every verb on other files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import isoform
from isoform.core.errors import UserError
from isoform.timeseries.backtest import backtest

from . import runs
from .files import case
from .runs import HORIZON, saved

PAIRS = [("A", 3), ("A", 11), ("B", 3)]  # every pair but one
IDS = ["A/3", "A/11", "B/3"]
ROWS = 227


def sales(rows: int = ROWS, pairs=PAIRS, *, by=("store", "item")) -> pd.DataFrame:
    """Hourly sales of every pair, which follow a price that differs by the columns `by`."""
    parts = []
    for store, item in pairs:
        rng = np.random.default_rng(item + ord(store))
        t = np.arange(rows)
        phase = ("store" in by) * ord(store) + ("item" in by) * item
        price = 5 + np.sin(t / 13 + phase)
        sold = item + 10 * np.sin(2 * np.pi * t / 24) - 3 * price + rng.normal(0, 0.2, rows)
        made = {"store": store, "item": item, "date": runs.frame(rows)["date"], "sold": sold}
        parts.append(pd.DataFrame({**made, "price": price}))
    return pd.concat(parts, ignore_index=True)


def data(panel: str) -> dict:
    return {
        "id": ["store", "item"], "panel": panel, "targets": ["sold"], "known_future": ["price"],
        "drop": [], "bounds": {},
    }  # fmt: skip


@pytest.fixture(scope="module", params=["series", "variates"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param)
    return runs.trained(folder, sales(), data=data(request.param), train={"epochs": 1})


def names_of(table: pd.DataFrame) -> list[str]:
    """Of series or variates in a table of forecasts, whichever the run makes of its ids."""
    names = (
        table["id"] if table["id"].notna().all() and table["id"].ne("").all() else table["variate"]
    )
    return list(dict.fromkeys(names))


def shuffled(table: pd.DataFrame) -> pd.DataFrame:
    return table.sample(frac=1, random_state=5)[["price", "sold", "item", "date", "store"]]


def split(by=("store", "item"), known: int = 211) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What is known until a row, and the prices of the horizon behind it."""
    whole = sales(by=by)
    row = whole.groupby(["store", "item"]).cumcount()
    ahead = whole[(row >= known) & (row < known + HORIZON)]
    return whole[row < known], ahead.drop(columns="sold")


def test_forecasts_of_another_file_are_named_by_both_ids(run: Path, tmp_path: Path, cli) -> None:
    known, ahead = split()
    files = [saved(shuffled(known), tmp_path / "k.csv"), saved(ahead, tmp_path / "a.csv")]
    out = tmp_path / "next.csv"
    code, _, err = cli("forecast", run, files[0], "--future", files[1], "--out", out)
    assert code == 0, err
    table = pd.read_csv(out)
    assert sorted(names_of(table)) == sorted(IDS) and len(table) == 3 * HORIZON
    again = isoform.load(run).forecast(known, future=ahead)["mean"].values.ravel()
    whole = pd.concat([known, ahead])
    assert again == pytest.approx(isoform.load(run).forecast(whole)["mean"].values.ravel())


@pytest.mark.parametrize("by", [("store",), ("item",), ()])
def test_prices_that_series_share_are_spread_over_them(
    run: Path, tmp_path: Path, by: tuple[str, ...]
) -> None:
    model = isoform.load(run)
    known, ahead = split(by)
    if run.parent.name.startswith(
        "variates"
    ):  # of which each has a price of its own, as in training
        known = known.assign(price=known["price"] + 0.01 * known["item"] * (known["store"] == "A"))
    want = model.forecast(known, future=ahead)
    few = ahead[[*by, "date", "price"]].drop_duplicates()
    assert len(few) == HORIZON * (2 if by else 1)
    found = model.forecast(known, future=saved(few, tmp_path / "few.csv"))
    assert found["mean"].values == pytest.approx(want["mean"].values)
    other = few.assign(price=few["price"] + 2 * (few["store"] == "B" if by == ("store",) else 1))
    moved = model.forecast(known, future=other)["mean"] != found["mean"]
    assert moved.any()
    if by == ("store",) and "id" in found.dims:
        assert [str(one) for one in found["id"].values[moved.any(("time", "variate"))]] == ["B/3"]


@pytest.mark.parametrize("ids", [["store"], ["store", "item"]])
def test_prices_that_lack_a_store_are_refused(run: Path, ids: list[str]) -> None:
    known, ahead = split(("store",))
    few = ahead[[*ids, "date", "price"]].drop_duplicates()
    with pytest.raises(UserError, match=r"B/3"):
        isoform.load(run).forecast(known, future=few[few["store"] == "A"])
    with pytest.raises(UserError, match=r"A/3|no series of DataFrame has its store"):
        isoform.load(run).forecast(known, future=few.assign(store="elsewhere"))


def test_eval_and_backtest_judge_the_same_windows_of_the_same_series(
    run: Path, tmp_path: Path, cli
) -> None:
    file = saved(shuffled(sales()), tmp_path / "again.csv")
    results = {}
    for name, words in {
        "own": ("eval", run), "eval": ("eval", run, "--data", file),
        "backtest": ("backtest", run, file, "--step", 1, "--out", tmp_path / "b.csv"),
    }.items():  # fmt: skip
        code, out, err = cli(*words, "--json")
        assert code == 0, err
        results[name] = json.loads(out.splitlines()[-1])
    own, evaluated = results["own"]["metrics"], results["eval"]["metrics"]
    for key in ("mse", "mase", "unit_mae"):
        assert evaluated[key] == pytest.approx(own[key], rel=1e-6), key
    assert results["backtest"]["metrics"]["unit_mae"] == pytest.approx(own["unit_mae"], rel=1e-4)
    assert sorted(names_of(pd.read_csv(tmp_path / "b.csv"))) == sorted(IDS)
    with xr.open_dataset(run / "predictions.nc", engine="h5netcdf") as stored:
        named = stored["series"].values if stored["series"].values[0] else stored["variate"].values
        assert sorted({str(one) for one in named}) == sorted(IDS)


def theirs(found, **more: object) -> pd.DataFrame:
    """A run's own forecasts as somebody else would write them: store, item, stamp and value."""
    table = pd.DataFrame(found.columns())
    name = table["id"] if table["id"].astype(bool).all() else table["variate"]
    store, item = zip(*(one.split("/") for one in name), strict=True)
    made = {"item": item, "store": store, "stamp": table["stamp"], "origin": table["origin"]}
    return pd.DataFrame({**made, "value": table["mean"], **more})


@pytest.mark.parametrize("form", ["value", "model", "one id"])
def test_against_finds_series_by_the_runs_own_columns(run: Path, tmp_path: Path, form: str) -> None:
    model = isoform.load(run)
    found = backtest(model, sales(), step=HORIZON, keep=True)
    table = theirs(found)
    if form == "model":
        table = table.rename(columns={"value": "AutoETS"})
    if form == "one id":
        both = table["store"] + "/" + table["item"]
        table = table.drop(columns=["store", "item"]).assign(id=both)
    file = saved(table.sample(frac=1, random_state=3), tmp_path / "theirs.csv")
    judged = backtest(model, sales(), step=HORIZON, against=file)
    (compared,) = judged.comparisons.values()
    assert compared.cells == len(table)
    assert compared.mae == pytest.approx(compared.their_mae, rel=1e-6)


def test_predict_and_embed(run: Path, tmp_path: Path, cli) -> None:
    files = [saved(shuffled(split()[0].assign(price=5.0)), tmp_path / f"{k}.csv") for k in range(2)]
    code, _, err = cli("predict", run, *files, "--out", tmp_path / "p.csv")
    assert "Traceback" not in err, err
    code, _, err = cli("embed", run, *files, "--out", tmp_path / "e.npz")
    assert code == 0, err


def test_the_case_of_stores_and_items(tmp_path: Path, cli) -> None:
    path = case("S2_store_item.csv")
    small = ["model.context=24", "model.horizon=6", "backbone.dim=16", "backbone.depth=1", "eval.baselines=[]",
             "backbone.heads=2", "backbone.mlp_dim=32", "train.epochs=1", f"data.path={path}"]  # fmt: skip
    words = [word for one in small for word in ("--set", one)]
    run = ["train", "itransformer-own", "--run-dir", tmp_path / "run", *words]
    code, _, err = cli(*run)
    assert code == 2 and 'data.id = ["store", "item"]' in err and not (tmp_path / "run").exists()
    code, _, err = cli(*run, "--set", 'data.id=["store","item"]')
    assert code == 0, err
    out = tmp_path / "next.csv"
    assert cli("forecast", tmp_path / "run", path, "--out", out)[0] == 0
    assert names_of(pd.read_csv(out)) == ["1/1", "1/2", "1/3", "2/1", "2/2", "2/3"]
