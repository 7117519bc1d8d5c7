"""A run's model for other engines, and `isoform timeseries export RUN --format official`.

What every domain has (safetensors, onnx, openvino, bundle) is core's, by `graph`.

B windows, L rows of look-back, H rows of horizon, V variates.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from isoform.core.domain import Graph, TrainedModel
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.pretrained import export_official
from isoform.timeseries.sizes import Sizes
from isoform.timeseries.state import TimeseriesState

# Of task.json what a consumer of a graph needs.
_FACTS = (
    "variates", "past", "known", "static", "calendar", "units", "freq", "tz", "season", "bounds", "scaling", "data",
)  # fmt: skip

_DATA_FACTS = (
    "fill",
    "holidays",
)  # of the settings, how gaps are mended and whose holidays are known


def config_of_facts(app: TimeseriesApp, facts: Mapping[str, Any]) -> TimeseriesApp:
    """The settings as an exported graph's facts tell them."""
    model = {"context": facts["context"], "horizon": facts["horizon"]}
    return app.model_copy(
        update={
            "data": app.data.model_copy(update={name: facts[name] for name in _DATA_FACTS}),
            "model": app.model.model_copy(update=model),
            "head": app.head.model_copy(update={"quantiles": tuple(facts["levels"])}),
        }
    )


def write_official(trained: TrainedModel[TimeseriesApp, TimeseriesState], out: Path) -> None:
    """A bare state dict in the official names, by the suffix safetensors or PyTorch's. Raises UserError."""
    state = export_official(trained.config, trained.weights(), trained.state)
    if out.suffix == ".safetensors":
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, out)
    else:
        torch.save(dict(state), out)


def graph(trained: TrainedModel[TimeseriesApp, TimeseriesState]) -> Graph:
    """Input `context` [B, L, V] scaled and gapless, and what else the model takes; output `forecast` [B, H, V, 1 + Q].

    The batch may have any size; so may V, the number of variates, of an iTransformer without RevIN. Names, scale and
    units are among the facts. The example's inputs are noise, by the run's own numbers of columns.
    """
    app, sizes = trained.config, Sizes.of_state(trained.state)
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
        return {
            name: torch.randn(batch, *shape, generator=generator) for name, shape in shapes.items()
        }

    facts: dict[str, Any] = {
        key: value for key, value in trained.state.to_json().items() if key in _FACTS
    }
    facts |= {"context": context, "horizon": horizon, "levels": sorted(app.head.quantiles)}
    facts |= {name: getattr(app.data, name) for name in _DATA_FACTS}
    free: dict[str, dict[int, str]] = {}
    if app.model.family == "itransformer" and app.model.normalise != "revin":
        free["context"] = {2: "variates"}
    return Graph(trained.model, example, "forecast", facts, free)
