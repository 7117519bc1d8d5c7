"""Which engine answers for a trained model: the model itself, a packed copy, or OpenVINO; `predict --engine` chooses.

eager      the model as it was trained, in the precision that its stored metrics were measured in
packed     a copy that only answers, its larger weights laid out once for oneDNN: the same but for rounding
openvino   the same graph compiled by OpenVINO (predictions only)
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

import torch

from isoform.core.domain import AnyDomain, Graph, TrainedModel
from isoform.core.errors import UserError
from isoform.core.inference.export import onnx_file
from isoform.core.inference.opened import GraphModel, OpenedGraph
from isoform.core.inference.optimise import Precision, optimise
from isoform.core.supervised.ensemble import Adapted, Ensemble

Engine = Literal["eager", "packed", "openvino"]
ENGINES: tuple[Engine, ...] = ("eager", "packed", "openvino")


def with_engine(
    domain: AnyDomain, trained: TrainedModel[Any, Any], engine: str
) -> TrainedModel[Any, Any]:
    """The trained model with another engine in its model's place; it computes in `trained.precision` by itself.

    Raises UserError for an engine that isn't known or installed, and for a model that has no fixed graph (openvino).
    """
    if isinstance(trained.model, Ensemble):
        members = [
            with_engine(domain, replace(trained, model=member), engine)
            for member in trained.model.members
        ]
        model = Ensemble([member.model for member in members], trained.model.outputs)
        return replace(trained, model=model, precision=members[0].precision)
    if isinstance(trained.model, Adapted):
        own = trained.model
        inner = with_engine(domain, replace(trained, model=own.model), engine)
        return replace(inner, model=Adapted(inner.model, own.before, own.after))
    precision = cast(Precision, trained.precision)
    match engine:
        case "eager":
            return trained
        case "packed":
            return replace(trained, model=optimise(trained.model, precision), precision="fp32")
        case "openvino":
            compiled = compile_by_openvino(domain.graph(trained), precision)
            return replace(trained, model=compiled, precision="fp32")
    raise UserError(f"engine = {engine!r}: there are {', '.join(ENGINES)}")


def compile_by_openvino(graph: Graph, precision: Precision) -> GraphModel:
    """A graph compiled by OpenVINO for this machine's CPU. Raises UserError where OpenVINO isn't installed."""
    try:
        import openvino
    except ImportError as error:
        raise UserError("openvino is not installed: pip install 'isoform[export]'") from error
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        onnx_file(graph, file)
        converted = openvino.convert_model(file)
    hint = {"fp32": "f32", "bf16": "bf16"}[precision]
    properties = {
        "INFERENCE_PRECISION_HINT": hint,
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    compiled = openvino.Core().compile_model(converted, "CPU", properties)
    names = [one.any_name for one in compiled.inputs]
    answer = lambda inputs: next(iter(compiled(inputs).values()))  # noqa: E731
    return GraphModel(graph, OpenedGraph({}, names, answer))
