"""Every export format of a forecaster, opened by whoever reads it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from safetensors import safe_open
from safetensors.torch import load_file

import isoform
from isoform.core import api
from isoform.core.api import write_imported
from isoform.core.domain import ImportedModel
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_model
from isoform.timeseries import DOMAIN
from isoform.timeseries.pretrained import import_checkpoint
from isoform.timeseries.state import TimeseriesState
from own_exports import assert_exports_come_back

from . import runs
from .runs import CONTEXT, HORIZON, VARIATES


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.trained(tmp_path_factory.mktemp("run"), train={"epochs": 1})


@pytest.fixture(scope="module")
def covariates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with random weights of a model that takes everything that there is."""
    config = runs.app(
        Path("none.csv"), head={"quantiles": [0.2, 0.8]}, tokeniser={"calendar": "future"},
        data={"past": ["temp"], "drop": [], "bounds": {}},
    )  # fmt: skip
    marks = ["hour_of_day", "day_of_week", "day_of_month", "day_of_year"]
    state = TimeseriesState(
        variates=VARIATES,
        past=["temp"],
        known=["price", "load"],
        static=["height"],
        calendar=marks,
        freq="h",
    )
    torch.manual_seed(0)
    model = DOMAIN.build_from_run(config, state)
    weights = {name: 0.2 * torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    out = tmp_path_factory.mktemp("all") / "run"
    write_imported(ImportedModel(config, weights, state, "none"), DOMAIN, "made", out)
    return out


def answer(run: Path, **inputs: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        model: Any = load_model(DOMAIN, run)
        return model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).numpy()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def test_safetensors_hold_the_scale_too(run: Path, tmp_path: Path) -> None:
    api.export(DOMAIN, run, "safetensors", tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        about = json.loads(file.metadata()["isoform"])
    assert (
        list(about["task"]["scaling"]["target"]) == VARIATES and "calibration" not in about["task"]
    )
    load_model(DOMAIN, run).load_state_dict(load_file(tmp_path / "a.safetensors"))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_official_imports_back(run: Path, tmp_path: Path, suffix: str) -> None:
    api.export(DOMAIN, run, "official", tmp_path / f"a.{suffix}")
    if suffix == "pth":
        state = torch.load(tmp_path / "a.pth", weights_only=True)
        assert state["projector.weight"].shape == (HORIZON, 16)
    else:
        state = load_file(tmp_path / "a.safetensors")
        torch.save(state, tmp_path / "a.pth")
    ours = load_model(DOMAIN, run).state_dict()
    back = import_checkpoint(tmp_path / "a.pth", None, runs.app(Path("none.csv"))).weights
    assert back.keys() == ours.keys() and all(torch.equal(back[name], ours[name]) for name in ours)


def test_official_has_no_place_for_quantiles(covariates: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="quantiles"):
        api.export(DOMAIN, covariates, "official", tmp_path / "a.pth")


def test_onnx_takes_any_number_of_windows_and_variates(run: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    api.export(DOMAIN, run, "onnx", tmp_path / "a.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"]
    )
    assert [one.name for one in session.get_inputs()] == ["context", "calendar"]
    for batch, variates in ((5, 3), (1, 11)):
        inputs = {"context": noise(batch, CONTEXT, variates), "calendar": noise(batch, CONTEXT, 4)}
        found = session.run(["forecast"], inputs)[0]
        assert found.shape == (batch, HORIZON, variates, 1)
        np.testing.assert_allclose(found, answer(run, **inputs), atol=1e-4)
    facts = json.loads(session.get_modelmeta().custom_metadata_map["isoform"])
    assert facts["units"] == ["", "", "kWh"] and list(facts["scaling"]["target"]) == VARIATES


def test_openvino_of_a_model_with_every_input(covariates: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    api.export(DOMAIN, covariates, "openvino", tmp_path / "a.xml")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    compiled = openvino.Core().compile_model(
        tmp_path / "a.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    whole = CONTEXT + HORIZON
    inputs = {
        "context": noise(5, CONTEXT, 3), "past": noise(5, CONTEXT, 1), "known": noise(5, whole, 2),
        "calendar": noise(5, whole, 4), "static": noise(5, 1),
    }  # fmt: skip
    found = next(iter(compiled(inputs).values()))
    assert found.shape == (5, HORIZON, 3, 3)
    np.testing.assert_allclose(found, answer(covariates, **inputs), atol=1e-4)


def test_a_bundle_forecasts_with_intervals_elsewhere(run: Path, tmp_path: Path) -> None:
    api.export(DOMAIN, run, "bundle", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert "calibration.npz" in archive.namelist()
        archive.extractall(tmp_path / "elsewhere")
    mine, theirs = (
        isoform.load(path).forecast(runs.frame()) for path in (run, tmp_path / "elsewhere")
    )
    xr.testing.assert_identical(mine, theirs)
    assert "quantiles" in theirs


def test_formats_of_the_domain_are_these() -> None:
    own = {"safetensors", "safetensors16", "bundle", "onnx", "openvino", "official"}
    assert set(api.formats_of(DOMAIN)) == own


def test_own_exports_come_back(run: Path, tmp_path: Path) -> None:
    runs.frame(61).to_csv(tmp_path / "later.csv", index=False)
    assert_exports_come_back(DOMAIN, run, [str(tmp_path / "later.csv")], tmp_path)
    assert isoform.load(tmp_path / "run.safetensors").wanted_levels(None) == (0.1, 0.5, 0.9)
