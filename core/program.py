"""The program: which blocks run over depth, what is tapped on the way, and what the backward pass computes again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from isoform.core.mixers import Context


def run_stack(
    blocks: nn.ModuleList,
    x: Any,
    context: Context,
    taps: Sequence[int],
    recompute: str,
    first: int | None = None,
    main_only: bool = False,
) -> tuple[Any, list[Tensor]]:
    """The features after every block in turn, and those after the blocks numbered in `taps`.

    `x`: the main stream's features, or a pair with the edges' behind them. `first`: the last block answers for so many
    leading tokens alone; `main_only`: it leaves the edges as they are.

    recompute "block": a block's inner results are dropped and computed again in the backward pass (Chen et al. 2016);
    "light" is done inside the blocks, see recompute.py.
    """
    tapped = []
    last = len(blocks) - 1
    for number, block in enumerate(blocks):
        if number == last:
            context = replace(context, first=first, main_only=main_only)
        if recompute == "block" and torch.is_grad_enabled():
            x = checkpoint(block, x, context, use_reentrant=False)
        else:
            x = block(x, context)
        if number in taps:
            tapped.append(x[0] if isinstance(x, tuple) else x)
    return x, tapped
