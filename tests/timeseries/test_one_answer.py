"""forecast == predictions.nc == every export, over scaling, columns, calendar, gaps, look-back and horizon."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import isoform
from isoform.core import api
from isoform.timeseries import DOMAIN
from isoform.timeseries.data.scaling import Scaling
from one_answer import ONCE, assert_a_changed_weight_is_seen, assert_caught, assert_exports_agree

from .runs import VARIATES, frame, saved, trained

COLUMNS = (
    {"drop": ["temp"]},
    {"past": ["temp"], "drop": []},
    {"known_future": ["temp"], "drop": []},
    {"targets": [VARIATES[1], "temp"], "drop": []},
)
SETTINGS = st.fixed_dictionaries(
    {
        "columns": st.sampled_from(COLUMNS),
        "scale": st.sampled_from(["standard", "none"]),
        "fill": st.sampled_from(["last", "linear"]),
        "gaps": st.booleans(),
        "context": st.sampled_from([17, 29]),
        "horizon": st.sampled_from([1, 7]),
        "calendar": st.sampled_from(["none", "past", "future"]),
        "quantiles": st.sampled_from([[], [0.2, 0.8]]),
    }
)


def table(gaps: bool) -> pd.DataFrame:
    """239 hours; with gaps, every variate lacks some."""
    found = frame(239)
    if gaps:
        rng = np.random.default_rng(1)
        for name in VARIATES:
            found.loc[rng.choice(len(found), 11, replace=False), name] = np.nan
    return found


def assert_forecasts_its_predictions(run: Path, data: pd.DataFrame) -> None:
    """The first, a middle and the last test window, forecast from the file by their stamps."""
    stored = xr.load_dataset(run / "predictions.nc")
    predictor: Any = isoform.load(run)
    windows = stored.sizes["window"]
    for window in (0, windows // 2, windows - 1):
        one = stored.isel(window=window)
        start = pd.Timestamp(one.origin.values) + pd.Timedelta("1h")
        found = predictor.forecast(data, start=start)
        want = one.forecast.transpose("step", "variate").values
        ours = found["mean"].transpose("time", "variate").values
        spread = np.nanstd(stored.truth.values, axis=(0, 1))
        np.testing.assert_array_less(
            np.abs(ours - want), np.broadcast_to(2e-5 * spread, want.shape)
        )


def assert_one_answer(drawn: dict[str, Any], folder: Path, kinds: Sequence[str]) -> None:
    """Of a run with these settings."""
    data = table(drawn["gaps"])
    run = trained(
        folder, data, data={"scale": drawn["scale"], "fill": drawn["fill"], "bounds": {}, **drawn["columns"]},
        model={"context": drawn["context"], "horizon": drawn["horizon"]}, train={"epochs": 1},
        tokeniser={"calendar": drawn["calendar"]}, head={"quantiles": drawn["quantiles"]},
    )  # fmt: skip
    assert_forecasts_its_predictions(run, data)
    ahead = saved(data.iloc[:-31], folder / "until.csv")
    if "known_future" in drawn["columns"]:  # of which a forecast needs the values to come
        rows = data.iloc[:-31].copy()
        rows.loc[rows.index[-drawn["horizon"] :], VARIATES] = np.nan
        ahead = saved(rows, folder / "until.csv")
    for kind in kinds:
        assert_exports_agree(DOMAIN, run, [str(ahead)], folder, kind)


@settings(max_examples=5, phases=ONCE)
@given(drawn=SETTINGS)
def test_predict_predictions_and_exports_are_one_answer(
    drawn: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert_one_answer(drawn, tmp_path_factory.mktemp("one"), ("bundle", "safetensors"))


@settings(max_examples=2, phases=ONCE)
@given(drawn=SETTINGS, kind=st.sampled_from(["onnx", "openvino"]))
def test_other_engines_answer_alike(
    drawn: dict[str, Any], kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip(kind.replace("onnx", "onnxruntime"))
    assert_one_answer(drawn, tmp_path_factory.mktemp("one"), (kind,))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("run"), table(False), train={"epochs": 1})


def test_values_that_are_scaled_twice_are_noticed(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_forecasts_its_predictions(run, table(False))
    scaled = Scaling.scaled

    def twice(self: Scaling, kind: str, names: list[str], values: np.ndarray) -> np.ndarray:
        return scaled(self, kind, names, scaled(self, kind, names, values))

    monkeypatch.setattr(Scaling, "scaled", twice)
    assert_caught(lambda: assert_forecasts_its_predictions(run, table(False)))


@pytest.mark.parametrize("kind", ["bundle", "safetensors"])
def test_verify_sees_one_changed_weight(
    run: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = str(run.parent / "series.csv")
    assert_a_changed_weight_is_seen(DOMAIN, run, [data], tmp_path, kind, capsys)


def test_verify_reads_the_official_form_back(run: Path, tmp_path: Path) -> None:
    data = str(run.parent / "series.csv")
    found = api.export(DOMAIN, run, "official", tmp_path / "a.pth", verify=[data])
    assert found is not None and found.largest_difference == 0
