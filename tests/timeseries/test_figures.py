"""Pictures of a report and of the demo: what they draw, from runs of every kind."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from isoform.core.engine.evaluate import evaluate
from isoform.core.engine.groups import judge_groups
from isoform.timeseries import DOMAIN, demo, figures
from isoform.timeseries.task import TimeseriesTask

from . import runs
from .runs import CONTEXT, HORIZON


def judged(config: Any) -> tuple[TimeseriesTask, torch.nn.Module, dict[str, np.ndarray]]:
    """An untrained model's outputs on test."""
    task = DOMAIN.task(DOMAIN.prepare(config))
    torch.manual_seed(0)
    model = task.build().eval()
    return task, model, evaluate(task, model, "test")[1]


def drawn(config: Any) -> tuple[TimeseriesTask, torch.nn.Module, dict[str, np.ndarray], list[Any]]:
    """The same, and its pictures."""
    task, model, outputs = judged(config)
    return task, model, outputs, figures.figures(task, model, outputs)


@pytest.fixture(scope="module")
def hourly(tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("data") / "series.csv"
    table = runs.frame().rename(columns={"north": "<b>north</b> $x_1$"})
    table.to_csv(path, index=False)
    return drawn(runs.app(path, head={"quantiles": [0.1, 0.5, 0.9]}))


def test_captions_and_safe_names(hourly: Any) -> None:
    _, _, _, found = hourly
    assert [one.caption.split()[0] for one in found] == [
        "Forecasts",
        "Absolute",
        "Variates",
        "What",
    ]
    assert all(bool(one.svg) != bool(one.html) for one in found)
    everything = "".join(one.svg + one.html for one in found)
    assert (
        "<b>" not in everything
        and "&lt;b&gt;north" in everything
        and "currentColor" in found[0].svg
    )
    assert "80 % interval" in found[0].svg and "what came" in found[0].svg
    assert "coverage 80" in found[2].html and "kWh" in found[2].html


def test_error_by_the_hour_by_hand(hourly: Any) -> None:
    task, _, outputs, _ = hourly
    name, ticks, mean = figures.by_clock(task.data, outputs)
    assert name == "hour of the day" and len(ticks) == 24
    error = np.abs(task.data.inside_bounds(outputs["forecast"], axis=2) - outputs["target"])
    dates = runs.frame()["date"]
    at_five = [error[n, k] for n, (_, row) in enumerate(outputs["where"]) for k in range(HORIZON)
               if dates[row + k].hour == 5]  # fmt: skip
    assert mean[5] == pytest.approx(np.mean(at_five), rel=1e-5)


@pytest.mark.parametrize(
    ("freq", "name", "ticks"), [("D", "day of the week", 7), ("MS", "month", 12)]
)
def test_other_clocks(tmp_path: Path, freq: str, name: str, ticks: int) -> None:
    runs.frame(173, start="2001-01-01", freq=freq).to_csv(tmp_path / "a.csv", index=False)
    task, _, outputs = judged(runs.app(tmp_path / "a.csv", data={"bounds": {}}))
    found, marks, mean = figures.by_clock(task.data, outputs)
    assert (found, len(marks), len(mean)) == (name, ticks, ticks) and np.isfinite(mean).all()


def test_what_looks_at_what(hourly: Any) -> None:
    task, model, _, found = hourly
    attention, other = figures.attention_of(task.data, model, "test")
    assert attention.shape == (3, 3) and attention.min() > 0
    np.testing.assert_allclose(attention.sum(1), 1, rtol=1e-5)
    assert 0.3 < other < 0.8  # 4 marks beside 3 variates
    assert f"{other:.0%} of it goes to calendar" in found[3].caption


def test_correlation_by_hand(hourly: Any) -> None:
    task = hourly[0]
    found = figures.correlation_of(task.data, "train")
    context = task.data.batch("train", figures.spread(task.data.sizes()["train"], 256))[
        "context"
    ].numpy()
    np.testing.assert_allclose(found, np.corrcoef(context.reshape(-1, 3).T), atol=1e-5)


def test_series_of_a_panel_the_worst_first(tmp_path: Path) -> None:
    parts = []
    for k in range(23):
        rows = 431 if k else 31  # the first is too short for a window
        table = runs.frame(rows)[["date", "north"]].assign(shop=f"shop <{k}>")
        table["north"] += np.random.default_rng(k).normal(0, k, rows)
        parts.append(table)
    pd.concat(parts).to_csv(tmp_path / "a.csv", index=False)
    data = {"id": "shop", "panel": "series", "targets": ["north"], "drop": [], "bounds": {}}
    task, _, outputs, found = drawn(
        runs.app(tmp_path / "a.csv", data=data, head={"quantiles": [0.1, 0.5, 0.9]})
    )
    shown = found[3]
    assert shown.caption == (
        "Series on test, the least skill first, the 20 worst of 22 (1 have no test window)"
    )
    cells = re.findall("<t[dh]>(.*?)</t[dh]>", shown.html)
    head, rows = cells[:5], [cells[i : i + 5] for i in range(5, len(cells), 5)]
    assert head == ["series", "windows", "unit mae", "skill over seasonal naive", "coverage 80"]
    assert len(rows) == 20 and all("&lt;" in row[0] for row in rows)
    skills = [float(row[3]) for row in rows]
    assert skills == sorted(skills)
    ids = [one.attrs["id"] for one in task.panel]
    number = ids.index(html.unescape(rows[0][0]))
    column = task.panel.series[number].target.values[:, 0]
    first = 431 - round(431 * 0.2)
    steps = np.arange(first, 431 - HORIZON + 1)[:, None] + np.arange(HORIZON)
    usual = np.abs(column[steps] - column[steps - 24]).mean()  # a day before
    ours = outputs["by_series/unit_mae"][number]
    assert task.season == 24 and int(rows[0][1]) == len(steps)
    assert skills[0] == pytest.approx(1 - ours / usual, rel=1e-3)
    assert float(rows[0][2]) == pytest.approx(ours, rel=1e-3)
    judged = judge_groups(task, "test", outputs)  # what results.json has of the 20 largest
    assert judged["count"] == 22 and len(judged["metrics"]) == 20
    for name, own in judged["metrics"].items():
        assert own["samples"] == len(steps)
        assert own["unit_mae"] == outputs["by_series/unit_mae"][ids.index(name)]


def test_one_variate_without_quantiles(tmp_path: Path) -> None:
    runs.frame()[["date", "south"]].to_csv(tmp_path / "a.csv", index=False)
    _, _, _, found = drawn(runs.app(tmp_path / "a.csv", data={"bounds": {}, "drop": []}))
    assert len(found) == 3 and "interval" not in found[0].svg


def test_gaps_and_samformer(tmp_path: Path) -> None:
    table = runs.frame()
    table.loc[380:390, "south"] = np.nan
    table.to_csv(tmp_path / "a.csv", index=False)
    trunk = {
        "order": "pre",
        "dim": CONTEXT,
        "heads": 1,
        "head_dim": 5,
        "value_dim": CONTEXT,
        "depth": 1,
    }
    app = runs.app(
        tmp_path / "a.csv", tokeniser={"calendar": "none"}, model={"family": "samformer", "normalise": "revin"},
        backbone={**trunk, "channel": "none", "norm": "none", "proj": False, "mlp_dim": None},
    )  # fmt: skip
    task, model, _, found = drawn(app)
    assert len(found) == 4 and "goes to calendar" not in found[3].caption
    assert figures.attention_of(task.data, model, "test")[1] == pytest.approx(0, abs=1e-6)


def test_the_demo_draws_any_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = runs.trained(tmp_path, train={"epochs": 1})
    assert (
        demo.main(
            [str(run), "--out", str(tmp_path / "a.svg"), "--data", str(run.parent / "series.csv")]
        )
        == 0
    )
    svg = (tmp_path / "a.svg").read_text()
    assert (
        svg.startswith("<?xml") and svg.count('id="axes_') == 3 * 2 + 4
    )  # forecasts, two maps and their bars
    assert demo.main([str(run), "--out", str(tmp_path / "a.gif")]) == 2
    assert "a.gif: a picture ends in .png, .svg, .pdf" in capsys.readouterr().err
    assert demo.main([str(tmp_path / "none")]) == 2
