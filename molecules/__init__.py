"""The molecules domain: Graphormer and a graph transformer on the shared backbone. Its wiring; read it first."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoform.core.domain import Domain, lazily

if TYPE_CHECKING:
    from torch import nn


_later = lazily("isoform.molecules")


def create(name: str, *, pretrained: bool | str = False, features_only: bool = False, **options: Any) -> nn.Module:
    """A model by size ("graphormer-slim") or by the name of its app; see `isoform.molecules.models.create`."""
    model: nn.Module = _later("models:create")(name, pretrained=pretrained, features_only=features_only, **options)
    return model


DOMAIN = Domain(
    name="molecules",
    summary="molecules: properties from SMILES, with Graphormer",
    schema=lambda: import_module("isoform.molecules.config").MoleculesApp,
    settle=_later("settle:settle"),
    task=_later("task:MoleculesTask"),
    task_of_run=_later("task:task_of_run"),
    predictor=_later("predictor:MoleculePredictor"),
    rebuild=_later("task:rebuild"),
    check=_later("data.check:check"),
    expand_inputs=_later("predictor:expand_inputs"),
    import_weights=_later("graphormer.pretrained:import_checkpoint"),
    export={
        "safetensors": _later("export:to_safetensors"),
        "official": _later("export:to_official"),
        "transformers": _later("export:to_transformers"),
        "bundle": _later("export:to_bundle"),
    },
    describe=_later("describe:describe"),
)
