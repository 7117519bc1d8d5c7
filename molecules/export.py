"""A run's model in other formats: `isoform molecules export RUN --format ... --out PATH`.

    official      {"model": state dict} in the names of microsoft/Graphormer (fairseq)
    transformers  a folder that GraphormerForGraphClassification.from_pretrained opens

and what every domain has: safetensors, bundle (core/inference/export.py). There is no onnx or openvino form: the model
attends over parts of a batch that it cuts by the molecules' sizes, which a fixed graph can't.
"""

from __future__ import annotations

import warnings
from pathlib import Path

from isoform.core.inference import export
from isoform.core.inference.export import Exported
from isoform.molecules.config import MoleculesApp
from isoform.molecules.graphormer.export_official import write_fairseq, write_transformers


def open_run(run: str | Path, checkpoint: str | int) -> tuple[Exported, MoleculesApp]:
    """A run's model and its configuration; see core's."""
    from isoform.molecules import DOMAIN

    found = export.open_run(DOMAIN, run, checkpoint)
    assert isinstance(found.config, MoleculesApp)
    return found, _sized(found.config, found)


def to_safetensors(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """Our names, with configuration and task.json as JSON in the metadata entry "isoform"."""
    export.write_safetensors(open_run(run, checkpoint)[0], out)


def to_official(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """A file of microsoft/Graphormer. Raises UserError, naming why, for a model that it lacks; warns of a scale."""
    found, app = open_run(run, checkpoint)
    write_fairseq(out, app, found.weights(), found.portable)
    _tell_scale(found)


def to_transformers(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """config.json and model.safetensors in a folder; raises and warns as `to_official`."""
    found, app = open_run(run, checkpoint)
    write_transformers(out, app, found.weights(), found.portable)
    _tell_scale(found)


def to_bundle(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """A zip of config.toml, task.json, calibration, results.json, card.md and one checkpoint without its optimiser."""
    export.write_bundle(open_run(run, checkpoint)[0], out)


def _sized(config: MoleculesApp, found: Exported) -> MoleculesApp:
    """With the number of outputs that an app leaves to its data, and which config.json has to name."""
    outputs = config.head.outputs or len(found.portable.get("names") or ())
    return config.model_copy(update={"head": config.head.model_copy(update={"outputs": outputs})})


def _tell_scale(found: Exported) -> None:
    scaling = found.portable.get("scaling")
    if scaling and (any(scaling["mean"]) or any(std != 1 for std in scaling["std"])):
        some = ", ".join(
            f"{m:g} + {s:g} * output" for m, s in zip(scaling["mean"][:3], scaling["std"][:3], strict=True)
        )
        more = ", ..." if len(scaling["mean"]) > 3 else ""
        warnings.warn(f"this format has no place for the targets' scale: a prediction is {some}{more}", stacklevel=3)
