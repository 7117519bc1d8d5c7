"""Hyper-parameters of stored cases, under the names of their official code, as settings of an import."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoform.core.config.schema import BackboneConfig, TrainConfig
from isoform.core.errors import UserError
from isoform.core.pretrained.settings import switch, table
from isoform.timeseries.config import ModelConfig, TimeseriesApp, TokeniserConfig
from isoform.timeseries.samformer.model import TRUNK
from isoform.vision.config import VisionApp
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig

ACTIVATIONS = ("gelu", "relu")  # of iTransformer
# Arguments of the official code that its model never reads, and those that only describe data.
UNREAD = {
    "embed", "freq", "factor", "class_strategy", "output_attention", "distil", "moving_avg", "label_len", "d_layers",
    "enc_in", "dec_in", "c_out", "channel_independence", "n_variates", "batch",
}  # fmt: skip
OPTIMIZERS = {"Adam": "adam", "AdamW": "adamw", "SGD": "sgd"}
LOSSES = ("mse", "MSELoss", "mean squared error", "mean squared error over all entries")
DESCRIBING = {"batch", "num_epochs", "batch_size"}  # of data and runs, not of the model
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
        raise UserError(
            f"MAE's {', '.join(rest)}: not known to this import; there are {', '.join(MAE_NAMES)}"
        )
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


def itransformer_settings(official: Mapping[str, Any]) -> TimeseriesApp:
    """The hyper-parameters of thuml/iTransformer, under their own names, as an app to import with or to train.

    Raises UserError for a name or a value that can't be honoured.
    """
    rest = {name: value for name, value in official.items() if name not in UNREAD}
    model: dict[str, Any] = {"family": "itransformer"}
    backbone: dict[str, Any] = {"order": "post", "eps": 1e-5, "init": "torch"}
    tokeniser: dict[str, Any] = {}
    for name, (values, key) in {
        "seq_len": (model, "context"), "pred_len": (model, "horizon"), "d_model": (backbone, "dim"),
        "n_heads": (backbone, "heads"), "e_layers": (backbone, "depth"), "d_ff": (backbone, "mlp_dim"),
    }.items():  # fmt: skip
        if name in rest:
            values[key] = rest.pop(name)
    if "dropout" in rest:
        tokeniser["dropout"] = backbone["dropout"] = backbone["attention_dropout"] = rest.pop(
            "dropout"
        )
    if "use_norm" in rest:
        model["normalise"] = "window" if switch(rest.pop("use_norm"), "use_norm") else "none"
    if "activation" in rest:
        backbone["channel"] = rest.pop("activation")
        if backbone["channel"] not in ACTIVATIONS:
            raise UserError(
                f"activation = {backbone['channel']!r}: iTransformer has {' or '.join(ACTIVATIONS)}"
            )
    if rest:
        raise UserError(f"iTransformer's {', '.join(rest)}: not known to this import")
    if (
        {"dim", "heads"} <= backbone.keys()
        and isinstance(backbone["dim"], int)
        and isinstance(backbone["heads"], int)
    ):
        dim, heads = backbone["dim"], backbone["heads"]
        if heads > 0 and dim % heads:
            backbone["head_dim"] = dim // heads
    where = "iTransformer's hyper-parameters"
    return TimeseriesApp(
        domain="timeseries", app="imported", model=table(ModelConfig, model, where),
        backbone=table(BackboneConfig, backbone, where), tokeniser=table(TokeniserConfig, tokeniser, where),
    )  # fmt: skip


def samformer_settings(official: Mapping[str, Any]) -> TimeseriesApp:
    """The hyper-parameters of romilbert/samformer, under their own names, as an app to import with or to train.

    The optimiser's are taken where they are named; the official code lets it decay every parameter. Raises UserError
    for a name or a value that can't be honoured.
    """
    rest = {name: value for name, value in official.items() if name not in DESCRIBING}
    model: dict[str, Any] = {"family": "samformer"}
    for name, key in (("seq_len", "context"), ("pred_horizon", "horizon")):
        if name in rest:
            model[key] = rest.pop(name)
    if "use_revin" in rest:
        model["normalise"] = "revin" if switch(rest.pop("use_revin"), "use_revin") else "none"
    backbone: dict[str, Any] = dict(TRUNK)
    if "hid_dim" in rest:
        backbone["head_dim"] = rest.pop("hid_dim")
    variates = rest.pop("num_channels", None)
    if variates is not None and (not isinstance(variates, int) or variates < 1):
        raise UserError(
            f"num_channels = {variates!r} can't be honoured: it should be a number of variates"
        )
    train = _training(rest)
    if rest:
        raise UserError(f"SAMformer's {', '.join(rest)}: not known to this import")
    where = "SAMformer's hyper-parameters"
    return TimeseriesApp(
        domain="timeseries", app="imported", model=table(ModelConfig, model, where),
        backbone=table(BackboneConfig, backbone, where), tokeniser=TokeniserConfig(calendar="none"),
        train=table(TrainConfig, train, where),
    )  # fmt: skip


def _training(rest: dict[str, Any]) -> dict[str, Any]:
    """Keys of train, taken out of `rest`; the loss must be our default."""
    train: dict[str, Any] = {}
    if rest.pop("adaptive", False):
        raise UserError(
            "adaptive = true can't be honoured: train.sam climbs by one norm over all weights"
        )
    if rest.pop("eps", 1e-8) != 1e-8:
        raise UserError("eps can't be honoured: the engine's Adam has 1e-8")
    if "loss" in rest:
        loss = rest.pop("loss")
        if loss not in LOSSES:
            raise UserError(
                f"loss = {loss!r} can't be honoured: SAMformer is trained by the mean squared error"
            )
    if "base_optimizer" in rest:
        name = rest.pop("base_optimizer")
        if name not in OPTIMIZERS:
            raise UserError(
                f"base_optimizer = {name!r} can't be honoured; there are {', '.join(OPTIMIZERS)}"
            )
        train |= {"optimizer": OPTIMIZERS[name], "decay_all": True, "schedule": "constant"}
    if "betas" in rest:
        betas = rest.pop("betas")
        if not isinstance(betas, (list, tuple)) or len(betas) != 2:
            raise UserError(f"betas = {betas!r} can't be honoured: they should be two numbers")
        train |= {"beta1": betas[0], "beta2": betas[1]}
    for name, key in (("rho", "sam"), ("learning_rate", "lr"), ("weight_decay", "weight_decay")):
        if name in rest:
            train[key] = rest.pop(name)
    return train
