"""What `isoform apps` and `isoform explain` tell of a point cloud app beside its settings."""

from __future__ import annotations

from typing import Any

from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.sources import source_of


def describe(config: PointcloudApp, *, detail: bool = True) -> dict[str, Any]:
    """Rows to show: data, model, source; with `detail` (which imports torch) parameters and attention too."""
    source = source_of(config.data.source)
    backbone, patches = config.backbone, config.tokeniser
    what = {"pretrain": "Point-MAE, pretraining", "classify": "Point-MAE"}.get(
        config.model.kind, "Point-MAE, parts"
    )
    rows = {
        "data": source.title,
        "model": f"{what}, {backbone.depth} x {backbone.dim}, {backbone.heads} heads, {patches.groups} patches of "
        f"{patches.group_size}",
        "parameters": _parameters(config, source.classes) if detail else None,
        "source": source.needs,
    }
    return {**rows, **_detail(config)} if detail else rows


def _parameters(config: PointcloudApp, classes: int) -> int:
    from isoform.core.ops.shapes import shapes_alone
    from isoform.pointcloud.pointmae.model import build_model
    from isoform.pointcloud.prepare import update, with_channels

    config = with_channels(config) if config.data.features else config
    outputs = config.head.outputs or len(config.data.classes or ()) or classes
    with shapes_alone():
        model = build_model(update(config, head={"outputs": outputs}))
    return sum(parameter.numel() for parameter in model.parameters())


def _detail(config: PointcloudApp) -> dict[str, Any]:
    import torch

    from isoform.core.attention.dispatch import Request, explain_choice, tabulate

    backbone = config.backbone
    classifies = config.model.kind == "classify"
    tokens = config.tokeniser.groups + (classifies and config.tokeniser.class_token)
    request = Request(
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype=torch.float32,
        keys=tokens,
        backward=True,
        head_dim=backbone.head_dim or backbone.dim // backbone.heads,
        dropout=bool(backbone.attention_dropout),
    )
    return {
        "tokens": f"{tokens} a cloud",
        "attention": "in training: " + "; ".join(explain_choice(request)),
        "attention by device": tabulate(request),
    }
