"""Copies of a model that only answer, and answer faster: other precisions, packed weights, other engines.

The model that was trained is left as it is; `predict` keeps using it in the precision its metrics were measured in.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from isoform.core.errors import UserError
from isoform.core.ops.matmul import AVAILABLE
from isoform.core.tokens import Tokens

Precision = Literal["fp32", "bf16"]
# Numbers in a weight below which a call of oneDNN's costs as much as it saves.
SMALLEST_WEIGHT = 2**15
DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


def optimise(model: nn.Module, precision: Precision = "fp32") -> nn.Module:
    """A copy of `model` in evaluation mode that holds and computes everything in `precision`.

    On a CPU the larger weights of its linear layers are laid out once as oneDNN's products want them, but for layers
    that a module computes with by their weights, which it names in `reads_weights_of`. The copy takes what the model
    takes (floating-point tensors, and the features of Tokens, are converted) and answers in float32, without gradients.
    "fp32" answers as the model does but for rounding, "bf16" to about two decimal digits.
    """
    dtype = DTYPES[precision]
    fast = copy.deepcopy(model).eval().requires_grad_(False).to(dtype)
    # Processors without the instructions for bfloat16 are refused by oneDNN and served by PyTorch.
    packs = AVAILABLE and (dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    for parent in list(fast.modules()):
        read = getattr(parent, "reads_weights_of", ())
        for name, child in parent.named_children():
            if packs and isinstance(child, nn.Linear) and name not in read and _is_large(child):
                setattr(parent, name, PackedLinear(child))
    return Converted(fast, dtype)


def _is_large(linear: nn.Linear) -> bool:
    weight = linear.weight
    return weight.device.type == "cpu" and weight.numel() >= SMALLEST_WEIGHT


class PackedLinear(nn.Module):
    """A linear layer that can't be trained any more: its weight is in the layout of oneDNN's products."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous())
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: Tensor) -> Tensor:
        """[..., K] -> [..., N]."""
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class Converted(nn.Module):
    """A model whose inputs are converted to `dtype` and whose outputs to float32."""

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.model, self.dtype = model, dtype

    @torch.inference_mode()
    def forward(self, *inputs: Any, **named: Any) -> Any:
        """What the model answers."""
        return self._answer(self.model, inputs, named)

    @torch.inference_mode()
    def features(self, *inputs: Any, **named: Any) -> Any:
        """What the model's `features` give."""
        features: Any = self.model.features
        return self._answer(features, inputs, named)

    def _answer(self, function: Any, inputs: Any, named: Any) -> Any:
        inputs, named = tree_map(
            self._convert, (inputs, named), is_leaf=lambda value: isinstance(value, Tokens)
        )
        return tree_map(
            lambda value: value.float() if _floating(value) else value, function(*inputs, **named)
        )

    def _convert(self, value: Any) -> Any:
        if isinstance(value, Tokens):
            return replace(
                value,
                x=self._convert(value.x),
                pos=self._convert(value.pos),
                cond=self._convert(value.cond),
            )
        return value.to(self.dtype) if _floating(value) else value


def _floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def openvino(
    model: nn.Module, example: Tensor, precision: Precision = "fp32", threads: int | None = None
) -> Callable[[Tensor], Tensor]:
    """`model` compiled by OpenVINO for tensors of the example's shape, on as many CPU threads as torch uses.

    Raises UserError where OpenVINO isn't installed.
    """
    try:
        import openvino as ov
    except ImportError as error:
        raise UserError("OpenVINO is not installed: pip install 'isoform[export]'") from error
    with torch.no_grad():
        exported = torch.export.export(copy.deepcopy(model).eval(), (example,))
    converted = ov.convert_model(exported)
    properties = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }
    compiled = ov.Core().compile_model(converted, "CPU", properties)
    request = compiled.create_infer_request()

    def answer(inputs: Tensor) -> Tensor:
        return torch.from_numpy(request.infer([inputs.numpy()], share_inputs=True)[0].copy())

    return answer
