"""A run's model in the official code's layout, and as a graph for other engines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.domain import Graph, TrainedModel
from isoform.core.errors import UserError
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.pointmae.model import PointClassifier
from isoform.pointcloud.pointmae.patches import Patches, cut_into_patches
from isoform.pointcloud.pointmae.pretrained import export_official
from isoform.pointcloud.state import PointcloudState

Trained = TrainedModel[PointcloudApp, PointcloudState]


def write_official(trained: Trained, out: Path) -> None:
    """A file as the official trainers save it. Raises UserError, naming why, for a model that they lack."""
    weights = export_official(trained.config, trained.weights(), trained.state)
    if trained.config.model.kind == "segment":
        torch.save({"model_state_dict": weights}, out)
    else:
        torch.save({"base_model": weights, "epoch": trained.step, "metrics": {}}, out)


class FromPatches(nn.Module):
    """The classifier behind its patches, which another engine is handed: it has no farthest point sampling."""

    def __init__(self, model: PointClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, centres: Tensor, patches: Tensor) -> Tensor:
        """[B, G, 3] and [B, G, K, C] -> [B, classes]."""
        tokens = self.model.tokeniser.embed(Patches(centres, patches))
        return self.model.head(self.model.backbone(tokens))


def graph_of(trained: Trained) -> Graph:
    """The classifier from centres and patches on; `pointmae.patches.cut_into_patches` makes them of a cloud."""
    model, config = trained.model, trained.config
    if not isinstance(model, PointClassifier):
        raise UserError(
            f"{config.app}: only classifiers are exported as graphs; export --format safetensors or bundle"
        )
    t = config.tokeniser

    def example(batch: int) -> dict[str, Tensor]:
        drawn = torch.Generator().manual_seed(0)
        points = torch.randn(batch, 2 * t.groups, t.channels, generator=drawn)
        return inputs_of(points)

    def inputs_of(points: Tensor, lengths: Tensor | None = None) -> dict[str, Tensor]:
        patches = cut_into_patches(points, t, lengths)
        if patches.valid is not None:
            raise UserError(
                f"a graph takes {t.groups} patches of every cloud, and one has fewer points: predict with the run"
            )
        return {"centres": patches.centres, "patches": patches.points}

    facts: Mapping[str, Any] = {
        "classes": list(trained.state.classes),
        "points": config.data.points,
        "scale": config.data.scale,
        "features": list(config.data.features),
        "tokeniser": t.model_dump(mode="json"),
    }
    return Graph(FromPatches(model), example, "logits", facts, inputs_of=inputs_of)
