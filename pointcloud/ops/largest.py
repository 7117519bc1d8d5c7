"""A linear layer of points and the largest value over each set, whose gradient reaches one point a feature.

What a set of K points gets through the maximum is sparse: of K times N values N do, so the backward pass takes a K-th
of the products that a dense one does. Values of single points are never kept.

P sets of K points, F features in, N out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from isoform.core.ops.matmul import product

PART = 1 << 19  # values of single points that are there at a time


def largest_of_linear(x: Tensor, weight_NF: Tensor, bias_N: Tensor) -> Tensor:
    """F.linear(x, weight, bias).amax(-2): [..., K, F] -> [..., N]. Of equally large points the first has the gradient.

    On a CPU, in float32 and in training, by the kernels below; differentiable once. Elsewhere as it is written.
    """
    if not _served(x, weight_NF):
        return F.linear(x, weight_NF, bias_N).amax(-2)
    return _Largest.apply(x, weight_NF) + bias_N  # the same number: rounding keeps order


def _served(x: Tensor, weight: Tensor) -> bool:
    return bool(
        torch.is_grad_enabled()
        and (x.requires_grad or weight.requires_grad)
        and x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel()
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


class _Largest(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        from isoform.pointcloud.ops.compiled_largest import largest

        x_PKF = x.reshape(-1, *x.shape[-2:])
        sets, points, _ = x_PKF.shape
        found = x.new_empty(sets, len(weight))
        chosen = torch.empty(found.shape, dtype=torch.int32)
        step = max(1, PART // (points * len(weight)))
        for at in range(0, sets, step):
            part = slice(at, at + step)
            value_PKN = product(x_PKF[part], weight)
            largest(value_PKN.numpy(), found[part].numpy(), chosen[part].numpy())
        ctx.save_for_backward(x, weight, chosen)
        return found.reshape(*x.shape[:-2], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_found: Tensor) -> tuple[Tensor | None, Tensor | None]:
        from isoform.pointcloud.ops.compiled_largest import spread_to_points, spread_to_weight

        x, weight, chosen = ctx.saved_tensors
        wants_x, wants_weight = ctx.needs_input_grad
        d_PN = np.ascontiguousarray(d_found.reshape(chosen.shape).numpy())
        d_x = d_weight = None
        if wants_weight:
            x_PKF = np.ascontiguousarray(x.detach().reshape(-1, *x.shape[-2:]).numpy())
            d_weight = torch.zeros_like(weight, memory_format=torch.contiguous_format)
            spread_to_weight(d_PN, chosen.numpy(), x_PKF, d_weight.numpy())
        if wants_x:
            d_x = x.new_zeros(x.shape)
            d_x_PKF = d_x.view(-1, *x.shape[-2:]).numpy()
            rows = np.ascontiguousarray(weight.detach().numpy())
            spread_to_points(d_PN, chosen.numpy(), rows, d_x_PKF)
        return d_x, d_weight
