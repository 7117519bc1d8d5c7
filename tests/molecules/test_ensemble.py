"""The seeds of a group as one run: predictions, intervals by their spread, evaluating, embedding."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core.inference.run_model import evaluate_run
from isoform.core.runs.folder import RunFolder
from isoform.molecules import DOMAIN

from .batches import MIXED
from .runs import group


@pytest.mark.parametrize("task", ["regression", "binary", "multiclass"])
def test_members_mean_and_spread(task: str, tmp_path: Path) -> None:
    folder = group(tmp_path, task)
    texts = [*MIXED, "no molecule"]
    each = [isoform.load(folder / f"seed-{seed}").predict(texts) for seed in (1, 2)]
    rows = isoform.load(folder).predict(texts)
    assert rows[-1]["error"] and rows[-1]["spread"] is None
    column = {"regression": "prediction", "binary": "probability", "multiclass": "p few"}[task]
    for one, two, row in list(zip(*each, rows, strict=True))[:-1]:
        pair = np.array([one[column], two[column]])
        assert row[column] == pytest.approx(pair.mean(), abs=2e-6)
        if task == "multiclass":
            chosen = f"p {row['prediction']}"
            pair = np.array([one[chosen], two[chosen]])
        assert row["spread"] == pytest.approx(pair.std(ddof=1), abs=3e-6)
    assert len({row["spread"] for row in rows[:-1]}) > 1
    if task == "regression":
        arrays = RunFolder(folder).calibration()
        place = list(arrays["levels"]).index(0.9)
        radius, epsilon = arrays["radius_RK"][place, 0], arrays["epsilon_K"][0]
        for row in rows[:-1]:
            want = radius * (row["spread"] + epsilon)
            assert row["high 0.9"] - row["prediction"] == pytest.approx(want, rel=1e-4)
    wide = isoform.load(folder).embed(list(MIXED))
    assert wide.shape == (len(MIXED), 2 * isoform.load(folder / "seed-1").embed(["C"]).shape[1])


def test_spread_and_intervals_of_logarithms(tmp_path: Path) -> None:
    """They are factors, calibrated on the logarithms' errors by the logarithms' spread."""
    folder = group(tmp_path, "decades", data={"transform": ["log10"]})
    each = [isoform.load(folder / f"seed-{seed}").predict(list(MIXED)) for seed in (1, 2)]
    rows = isoform.load(folder).predict(list(MIXED))
    arrays = RunFolder(folder).calibration()
    place = list(arrays["levels"]).index(0.9)
    radius, epsilon = arrays["radius_RK"][place, 0], arrays["epsilon_K"][0]
    for one, two, row in zip(*each, rows, strict=True):
        pair = np.log10([one["prediction"], two["prediction"]])
        assert np.log10(row["prediction"]) == pytest.approx(pair.mean(), abs=1e-5)
        assert row["spread (log10)"] == pytest.approx(pair.std(ddof=1), abs=1e-5)
        want = 10 ** (radius * (row["spread (log10)"] + epsilon))
        assert row["high 0.9"] / row["prediction"] == pytest.approx(want, rel=1e-6)
        assert row["prediction"] / row["low 0.9"] == pytest.approx(want, rel=1e-6)
    found = evaluate_run(DOMAIN, folder)["metrics"]
    assert "width 0.9 (log10)" in found and "width 0.9" not in found
    judged = rows_in(folder / "predictions.csv")
    inside = [
        float(one["low 0.9"]) <= float(one["target"]) <= float(one["high 0.9"]) for one in judged
    ]
    assert found["coverage 0.9"] == pytest.approx(np.mean(inside))
    assert len({one["spread (log10)"] for one in judged}) > 1


def test_evaluating_and_exporting_a_group(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = group(tmp_path)
    found = evaluate_run(DOMAIN, folder)
    rows = rows_in(folder / "predictions.csv")
    guess, truth, high, spread = (
        np.array([float(row[name]) for row in rows])
        for name in ("prediction", "target", "high 0.9", "spread")
    )
    assert found["metrics"]["rmse"] == pytest.approx(np.sqrt(np.mean((guess - truth) ** 2)))
    inside = np.abs(guess - truth) <= high - guess + 1e-9
    assert found["metrics"]["coverage 0.9"] == pytest.approx(inside.mean())
    assert (
        found["metrics"]["width 0.9"] == pytest.approx(2 * (high - guess).mean()) and spread.std()
    )

    words = ["molecules", "predict", str(folder), *MIXED, "--out", str(tmp_path / "p.csv")]
    for engine in ("eager", "packed"):
        assert exit_code(*words, "--engine", engine) == 0
        header = next(csv.reader((tmp_path / "p.csv").open()))
        assert header.index("spread") == header.index("uncertainty") + 1
    words = ["molecules", "export", str(folder), "--format", "bundle", "--out", str(tmp_path / "x")]
    assert exit_code(*words) == 2
    assert "export one of them" in capsys.readouterr().err
