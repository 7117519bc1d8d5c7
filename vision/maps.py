"""Where a trained ViT looks: the attention of its last block, laid over the patches.

B images, C channels, H x W pixels, N tokens, h x w patches.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.attention import attention_rows
from isoform.core.mixers.softmax import SoftmaxAttention


def attention_map(model: nn.Module, images: Tensor) -> Tensor:
    """[B, h, w] each patch's share of the class token's attention in the last block, mean over heads.

    Without a class token: of the attention of all patches, on average. Each map sums to 1. Raises ValueError for a
    model without softmax attention.
    """
    mixers = [module for module in model.modules() if isinstance(module, SoftmaxAttention) and not module.cross]
    if not mixers:
        raise ValueError("the model has no softmax attention to draw a map of")
    tokeniser: Any = model.tokeniser
    found: list[Tensor] = []

    def look(mixer: nn.Module, inputs: tuple[Any, ...]) -> None:
        x, context = inputs
        q, k, _ = mixer.project(x, context)  # type: ignore[operator]
        rows = [0] if tokeniser.config.class_token else slice(None)
        found.append(attention_rows(q, k, rows, causal=mixers[-1].causal).mean((1, 2)))

    handle = mixers[-1].register_forward_pre_hook(look)
    try:
        with torch.no_grad():
            model(images)
    finally:
        handle.remove()
    grid = tokeniser.grid_of(*images.shape[-2:])
    patches = found[0][:, tokeniser.prefix :]
    return (patches / patches.sum(1, keepdim=True)).unflatten(1, grid)
