"""Models and apps by name or by path, for code that wants a trunk and no training run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from isoform.core.config import app_names, resolve_app
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.data.sources import read_records, recognise
from isoform.vision.state import Preprocessing, VisionState
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.model import SIZES, build_vit, sized

SIZE = re.compile(r"vit-(ti|s|b|l|h)(\d+)", re.IGNORECASE)


class FeatureMaps(nn.Module):
    """A ViT's feature maps after chosen blocks (the last, if none is): images [B, C, H, W] -> list of [B, D, h, w]."""

    def __init__(self, vit: nn.Module, layers: Sequence[int] | None = None) -> None:
        super().__init__()
        self.vit = vit
        trunk: Any = vit.backbone
        depth: int = trunk.config.depth
        self.layers = [depth - 1] if layers is None else [layer % depth for layer in layers]

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, C, H, W] -> one map a layer."""
        maps: Any = self.vit.maps
        found: list[Tensor] = maps(images, self.layers)
        return found


def build_model(config: VisionApp) -> nn.Module:
    """The app's model, freshly initialised. Raises UserError where its tables contradict each other."""
    try:
        return build_vit(config.tokeniser, config.backbone, config.head)
    except ValueError as error:
        raise UserError(str(error)) from None


def app_of_model(
    name: str,
    *,
    outputs: int | None = None,
    image: int | tuple[int, int] | None = None,
    channels: int | None = None,
) -> tuple[VisionApp, VisionState]:
    """The app of a size (Ti, S, B, L, H and the patch's side: "vit-s16"), of an app, or of a name that timm knows.

    `outputs` overrides the head's size, `image` the image size in pixels, `channels` their number. Raises UserError
    for a name that nobody knows.
    """
    app = _named_app(name)
    changes: dict[str, dict[str, Any]] = {
        "tokeniser": {"image": image, "channels": channels},
        "head": {"outputs": outputs},
    }
    for table, values in changes.items():
        wanted = {key: value for key, value in values.items() if value is not None}
        app = app.model_copy(update={table: getattr(app, table).model_copy(update=wanted)})
    size = Preprocessing(size=app.image_size, channels=app.tokeniser.channels)
    return app, VisionState(preprocessing=size)


def _named_app(name: str) -> VisionApp:
    from isoform.vision import DOMAIN

    found = SIZE.fullmatch(name)
    if found:
        size = next(known for known in SIZES if known.lower() == found[1].lower())
        return VisionApp(
            domain=DOMAIN.name,
            app=name,
            tokeniser=VitTokeniserConfig(patch=int(found[2])),
            backbone=sized(size),
            head=VitHeadConfig(outputs=1000),
        )
    if name in app_names(DOMAIN.name):
        app = resolve_app(name, domain=DOMAIN)
        assert isinstance(app, VisionApp)
        return app
    return DOMAIN.import_weights(f"timm:{name}").config


def app_of_path(path: Path) -> VisionApp:
    """`vit-folder` on a folder or a table; a table whose cells hold `a|b`, or no class at all, has several labels."""
    app = _own_app(path)
    if recognise(app.data).source != "table":
        return app
    labels = _own_app(path, task="multilabel")
    try:
        records = read_records(app.data)
    except UserError:
        return labels if _is_readable(labels) else app
    return labels if any("|" in name for name in records.classes) else app


def _own_app(path: Path, **data: str) -> VisionApp:
    from isoform.vision import DOMAIN

    values = {"source": "auto", "path": str(path), **data}
    app = resolve_app(
        "vit-folder",
        domain=DOMAIN,
        settings={f"data.{key}": value for key, value in values.items()},
    )
    assert isinstance(app, VisionApp)
    return app


def _is_readable(app: VisionApp) -> bool:
    try:
        read_records(app.data)
    except UserError:
        return False
    return True
