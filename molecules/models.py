"""The domain's models, by the app's tables or by name.

B molecules, D features a token, K outputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from isoform.core.domain import Domain
from isoform.core.errors import UserError
from isoform.molecules.atoms import Batch
from isoform.molecules.config import MoleculesApp
from isoform.molecules.graphormer.model import SIZES, Graphormer, sized
from isoform.molecules.gt.model import GraphTransformer


def build_model(
    config: MoleculesApp, outputs: int = 0, spare: Mapping[str, Sequence[int]] | None = None, descriptors: int = 0
) -> Graphormer | GraphTransformer:
    """A fresh model of the app, from torch's global generator; `forward`, `features` and `tokens` take a batch.

    outputs       targets or classes where head.outputs leaves them to the data
    spare         portable()["source"]["spare"] of an imported model: see `Graphormer`
    descriptors   numbers a molecule that the head reads beside the graph (head.descriptors)
    Raises ValueError, naming the keys, for tables that contradict each other.
    """
    outputs = config.head.outputs or outputs
    if outputs < 1:
        raise ValueError("head.outputs = 0 leaves the number of outputs to data, and there are none")
    if config.model.family == "gt":
        if descriptors:
            raise ValueError('head.descriptors = true is known to model.family = "graphormer" alone')
        return GraphTransformer(config, outputs)
    return Graphormer(config, outputs, spare, descriptors)


class Features(nn.Module):
    """A model's trunk alone: a batch -> [B, D], what the head would read."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """[B, D]."""
        return cast(Any, self.model).features(batch)


def create(
    name: str, *, pretrained: bool | str = False, features_only: bool = False, outputs: int | None = None
) -> nn.Module:
    """A model in evaluation mode, which takes batches as `isoform.molecules.data.collate` makes them.

    name           "graphormer-slim", "-base" or "-large", or an app ("graphormer-qm9-gap")
    pretrained     a path: a run folder, or an official checkpoint or folder with weights of that shape; hf:OWNER/NAME
    features_only  gives [B, D] features instead of [B, K] outputs
    outputs        overrides the app's number of outputs (1 unless the app says otherwise)
    Raises UserError for an unknown name and for weights that can't be had or don't fit.
    """
    if pretrained is True:
        raise UserError(
            f"{name}: no published weights come with isoform; name a run folder, a checkpoint or hf:OWNER/NAME with "
            "pretrained="
        )
    model = _with_weights(name, pretrained) if pretrained else _fresh(_app(name), outputs or 1)
    model.eval()
    return Features(model) if features_only else model


def _domain() -> Domain:
    return cast(Domain, import_module("isoform.molecules").DOMAIN)


def _app(name: str) -> MoleculesApp:
    size = name.removeprefix("graphormer-")
    if size in SIZES and size != name:
        return MoleculesApp(domain="molecules", app=name, backbone=sized(size))
    from isoform.core.config import resolve_app

    return cast(MoleculesApp, resolve_app(name, domain=_domain()))


def _fresh(config: MoleculesApp, outputs: int) -> nn.Module:
    try:
        return build_model(config, outputs)
    except ValueError as error:
        raise UserError(f"{config.app}: {error}") from None


def _with_weights(name: str, source: str) -> nn.Module:
    if (Path(source) / "task.json").exists():
        from isoform.core.engine.evaluate import load_model
        from isoform.core.runs.folder import RunFolder

        return load_model(_domain(), RunFolder(source))
    from isoform.molecules.graphormer.pretrained import import_checkpoint

    imported = import_checkpoint(source, None, _app(name))
    model = build_model(cast(MoleculesApp, imported.config), spare=imported.portable["source"]["spare"])
    model.load_state_dict(dict(imported.weights))
    return model


__all__ = ["Features", "build_model", "create"]
