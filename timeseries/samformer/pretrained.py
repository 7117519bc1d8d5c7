"""Checkpoints of romilbert/samformer (its PyTorch code)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from isoform.core.config.schema import BackboneConfig, TrainConfig
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, ignore, join, rename
from isoform.core.pretrained.settings import differences, need, settings_of, switch, table
from isoform.timeseries.config import LossConfig, ModelConfig, TimeseriesApp, TokeniserConfig
from isoform.timeseries.foreign import Found
from isoform.timeseries.samformer.model import TRUNK, trunk_table

OPTIMIZERS = {"Adam": "adam", "AdamW": "adamw", "SGD": "sgd"}
LOSSES = ("mse", "MSELoss", "mean squared error", "mean squared error over all entries")
DESCRIBING = {"batch", "num_epochs", "batch_size"}  # of data and runs, not of the model


def layout_of(context: int, keys: int, *, revin: bool) -> Layout:
    """The rules for look-backs of `context` rows and queries of `keys` features.

    The file has RevIN's scale and shift even where the model is built without.
    """
    projections = [f"compute_{n}.{{p}}" for n in ("queries", "keys", "values")]
    affine = (
        (rename("revin.affine_weight", "normalise.weight"), rename("revin.affine_bias", "normalise.bias"))
        if revin
        else (ignore("revin.affine_{*}", "RevIN's scale and shift, unused without RevIN"),)
    )
    return Layout("samformer", (
        *affine,
        join(projections, "backbone.blocks.0.mixer.inner.qkv.{p}", sizes=(keys, keys, context)),
        rename("linear_forecaster.{p}", "head.point.{p}"),
    ))  # fmt: skip


def read(state: Mapping[str, Tensor], config: TimeseriesApp | None, where: str) -> Found:
    """What a state dict tells; whether RevIN is used it doesn't. Raises UserError for shapes that make no SAMformer."""
    keys, context = need(state, "compute_keys.weight", 2, where).shape
    horizon = need(state, "linear_forecaster.weight", 2, where).shape[0]
    scale = need(state, "revin.affine_weight", 1, where)
    normalise = settings_of(config, "model").get("normalise")
    notes: tuple[str, ...] = ()
    if normalise is None:
        notes = ("the file doesn't say whether RevIN is used: it is, by default (model.normalise)",)
    revin = normalise != "none"
    model = {
        "family": "samformer", "context": context, "horizon": horizon, "normalise": "revin" if revin else "none",
    }  # fmt: skip
    return Found(
        layout_of(context, keys, revin=revin), model, official_table(context, keys), len(scale), notes,
        {} if revin else {n: t for n, t in state.items() if n.startswith("revin.affine_")},
    )  # fmt: skip


def official_table(context: int, keys: int) -> BackboneConfig:
    """The trunk of the official code."""
    return table(BackboneConfig, {**TRUNK, "dim": context, "value_dim": context, "head_dim": keys}, "SAMformer")


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
        raise UserError(f"num_channels = {variates!r} can't be honoured: it should be a number of variates")
    loss, train = _training(rest)
    if rest:
        raise UserError(f"SAMformer's {', '.join(rest)}: not known to this import")
    where = "SAMformer's hyper-parameters"
    return TimeseriesApp(
        domain="timeseries", app="imported", model=table(ModelConfig, model, where),
        backbone=table(BackboneConfig, backbone, where), tokeniser=TokeniserConfig(calendar="none"),
        loss=table(LossConfig, loss, where), train=table(TrainConfig, train, where),
    )  # fmt: skip


def _training(rest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys of loss and train, taken out of `rest`."""
    loss_table: dict[str, Any] = {}
    train: dict[str, Any] = {}
    if rest.pop("adaptive", False):
        raise UserError("adaptive = true can't be honoured: train.sam climbs by one norm over all weights")
    if rest.pop("eps", 1e-8) != 1e-8:
        raise UserError("eps can't be honoured: the engine's Adam has 1e-8")
    if "loss" in rest:
        loss = rest.pop("loss")
        if loss not in LOSSES:
            raise UserError(f"loss = {loss!r} can't be honoured: SAMformer is trained by the mean squared error")
        loss_table["kind"] = "mse"
    if "base_optimizer" in rest:
        name = rest.pop("base_optimizer")
        if name not in OPTIMIZERS:
            raise UserError(f"base_optimizer = {name!r} can't be honoured; there are {', '.join(OPTIMIZERS)}")
        train |= {"optimizer": OPTIMIZERS[name], "decay_all": True, "schedule": "constant"}
    if "betas" in rest:
        betas = rest.pop("betas")
        if not isinstance(betas, (list, tuple)) or len(betas) != 2:
            raise UserError(f"betas = {betas!r} can't be honoured: they should be two numbers")
        train |= {"beta1": betas[0], "beta2": betas[1]}
    for name, key in (("rho", "sam"), ("learning_rate", "lr"), ("weight_decay", "weight_decay")):
        if name in rest:
            train[key] = rest.pop(name)
    return loss_table, train


def unlike(config: TimeseriesApp) -> list[str]:
    """What the official code has no place for in this app, one phrase each."""
    context = int(config.model.context)
    trunk = trunk_table(config.backbone, context)
    found = differences(trunk, official_table(context, trunk.head_dim or context))
    if config.model.normalise == "window":
        found.append('model.normalise is "window", without RevIN\'s scale and shift')
    return found


def unused(variates: int) -> dict[str, Tensor]:
    """RevIN's fresh scale and shift, which the official model has even where it isn't used."""
    return {"revin.affine_weight": torch.ones(variates), "revin.affine_bias": torch.zeros(variates)}
