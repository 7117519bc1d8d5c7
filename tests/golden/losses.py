"""The product's own losses by a case's config: one function a domain asks its Task.loss, none computes one itself.

What a case says of its loss stands in its config beside the model's hyper-parameters, and is taken out before these are
handed to the importer. A setting that the product's loss can't honour raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from golden.cases import Case
from isoform.core.config.schema import AppConfig
from isoform.core.domain import Task
from isoform.core.supervised.config import resolve_loss_kind
from isoform.core.supervised.scaling import TargetScaling
from isoform.molecules.task import MoleculesTask
from isoform.timeseries.task import TimeseriesTask
from isoform.vision.task import VisionTask

SETTINGS = ("loss", "label_smoothing", "quantiles")
WORDS = {"mean squared error": "mse", "mean absolute error": "l1"}
NAMES = {"mae": "l1", "cross_entropy": "ce", "binary_cross_entropy": "bce", "smooth_l1": "huber"}


def of_model(case: Case) -> dict[str, Any]:
    """The case's config without what it says of the loss."""
    return {name: value for name, value in case.config.items() if name not in SETTINGS}


def name_of(case: Case, default: str) -> str:
    """The loss that the case's config names, in one spelling; it may say it in words."""
    name = str(case.config.get("loss", default)).lower()
    for word, meant in WORDS.items():
        if word in name:
            return meant
    name = name.removesuffix("_loss").removesuffix("loss")
    return NAMES.get(name, name)


def molecules_loss(
    case: Case, config: AppConfig, model: nn.Module, batch: Mapping[str, Any]
) -> Tensor:
    """Of one output the squared error, of several cross-entropy where a molecule has one class, else Bernoulli's.

    That is the official rule where the config doesn't say another; the official Bernoulli loss is a sum over labels.
    """
    labels, outputs = case.input["labels"], config.head.outputs  # type: ignore[attr-defined]
    single = labels.dim() == 1 or labels.shape[1] == 1
    name = name_of(case, "mse" if outputs == 1 else "ce" if single else "bce")
    kind = {"ce": "multiclass", "bce": "binary"}.get(name, "regression")
    smoothing = case.config.get("label_smoothing", 0.0)
    if kind == "multiclass":
        targets = {"target": labels.reshape(-1).long()}
    else:
        targets = {"target": labels.reshape(-1, outputs)}
        targets["scaled"] = targets["target"]
    settings = _changed(config, loss={"kind": name, "label_smoothing": smoothing})
    parts = {
        "config": settings,
        "kind": kind,
        "loss_kind": resolve_loss_kind(settings.loss, kind),
        "weights": None,
    }
    found = _loss(MoleculesTask, model, {**batch, **targets}, **parts)
    return found * (~labels.isnan()).sum() if kind == "binary" else found


def vision_loss(case: Case, config: AppConfig, model: nn.Module) -> Tensor:
    """Cross-entropy of one class an image, Bernoulli's of a row of labels, unless the config says another."""
    labels = case.input["label"]
    name = name_of(case, "ce" if labels.dim() == 1 else "bce")
    kind = "multiclass" if labels.dim() == 1 else "multilabel" if name == "bce" else "regression"
    settings = _changed(
        config, loss={"kind": name, "label_smoothing": case.config.get("label_smoothing", 0.0)}
    )
    batch = {
        "image": case.input["image"],
        "target": labels.long() if kind == "multiclass" else labels.float(),
    }
    parts = {
        "config": settings,
        "kind": kind,
        "loss_kind": resolve_loss_kind(settings.loss, kind),
        "class_weight": None,
        "scaling": TargetScaling.identity(labels.shape[1] if labels.dim() > 1 else 1),
    }
    return _loss(VisionTask, model, batch, **parts)


def forecast_loss(
    case: Case, config: AppConfig, model: nn.Module, batch: Mapping[str, Tensor]
) -> Tensor:
    """Of forecasts [B, H, V, 1 + quantiles] against batch["target"] [B, H, V]; squared error unless told."""
    levels = tuple(case.config.get("quantiles", ()))
    settings = _changed(config, loss={"kind": name_of(case, "mse")}, head={"quantiles": levels})
    return _loss(TimeseriesTask, model, dict(batch), config=settings, levels=levels)


def _changed(config: AppConfig, **tables: Mapping[str, Any]) -> Any:
    """The config with other values in some tables, checked. Raises pydantic's error for one that doesn't exist."""
    values = config.model_dump()
    for table, changes in tables.items():
        values[table] = {**values[table], **changes}
    return type(config).model_validate(values)


def _loss(task: type[Task], model: nn.Module, batch: Mapping[str, Any], **parts: Any) -> Tensor:
    # A task's own beginning reads the data of its run, and a stored case has none.
    bare = object.__new__(task)
    vars(bare).update(parts)
    return bare.loss(model, batch)["loss"]
