"""A run's model in other formats, beside those that every domain has (core/inference/export.py).

timm         a folder that timm.create_model("local-dir:PATH") opens (the hub's layout)
official     the checkpoint form of the code base that the weights came from
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from isoform.core.domain import Graph, TrainedModel
from isoform.core.supervised.decision import Decision
from isoform.vision.config import VisionApp
from isoform.vision.state import VisionState
from isoform.vision.vit.pretrained.export_official import export_official, origin_of, timm_model

Trained = TrainedModel[VisionApp, VisionState]


def graph(trained: Trained) -> Graph:
    """Input `images` [B, C, H, W], normalised; output `outputs` [B, K]. What images need is in the facts."""
    config = trained.config

    def example(batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)  # [batch, C, H, W] normalised noise
        return {
            "images": torch.randn(
                batch, config.tokeniser.channels, *config.image_size, generator=generator
            )
        }

    facts = trained.state.model_dump(
        mode="json", include={"kind", "classes", "preprocessing", "target_mean", "target_std"}
    )
    facts |= Decision.of(config.eval, trained.state.calibration).facts()
    return Graph(trained.model, example, "outputs", facts)


def write_timm(trained: Trained, out: Path) -> None:
    """config.json and model.safetensors in timm's names. Raises UserError, naming why, for a model that timm lacks."""
    config, prepared = trained.config, trained.state.preprocessing
    architecture, kwargs, weights = timm_model(config, trained.weights(), trained.state)
    pretrained_cfg = {
        "input_size": [prepared.channels, *prepared.size],
        "mean": prepared.mean,
        "std": prepared.std,
        "crop_pct": prepared.crop_pct,
        "interpolation": prepared.interpolation,
        "crop_mode": "squash" if prepared.resize == "squash" else "center",
        "num_classes": config.head.outputs,
        "license": trained.licence or "unknown",
    }
    about = {
        "architecture": architecture,
        "num_classes": config.head.outputs,
        "model_args": kwargs,
        "pretrained_cfg": pretrained_cfg,
        "label_names": trained.state.classes or None,
    }
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / "model.safetensors")
    (out / "config.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


def write_official(trained: Trained, out: Path) -> None:
    """The layout that the weights were imported from: .npz for augreg, else .pth or .safetensors by the suffix."""
    layout = origin_of(trained.state)
    state = export_official(trained.config, trained.weights(), trained.state)
    if layout == "augreg":
        arrays: dict[str, Any] = {name: tensor.numpy() for name, tensor in state.items()}
        with out.open("wb") as file:
            np.savez(file, **arrays)
    elif out.suffix == ".safetensors":
        save_file(state, out)
    elif layout.startswith(("timm", "dinov2", "transformers")):
        torch.save(state, out)
    else:
        torch.save({"model": state}, out)
