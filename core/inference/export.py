"""A run's model in other formats: what every domain's `isoform DOMAIN export RUN --format ... --out PATH` shares.

    safetensors  our names and, as the one metadata entry, the configuration and task.json
    onnx         one .onnx file, any batch size, checked against the model with onnxruntime
    openvino     PATH.xml beside PATH.bin, float32
    bundle       a zip of the smallest run folder that predicts elsewhere

The licence of initial weights goes with every one of them, and is named in a warning where it is NonCommercial.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from isoform.core.config import AppConfig, dump_toml, load_run_config
from isoform.core.domain import Domain
from isoform.core.engine.evaluate import load_model
from isoform.core.errors import UserError
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs.folder import RunFolder

TOLERANCE = 1e-4  # of the largest output, between our model and another engine's
BUNDLED = ("config.toml", "task.json", "calibration.npz", "results.json", "card.md")  # those that the run has


@dataclass(frozen=True)
class Exported:
    """A run as export sees it: its model in evaluation mode, averaged weights where it has them."""

    run: RunFolder
    config: AppConfig
    portable: dict[str, Any]
    model: nn.Module
    step: int  # of the checkpoint

    @property
    def licence(self) -> str:
        """Of the weights that this run started from; empty where it started from random ones."""
        return str(self.portable.get("licence") or self.portable.get("initial") or "")

    def weights(self) -> dict[str, Tensor]:
        """The state dict, contiguous as safetensors wants it."""
        return {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}


@dataclass(frozen=True)
class Graph:
    """How another engine calls the model: named inputs whose first axis is the batch, and one output.

    `module` takes the inputs of `example(batch)` by their names. `free`: names of other axes whose size may change, by
    input and axis. `facts`: JSON that a consumer needs beside the graph; the licence is added.
    """

    module: nn.Module
    example: Callable[[int], dict[str, Tensor]]
    output: str
    facts: Mapping[str, Any]
    free: Mapping[str, Mapping[int, str]] = field(default_factory=dict)


def open_run(domain: Domain, run: str | Path, checkpoint: str | int) -> Exported:
    """A run's model. Raises UserError where the folder isn't a run of `domain`; warns of a NonCommercial licence."""
    folder = RunFolder(run)
    config = load_run_config(folder.path, domain)
    model = load_model(domain, folder, checkpoint=checkpoint)
    # task.json as it stands: what is read from other files of the run is no JSON
    found = Exported(folder, config, folder.read_json("task.json"), model.eval(), folder.step_of(checkpoint))
    if "nc" in found.licence.lower().replace("/", "-").split("-") or "noncommercial" in found.licence.lower():
        warnings.warn(f"the weights started from {found.licence}: not for commercial use", stacklevel=4)
    return found


def write_safetensors(found: Exported, out: Path) -> None:
    """Our names, with configuration and task.json as JSON in the metadata entry "isoform"."""
    about = json.dumps({"config": dump_toml(found.config), "task": found.portable})
    save_file(found.weights(), out, metadata={"isoform": about})


def write_bundle(found: Exported, out: Path) -> None:
    """A zip of what predicting needs, results, card, and one checkpoint without its optimiser."""
    with tempfile.TemporaryDirectory() as made:
        small = RunFolder(Path(made) / "run")
        small.path.mkdir()
        for name in BUNDLED:
            if (found.run.path / name).is_file():
                shutil.copyfile(found.run.path / name, small.path / name)
        state = {"place": {"step": found.step, "best_step": found.step}}
        checkpoints.write(small.checkpoints, found.step, checkpoints.Checkpoint(found.weights(), None, {}, state))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(small.path.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(small.path))


def write_onnx(found: Exported, graph: Graph, out: Path) -> None:
    """One .onnx file. Raises UserError where an exporter is missing, RuntimeError where onnxruntime disagrees."""
    _onnx_file(found, graph, out)
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("onnxruntime is not installed: pip install 'isoform[export]'") from error
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    check_agreement(graph, lambda inputs: session.run(None, inputs)[0], out, "onnxruntime")


def write_openvino(found: Exported, graph: Graph, out: Path) -> None:
    """OpenVINO's pair of files, from the ONNX form; raises as `write_onnx`."""
    try:
        import openvino
    except ImportError as error:
        raise UserError("openvino is not installed: pip install 'isoform[export]'") from error
    if out.suffix != ".xml":
        out = out.with_name(out.name + ".xml")
    with tempfile.TemporaryDirectory() as folder:
        _onnx_file(found, graph, Path(folder) / "model.onnx")
        model = openvino.convert_model(Path(folder) / "model.onnx")
    model.set_rt_info(_facts(found, graph), "isoform")
    openvino.save_model(model, out, compress_to_fp16=False)
    compiled = openvino.Core().compile_model(out, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    check_agreement(graph, lambda inputs: next(iter(compiled(inputs).values())), out, "OpenVINO")


def check_agreement(graph: Graph, other: Callable[[dict[str, np.ndarray]], Any], out: Path, name: str) -> None:
    """Raises RuntimeError, and removes the file, where the other engine answers differently at an unseen batch size."""
    inputs = graph.example(2)
    with torch.no_grad():
        ours = graph.module(**inputs).numpy()
    theirs = np.asarray(other({key: value.numpy() for key, value in inputs.items()}))
    worst = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    if not worst <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
        out.unlink(missing_ok=True)
        raise RuntimeError(f"{name} answers differently by {worst:.2g}: the file was not kept")


def _facts(found: Exported, graph: Graph) -> str:
    return json.dumps({**graph.facts, "licence": found.licence})


def _onnx_file(found: Exported, graph: Graph, out: Path) -> None:
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError("onnx and onnxscript are not installed: pip install 'isoform[export]'") from error
    inputs = graph.example(3)
    dims: dict[str, Any] = {"batch": torch.export.Dim("batch")}
    shapes = {}
    for name in inputs:
        axes = {0: "batch", **graph.free.get(name, {})}
        shapes[name] = {axis: dims.setdefault(dim, torch.export.Dim(dim)) for axis, dim in axes.items()}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.module, kwargs=inputs, dynamo=True, input_names=list(inputs), output_names=[graph.output],
            dynamic_shapes=shapes, external_data=False, verbose=False,
        )  # fmt: skip
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {"isoform": _facts(found, graph)})
    onnx.save(proto, out)
