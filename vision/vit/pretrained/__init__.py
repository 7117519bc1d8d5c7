"""Foreign ViTs in isoform's layout: `import_checkpoint` is what `isoform vision import` runs.

source      timm:NAME[.TAG]  hf:OWNER/NAME[@REVISION]  a folder in the hub's layout  a checkpoint file
found.py    what a reader returns: weights and the tables it could tell
adapt.py    the tables wanted, and tables and kernels carried to another image, patch or channels
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from isoform.core.domain import ImportedModel
from isoform.core.errors import UserError
from isoform.core.pretrained import state_dict_of
from isoform.core.pretrained.checkpoint_file import read_checkpoint
from isoform.vision.config import VisionApp
from isoform.vision.state import Preprocessing, VisionState
from isoform.vision.vit.pretrained import adapt
from isoform.vision.vit.pretrained.augreg import from_npz
from isoform.vision.vit.pretrained.files import HABITS, from_state, recognise
from isoform.vision.vit.pretrained.found import Found
from isoform.vision.vit.pretrained.hub import from_folder, from_hub
from isoform.vision.vit.pretrained.timm_source import from_timm
from isoform.vision.vit.tokeniser import pair_of

LAYOUTS = (*HABITS, "augreg", "timm:NAME")
STATE_KEYS = ("model_ema", "state_dict_ema", "model", "state_dict", "teacher")


def import_checkpoint(
    source: str | Path, layout: str | None = None, config: VisionApp | None = None, *, pretrained: bool = False,
    kwargs: Mapping[str, Any] | None = None,
) -> ImportedModel[VisionApp, VisionState]:  # fmt: skip
    """A foreign ViT, whole, in isoform's names, with the app config that rebuilds it.

    layout      one of LAYOUTS where a file isn't recognised; "timm:NAME" gives a file timm's architecture of that name
    config      settings: keys of tokeniser, backbone and head that somebody set are honoured (another image, patch,
                number of channels or outputs: tables and kernels are resized, a note says so) or refused
    pretrained  timm's published weights of timm:NAME (a name with a TAG asks for them too) instead of random ones
    kwargs      further arguments of timm.create_model where the architecture is timm's
    Raises UserError for whatever can't be read, recognised or honoured.
    """
    text = str(source)
    if layout is not None and layout not in LAYOUTS and not layout.startswith("timm:"):
        raise UserError(f"--layout {layout}: there is no such layout; there are {', '.join(LAYOUTS)}")
    found = _find(text, layout, config, pretrained, dict(kwargs or {}))
    original, target = adapt.settle(found, config)
    loaded = adapt.load(found, original, target, text)
    return _assemble(text, found, config, target, loaded.weights, loaded.notes)


def _find(text: str, layout: str | None, config: VisionApp | None, pretrained: bool, kwargs: dict[str, Any]) -> Found:
    if text.startswith("timm:"):
        name = text.removeprefix("timm:")
        return from_timm(name, pretrained=pretrained or "." in name, kwargs=kwargs)
    if text.startswith("hf:"):
        return from_hub(text.removeprefix("hf:"))
    path = Path(text)
    if path.is_dir():
        return from_folder(path, text)
    checkpoint = read_checkpoint(path)
    nested = "model" in checkpoint
    state = state_dict_of(checkpoint, *STATE_KEYS, where=text)
    if layout is not None and layout.startswith("timm:"):
        return from_timm(layout.removeprefix("timm:"), state=state, kwargs=kwargs)
    kind = layout or recognise(state, nested)
    if kind == "augreg":
        return from_npz(state, _grid(config, state.get("embedding/kernel"), 0))
    return from_state(state, kind, _grid(config, state.get("patch_embed.proj.weight"), 2))


def _grid(config: VisionApp | None, kernel: Tensor | None, axis: int) -> tuple[int, int] | None:
    """The grid of patches of the image size that is set, for a position table that isn't square."""
    size = adapt.settings_of(config, "tokeniser").get("image")
    if size is None or kernel is None:
        return None
    height, width = pair_of(size)
    return height // kernel.shape[axis], width // kernel.shape[axis + 1]


def _assemble(
    text: str, found: Found, config: VisionApp | None, target: adapt.Trio, weights: Mapping[str, Tensor],
    notes: tuple[str, ...],
) -> ImportedModel[VisionApp, VisionState]:  # fmt: skip
    base = config or VisionApp(domain="vision", app="imported")
    fields = adapt.preprocessing(found, target, config)
    app = base.model_copy(
        update={
            "tokeniser": target[0], "backbone": target[1], "head": target[2],
            "data": base.data.model_copy(update=fields),
        }
    )  # fmt: skip
    data = app.data
    assert data.mean is not None and data.std is not None
    preprocessing = Preprocessing(
        size=pair_of(target[0].image),
        channels=target[0].channels,
        resize=data.resize,
        crop_pct=data.crop_pct,
        interpolation=data.interpolation,
        mean=data.mean,
        std=data.std,
    )
    state = VisionState(
        kind=target[2].task,
        classes=tuple(adapt.classes_of(found, target)),
        preprocessing=preprocessing,
        source={"layout": found.layout, **found.source},
    )
    return ImportedModel(app, dict(weights), state, found.layout, (*found.notes, *notes), found.licence)


__all__ = ["LAYOUTS", "import_checkpoint"]
