"""A run's model in the official code bases' formats, and as a graph for other engines.

official      {"model": state dict} in the names of microsoft/Graphormer (fairseq)
transformers  a folder that GraphormerForGraphClassification.from_pretrained opens
"""

from __future__ import annotations

import warnings
from pathlib import Path

from isoform.core.domain import TrainedModel
from isoform.molecules.config import MoleculesApp
from isoform.molecules.graphormer.export_official import write_fairseq
from isoform.molecules.graphormer.export_official import write_transformers as write_folder
from isoform.molecules.state import MoleculesState

Trained = TrainedModel[MoleculesApp, MoleculesState]


def write_official(trained: Trained, out: Path) -> None:
    """A file of microsoft/Graphormer. Raises UserError, naming why, for a model that it lacks; warns of a scale."""
    write_fairseq(out, with_outputs(trained), trained.weights(), trained.state)
    warn_of_scale(trained)


def write_transformers(trained: Trained, out: Path) -> None:
    """config.json and model.safetensors in a folder; raises and warns as `write_official`."""
    write_folder(out, with_outputs(trained), trained.weights(), trained.state)
    warn_of_scale(trained)


def with_outputs(trained: Trained) -> MoleculesApp:
    """The app with the number of outputs that it leaves to its data, and which config.json has to name."""
    config = trained.config
    outputs = config.head.outputs or trained.state.outputs
    return config.model_copy(update={"head": config.head.model_copy(update={"outputs": outputs})})


def warn_of_scale(trained: Trained) -> None:
    """A warning where predictions are the outputs times a scale that the format has no place for."""
    scaling = trained.state.scaling
    if scaling is None or not (any(scaling.mean) or any(std != 1 for std in scaling.std)):
        return
    some = ", ".join(f"{m:g} + {s:g} * output" for m, s in zip(scaling.mean[:3], scaling.std[:3], strict=True))
    more = ", ..." if len(scaling.mean) > 3 else ""
    warnings.warn(f"this format has no place for the targets' scale: a prediction is {some}{more}", stacklevel=4)
