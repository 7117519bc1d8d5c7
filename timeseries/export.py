"""A run's model in other formats: `isoform timeseries export RUN --format ... --out PATH`.

    official     checkpoint.pth of the code base that the weights came from, else of thuml/iTransformer

and what every domain has: safetensors, onnx, openvino, bundle (core/inference/export.py).

B windows, L rows of look-back, H rows of horizon, V variates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from isoform.core.inference import export
from isoform.core.inference.export import Exported, Graph
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.pretrained import export_official
from isoform.timeseries.sizes import Sizes

_FACTS = (
    "variates", "past", "known", "static", "calendar", "units", "freq", "tz", "season", "bounds", "scaling", "data",
)  # fmt: skip


def open_run(run: str | Path, checkpoint: str | int) -> tuple[Exported, TimeseriesApp]:
    """A run's model and its configuration; see core's."""
    from isoform.timeseries import DOMAIN

    found = export.open_run(DOMAIN, run, checkpoint)
    assert isinstance(found.config, TimeseriesApp)
    return found, found.config


def to_safetensors(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """Our names, with configuration and task.json as JSON in the metadata entry "isoform"."""
    export.write_safetensors(open_run(run, checkpoint)[0], out)


def to_official(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """A bare state dict in the official names, by the suffix safetensors or PyTorch's. Raises UserError."""
    found, app = open_run(run, checkpoint)
    state = export_official(app, found.weights(), found.portable)
    if out.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, out)
    else:
        torch.save(dict(state), out)


def to_onnx(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """Input `context` [B, L, V] scaled and gapless, and what else the model takes; output `forecast` [B, H, V, 1 + Q].

    The batch may have any size; so may V, the number of variates, of an iTransformer without RevIN. Names, scale and
    units are in the metadata.
    """
    found, app = open_run(run, checkpoint)
    export.write_onnx(found, graph_of(found, app), out)


def to_openvino(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """OpenVINO's pair of files, with the inputs and outputs of `to_onnx`."""
    found, app = open_run(run, checkpoint)
    export.write_openvino(found, graph_of(found, app), out)


def to_bundle(run: Path, out: Path, *, checkpoint: str | int = "best") -> None:
    """A zip of what forecasting elsewhere needs, calibration included, and one checkpoint without its optimiser."""
    export.write_bundle(open_run(run, checkpoint)[0], out)


def graph_of(found: Exported, app: TimeseriesApp) -> Graph:
    """Inputs of noise by the run's own numbers of columns, and the facts that a consumer needs."""
    sizes = Sizes.of_portable(found.portable)
    context, horizon = int(app.model.context), int(app.model.horizon)
    variates = sizes.variates or 7
    ahead = context + (horizon if app.tokeniser.calendar == "future" else 0)
    shapes: dict[str, tuple[int, ...]] = {"context": (context, variates)}
    if sizes.past:
        shapes["past"] = (context, sizes.past)
    if sizes.known:
        shapes["known"] = (context + horizon, sizes.known)
    if sizes.calendar:
        shapes["calendar"] = (ahead, sizes.calendar)
    if sizes.static:
        shapes["static"] = (sizes.static,)

    def example(batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(0)
        return {name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()}

    facts = {key: found.portable[key] for key in _FACTS if key in found.portable}
    facts |= {"context": context, "horizon": horizon, "levels": sorted(app.head.quantiles)}
    free: dict[str, dict[int, str]] = {}
    if app.model.family == "itransformer" and app.model.normalise != "revin":
        free["context"] = {2: "variates"}
    return Graph(found.model, example, "forecast", facts, free)


FORMATS: Mapping[str, Any] = {
    "safetensors": to_safetensors, "official": to_official, "onnx": to_onnx, "openvino": to_openvino,
    "bundle": to_bundle,
}  # fmt: skip
