"""An exported graph, opened by its own engine: what it says of itself, and how it answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.domain import Graph
from isoform.core.errors import UserError

FACTS = "isoform"  # the entry of a graph's metadata that holds what a consumer needs, as JSON


@dataclass(frozen=True)
class OpenedGraph:
    """`answer` takes the inputs by these names and gives the one output."""

    facts: Mapping[str, Any]
    inputs: Sequence[str]
    answer: Callable[[dict[str, np.ndarray]], np.ndarray]


def open_onnx(path: Path) -> OpenedGraph:
    """By onnxruntime, on the CPU. Raises UserError where it isn't installed or can't read the file."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed: pip install 'isoform[export]'") from error
    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        facts = json.loads(session.get_modelmeta().custom_metadata_map.get(FACTS, "{}"))
    except Exception as error:  # onnxruntime has an exception of its own for every kind of damage
        raise _unreadable(path, error) from error
    names = [one.name for one in session.get_inputs()]
    return OpenedGraph(facts, names, lambda inputs: np.asarray(session.run(None, inputs)[0]))


def open_openvino(path: Path) -> OpenedGraph:
    """By OpenVINO in float32, on the CPU. Raises as `open_onnx`."""
    try:
        import openvino
    except ImportError as error:
        raise UserError("openvino is not installed: pip install 'isoform[export]'") from error
    try:
        model = openvino.Core().read_model(path)
        entry = model.get_rt_info(FACTS) if model.has_rt_info(FACTS) else "{}"
        facts = json.loads(getattr(entry, "value", entry))
        compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    except (RuntimeError, ValueError) as error:
        raise _unreadable(path, error) from error
    names = [one.any_name for one in compiled.inputs]
    return OpenedGraph(facts, names, lambda inputs: next(iter(compiled(inputs).values())))


def _unreadable(path: Path, error: Exception) -> UserError:
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return UserError(f"{path}: can't be read ({first[:120]}); export it again")


class GraphModel(nn.Module):
    """A graph in another engine in a model's place, called as the model is: inputs by place or by name."""

    def __init__(self, graph: Graph, opened: OpenedGraph) -> None:
        super().__init__()
        self.names = list(graph.example(1))
        self.inputs_of, self.opened = graph.inputs_of, opened
        # Where a caller looks for the device.
        self.device_mark = nn.Parameter(torch.empty(0), requires_grad=False)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The graph's one output, float32."""
        if self.inputs_of is not None:
            given = self.inputs_of(*inputs, **named)
        else:
            given = {**dict(zip(self.names, inputs, strict=False)), **named}
        answer = self.opened.answer({name: given[name].numpy() for name in self.opened.inputs})
        return torch.from_numpy(answer.copy())

    def features(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Raises UserError: the graph ends in predictions."""
        raise UserError(
            "the openvino engine gives predictions only: embed with engine eager or packed"
        )
