"""Models by name, for code that wants a trunk and no training run."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from isoform.core.errors import UserError
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig
from isoform.vision.vit.model import SIZES, ViT, build_vit, sized

SIZE = re.compile(r"vit-(ti|s|b|l|h)(\d+)", re.IGNORECASE)


class FeatureMaps(nn.Module):
    """A ViT's feature maps after chosen blocks: images [B, C, H, W] -> list of [B, D, h, w]."""

    def __init__(self, vit: ViT, layers: list[int]) -> None:
        super().__init__()
        self.vit, self.layers = vit, layers

    def forward(self, images: Tensor) -> list[Tensor]:
        """[B, C, H, W] -> one map a layer."""
        return self.vit.maps(images, self.layers)


def create(
    name: str, *, pretrained: bool | str = False, features_only: bool = False, layers: list[int] | None = None,
    outputs: int | None = None, image: int | tuple[int, int] | None = None, channels: int | None = None,
) -> nn.Module:  # fmt: skip
    """A ViT in evaluation mode.

    name        "vit-s16" (sizes Ti, S, B, L, H and the patch's side), an app ("vit-mnist"), or a name that timm knows
    pretrained  True: timm's weights of that name; a path: a run folder or checkpoint file, whose model it must be
    features_only
                gives feature maps [B, D, h, w] after `layers` (by default the last block) instead of logits
    outputs, image, channels
                override the head's size, the image size in pixels and the number of channels of a fresh model
    Raises UserError for a name that nobody knows and for weights that don't fit.
    """
    model = _with_weights(name, pretrained) if pretrained else _fresh(name, outputs, image, channels)
    model.eval()
    if not features_only:
        return model
    depth = model.backbone.config.depth
    wanted = [depth - 1] if layers is None else [layer % depth for layer in layers]
    return FeatureMaps(model, wanted)


def _fresh(name: str, outputs: int | None, image: int | tuple[int, int] | None, channels: int | None) -> ViT:
    found = SIZE.fullmatch(name)
    if found:
        size = next(s for s in SIZES if s.lower() == found[1].lower())
        tables = VitTokeniserConfig(patch=int(found[2])), sized(size), VitHeadConfig(outputs=1000)
    else:
        tables = _tables_of(name)
    tokeniser = tables[0].model_copy(
        update={k: v for k, v in (("image", image), ("channels", channels)) if v is not None}
    )
    try:
        return build_vit(tokeniser, tables[1], tables[2], outputs=outputs)
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None


def _tables_of(name: str) -> tuple[Any, Any, Any]:
    from isoform.core.config import app_names, resolve_app
    from isoform.vision import DOMAIN

    if name in app_names("vision"):
        app: Any = resolve_app(name, domain=DOMAIN)
    else:
        app = DOMAIN.import_weights(f"timm:{name}").config
    return app.tokeniser, app.backbone, app.head


def _with_weights(name: str, pretrained: bool | str) -> ViT:
    from isoform.vision import DOMAIN

    if isinstance(pretrained, str) and (Path(pretrained) / "config.toml").exists():
        from isoform.core.engine.evaluate import load_model
        from isoform.core.runs.folder import RunFolder

        model: Any = load_model(DOMAIN, RunFolder(pretrained))
        return model
    imported = DOMAIN.import_weights(f"timm:{name}" if pretrained is True else pretrained, pretrained=True)
    vit: Any = DOMAIN.rebuild(imported.config, imported.portable)
    vit.load_state_dict(dict(imported.weights))
    return vit
