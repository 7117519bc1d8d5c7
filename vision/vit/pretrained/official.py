"""Official hyper-parameters, under their own names, as settings of an import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig

# Name in the official code -> our table and key.
MAE_NAMES = {
    "img_size": ("tokeniser", "image"),
    "patch_size": ("tokeniser", "patch"),
    "in_chans": ("tokeniser", "channels"),
    "embed_dim": ("backbone", "dim"),
    "depth": ("backbone", "depth"),
    "num_heads": ("backbone", "heads"),
    "layer_norm_eps": ("backbone", "eps"),
    "qkv_bias": ("backbone", "qkv_bias"),
    "num_classes": ("head", "outputs"),
}


def mae_settings(official: Mapping[str, Any]) -> VisionApp:
    """The settings of MAE's fine-tuning ViT (facebookresearch/mae, models_vit.py) as an app to import with.

    `global_pool` True: the mean of the patch tokens, then `fc_norm`. Raises UserError for a name that this import can't
    honour.
    """
    tables: dict[str, dict[str, Any]] = {"tokeniser": {}, "backbone": {}, "head": {}}
    rest = dict(official)
    pooled = rest.pop("global_pool", False)
    ratio = rest.pop("mlp_ratio", 4.0)
    for name in MAE_NAMES.keys() & official.keys():
        table, key = MAE_NAMES[name]
        tables[table][key] = rest.pop(name)
    if rest:
        raise UserError(f"MAE's {', '.join(rest)}: not known to this import; there are {', '.join(MAE_NAMES)}")
    if "embed_dim" in official:
        tables["backbone"]["mlp_dim"] = int(official["embed_dim"] * ratio)
    tables["backbone"]["final_norm"] = not pooled
    tables["head"].update(pool="mean" if pooled else "class", norm=bool(pooled))
    return VisionApp(
        domain="vision",
        app="imported",
        tokeniser=VitTokeniserConfig.model_validate(tables["tokeniser"]),
        backbone=BackboneConfig.model_validate(tables["backbone"]),
        head=VitHeadConfig.model_validate(tables["head"]),
    )
