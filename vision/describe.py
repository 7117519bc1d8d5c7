"""What `isoform apps` and `isoform explain` tell of a vision app beside its settings."""

from __future__ import annotations

from typing import Any

from isoform.vision.config import VisionApp
from isoform.vision.data.sources import source_of
from isoform.vision.vit.parameter_count import (
    activation_bytes,
    pair_of,
    token_count,
    vit_size,
)


def describe(config: VisionApp, *, detail: bool = True) -> dict[str, Any]:
    """Rows to show: data, model, parameters, source; with `detail` (which imports torch) attention and memory too."""
    source = source_of(config.data.source)
    tokeniser, backbone = config.tokeniser, config.backbone
    outputs = config.head.outputs or len(config.data.classes or ()) or source.classes
    parameters = vit_size(tokeniser, backbone, config.head, outputs)
    patch = "x".join(map(str, dict.fromkeys(pair_of(tokeniser.patch))))
    model = f"ViT, {backbone.depth} x {backbone.dim}, {backbone.heads} heads, patch {patch}"
    if config.auto:
        model, parameters = "ViT, size chosen from the data", 0
    rows = {
        "data": source.title,
        "model": model,
        "parameters": parameters or None,
        "source": source.needs,
    }
    return {**rows, **_detail(config, parameters)} if detail and not config.auto else rows


def _detail(config: VisionApp, parameters: int) -> dict[str, Any]:
    import torch

    from isoform.core.attention.dispatch import Request, explain_choice, tabulate
    from isoform.core.engine.precision import resolve
    from isoform.core.ops.shapes import shapes_alone
    from isoform.vision.models import build_model

    backbone, tokens = config.backbone, token_count(config.tokeniser)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with shapes_alone():
        model = build_model(config)
    precision = resolve(config.train.precision, config.data.task != "regression", model, device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    request = Request(
        device=device.type,
        dtype=dtype,
        keys=tokens,
        backward=True,
        head_dim=backbone.head_dim or backbone.dim // backbone.heads,
        bias=backbone.score != "none",
        bias_gradient=backbone.score != "none",
        dropout=bool(backbone.attention_dropout),
    )
    kept = activation_bytes(backbone, tokens, config.train.batch)
    copies = 4 + bool(config.train.ema)  # weights, gradients, AdamW's two moments; averaged weights
    return {
        "tokens": f"{tokens} an image",
        "precision": f"{precision} on this machine",
        "attention": "in training: " + "; ".join(explain_choice(request)),
        "attention by device": tabulate(request, backbone.score),
        "memory": f"about {(copies * 4 * parameters + kept) / 2**20:,.0f} MiB to train in float32 "
        f"({copies * 4 * parameters / 2**20:,.0f} weights and optimiser, {kept / 2**20:,.0f} activations of a batch of "
        f"{config.train.batch}), {4 * parameters / 2**20:,.0f} MiB of weights to predict",
    }
