"""The vision domain: ViT on the shared backbone. This file is its wiring; read it first, then follow a name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoform.core.domain import Domain, lazily

if TYPE_CHECKING:
    from torch import nn


_later = lazily("isoform.vision")


def create(name: str, *, pretrained: bool | str = False, features_only: bool = False, **options: Any) -> nn.Module:
    """A model by name: a size ("vit-s16"), one of the apps ("vit-mnist") or timm's ("vit_small_patch16_224").

    See `isoform.vision.models.create` for the options.
    """
    model: nn.Module = _later("models:create")(name, pretrained=pretrained, features_only=features_only, **options)
    return model


DOMAIN = Domain(
    name="vision",
    summary="images: classes, labels or numbers, with ViT",
    schema=lambda: import_module("isoform.vision.config").VisionApp,
    settle=_later("settle:settle"),
    task=_later("task:VisionTask"),
    task_of_run=_later("task:task_of_run"),
    predictor=_later("predictor:VisionPredictor"),
    rebuild=_later("task:rebuild"),
    check=_later("data.check:check"),
    expand_inputs=_later("predictor:expand_inputs"),
    import_weights=_later("vit.pretrained:import_checkpoint"),
    export={
        "safetensors": _later("export:to_safetensors"),
        "timm": _later("export:to_timm"),
        "official": _later("export:to_official"),
        "onnx": _later("export:to_onnx"),
        "openvino": _later("export:to_openvino"),
        "bundle": _later("export:to_bundle"),
    },
    describe=_later("describe:describe"),
)
