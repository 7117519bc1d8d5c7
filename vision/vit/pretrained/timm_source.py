"""timm as a source: its architectures, with its own random or published weights, or with those of a file."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from isoform.core.errors import UserError
from isoform.vision.vit.pretrained.foreign_model import ForeignModel
from isoform.vision.vit.pretrained.timm_tables import Unsupported, read_tables

INTERPOLATIONS = ("bilinear", "bicubic")


def create(name: str, *, meta: bool = False, **kwargs: Any) -> Any:
    """timm.create_model. Raises UserError where timm is absent, or doesn't know or refuses the model."""
    try:
        import timm
        import torch
    except ImportError as error:
        raise UserError(
            "timm is not installed, and this model's architecture stands in it: pip install 'isoform[pretrained]'"
        ) from error
    if not timm.is_model(name.split(".")[0]):
        import difflib

        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=3)
        raise UserError(
            f"timm knows no model {name!r}" + (f"; did you mean {', '.join(near)}?" if near else "")
        )
    try:
        with torch.device("meta" if meta else "cpu"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return timm.create_model(name, **kwargs)
    except UserError:
        raise
    except Exception as error:  # timm raises of every kind, from assertions to its hub's own
        raise UserError(
            f"timm can't create {name} with {kwargs or 'its defaults'}: {error}"
        ) from error


def from_timm(
    name: str,
    *,
    pretrained: bool = False,
    state: Mapping[str, Tensor] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    cfg: Mapping[str, Any] | None = None,
) -> ForeignModel:
    """A timm model by name: with the weights `state`, else timm's published ones (`pretrained`), else random ones.

    `kwargs` go to timm.create_model and `cfg` overrides its pretrained_cfg (mean, std, license, label_names, ...).
    """
    kwargs = dict(kwargs or {})
    model = create(
        name, meta=state is not None, **({"pretrained": True} if pretrained else {}), **kwargs
    )
    try:
        found = read_tables(model)
    except Unsupported as error:
        raise UserError(
            f"timm:{name}: isoform's ViT has no {error.feature}; choose another model"
        ) from error
    known = {
        table: {key: getattr(values, key) for key in values.model_fields_set}
        for table, values in (
            ("tokeniser", found.tokeniser),
            ("backbone", found.backbone),
            ("head", found.head),
        )
    }
    cfg = {**model.pretrained_cfg, **(cfg or {})}
    notes = _other_interpolation(cfg)
    licence = str(cfg.get("license") or "unknown")
    if state is None and not pretrained:
        notes += (
            f"random initial weights: for published ones name them, timm:{name}.TAG or hf:timm/{name}.TAG",
        )
        licence = "none: random initial weights"
    return ForeignModel(
        layout=f"timm:{name}",
        rules=lambda backbone: found.names.layout(backbone, f"timm:{name}"),
        state=model.state_dict() if state is None else state,
        known=known,
        preprocessing=_preprocessing(cfg),
        licence=licence,
        notes=notes,
        classes=tuple(
            map(str, cfg.get("label_names") or (labels(model.num_classes) if pretrained else ()))
        ),
        source={"timm": {"architecture": name.split(".")[0], "kwargs": kwargs}},
    )


def labels(count: int) -> tuple[str, ...]:
    """What timm's published weights with so many classes tell apart: ImageNet's names, or nothing that is known."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset({"num_classes": count})
    if subset is None:
        return ()
    info = ImageNetInfo(subset)
    names = [info.index_to_description(index) for index in range(count)]
    times = Counter(names)
    return tuple(
        name if times[name] == 1 else f"{name} ({info.index_to_label_name(index)})"
        for index, name in enumerate(names)
    )


def _preprocessing(cfg: Mapping[str, Any]) -> dict[str, Any]:
    interpolation = str(cfg.get("interpolation") or "bicubic")
    mode = cfg.get("crop_mode")  # timm takes "center" where it knows no other
    return {
        "mean": tuple(map(float, cfg.get("mean") or (0.5,) * 3)),
        "std": tuple(map(float, cfg.get("std") or (0.5,) * 3)),
        "crop_pct": float(cfg.get("crop_pct") or 0.875),
        "interpolation": interpolation if interpolation in INTERPOLATIONS else "bicubic",
        "resize": mode if mode in ("squash", "border") else "crop",
    }


def _other_interpolation(cfg: Mapping[str, Any]) -> tuple[str, ...]:
    theirs = cfg.get("interpolation")
    if not theirs or theirs in INTERPOLATIONS:
        return ()
    return (
        f"timm resizes this model's images by {theirs} interpolation, which isoform hasn't: bicubic",
    )
