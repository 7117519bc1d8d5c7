"""Where a trained ViT looks: the attention of its last block, laid over the patches.

B images, C channels, H x W pixels, N tokens, h x w patches.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from isoform.core.inference.attention_maps import last_attention


def attention_map(model: nn.Module, images: Tensor) -> Tensor:
    """[B, h, w] each patch's share of the class token's attention in the last block, mean over heads.

    Without a class token: of the attention of all patches, on average. Each map sums to 1. Raises ValueError for a
    model without softmax attention.
    """
    tokeniser: Any = model.tokeniser
    rows = [0] if tokeniser.config.class_token else slice(None)
    shares = last_attention(model, lambda: model(images), rows).mean((1, 2))
    grid = tokeniser.grid_of(*images.shape[-2:])
    patches = shares[:, tokeniser.prefix :]
    return (patches / patches.sum(1, keepdim=True)).unflatten(1, grid)
