"""Blocks whose weights, gradients and optimiser state are divided among the processes (train.shard = "full").

PyTorch's FSDP2 (Zhao et al. 2023, arXiv:2304.11277; after ZeRO-3, Rajbhandari et al. 2020, arXiv:1910.02054): a block
is gathered whole while it is worked on. What stands outside the blocks is small and stays whole everywhere, and so does
what isn't trained: a task may work with it before the model's own forward pass, which is where gathering begins.

A divided tensor is a DTensor whose rows lie with the processes in order. The engine computes with the part that lies
here; for any other tensor the part is the tensor.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from isoform.core.engine.distributed import Process

_BLOCK = re.compile(r"(?:.*\.)?blocks\.\d+")


def divide(model: nn.Module) -> nn.Module:
    """The same model with every block divided among the processes; gradients are sums over them."""
    from torch.distributed.fsdp import FSDPModule, fully_shard  # heavy, and of use to few

    for name, block in list(model.named_modules()):
        if _BLOCK.fullmatch(name) and any(p.requires_grad for p in block.parameters()):
            fully_shard(block, reshard_after_forward=True)
    whole = {p for p in model.parameters() if not is_divided(p)}
    fully_shard(model, ignored_params=whole)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return model


def is_divided(tensor: Tensor) -> bool:
    """Whether each process holds a part of it."""
    return hasattr(tensor, "device_mesh")


def part_of(tensor: Any) -> Tensor:
    """What this process holds of it, in the same memory, with the part of its gradient."""
    if not is_divided(tensor):
        return tensor
    part: Tensor = tensor.detach().to_local()
    if tensor.grad is not None:
        part.grad = tensor.grad.to_local()
    return part


def first_row(tensor: Any) -> int:
    """The row of the whole at which this process's part begins."""
    if not is_divided(tensor):
        return 0
    rows = -(-tensor.shape[0] // tensor.device_mesh.size())
    return min(rows * int(tensor.device_mesh.get_rank()), int(tensor.shape[0]))


def like(whole: Tensor, tensor: Any) -> Tensor:
    """`whole`, divided as `tensor` is."""
    if not is_divided(tensor) or not whole.ndim:
        return whole
    from torch.distributed.tensor import DTensor

    start, rows = first_row(tensor), len(part_of(tensor))
    own = whole[start : start + rows].to(tensor.device).clone()
    return DTensor.from_local(
        own,
        tensor.device_mesh,
        tensor.placements,
        run_check=False,
        shape=tensor.shape,
        stride=tensor.stride(),
    )


def total_norm(gradients: Sequence[Tensor], process: Process) -> Tensor:
    """The Euclidean norm of all gradients together, the same in every process."""
    divided = [part_of(g) for g in gradients if is_divided(g)]
    if not divided:
        return torch.nn.utils.get_total_norm(gradients)
    kept = [g for g in gradients if not is_divided(g)]
    squares = process.sum(torch.nn.utils.get_total_norm(divided).double().square())
    return (squares + torch.nn.utils.get_total_norm(kept).double().square()).sqrt().float()


class Whole:
    """A plain copy of a divided model, to judge and to load into."""

    def __init__(self, model: nn.Module) -> None:
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def take(self, model: nn.Module) -> nn.Module:
        """The copy with the weights of the divided `model`; every process must ask."""
        theirs: dict[str, Any] = model.state_dict()
        for name, mine in self.model.state_dict().items():
            other = theirs[name]
            mine.copy_(other.full_tensor() if is_divided(other) else other)
        return self.model

    @torch.no_grad()
    def give(self, model: nn.Module) -> None:
        """The copy's weights to the divided `model`."""
        mine = self.model.state_dict()
        for name, theirs in model.state_dict().items():
            part_of(theirs).copy_(part_of(like(mine[name], theirs)))
