"""A run's model in other formats: `isoform vision export RUN --format ... --out PATH`.

    timm         a folder that timm.create_model("local-dir:PATH") opens (the hub's layout)
    official     the checkpoint form of the code base that the weights came from

and what every domain has: safetensors, onnx, openvino, bundle (core/inference/export.py).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from isoform.core.inference import export
from isoform.core.inference.export import Exported, Graph
from isoform.vision.config import VisionApp
from isoform.vision.vit.pretrained.export_official import export_official, origin_of, timm_model


def open_run(run: str | Path, checkpoint: str | int) -> tuple[Exported, VisionApp]:
    """A run's model and its configuration; see core's."""
    from isoform.vision import DOMAIN

    found = export.open_run(DOMAIN, run, checkpoint)
    assert isinstance(found.config, VisionApp)
    return found, found.config


def to_safetensors(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """Our names, with configuration and task.json as JSON in the metadata entry "isoform"."""
    export.write_safetensors(open_run(run, checkpoint)[0], out)


def to_timm(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """config.json and model.safetensors in timm's names. Raises UserError, naming why, for a model that timm lacks."""
    found, app = open_run(run, checkpoint)
    architecture, kwargs, state = timm_model(app, found.weights(), found.portable)
    prepared = found.portable["preprocessing"]
    config = {
        "architecture": architecture,
        "num_classes": app.head.outputs,
        "model_args": kwargs,
        "pretrained_cfg": {
            "input_size": [prepared["channels"], *prepared["size"]], "mean": prepared["mean"], "std": prepared["std"],
            "crop_pct": prepared["crop_pct"], "interpolation": prepared["interpolation"],
            "crop_mode": "squash" if prepared["resize"] == "squash" else "center",
            "num_classes": app.head.outputs, "license": found.licence or "unknown",
        },
        "label_names": found.portable.get("classes") or None,
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    save_file(state, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def to_official(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """The layout that the weights were imported from: .npz for augreg, else .pth or .safetensors by the suffix."""
    found, app = open_run(run, checkpoint)
    layout, state = origin_of(found.portable), export_official(app, found.weights(), found.portable)
    if layout == "augreg":
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
        with out.open("wb") as file:
            np.savez(file, **arrays)
    elif out.suffix == ".safetensors":
        save_file(state, out)
    else:
        torch.save(state if layout.startswith(("timm", "dinov2", "transformers")) else {"model": state}, out)


def to_onnx(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """Input `images` [B, C, H, W], normalised; output `outputs` [B, K]. What images need is in the metadata."""
    found, app = open_run(run, checkpoint)
    export.write_onnx(found, _graph(found, app), out)


def to_openvino(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """OpenVINO's pair of files, with the inputs and outputs of `to_onnx`."""
    found, app = open_run(run, checkpoint)
    export.write_openvino(found, _graph(found, app), out)


def to_bundle(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """A zip of config.toml, task.json, results.json, card.md and one checkpoint without its optimiser."""
    export.write_bundle(open_run(run, checkpoint)[0], out)


def _graph(found: Exported, app: VisionApp) -> Graph:
    def example(batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)  # [batch, C, H, W] normalised noise
        return {"images": torch.randn(batch, app.tokeniser.channels, *app.image_size, generator=generator)}

    keys = ("kind", "classes", "preprocessing", "target_mean", "target_std")
    return Graph(found.model, example, "outputs", {key: found.portable.get(key) for key in keys})


FORMATS: Mapping[str, Any] = {
    "safetensors": to_safetensors, "timm": to_timm, "official": to_official, "onnx": to_onnx, "openvino": to_openvino,
    "bundle": to_bundle,
}  # fmt: skip
