"""A run's model in other formats: `isoform vision export RUN --format ... --out PATH`.

    safetensors  our names and, as the one metadata entry, the configuration and task.json
    timm         a folder that timm.create_model("local-dir:PATH") opens (the hub's layout)
    official     the checkpoint form of the code base that the weights came from
    onnx         one .onnx file, any batch size, checked against the model with onnxruntime
    openvino     PATH.xml beside PATH.bin, float32
    bundle       a zip of the smallest run folder that predicts elsewhere

The licence of initial weights goes with every one of them, and is named in a warning where it is NonCommercial.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from isoform.core.config import dump_toml, load_run_config
from isoform.core.domain import UserError
from isoform.core.engine import checkpoint as checkpoints
from isoform.core.engine.evaluate import load_model
from isoform.core.engine.run import RunFolder
from isoform.vision.config import VisionApp
from isoform.vision.vit.pretrained.back import foreign_state, timm_model

TOLERANCE = 1e-4  # of the largest output, between our model and another engine's


@dataclass(frozen=True)
class Exported:
    """A run as export sees it."""

    run: RunFolder
    config: VisionApp
    portable: dict[str, Any]
    model: nn.Module

    @property
    def licence(self) -> str:
        """Of the weights that this run started from; empty where it started from random ones."""
        return str(self.portable.get("licence") or self.portable.get("initial") or "")

    def facts(self) -> dict[str, Any]:
        """What a consumer of another format needs beside the model."""
        keys = ("kind", "classes", "preprocessing", "target_mean", "target_std")
        return {**{key: self.portable.get(key) for key in keys}, "licence": self.licence}


def open_run(run: str | Path, checkpoint: str | int) -> Exported:
    """A run's model, averaged weights where it has them. Warns of a NonCommercial licence."""
    from isoform.vision import DOMAIN

    folder = RunFolder(run)
    config = load_run_config(folder.path, DOMAIN)
    assert isinstance(config, VisionApp)
    model = load_model(DOMAIN, folder, checkpoint=checkpoint)
    found = Exported(folder, config, folder.portable(), model.eval())
    if "nc" in found.licence.lower().replace("/", "-").split("-") or "noncommercial" in found.licence.lower():
        warnings.warn(f"the weights started from {found.licence}: not for commercial use", stacklevel=3)
    return found


def _weights(found: Exported) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in found.model.state_dict().items()}


def to_safetensors(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """Our names, with configuration and task.json as JSON in the metadata entry "isoform"."""
    found = open_run(run, checkpoint)
    about = json.dumps({"config": dump_toml(found.config), "task": found.portable})
    save_file(_weights(found), out, metadata={"isoform": about})


def to_timm(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """config.json and model.safetensors in timm's names. Raises UserError, naming why, for a model that timm lacks."""
    found = open_run(run, checkpoint)
    architecture, kwargs, state = timm_model(found.config, found.portable, _weights(found))
    prepared = found.portable["preprocessing"]
    config = {
        "architecture": architecture,
        "num_classes": found.config.head.outputs,
        "model_args": kwargs,
        "pretrained_cfg": {
            "input_size": [prepared["channels"], *prepared["size"]], "mean": prepared["mean"], "std": prepared["std"],
            "crop_pct": prepared["crop_pct"], "interpolation": prepared["interpolation"],
            "crop_mode": "squash" if prepared["resize"] == "squash" else "center",
            "num_classes": found.config.head.outputs, "license": found.licence or "unknown",
        },
        "label_names": found.portable.get("classes") or None,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def to_official(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """The layout that the weights were imported from: .npz for augreg, else .pth or .safetensors by the suffix."""
    found = open_run(run, checkpoint)
    layout, state = foreign_state(found.config, found.portable, _weights(found))
    if layout == "augreg":
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
        with out.open("wb") as file:
            np.savez(file, **arrays)
    elif out.suffix == ".safetensors":
        save_file(state, out)
    else:
        torch.save(state if layout.startswith(("timm", "dinov2", "transformers")) else {"model": state}, out)


def _example(found: Exported, batch: int) -> Tensor:
    """[batch, C, H, W] normalised noise."""
    height, width = found.config.image_size
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, found.config.tokeniser.channels, height, width, generator=generator)


def to_onnx(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """Input `images` [B, C, H, W], normalised; output `outputs` [B, K]. What images need is in the metadata."""
    found = open_run(run, checkpoint)
    write_onnx(found, out)
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed: pip install 'isoform[export]'") from error
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    _agree(found, lambda images: session.run(None, {"images": images})[0], out, "onnxruntime")


def write_onnx(found: Exported, out: Path) -> None:
    """The .onnx file alone. Raises UserError where the exporter is not installed."""
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError("onnx and onnxscript are not installed: pip install 'isoform[export]'") from error
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            found.model, (_example(found, 3),), dynamo=True, input_names=["images"], output_names=["outputs"],
            dynamic_shapes=({0: torch.export.Dim("batch")},), external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"isoform": json.dumps(found.facts())})
    onnx.save(proto, out)


def to_openvino(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """OpenVINO's pair of files, from the ONNX form."""
    try:
        import openvino
    except ImportError as error:
        raise UserError("openvino is not installed: pip install 'isoform[export]'") from error
    found = open_run(run, checkpoint)
    if out.suffix != ".xml":
        out = out.with_name(out.name + ".xml")
    with tempfile.TemporaryDirectory() as folder:
        write_onnx(found, Path(folder) / "model.onnx")
        model = openvino.convert_model(Path(folder) / "model.onnx")
    model.set_rt_info(json.dumps(found.facts()), "isoform")
    openvino.save_model(model, out, compress_to_fp16=False)
    compiled = openvino.Core().compile_model(out, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    _agree(found, lambda images: next(iter(compiled(images).values())), out, "OpenVINO")


def _agree(found: Exported, other: Any, out: Path, name: str) -> None:
    """Raises RuntimeError, and removes the file, where the other engine answers differently at an unseen batch size."""
    images = _example(found, 2)
    with torch.no_grad():
        ours = found.model(images).numpy()
    worst = float(np.abs(ours - other(images.numpy())).max())
    if not worst <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
        out.unlink(missing_ok=True)
        raise RuntimeError(f"{name} answers differently by {worst:.2g}: the file was not kept")


def to_bundle(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """A zip of config.toml, task.json, results.json, card.md and one checkpoint without its optimiser."""
    found = open_run(run, checkpoint)
    with tempfile.TemporaryDirectory() as made:
        small = RunFolder(Path(made) / "run")
        small.path.mkdir()
        for name in ("config.toml", "task.json", "results.json", "card.md"):
            if (found.run.path / name).is_file():
                shutil.copyfile(found.run.path / name, small.path / name)
        step = found.run.step_of(checkpoint)
        state = {"place": {"step": step, "best_step": step}}
        checkpoints.write(small.checkpoints, step, checkpoints.Checkpoint(_weights(found), None, {}, state))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(small.path.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(small.path))


FORMATS: Mapping[str, Any] = {
    "safetensors": to_safetensors, "timm": to_timm, "official": to_official, "onnx": to_onnx, "openvino": to_openvino,
    "bundle": to_bundle,
}  # fmt: skip
