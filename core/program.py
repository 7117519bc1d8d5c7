"""The program: which blocks run over depth, what is tapped on the way, and what the backward pass computes again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isoform.core.mixers import Context


def run_stack(
    blocks: nn.ModuleList, x: Tensor, context: Context, taps: Sequence[int], recompute: str,
    first: int | None = None,
) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
    """The features after every block in turn, and those after the blocks numbered in `taps`.

    `first`: the last block answers for so many leading tokens alone.

    recompute "block": a block's inner results are dropped and computed again in the backward pass (Chen et al. 2016);
    "light" is done inside the blocks, see recompute.py.
    """
    seen = []
    for number, block in enumerate(blocks):
        if number == len(blocks) - 1:
            context = replace(context, first=first)
        if recompute == "block" and torch.is_grad_enabled():
            x = checkpoint(block, x, context, use_reentrant=False)
        else:
            x = block(x, context)
        if number in taps:
            seen.append(x)
    return x, seen
