"""A run's model in other formats: what every domain's `isoform DOMAIN export RUN --format ... --out PATH` shares.

    safetensors  our names and, as the one metadata entry, the configuration, task.json, calibration and seen.npz
    onnx         one .onnx file, any batch size, checked against the model with onnxruntime
    openvino     PATH.xml beside PATH.bin, float32
    bundle       a zip of the smallest run folder that predicts elsewhere

The licence of initial weights goes with every one of them, and is named in a warning where it is NonCommercial.
"""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from isoform.core.config import dump_toml
from isoform.core.domain import AnyDomain, Export, Graph, TrainedModel
from isoform.core.errors import UserError
from isoform.core.inference.opened import FACTS, open_onnx, open_openvino
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs.exported import BUNDLED, METADATA, MOST_DIGESTS, json_of, text_of_digests
from isoform.core.runs.folder import RunFolder

TOLERANCE = 1e-4  # of the largest output, between our model and another engine's


def base_formats(domain: AnyDomain) -> dict[str, Export]:
    """The formats that every domain has, by name."""
    return {
        "safetensors": write_safetensors,
        "safetensors16": write_safetensors16,
        "bundle": write_bundle,
        "onnx": lambda trained, out: write_onnx(trained, domain.graph(trained), out),
        "openvino": lambda trained, out: write_openvino(trained, domain.graph(trained), out),
    }


def warn_of_licence(trained: TrainedModel[Any, Any]) -> None:
    """A warning where the weights started from ones that are not for commercial use."""
    words = trained.licence.lower().replace("/", "-").split("-")
    if "nc" in words or "noncommercial" in trained.licence.lower():
        warnings.warn(
            f"the weights started from {trained.licence}: not for commercial use", stacklevel=3
        )


def write_safetensors(
    trained: TrainedModel[Any, Any], out: Path, weights: Mapping[str, Tensor] | None = None
) -> None:
    """Our names, with all else that predicting takes as JSON in the metadata entry "isoform"; the run's own weights."""
    about = {
        "config": dump_toml(trained.config),
        "task": trained.state.to_json(),
        "precision": trained.precision,
        "step": trained.step,
    }
    if trained.state.calibration:
        about["calibration"] = json_of(trained.state.calibration)
    if trained.state.seen is not None and len(trained.state.seen) <= MOST_DIGESTS:
        about["seen"] = text_of_digests(trained.state.seen)
    save_file(dict(weights or trained.weights()), out, metadata={METADATA: json.dumps(about)})


def write_safetensors16(trained: TrainedModel[Any, Any], out: Path) -> None:
    """The same with weights rounded to float16, in half the space; reading them computes in float32 again.

    Raises UserError for a number that float16 can't hold.
    """
    weights = trained.weights()
    halves = {
        name: value.half() if value.is_floating_point() else value
        for name, value in weights.items()
    }
    for name, half in halves.items():
        if bool((half.isinf() & weights[name].isfinite()).any()):
            raise UserError(
                f"{name} holds {weights[name].abs().max():g}, and float16 at most 65504; export --format safetensors"
            )
    write_safetensors(trained, out, halves)


def write_bundle(trained: TrainedModel[Any, Any], out: Path) -> None:
    """A zip of what predicting needs, results, card, and one checkpoint without its optimiser."""
    with tempfile.TemporaryDirectory() as made:
        small = RunFolder(Path(made) / "run")
        small.path.mkdir()
        for name in BUNDLED:
            if (trained.folder / name).is_file():
                shutil.copyfile(trained.folder / name, small.path / name)
        state = {"place": {"step": trained.step, "best_step": trained.step}}
        checkpoints.write(
            small.checkpoints,
            trained.step,
            checkpoints.Checkpoint(trained.weights(), None, {}, state),
        )
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(small.path.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(small.path))


def write_onnx(trained: TrainedModel[Any, Any], graph: Graph, out: Path) -> None:
    """One .onnx file. Raises UserError where an exporter is missing, RuntimeError where onnxruntime disagrees."""
    onnx_file(graph, out, facts_of(trained, graph))
    check_agreement(graph, open_onnx(out).answer, out, "onnxruntime")


def write_openvino(trained: TrainedModel[Any, Any], graph: Graph, out: Path) -> None:
    """OpenVINO's pair of files, from the ONNX form; raises as `write_onnx`."""
    try:
        import openvino
    except ImportError as error:
        raise UserError("openvino is not installed: pip install 'isoform[export]'") from error
    out = openvino_file(out)
    with tempfile.TemporaryDirectory() as folder:
        onnx_file(graph, Path(folder) / "model.onnx")
        model = openvino.convert_model(Path(folder) / "model.onnx")
    model.set_rt_info(facts_of(trained, graph), FACTS)
    openvino.save_model(model, out, compress_to_fp16=False)
    check_agreement(graph, open_openvino(out).answer, out, "OpenVINO")


def is_written(out: Path) -> bool:
    """Whether something that was exported to `out` is there."""
    return out.exists() or openvino_file(out).exists()


def openvino_file(out: Path) -> Path:
    """Where the graph of the pair of files is."""
    return out if out.suffix == ".xml" else out.with_name(out.name + ".xml")


def check_agreement(
    graph: Graph, other: Callable[[dict[str, np.ndarray]], Any], out: Path, name: str
) -> None:
    """Raises RuntimeError, and removes the file, where the other engine answers differently at an unseen batch size."""
    inputs = graph.example(2)
    with torch.no_grad():
        ours = graph.module(**inputs).numpy()
    theirs = np.asarray(other({key: value.numpy() for key, value in inputs.items()}))
    worst = float(np.abs(ours - theirs).max()) if ours.shape == theirs.shape else float("inf")
    if not worst <= TOLERANCE * max(1.0, float(np.abs(ours).max())):
        out.unlink(missing_ok=True)
        raise RuntimeError(f"{name} answers differently by {worst:.2g}: the file was not kept")


def facts_of(trained: TrainedModel[Any, Any], graph: Graph) -> str:
    """What a run's graph says of itself in its file: JSON."""
    facts = {**graph.facts, "licence": trained.licence}
    if trained.state.calibration:
        facts["calibration"] = json_of(trained.state.calibration)
    return json.dumps(facts)


def onnx_file(graph: Graph, out: Path, facts: str = "{}") -> None:
    """The graph as one .onnx file. Raises UserError where an exporter is missing."""
    try:
        import onnx
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(
            "onnx and onnxscript are not installed: pip install 'isoform[export]'"
        ) from error
    inputs = graph.example(3)
    dims: dict[str, Any] = {"batch": torch.export.Dim("batch")}
    shapes = {}
    for name in inputs:
        axes = {0: "batch", **graph.free.get(name, {})}
        shapes[name] = {
            axis: dims.setdefault(dim, torch.export.Dim(dim)) for axis, dim in axes.items()
        }
    logging.getLogger("onnxscript").setLevel(
        logging.ERROR
    )  # what its optimiser leaves as it is, isn't for a reader
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            graph.module,
            kwargs=inputs,
            dynamo=True,
            input_names=list(inputs),
            output_names=[graph.output],
            dynamic_shapes=shapes,
            external_data=False,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, {FACTS: facts})
    onnx.save(proto, out)
