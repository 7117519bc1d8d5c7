"""`backtest --against`: files as people and other libraries write them, and what is said of a comparison."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import exit_code
from isoform.core.errors import UserError
from isoform.timeseries.comparison import ComparisonResult, PairedComparison, rows_of
from isoform.timeseries.external_forecasts import read_forecasts

from . import panels, runs
from .runs import HORIZON, VARIATES

ROWS = 41
ORIGIN, STEPS = 29, 5  # the row that is forecast first


def one_series() -> panels.Panel:
    return panels.panel(panels.series(panels.walk(ROWS, 3)))


def several(variates: int = 1) -> panels.Panel:
    """Whose ids look like numbers."""
    made = [
        panels.series(panels.walk(ROWS, variates, seed), id=f"00{seed + 1}") for seed in range(3)
    ]
    return panels.panel(*made)


def nixtla(panel: panels.Panel, names: dict[str, tuple[int, int]]) -> pd.DataFrame:
    """As `cross_validation` gives it: two models, their intervals, and the truth."""
    parts = []
    for name, (number, variate) in names.items():
        one = panel.series[number]
        truth = one.target.values[ORIGIN : ORIGIN + STEPS, variate]
        low_high = {"AutoETS-lo-80": truth - 9, "AutoETS-hi-80": truth + 9}
        parts.append(
            pd.DataFrame(
                {
                    "unique_id": name,
                    "ds": one.time.values[ORIGIN : ORIGIN + STEPS],
                    "cutoff": one.time.values[ORIGIN - 1],
                    "y": truth,
                    "AutoETS": truth + 1 + number + 10 * variate,
                    **low_high,
                    "SeasonalNaive": truth - 2,
                }
            )
        )
    return pd.concat(parts)


def is_read(path: Path, panel: panels.Panel, names: dict[str, tuple[int, int]]) -> None:
    found = read_forecasts(path, panel)
    assert list(found) == ["AutoETS", "SeasonalNaive"]
    for number, variate in names.values():
        truth = panel.series[number].target.values[ORIGIN : ORIGIN + STEPS, variate]
        for model, off in (("AutoETS", 1 + number + 10 * variate), ("SeasonalNaive", -2)):
            window = found[model].window(number, ORIGIN, STEPS)
            np.testing.assert_allclose(window[:, variate], truth + off)
            assert np.isnan(found[model].window(number, ORIGIN + 1, STEPS)).all()


@pytest.mark.parametrize("form", ["csv", "csv with index", "parquet with unique_id as index"])
@pytest.mark.parametrize("kind", ["variates", "ids", "ids and variates"])
def test_nixtlas_output_as_it_comes(tmp_path: Path, form: str, kind: str) -> None:
    if kind == "variates":
        panel, names = one_series(), {f"v{k}": (0, k) for k in range(3)}
    elif kind == "ids":
        panel, names = several(), {f"00{k + 1}": (k, 0) for k in range(3)}
    else:
        panel = several(2)
        names = {f"00{k + 1}/v{v}": (k, v) for k in range(3) for v in range(2)}
    table, path = nixtla(panel, names), tmp_path / "cv.csv"
    if form.startswith("csv"):
        table.to_csv(path, index="index" in form)
    else:
        path = tmp_path / "cv.parquet"
        table.set_index("unique_id").to_parquet(path)
    is_read(path, panel, names)


def test_a_single_series_may_have_any_name_there(tmp_path: Path) -> None:
    panel = panels.panel(panels.series(panels.walk(ROWS, 1)))
    nixtla(panel, {"whatever": (0, 0)}).to_csv(tmp_path / "a.csv", index=False)
    is_read(tmp_path / "a.csv", panel, {"whatever": (0, 0)})


def test_the_truth_beside_the_models_is_no_model(tmp_path: Path) -> None:
    """A variate that is itself called y, or as Nixtla's user renamed it."""
    for name in ("y", "load"):
        one = panels.series(panels.walk(ROWS, 1)).assign_coords(variate=[name])
        panel = panels.panel(one)
        table = nixtla(panel, {"a": (0, 0)}).rename(columns={"y": name})
        table.to_csv(tmp_path / "a.csv", index=False)
        is_read(tmp_path / "a.csv", panel, {"a": (0, 0)})


def test_other_libraries(tmp_path: Path) -> None:
    panel, path = panels.panel(panels.series(panels.walk(ROWS, 1))), tmp_path / "a.csv"
    one = panel.first
    stamps, truth = (
        one.time.values[ORIGIN : ORIGIN + STEPS],
        one.target.values[ORIGIN:][:STEPS, 0],
    )
    prophet = {"ds": stamps, "trend": 1.0, "yhat": truth + 3, "yhat_lower": 0, "yhat_upper": 1}
    darts = {"time": stamps, "v0": truth + 3}
    gluon = {"item_id": "x", "timestamp": stamps, "mean": truth + 3, "0.1": truth, "0.9": truth}
    for made in (prophet, darts, gluon):
        pd.DataFrame(made).to_csv(path, index=False)
        (found,) = read_forecasts(path, panel).values()
        np.testing.assert_allclose(found.window(0, ORIGIN, STEPS)[:, 0], truth + 3)


def test_a_column_a_series(tmp_path: Path) -> None:
    panel = several()
    stamps = panel.first.time.values[ORIGIN : ORIGIN + STEPS]
    wide = pd.DataFrame({"ds": stamps, **{f"00{k + 1}": np.full(STEPS, 7.0 + k) for k in range(3)}})
    wide.to_csv(tmp_path / "wide.csv", index=False)
    (found,) = read_forecasts(tmp_path / "wide.csv", panel).values()
    for k in range(3):
        assert found.window(k, ORIGIN, STEPS)[:, 0].tolist() == [7 + k] * STEPS


def test_files_that_do_not_say_whose_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    table = nixtla(several(), {f"00{k + 1}": (k, 0) for k in range(3)})
    table.assign(unique_id="else").to_csv(path, index=False)
    with pytest.raises(UserError, match=r"a.csv \(AutoETS\): none of its 15 forecasts meets a row"):
        read_forecasts(path, several())
    table.drop(columns="unique_id").to_csv(path, index=False)
    with pytest.raises(UserError, match="has no column id, and made holds 3 series"):
        read_forecasts(path, several())
    table.drop(columns="cutoff").merge(table[["unique_id"]]).to_csv(path, index=False)
    with pytest.raises(
        UserError, match=r"holds several forecasts of v0 at .*; add a column origin"
    ):
        read_forecasts(path, several())


# What is said ---------------------------------------------------------------------------------------------------------


def compared(ours: np.ndarray, theirs: np.ndarray) -> ComparisonResult:
    """Of errors [origins], of one step and variate."""
    paired = PairedComparison(len(ours), np.ones(1))
    for number, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        paired.add(number, np.full((1, 1), one), np.full((1, 1), other), np.zeros((1, 1)))
    return paired.result("a.csv", 0)


ERRORS = st.floats(1e-9, 1e9) | st.sampled_from([0.0, 1e-12, 1.0, 1 + 1e-9])


@given(st.lists(st.tuples(ERRORS, ERRORS), min_size=1, max_size=19))
def test_no_sentence_has_a_number_that_says_nothing(errors: list[tuple[float, float]]) -> None:
    ours, theirs = np.array(errors).T
    result = compared(ours, theirs)
    text = " ".join(result.sentences("a.csv"))
    for nothing in ("inf", "nan", "0.0 %", " 0 %", "0.0%"):
        assert nothing not in text.replace("a.csv", ""), text
    mine, his = ours.sum(), theirs.sum()
    if mine and his and not math.isclose(mine, his, rel_tol=1e-12):
        assert ("smaller than" in text) == (mine < his), text
    assert None in result.row("a.csv") or all(map(np.isfinite, result.row("a.csv")[1:]))


def test_exact_forecasts_are_called_so() -> None:
    zero, some = np.zeros(11), np.linspace(1, 2, 11)
    assert "a.csv is without any error on 11 values" in compared(some, zero).sentences("a.csv")[0]
    assert "off by 1.5 deviations" in compared(some, zero).sentences("a.csv")[0]
    assert "both are without any error" in compared(zero, zero).sentences("a.csv")[0]
    assert "this run is without any error" in compared(zero, some).sentences("a.csv")[0]
    assert "is the same as that of a.csv" in compared(some, some).sentences("a.csv")[0]
    assert "0.002 % smaller than" in compared(some, some * (1 + 2e-5)).sentences("a.csv")[0]
    assert "is 30 times that of" in compared(some * 30, some).sentences("a.csv")[0]
    same = compared(some, some + 1).sentences("a.csv")[1]
    assert same.startswith("the difference is the same at every one of 11 origins")


def test_a_table_of_several_adjusts_for_how_many_there_are() -> None:
    rng = np.random.default_rng(3)
    ours = np.abs(rng.normal(size=53))
    found = {name: compared(ours, ours + rng.normal(0.2, 0.5, 53)) for name in ("A", "B", "C")}
    rows = rows_of(found)
    p = np.array([row[-2] for row in rows])
    assert [row[0] for row in rows] == ["A", "B", "C"]
    assert min(row[-1] for row in rows) == pytest.approx(3 * p.min())


def test_every_model_of_a_file_has_its_row(tmp_path: Path, capsys) -> None:
    run = runs.trained(tmp_path, train={"epochs": 1})
    file, out = run.parent / "series.csv", tmp_path / "out.csv"
    words = ["timeseries", "backtest", str(run), str(file), "--step", "3"]
    assert exit_code(*words, "--out", out) == 0
    made = pd.read_csv(out)
    table = made[["variate", "stamp", "origin", "truth"]].set_axis(
        ["unique_id", "ds", "cutoff", "y"], axis=1
    )
    table = table.assign(Same=made["mean"], Worse=made["mean"] + 5, **{"Same-lo-90": 0.0})
    table.to_csv(tmp_path / "cv.csv")
    capsys.readouterr()
    words += ["--against", str(tmp_path / "cv.csv")]
    assert exit_code(*words) == 0
    said = capsys.readouterr().out
    assert "against Same: the absolute error is the same as that of Same" in said
    assert "against Worse: the absolute error is" in said and "smaller than that of Worse" in said
    assert [line.split()[0] for line in said.splitlines() if line[:5] in ("Same ", "Worse")] == [
        "Same",
        "Worse",
    ]
    assert exit_code(*words, "--json") == 0
    against = json.loads(capsys.readouterr().out.splitlines()[-1])["against"]
    assert list(against) == ["Same", "Worse"] and against["Same"]["skill_mae"] == 0
    assert against["Worse"]["values"] == len(made) == 27 * HORIZON * len(VARIATES)
