"""Official checkpoints in isoform's layout, and back: what `isoform timeseries import` and `export` run.

layout        where it comes from
itransformer  thuml/iTransformer's checkpoint.pth: a bare state dict, perhaps with DataParallel's `module.`
tslib         the Time-Series-Library's iTransformer
samformer     romilbert/samformer's PyTorch code

Each function asks the family that it is about; see isoform.core.pretrained.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from torch import Tensor

from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.pretrained.source import Family, Source, choose_family, layouts_of, read_source
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.itransformer import pretrained as itransformer
from isoform.timeseries.samformer import pretrained as samformer
from isoform.timeseries.state import TimeseriesState

FAMILIES: Mapping[str, Family] = MappingProxyType(
    {"itransformer": itransformer, "samformer": samformer}
)
LAYOUTS = layouts_of(FAMILIES.values())
KIND = "a forecaster"


def import_checkpoint(
    source: str | Path | Source, layout: str | None = None, config: TimeseriesApp | None = None
) -> ImportedModel[TimeseriesApp, TimeseriesState]:
    """A foreign forecaster, whole, in isoform's names, with the app config that rebuilds it.

    layout   one of LAYOUTS where a file isn't recognised
    config   settings: what the file can't tell (heads, activation, use_norm) is taken from the keys that somebody set,
             else it is the official default and a note says so; a key that contradicts the file is refused
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    opened = read_source(source)
    return choose_family(FAMILIES.values(), opened, layout, KIND).import_checkpoint(
        opened, layout, config
    )


def export_official(
    config: TimeseriesApp,
    weights: Mapping[str, Tensor],
    state: TimeseriesState | None = None,
    layout: str | None = None,
) -> dict[str, Tensor]:
    """The weights under the names of the code base that they came from; of the family's own if they were born here.

    `state` (a run's task.json) names that code base, and holds what its model has beside ours. Importing gives the
    weights back bit for bit. Raises UserError, naming what differs, for a model that the official code can't build.
    """
    return FAMILIES[config.model.family].export_official(config, weights, state, layout)


def initial_weights(source: str | Path | Source, config: TimeseriesApp) -> InitialWeights:
    """The weights of an official checkpoint that `train.init` names; what it lacks starts fresh."""
    opened = read_source(source)
    return choose_family(FAMILIES.values(), opened, None, KIND).initial_weights(opened, config)


__all__ = ["FAMILIES", "LAYOUTS", "export_official", "import_checkpoint", "initial_weights"]
