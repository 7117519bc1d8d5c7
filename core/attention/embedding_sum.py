"""Sums of table rows by integer ids: twice differentiable, and without an [ids, H] intermediate in either direction.

L sums, I ids in each, V table rows, H columns.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def sum_rows(ids_LI: Tensor, table_VH: Tensor) -> Tensor:
    """[L, H] sum_i table_VH[ids_LI[l, i]]. ids are int32 or int64."""
    if torch.compiler.is_exporting():  # other engines look rows up, and have no embedding_bag
        return F.embedding(ids_LI, table_VH).sum(1)
    return _SumRows.apply(ids_LI, table_VH)


def look_up(ids_L: Tensor, table_VH: Tensor) -> Tensor:
    """[H, L] table_VH[ids_L[l]], heads outermost as scores are: from and to the table's columns. ids are int32.

    (A lookup of rows would have to be transposed, which takes longer than the lookup.)
    """
    if torch.compiler.is_exporting():
        return F.embedding(ids_L, table_VH).T
    return _LookUp.apply(ids_L, table_VH)


def without_first(table_VH: Tensor) -> Tensor:
    """The table as it is, whose row 0 takes no gradient: the row that stands for padding, or for nothing."""
    return _WithoutFirst.apply(table_VH)


class _WithoutFirst(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VH: Tensor) -> Tensor:
        return table_VH.view_as(table_VH)

    @staticmethod
    def backward(ctx: Any, d_table_VH: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(d_table_VH[:1]), d_table_VH[1:]])


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ids_L: Tensor, table_VH: Tensor) -> Tensor:
        return table_VH.T.contiguous().index_select(1, ids_L)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.n_rows = inputs[1].shape[0]

    @staticmethod
    def backward(ctx: Any, d_HL: Tensor) -> tuple[None, Tensor]:
        (ids_L,) = ctx.saved_tensors
        return None, _AddUp.apply(ids_L, d_HL, ctx.n_rows)


class _AddUp(torch.autograd.Function):
    """The transpose of `_LookUp`: [V, H] the sum of the columns l whose id is v."""

    @staticmethod
    def forward(ids_L: Tensor, d_HL: Tensor, n_rows: int) -> Tensor:
        # By int64, which a CPU adds up several times faster than by int32; it looks up faster by int32.
        return d_HL.new_zeros(d_HL.shape[0], n_rows).index_add_(1, ids_L.long(), d_HL).T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, d_table_VH: Tensor) -> tuple[None, Tensor, None]:
        (ids_L,) = ctx.saved_tensors
        return None, _LookUp.apply(ids_L, d_table_VH), None


class _SumRows(torch.autograd.Function):
    """`embedding_bag` with a backward pass that reads each gradient row in place (its own expands them first)."""

    @staticmethod
    def forward(ids_LI: Tensor, table_VH: Tensor) -> Tensor:
        if ids_LI.shape[1] == 1:
            return table_VH.index_select(0, ids_LI[:, 0])
        return F.embedding_bag(ids_LI, table_VH, mode="sum")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ids_LI, table_VH = inputs
        ctx.save_for_backward(ids_LI)
        ctx.n_rows = table_VH.shape[0]

    @staticmethod
    def backward(ctx: Any, d_sums_LH: Tensor) -> tuple[None, Tensor]:
        (ids_LI,) = ctx.saved_tensors
        return None, _SpreadRows.apply(ids_LI, d_sums_LH, ctx.n_rows)


class _SpreadRows(torch.autograd.Function):
    """The transpose of `_SumRows`: [V, H] the sum of the rows l that have v among their ids.

    By a sort of the ids; where each row has one, a CPU adds it to its place in turn.
    """

    @staticmethod
    def forward(ids_LI: Tensor, rows_LH: Tensor, n_rows: int) -> Tensor:
        ids = ids_LI.flatten()
        if ids_LI.shape[1] == 1 and ids.device.type == "cpu":
            return rows_LH.new_zeros(n_rows, rows_LH.shape[1]).index_add_(
                0, ids.long(), rows_LH.contiguous()
            )
        order = ids.argsort(stable=True)
        count = torch.zeros(n_rows, dtype=order.dtype, device=ids.device)
        count.scatter_add_(0, ids.long(), torch.ones_like(order))
        return F.embedding_bag(
            order // ids_LI.shape[1], rows_LH, count.cumsum(0) - count, mode="sum"
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0])

    @staticmethod
    def backward(ctx: Any, d_table_VH: Tensor) -> tuple[None, Tensor, None]:
        (ids_LI,) = ctx.saved_tensors
        return None, _SumRows.apply(ids_LI, d_table_VH), None
