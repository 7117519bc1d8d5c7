"""Every export format, opened by whoever reads it; import and what follows it from the command line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

import isoform
from answers import rows_in
from checks import assert_same_bits
from commands import exit_code
from isoform.core import api
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_model
from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.molecules import DOMAIN
from isoform.molecules.config import ModelConfig, MoleculesApp
from isoform.molecules.export import graph_inputs
from isoform.molecules.graphormer.collator_ids import TABLE
from isoform.molecules.graphormer.pretrained import import_checkpoint
from isoform.molecules.state import MoleculesState
from own_exports import assert_exports_come_back

from .batches import MIXED, batch_of
from .runs import trained
from .test_pretrained import made

scaled = pytest.mark.filterwarnings("ignore:this format has no place")


def export(run: Path, kind: str, out: Path) -> None:
    api.export(DOMAIN, run, kind, out)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("regression"), backbone={"final_norm": False})


def test_safetensors_tell_all_in_one_metadata_entry(run: Path, tmp_path: Path) -> None:
    export(run, "safetensors", tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["isoform"] and json.loads(metadata["isoform"])["task"]["names"] == [
        "label"
    ]
    assert_same_bits(load_file(tmp_path / "a.safetensors"), load_model(DOMAIN, run).state_dict())


def test_a_bundle_predicts_elsewhere(run: Path, tmp_path: Path) -> None:
    export(run, "bundle", tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        archive.extractall(tmp_path / "b")
    assert isoform.load(tmp_path / "b").predict(MIXED) == isoform.load(run).predict(MIXED)


@scaled
@pytest.mark.parametrize("kind", ["official", "transformers"])
def test_official_forms_are_the_same_model(kind: str, run: Path, tmp_path: Path) -> None:
    export(run, kind, tmp_path / "out")
    found = import_checkpoint(tmp_path / "out")
    model = DOMAIN.build_from_run(found.config, found.state)
    model.load_state_dict(dict(found.weights))
    batch = batch_of(*MIXED)
    with torch.no_grad():
        assert torch.equal(model.eval()(batch), load_model(DOMAIN, run)(batch))


def test_the_scale_that_a_format_lacks_is_said(run: Path, tmp_path: Path) -> None:
    scaling = json.loads((run / "task.json").read_text())["scaling"]
    with pytest.warns(UserWarning, match=f"{scaling['mean'][0]:g}"):
        export(run, "official", tmp_path / "a.pt")


def test_what_official_code_lacks_is_named(tmp_path: Path) -> None:
    folder = trained(tmp_path, head={"descriptors": True})
    with pytest.raises(UserError, match=r"head\.descriptors"):
        export(folder, "official", tmp_path / "a.pt")


GRAPHS = {
    "descriptors": {"head": {"descriptors": True}},
    "no graph token": {"head": {"pool": "sum"}, "tokeniser": {"graph_token": False}},
    "positions": {"tokeniser": {"laplacian": 3}, "score": {"reach": 4}},
}


@pytest.mark.parametrize("kind", GRAPHS)
def test_onnx_takes_any_number_of_molecules_and_atoms(kind: str, tmp_path: Path) -> None:
    """And onnxruntime answers as the predictor does, by the scale among the facts."""
    onnxruntime = pytest.importorskip("onnxruntime")
    folder = trained(tmp_path, **GRAPHS[kind])
    export(folder, "onnx", tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(
        str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"]
    )
    facts = json.loads(session.get_modelmeta().custom_metadata_map["isoform"])
    given = {entry.name for entry in session.get_inputs()}
    predictor = isoform.load(folder)
    for texts in (MIXED, MIXED[:1], ["C" * 41, "[Na+].[Cl-]", "C"]):
        inputs = graph_inputs(predictor.config, texts, predictor.normaliser)
        assert set(inputs) == given
        outputs = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
        got = outputs[:, 0] * facts["scaling"]["std"][0] + facts["scaling"]["mean"][0]
        want = [row["prediction"] for row in predictor.predict(texts)]
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_openvino_is_the_same_model(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    export(run, "openvino", tmp_path / "m")  # which compares the two
    assert (tmp_path / "m.xml").is_file() and (tmp_path / "m.bin").is_file()


def test_a_graph_transformer_has_no_fixed_graph(tmp_path: Path) -> None:
    config = MoleculesApp(domain="molecules", app="x", model=ModelConfig(family="gt"))
    model = TrainedModel(config, MoleculesState(), torch.nn.Identity(), tmp_path, 0)
    with pytest.raises(UserError, match="bonds of a whole batch as one list"):
        DOMAIN.graph(model)


@pytest.mark.parametrize("layout", ["fairseq", "fairseq-old", "transformers"])
def test_import_predict_embed_and_export_from_the_command_line(layout: str, tmp_path: Path) -> None:
    source, model = made(tmp_path, layout, order="pre")
    out = str(tmp_path / "run")
    assert exit_code("molecules", "import", source, "--out", out) == 0
    assert exit_code("molecules", "predict", out, *MIXED, "--out", tmp_path / "p.csv") == 0
    assert exit_code("molecules", "embed", out, *MIXED, "--out", tmp_path / "e.npz") == 0
    assert exit_code("molecules", "embed", source, *MIXED, "--out", tmp_path / "f.npz") == 0
    batch = batch_of(*MIXED)
    with torch.no_grad():
        want, features = model(batch), model.features(batch)
    rows = rows_in(tmp_path / "p.csv")
    got = np.array([[float(row[f"prediction {k}"]) for k in (1, 2, 3)] for row in rows])
    np.testing.assert_allclose(got, want, atol=1e-4)
    for name in ("e.npz", "f.npz"):
        arrays = np.load(tmp_path / name)
        np.testing.assert_allclose(
            next(a for a in map(arrays.get, arrays.files) if a.ndim == 2), features, atol=1e-4
        )
    kind = "transformers" if layout == "transformers" else "official"
    assert exit_code("molecules", "export", out, "--format", kind, "--out", tmp_path / "back") == 0
    if kind == "official":
        back, first = read_checkpoint(tmp_path / "back")["model"], read_checkpoint(source)["model"]
    else:
        back, first = (
            load_file(path / "model.safetensors") for path in (tmp_path / "back", source)
        )
        assert import_checkpoint(tmp_path / "back").config.tokeniser.hf_compat is False
    assert_same_bits(back, first)


def test_outputs_are_what_an_import_is_told(tmp_path: Path) -> None:
    source, _ = made(tmp_path)
    sets = [
        "--set",
        "data.task=multiclass",
        "--set",
        'data.classes=["a","b","c"]',
        "--set",
        "tokeniser.hf_compat=true",
    ]
    assert exit_code("molecules", "import", source, *sets, "--out", tmp_path / "run") == 0
    row = isoform.load(tmp_path / "run").predict(["CCO"])[0]
    assert row["prediction"] in "abc" and row["p a"] + row["p b"] + row["p c"] == pytest.approx(
        1, abs=1e-5
    )
    two = ["--set", 'data.targets=["a","b"]']
    assert exit_code("molecules", "import", source, *two, "--out", tmp_path / "other") == 2


def test_ids_of_transformers_collator_on_request(tmp_path: Path) -> None:
    source, model = made(tmp_path, "transformers")
    settings = json.loads((source / "config.json").read_text())
    del settings["isoform_hf_compat"]  # as somebody else's folder
    (source / "config.json").write_text(json.dumps(settings))
    for value, later in (("true", 0), ("false", 1)):
        out, back = tmp_path / value, tmp_path / f"back-{value}"
        sets = ["--set", f"tokeniser.hf_compat={value}"]
        assert exit_code("molecules", "import", source, *sets, "--out", out) == 0
        batch = batch_of("CCO")
        if later:  # ids one lower find the row in front of an atom's
            batch["atoms"] = batch["atoms"] - 1
        with torch.no_grad():
            want = model(batch)[0].tolist()
        row = isoform.load(out).predict(["CCO"])[0]
        assert [row[f"prediction {k}"] for k in (1, 2, 3)] == pytest.approx(want, abs=1e-4)
        export(out, "transformers", back)
        assert import_checkpoint(back).config.tokeniser.hf_compat is (value == "true")
        tables = [load_file(f / "model.safetensors")[TABLE] for f in (source, back)]
        assert len(tables[1]) == len(tables[0]) + later  # nothing to shift where nothing differs
        again = isoform.load(
            api.write_imported(
                import_checkpoint(back), DOMAIN, "x", tmp_path / f"again-{value}"
            ).folder
        )
        assert again.predict(["CCO"])[0] == row


def test_ids_that_contradict_config_json_are_refused(tmp_path: Path) -> None:
    source, _ = made(tmp_path, "transformers")
    sets = ["--set", "tokeniser.hf_compat=true"]
    assert exit_code("molecules", "import", source, *sets, "--out", tmp_path / "run") == 2


def test_own_exports_come_back(run: Path, tmp_path: Path) -> None:
    assert_exports_come_back(DOMAIN, run, list(MIXED), tmp_path)
    assert "low 0.9" in isoform.load(tmp_path / "run.safetensors").predict(["CCO"])[0]


def test_an_export_holds_its_own_settings(run: Path, tmp_path: Path) -> None:
    export(run, "bundle", tmp_path / "a.zip")
    words = ["molecules", "import", str(tmp_path / "a.zip"), "--out", str(tmp_path / "b")]
    assert (
        exit_code(*words, "--layout", "fairseq")
        == exit_code(*words, "--set", "head.outputs=1")
        == 2
    )
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("keep", [0.5, 0.9])
@pytest.mark.parametrize("kind", ["bundle", "safetensors"])
def test_a_damaged_export_is_one_sentence(
    run: Path, tmp_path: Path, kind: str, keep: float
) -> None:
    export(run, kind, tmp_path / "a")
    whole = (tmp_path / "a").read_bytes()
    (tmp_path / "a").write_bytes(whole[: int(keep * len(whole))])
    with pytest.raises(UserError, match="a"):
        isoform.load(tmp_path / "a")


def test_a_bundle_writes_nothing_elsewhere_and_not_too_much(run: Path, tmp_path: Path) -> None:
    export(run, "bundle", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
        archive.writestr("../outside", "x")
        archive.writestr("checkpoints/../../outside", "x")
    assert isoform.load(tmp_path / "a.zip").predict(["CCO"])[0]["error"] == ""
    with zipfile.ZipFile(tmp_path / "b.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("config.toml", b"#" * (65 << 20))
    with pytest.raises(UserError, match=f"claim to hold {65 << 20}"):
        isoform.load(tmp_path / "b.zip")
