"""The domain's models, by the app's tables or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from torch import nn

from isoform.core.errors import UserError
from isoform.molecules.adit.config import DENOISERS, AditApp, app_of_size
from isoform.molecules.config import MoleculesApp
from isoform.molecules.graphormer.model import SIZES, Graphormer, sized
from isoform.molecules.gt.model import GraphTransformer
from isoform.molecules.state import MoleculesState


def build_model(
    config: MoleculesApp,
    outputs: int = 0,
    spare: Mapping[str, Sequence[int]] | None = None,
    descriptors: int = 0,
) -> Graphormer | GraphTransformer:
    """A fresh model of the app, from torch's global generator; `forward`, `features` and `tokens` take a batch.

    outputs       targets or classes where head.outputs leaves them to the data
    spare         MoleculesState.spare of an imported model: see `Graphormer`
    descriptors   numbers a molecule that the head reads beside the graph (head.descriptors)
    Raises ValueError, naming the keys, for tables that contradict each other.
    """
    outputs = config.head.outputs or outputs
    if outputs < 1:
        raise ValueError(
            "head.outputs = 0 leaves the number of outputs to data, and there are none"
        )
    if config.model.family == "gt":
        return GraphTransformer(config, outputs)
    return Graphormer(config, outputs, spare, descriptors)


def make_model(
    config: MoleculesApp,
    outputs: int = 0,
    spare: Mapping[str, Sequence[int]] | None = None,
    descriptors: int = 0,
) -> Graphormer | GraphTransformer:
    """`build_model`, whose contradicting tables are the user's mistake. Raises UserError."""
    try:
        return build_model(config, outputs, spare, descriptors)
    except ValueError as error:
        raise UserError(str(error)) from None


def build_from_run(config: MoleculesApp, state: MoleculesState) -> nn.Module:
    """The model of a run, without its data."""
    return make_model(config, state.outputs, state.spare, state.descriptor_count)


def app_of_model(
    name: str, outputs: int | None = None
) -> tuple[MoleculesApp | AditApp, MoleculesState]:
    """What a model is made from by its name: "graphormer-slim", "-base", "-large", "adit-s", "-b", "-l", or an app.

    outputs   overrides the app's number of outputs, which is 1 unless the app says otherwise
    Raises UserError for an unknown name.
    """
    size = name.removeprefix("graphormer-")
    if size in SIZES and size != name:
        config = MoleculesApp(domain="molecules", app=name, backbone=sized(size))
    else:
        from isoform.core.config import resolve_app
        from isoform.molecules import DOMAIN

        if name.removeprefix("adit-").upper() in DENOISERS:
            return app_of_size(denoiser=name.removeprefix("adit-").upper()), MoleculesState()
        resolved = resolve_app(name, domain=DOMAIN)
        if isinstance(resolved, AditApp):
            return resolved, MoleculesState()
        config = cast(MoleculesApp, resolved)
    if outputs is not None:
        config = config.model_copy(
            update={"head": config.head.model_copy(update={"outputs": outputs})}
        )
    names = tuple(str(number) for number in range(1, (config.head.outputs or 1) + 1))
    return config, MoleculesState(names=names)
