"""Every export format, opened by whoever reads it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import isoform
from isoform.core.api import export, formats_of, write_imported
from isoform.core.config import bare
from isoform.core.domain import ImportedModel
from isoform.core.errors import UserError
from isoform.core.inference.run_model import load_model
from isoform.vision import DOMAIN
from isoform.vision.choose_model import read_start
from isoform.vision.state import Preprocessing, VisionState
from own_exports import assert_exports_come_back

SETS = [
    "backbone.dim=48", "backbone.depth=2", "backbone.heads=3", "tokeniser.image=[20, 28]", "tokeniser.patch=4",
    "tokeniser.channels=1", "head.outputs=5",
]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with random weights, their licence NonCommercial."""
    return made(tmp_path_factory.mktemp("runs") / "run")


def made(out: Path, seed: int = 0) -> Path:
    """A run folder with the random weights of a seed."""
    config: Any = bare(domain=DOMAIN, sets=SETS)
    state = VisionState(
        classes=tuple("abcde"),
        preprocessing=Preprocessing(size=(20, 28), channels=1, mean=(0.1,), std=(0.2,)),
    )
    model = DOMAIN.build_from_run(config, state)
    torch.manual_seed(seed)
    weights = {name: 0.2 * torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    data = config.data.model_copy(update={"mean": (0.1,), "std": (0.2,)})
    config = config.model_copy(update={"data": data})
    write_imported(
        ImportedModel(config, weights, state, "none", (), "CC-BY-NC-4.0"), DOMAIN, "made", out
    )
    return out


def outputs(run: Path, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return load_model(DOMAIN, run)(x)


def weights_of(run: Path) -> int:
    """Bytes of the run's weights."""
    return sum(file.stat().st_size for file in run.rglob("model.safetensors"))


X = torch.randn(3, 1, 20, 28, generator=torch.Generator().manual_seed(2))
pytestmark = pytest.mark.filterwarnings("ignore:the weights started from")


def test_safetensors_tell_all_in_one_metadata_entry(run: Path, tmp_path: Path) -> None:
    export(DOMAIN, run, "safetensors", tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        metadata = file.metadata()
    assert list(metadata) == ["isoform"]
    assert json.loads(metadata["isoform"])["task"]["classes"] == list("abcde")
    model: Any = load_model(DOMAIN, run)
    model.load_state_dict(load_file(tmp_path / "a.safetensors"))


def test_timm_opens_the_folder(run: Path, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    export(DOMAIN, run, "timm", tmp_path / "timm")
    model = timm.create_model(f"local-dir:{tmp_path / 'timm'}", pretrained=True).eval()
    assert model.pretrained_cfg["mean"] == [0.1] or tuple(model.pretrained_cfg["mean"]) == (0.1,)
    with torch.no_grad():
        torch.testing.assert_close(model(X), outputs(run, X), atol=1e-5, rtol=1e-5)
    imported = DOMAIN.import_weights(str(tmp_path / "timm"))
    ours = load_model(DOMAIN, run).state_dict()
    assert imported.weights.keys() == ours.keys()
    assert all(torch.equal(imported.weights[name], ours[name]) for name in ours)
    assert imported.state.classes == tuple("abcde") and imported.licence == "CC-BY-NC-4.0"


def test_official_is_a_plain_checkpoint(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    export(DOMAIN, run, "official", tmp_path / "a.pth")
    state = torch.load(tmp_path / "a.pth", weights_only=True)
    assert state["blocks.1.attn.qkv.weight"].shape == (144, 48)


def test_onnx_runs_at_any_batch_size(run: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    export(DOMAIN, run, "onnx", tmp_path / "a.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["a.onnx"]
    session = onnxruntime.InferenceSession(
        str(tmp_path / "a.onnx"), providers=["CPUExecutionProvider"]
    )
    for x in (X, X[:1]):
        np.testing.assert_allclose(
            session.run(None, {"images": x.numpy()})[0], outputs(run, x).numpy(), atol=1e-4
        )
    facts = json.loads(session.get_modelmeta().custom_metadata_map["isoform"])
    assert facts["preprocessing"]["mean"] == [0.1] and facts["licence"] == "CC-BY-NC-4.0"


def test_openvino(run: Path, tmp_path: Path) -> None:
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("onnxscript")
    export(DOMAIN, run, "openvino", tmp_path / "a.xml")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.bin", "a.xml"]
    compiled = openvino.Core().compile_model(
        tmp_path / "a.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    np.testing.assert_allclose(
        next(iter(compiled(X.numpy()).values())), outputs(run, X).numpy(), atol=1e-4
    )


def test_a_bundle_is_a_small_run_folder(run: Path, tmp_path: Path) -> None:
    export(DOMAIN, run, "bundle", tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        archive.extractall(tmp_path / "elsewhere")
    assert "config.toml" in names and (tmp_path / "a.zip").stat().st_size < 1.1 * weights_of(run)
    assert torch.equal(outputs(tmp_path / "elsewhere", X), outputs(run, X))


@pytest.mark.filterwarnings("default:the weights started from")
@pytest.mark.parametrize("name", ["safetensors", "bundle"])
def test_a_noncommercial_licence_is_named(run: Path, tmp_path: Path, name: str) -> None:
    with pytest.warns(UserWarning, match="CC-BY-NC-4.0: not for commercial use"):
        export(DOMAIN, run, name, tmp_path / "out")


def test_formats_of_the_domain_are_these() -> None:
    assert set(formats_of(DOMAIN)) == {
        "safetensors",
        "safetensors16",
        "bundle",
        "onnx",
        "openvino",
        "timm",
        "official",
    }


def test_a_missing_checkpoint_is_one_sentence(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no checkpoint 7"):
        export(DOMAIN, run, "bundle", tmp_path / "a.zip", checkpoint="7")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.filterwarnings("ignore:the weights started from")
def test_own_exports_come_back(run: Path, tmp_path: Path) -> None:
    images = []
    for k in range(3):
        pixels = np.random.default_rng(k).integers(0, 256, (23, 31), np.uint8)
        images.append(str(tmp_path / f"{k}.png"))
        Image.fromarray(pixels).save(images[-1])
    assert_exports_come_back(DOMAIN, run, images, tmp_path)


@pytest.mark.filterwarnings("ignore:the weights started from")
def test_an_auto_app_takes_its_model_from_any_export(run: Path, tmp_path: Path) -> None:
    """Whatever `import` reads tells --init the model; weights without settings don't."""
    want = read_start(str(run)).tables
    assert want["backbone"]["dim"] == 48 and list(want["tokeniser"]["image"]) == [20, 28]
    for kind, name in (("bundle", "a.zip"), ("safetensors", "a.safetensors"), ("timm", "a")):
        export(DOMAIN, run, kind, tmp_path / name)
        found = read_start(str(tmp_path / name)).tables
        for key in ("dim", "depth", "heads"):
            assert found["backbone"][key] == want["backbone"][key], kind
        assert list(found["tokeniser"]["image"]) == [20, 28], kind
    save_file(load_file(tmp_path / "a.safetensors"), tmp_path / "bare.safetensors")
    assert read_start(str(tmp_path / "bare.safetensors")).tables == {}
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match=r"torn.safetensors: not a readable"):
        read_start(str(tmp_path / "torn.safetensors"))


def test_seeds_together_predict_their_mean(tmp_path: Path) -> None:
    for seed in (1, 2, 3):
        made(tmp_path / "group" / f"seed-{seed}", seed)
    image = np.random.default_rng(0).integers(0, 256, (23, 31), np.uint8)
    each = [isoform.load(tmp_path / "group" / f"seed-{k}").predict([image])[0] for k in (1, 2, 3)]
    row = isoform.load(tmp_path / "group").predict([image])[0]
    for name in "abcde":
        pair = np.array([one[f"p {name}"] for one in each])
        assert row[f"p {name}"] == pytest.approx(pair.mean(), abs=2e-6)
        if name == row["prediction"]:
            assert row["spread"] == pytest.approx(pair.std(ddof=1), abs=3e-6)
