"""One preprocessing: predict, predictions.csv, every export and whatever else looks at an image see the same pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import isoform
from answers import rows_in
from commands import exit_code
from isoform.core.api import export
from isoform.core.errors import UserError
from isoform.core.inference.run_model import evaluate_run
from isoform.vision import DOMAIN, figures, probe
from isoform.vision.data.transforms import Preprocess
from one_answer import (
    ONCE,
    assert_a_changed_weight_is_seen,
    assert_caught,
    assert_exports_agree,
)

from .pictures import app
from .pictures import task as task_of
from .runs import folders, numbers, trained

SIZES = ((8, 8), (8, 12), (16, 12))


def assert_predicts_its_predictions(run: Path, data: Path) -> None:
    """Of its test images, in the order of the table: bit for bit."""
    stored = rows_in(run / "predictions.csv")
    rows = isoform.load(run).predict([str(data / row["input"]) for row in stored])
    for row, want in zip(rows, stored, strict=True):
        columns = [column for column in want if column.startswith(("p ", "prediction "))]
        assert len(columns) == 2 and row.get("prediction") == want.get("prediction")
        assert [row[column] for column in columns] == [float(want[column]) for column in columns]


SETTINGS = st.fixed_dictionaries(
    {
        "resize": st.sampled_from(["crop", "squash", "pad", "border"]),
        "crop_pct": st.sampled_from([0.7, 0.9, 1.0]),
        "size": st.sampled_from(SIZES),
        "shape": st.sampled_from([(17, 23), (8, 12), (31, 11)]),
        "channels": st.sampled_from([1, 3]),
        "dtype": st.sampled_from(["uint8", "uint16", "float32"]),
        "task": st.sampled_from(["multiclass", "regression"]),
        "cache": st.sampled_from(["memory", "none"]),
    }
)


def assert_one_answer(drawn: dict[str, Any], folder: Path, kinds: Sequence[str]) -> None:
    """Of a run with these settings."""
    data = folders(folder / "data", drawn["shape"], drawn["channels"], drawn["dtype"])
    more: dict[str, Any] = {}
    if drawn["resize"] == "border":
        more |= {"mean": (0.45,), "std": (0.2,)}
    if drawn["task"] == "regression":
        more |= {"table": str(numbers(data)), "labels": ["level", "depth"]}
    run = trained(
        folder, tokeniser={"image": drawn["size"], "channels": drawn["channels"]},
        data={key: drawn[key] for key in ("resize", "crop_pct", "cache", "task")} | more,
    )  # fmt: skip
    assert_predicts_its_predictions(run, data)
    for kind in kinds:
        assert_exports_agree(DOMAIN, run, [str(data / "test")], folder, kind)


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
def cropped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data` of which a quarter is cropped away, and the `run` on them."""
    folder = tmp_path_factory.mktemp("cropped")
    folders(folder / "data", (23, 17), 3, "uint8")
    trained(folder, data={"crop_pct": 0.75})
    return folder


def test_an_image_that_is_fitted_twice_is_noticed(
    cropped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, data = cropped / "run", cropped / "data"
    assert_predicts_its_predictions(run, data)
    fit = Preprocess.fit
    monkeypatch.setattr(Preprocess, "fit", lambda self, image: fit(self, fit(self, image) + 0))
    assert_caught(lambda: assert_predicts_its_predictions(run, data))


def test_probe_features_and_attention_figure_see_what_evaluation_sees(
    cropped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(app(data={"root": str(cropped / "data"), "crop_pct": 0.75}))
    rows = task.data.rows["test"]
    samples = [task.sample("test", index, None) for index in range(len(rows))]
    want = task.collate(samples)["image"]
    assert torch.equal(torch.cat(list(probe._batches(task, rows))), want)
    looked_at: list[torch.Tensor] = []
    monkeypatch.setattr(
        figures, "attention_map", lambda model, x: looked_at.append(x) or torch.ones(len(x), 2, 2)
    )
    figures._attention_figure(task, task.build())
    (seen,) = looked_at
    assert all(any(torch.equal(one, image) for image in want) for one in seen)
    model = DOMAIN.predictor(isoform.core.inference.run_model.load_trained(DOMAIN, cropped / "run"))
    images = [str(task.data.records.images.path(int(row))) for row in rows]
    with torch.no_grad():
        features = model.model.features(model.preprocess([task.data.fitted(int(r)) for r in rows]))
    np.testing.assert_array_equal(model.embed(images), features.numpy())


@pytest.mark.parametrize("kind", ["bundle", "safetensors", "onnx"])
def test_verify_sees_one_changed_weight(
    cropped: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if kind == "onnx":
        pytest.importorskip("onnxscript")
    inputs = [str(cropped / "data" / "test")]
    assert_a_changed_weight_is_seen(DOMAIN, cropped / "run", inputs, tmp_path, kind, capsys)


def test_verify_reads_what_a_file_says_of_itself(cropped: Path, tmp_path: Path) -> None:
    out, inputs = tmp_path / "a.safetensors", [str(cropped / "data" / "test")]
    export(DOMAIN, cropped / "run", "safetensors", out, verify=inputs)
    with safe_open(out, "pt") as file:
        about = json.loads(file.metadata()["isoform"])
    about["task"]["classes"].reverse()
    save_file(load_file(out), out, {"isoform": json.dumps(about)})
    with pytest.raises(UserError, match=r"a\.safetensors: says another 'classes' of itself"):
        export(DOMAIN, cropped / "run", "safetensors", out, verify=inputs)


def test_verify_reads_timm_back_with_its_own_preprocessing(cropped: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    out, inputs = tmp_path / "timm", [str(cropped / "data" / "test")]
    export(DOMAIN, cropped / "run", "timm", out, verify=inputs)
    text = (out / "config.json").read_text()
    (out / "config.json").write_text(text.replace('"crop_pct": 0.75', '"crop_pct": 0.5'))
    with pytest.raises(UserError, match="timm: answers differently"):
        export(DOMAIN, cropped / "run", "timm", out, verify=inputs)


def test_verify_reads_the_official_form_back(cropped: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    out, inputs = tmp_path / "a.pth", [str(cropped / "data" / "test")]
    found = export(DOMAIN, cropped / "run", "official", out, verify=inputs)
    assert found is not None and found.largest_difference == 0


def test_verify_needs_an_input_that_can_be_read(
    cropped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    for name, said in (("empty", "holds nothing"), ("broken.png", "broken.png")):
        words = ["vision", "export", str(cropped / "run"), "--format", "bundle", "--verify"]
        words += [str(tmp_path / name), "--out", str(tmp_path / "a.zip")]
        assert exit_code(*words) == 2
        assert said in capsys.readouterr().err and not (tmp_path / "a.zip").exists()


def test_it_is_said_which_class_an_output_without_a_name_is_taken_for(
    cropped: Path, tmp_path: Path
) -> None:
    pytest.importorskip("timm")
    export(DOMAIN, cropped / "run", "official", tmp_path / "a.pth")
    words = ["vision", "import", str(tmp_path / "a.pth"), "--set", "backbone.heads=3"]
    words += ["--out", str(tmp_path / "imported")]
    assert exit_code(*words) == 0
    data = cropped / "data" / "test"
    unnamed, named = (
        evaluate_run(DOMAIN, run, data=data, out=tmp_path)["notes"]
        for run in (tmp_path / "imported", cropped / "run")
    )
    assert any("in order, 0 dark, 1 light;" in line for line in unnamed)
    assert not any("in order" in line for line in named)


def test_verify_counts_the_inputs_that_were_read(
    cropped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(path) for path in sorted((cropped / "data" / "test").rglob("*.*"))[:3]]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG")
    words = ["vision", "export", str(cropped / "run"), "--format", "bundle", "--verify"]
    words += [*files, str(tmp_path / "broken.png"), "--out", str(tmp_path / "a.zip")]
    assert exit_code(*words) == 0
    out, err = capsys.readouterr()
    assert "as the run does on 3 input(s)" in out and err.count("broken.png") == 1


@pytest.mark.parametrize("mode", ["squash", "border", "pad"])
def test_timm_is_told_how_images_are_resized(mode: str, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    folder = tmp_path
    folders(folder / "data", (23, 17), 3, "uint8")
    run = trained(
        folder, data={"crop_pct": 0.8, "resize": mode, "mean": (0.4, 0.5, 0.6), "std": (0.2,) * 3}
    )
    if mode == "pad":
        with pytest.raises(UserError, match=r"this run with black; .* data\.resize = border"):
            export(DOMAIN, run, "timm", folder / "timm")
        assert not (folder / "timm").exists()
        return
    export(DOMAIN, run, "timm", folder / "timm", verify=[str(folder / "data" / "test")])
    imported = DOMAIN.import_weights(str(folder / "timm"))
    assert imported.state.preprocessing.resize == imported.config.data.resize == mode
