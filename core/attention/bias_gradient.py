"""The gradient of a bias that is never dense as a whole: gathered from what parts of the scores say.

B samples, H heads, R rows, M keys of a part.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from isoform.core.attention.bias import Bias, Dense


class BiasGradient:
    """Gradients of a bias value's leaves; `wanted` says of each leaf whether it is to be served."""

    def __init__(
        self, bias: Bias | None, wanted: tuple[bool, ...], q_BHND: Tensor, n_kv: int
    ) -> None:
        self.bias, self.wanted = bias, wanted
        leaves, spec = tree_flatten(bias)
        # Parts of a bias that nothing is shared in don't meet, so their gradients are simply put in place.
        self.unshared = isinstance(bias, Dense) and bias.b.shape == (*q_BHND.shape[:3], n_kv)
        new = torch.empty_like if self.unshared else torch.zeros_like
        self.leaves = [new(x) if want else x for x, want in zip(leaves, wanted, strict=True)]
        # A bias value made of gradients: slicing it gives views of what belongs to a part.
        self.value: Bias | None = tree_unflatten(self.leaves, spec)

    def part(self, batch: slice, rows: slice) -> BiasPart:
        """Chosen samples and rows."""
        if self.bias is None or self.value is None:
            return BiasPart(None, [], [], False)
        leaves, spec = tree_flatten(self.bias.slice(rows, batch))
        targets = self.chosen(tree_flatten(self.value.slice(rows, batch))[0])
        if self.unshared or not targets:
            return BiasPart(tree_unflatten(leaves, spec).to_dense(), [], targets, self.unshared)
        inputs = [x.detach().requires_grad_() for x in self.chosen(leaves)]
        fresh = iter(inputs)
        mixed = [next(fresh) if want else x for x, want in zip(leaves, self.wanted, strict=True)]
        with torch.enable_grad():
            dense = tree_unflatten(mixed, spec).to_dense()
        return BiasPart(dense, inputs, targets, False)

    def gradients(self) -> list[Tensor | None]:
        """One for each leaf, None where none is wanted."""
        return [x if want else None for x, want in zip(self.leaves, self.wanted, strict=True)]

    def chosen(self, leaves: list[Tensor]) -> list[Tensor]:
        """The leaves that are to be served."""
        return [x for x, want in zip(leaves, self.wanted, strict=True) if want]


class BiasPart:
    """A part of a bias: `dense`, broadcastable to its scores [B, H, R, M], and where its gradient goes."""

    def __init__(
        self, dense: Tensor | None, inputs: list[Tensor], targets: list[Tensor], unshared: bool
    ) -> None:
        self.dense, self.inputs, self.targets, self.unshared = dense, inputs, targets, unshared

    def add(self, ds_BHRM: Tensor) -> None:
        """Takes the gradient with respect to the scores."""
        if self.dense is None or not self.targets:
            return
        if self.unshared:
            self.targets[0].copy_(ds_BHRM)
            return
        grads = torch.autograd.grad(
            self.dense, self.inputs, ds_BHRM.sum_to_size(self.dense.shape).to(self.dense.dtype)
        )
        for target, grad in zip(self.targets, grads, strict=True):
            target += grad
