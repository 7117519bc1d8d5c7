"""Where a trained model looks: the attention probabilities of its last block, as pictures want them.

B samples, H heads, R rows, N tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.attention import attention_rows
from isoform.core.mixers.softmax import SoftmaxAttention


def last_attention(
    model: nn.Module, call: Callable[[], Any], rows: slice | Sequence[int] = slice(None)
) -> Tensor:
    """[B, H, R, N] of the last self-attention that `call`, which runs `model`, passes through, for the query `rows`.

    Each row sums to 1. Computed without gradients. Raises ValueError for a model without softmax attention.
    """
    mixers = [
        module
        for module in model.modules()
        if isinstance(module, SoftmaxAttention) and not module.cross
    ]
    if not mixers:
        raise ValueError("the model has no softmax attention to draw a map of")
    rows_of_layer: list[Tensor] = []

    def look(mixer: nn.Module, inputs: tuple[Any, ...]) -> None:
        x, context = inputs
        q, k, _ = mixer.project_qkv(x, context)  # type: ignore[operator]
        rows_of_layer.append(attention_rows(q, k, rows, causal=mixers[-1].causal))

    handle = mixers[-1].register_forward_pre_hook(look)
    try:
        with torch.no_grad():
            call()
    finally:
        handle.remove()
    return rows_of_layer[0]
