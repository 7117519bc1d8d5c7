"""`export --verify`: an exported file, read back by itself, against its run on real inputs.

What the file says of itself (preprocessing, classes, scale) must be what the run says, and the inputs, prepared as the
file says, must get the model's outputs: bit for bit from a bundle, within TOLERANCE in float32 from the others.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.config import dump_toml
from isoform.core.domain import AnyDomain, TrainedModel
from isoform.core.engine.evaluate import load_weights
from isoform.core.errors import UserError
from isoform.core.inference.export import facts_of, openvino_file
from isoform.core.inference.opened import GraphModel, open_onnx, open_openvino
from isoform.core.inference.run_model import PredictorInPrecision, load_trained
from isoform.core.runs.exported import arrays_of, as_run

TOLERANCE = 1e-5  # of the largest output: what engines that round differently leave between them

Trained = TrainedModel[Any, Any]


@dataclass(frozen=True)
class Agreement:
    """Of the outputs of a run and of its exported file on the same inputs."""

    inputs: int
    largest_difference: float
    largest_output: float

    def to_json(self) -> dict[str, Any]:
        """By name."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"the file answers as the run does on {self.inputs} input(s): outputs of up to {self.largest_output:.4g}, "
            f"{self.largest_difference:.2g} apart at most"
        )


def verify(
    domain: AnyDomain, trained: Trained, kind: str, file: Path, inputs: Sequence[str]
) -> Agreement:
    """How far an exported file and its run are apart on these inputs, as the command line names them.

    Raises UserError where the file says something else of itself than the run, answers differently, or none of the
    inputs can be read.
    """
    other = read_back(domain, trained, kind, file)
    if kind != "bundle":  # which computes as the run does, in the run's own precision
        trained, other = (replace(one, precision="fp32") for one in (trained, other))
    ours_N, count = _outputs(domain, trained, inputs)
    with warnings.catch_warnings():  # of what the run was given they have been said
        warnings.simplefilter("ignore")
        theirs_N, _ = _outputs(domain, other, inputs)
    largest = float(np.nanmax(np.abs(ours_N)))
    same = ours_N.shape == theirs_N.shape and bool((np.isnan(ours_N) == np.isnan(theirs_N)).all())
    apart = float(np.nanmax(np.abs(ours_N - theirs_N))) if same else np.inf
    allowed = 0.0 if kind == "bundle" else TOLERANCE * largest
    if not apart <= allowed:
        raise UserError(
            f"{file.name}: answers differently from {trained.folder} on {count} input(s), by up to {apart:.2g} where "
            f"the run's outputs reach {largest:.4g} and {allowed:.2g} is allowed; export the run again"
        )
    return Agreement(count, apart, largest)


def read_back(domain: AnyDomain, trained: Trained, kind: str, file: Path) -> Trained:
    """What an exported file holds, in the run's place.

    Raises UserError for a file that is damaged, or whose metadata are not the run's.
    """
    if kind in ("bundle", "safetensors"):
        with as_run(file) as folder:
            found = load_trained(domain, folder)
        _refuse_other_facts(file, _facts_of_run(found), _facts_of_run(trained))
        return replace(found, folder=trained.folder)
    if kind in ("onnx", "openvino"):
        opened = open_onnx(file) if kind == "onnx" else open_openvino(openvino_file(file))
        graph = domain.graph(trained)
        _refuse_other_facts(file, opened.facts, json.loads(facts_of(trained, graph)))
        found = domain.from_facts(trained, opened.facts)
        arrays = {"calibration": arrays_of(opened.facts.get("calibration", {})) or None}
        state = found.state.model_copy(update=arrays)
        return replace(found, state=state, model=GraphModel(graph, opened))
    return _imported(domain, trained, kind, file)


def _imported(domain: AnyDomain, trained: Trained, kind: str, file: Path) -> Trained:
    """A format of the domain's own, as `import` reads it."""
    telling = kind in domain.telling_formats
    found = domain.import_weights(str(file), None, None if telling else trained.config)
    model = domain.build_from_run(found.config, found.state)
    load_weights(model, found.weights, file.name)
    other = replace(trained, model=model.eval())
    if not telling:
        return other
    config = found.config.model_copy(update={"eval": trained.config.eval})
    return replace(other, config=config, state=found.state)


def _outputs(domain: AnyDomain, trained: Trained, inputs: Sequence[str]) -> tuple[np.ndarray, int]:
    """The outputs, and of how many inputs: what can't be read has none."""
    predictor = PredictorInPrecision(domain.predictor(trained), trained.precision)
    items = predictor.expand(domain.expand_inputs(inputs))
    if not items:
        raise UserError(f"--verify {' '.join(inputs)}: holds nothing that can be predicted on")
    outputs = predictor.outputs(items)
    if len(outputs) != len(items):  # of time series all numbers of all files
        return outputs, len(items)
    unread = np.isnan(outputs.reshape(len(items), -1)).all(1)
    return outputs, len(items) - int(unread.sum())


def _facts_of_run(trained: Trained) -> dict[str, Any]:
    return {**trained.state.to_json(), "config": dump_toml(trained.config)}


def _refuse_other_facts(file: Path, told: Mapping[str, Any], want: Mapping[str, Any]) -> None:
    """Raises UserError with the first row in which they differ."""
    for name in (*want, *told):
        if json.dumps(told.get(name)) != json.dumps(want.get(name)):  # NaN is NaN here
            raise UserError(
                f"{file.name}: says another {name!r} of itself than the run; export the run again"
            )
