"""Foreign ViTs in isoform's layout, and back: the five functions of isoform.core.pretrained.

source            timm:NAME[.TAG]  hf:OWNER/NAME[@REVISION]  a folder in the hub's layout  a checkpoint file
foreign_model.py  what a reader returns: weights and the tables it could tell
adapt.py          the tables wanted, and tables and kernels carried to another image, patch or channels
export_official.py  the way back
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.pretrained.settings import settings_of
from isoform.core.pretrained.source import (
    Source,
    choose_layout,
    read_source,
    unknown_layout,
)
from isoform.vision.config import VisionApp
from isoform.vision.state import Preprocessing, VisionState
from isoform.vision.vit.parameter_count import pair_of
from isoform.vision.vit.pretrained import adapt
from isoform.vision.vit.pretrained.augreg import from_npz
from isoform.vision.vit.pretrained.export_official import export_official, layout_of
from isoform.vision.vit.pretrained.files import HABITS, from_state, recognise_state
from isoform.vision.vit.pretrained.foreign_model import ForeignModel
from isoform.vision.vit.pretrained.hub import from_folder
from isoform.vision.vit.pretrained.timm_source import from_timm

FILE_LAYOUTS = (*HABITS, "augreg")
LAYOUTS = (*FILE_LAYOUTS, "timm:NAME")


def recognise(source: Source) -> str | None:
    """One of LAYOUTS, timm:NAME with the name; "transformers" for a folder of its. Raises UserError for an EVA."""
    if source.text.startswith("timm:"):
        return source.text
    if "architecture" in source.config:
        return f"timm:{source.config['architecture']}"
    if source.config.get("model_type") == "vit":
        return "transformers"
    return recognise_state(source.state, "model" in source.keys)


def import_checkpoint(
    source: str | Path | Source,
    layout: str | None = None,
    config: VisionApp | None = None,
    *,
    pretrained: bool = False,
    kwargs: Mapping[str, Any] | None = None,
) -> ImportedModel[VisionApp, VisionState]:
    """A foreign ViT, whole, in isoform's names, with the app config that rebuilds it.

    layout      one of LAYOUTS where a file isn't recognised; "timm:NAME" gives a file timm's architecture of that name
    config      settings: keys of tokeniser, backbone and head that somebody set are honoured (another image, patch,
                number of channels or outputs: tables and kernels are resized, a note says so) or refused
    pretrained  timm's published weights of timm:NAME (a name with a TAG asks for them too) instead of random ones
    kwargs      further arguments of timm.create_model where the architecture is timm's
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    if layout is not None and layout not in LAYOUTS and not layout.startswith("timm:"):
        raise unknown_layout(layout, LAYOUTS)
    opened = read_source(source)
    foreign = _read(opened, layout, config, pretrained, dict(kwargs or {}))
    original, target = adapt.merge_settings(foreign, config)
    loaded = adapt.load(foreign, original, target, opened.text)
    return _assemble(foreign, config, target, loaded.weights, loaded.notes)


def initial_weights(source: str | Path | Source, config: VisionApp) -> InitialWeights:
    """The trained weights of a foreign ViT that `train.init` names; tables and kernels are carried over afterwards."""
    opened = read_source(source)
    imported = import_checkpoint(opened, pretrained=True)
    return InitialWeights(imported.weights, opened.name, config.domain, imported.licence)


def _read(
    source: Source,
    layout: str | None,
    config: VisionApp | None,
    pretrained: bool,
    kwargs: dict[str, Any],
) -> ForeignModel:
    if source.text.startswith("timm:"):
        name = source.text.removeprefix("timm:")
        return from_timm(name, pretrained=pretrained or "." in name, kwargs=kwargs)
    if source.folder is not None:
        return from_folder(source)
    if layout is not None and layout.startswith("timm:"):
        return from_timm(layout.removeprefix("timm:"), state=source.state, kwargs=kwargs)
    kind = choose_layout(source, layout, FILE_LAYOUTS, recognise, "a ViT")
    if kind == "augreg":
        return from_npz(source.state, _grid(config, source.state.get("embedding/kernel"), 0))
    return from_state(
        source.state, kind, _grid(config, source.state.get("patch_embed.proj.weight"), 2)
    )


def _grid(
    config: VisionApp | None,
    kernel: Tensor | None,
    axis: int,
) -> tuple[int, int] | None:
    """The grid of patches of the image size that is set, for a position table that isn't square."""
    size = settings_of(config, "tokeniser").get("image")
    if size is None or kernel is None:
        return None
    height, width = pair_of(size)
    return height // kernel.shape[axis], width // kernel.shape[axis + 1]


def _assemble(
    foreign: ForeignModel,
    config: VisionApp | None,
    target: adapt.Trio,
    weights: Mapping[str, Tensor],
    notes: tuple[str, ...],
) -> ImportedModel[VisionApp, VisionState]:
    base = config or VisionApp(domain="vision", app="imported")
    tokeniser, backbone, head = target
    data = base.data.model_copy(update=adapt.preprocessing(foreign, target, config))
    app = base.model_copy(
        update={"tokeniser": tokeniser, "backbone": backbone, "head": head, "data": data}
    )
    assert data.mean is not None and data.std is not None
    preprocessing = Preprocessing(
        size=pair_of(tokeniser.image),
        channels=tokeniser.channels,
        resize=data.resize,
        crop_pct=data.crop_pct,
        interpolation=data.interpolation,
        mean=data.mean,
        std=data.std,
    )
    state = VisionState(
        kind=data.task,
        classes=tuple(adapt.classes_of(foreign, target)),
        preprocessing=preprocessing,
        source={"layout": foreign.layout, **foreign.source},
    )
    return ImportedModel(
        app, dict(weights), state, foreign.layout, (*foreign.notes, *notes), foreign.licence
    )


__all__ = [
    "LAYOUTS",
    "export_official",
    "import_checkpoint",
    "initial_weights",
    "layout_of",
    "recognise",
]
