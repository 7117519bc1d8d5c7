"""What importing iTransformer and SAMformer have in common: what a file tells, and settings weighed against it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout
from isoform.core.pretrained.settings import CHANGEABLE, settings_of, widths_of
from isoform.timeseries.config import TimeseriesApp


@dataclass(frozen=True)
class Found:
    """A foreign model: its names, its tables, and what of them its code base's defaults had to fill in.

    `ignored`: tensors that the model has and doesn't use, which an export puts back.
    """

    rules: Layout
    model: Mapping[str, Any]
    backbone: BackboneConfig
    variates: int = 0  # 0: any
    notes: tuple[str, ...] = ()
    ignored: Mapping[str, Tensor] = field(default_factory=dict)


def refuse_contradictions(
    config: TimeseriesApp | None, model: Mapping[str, Any], backbone: BackboneConfig | None, where: str
) -> None:
    """Raises UserError for a set key that says something else than the file, or that its model has no place for.

    Without `backbone`, only the keys of `model` that are known so far are looked at.
    """
    for key, value in settings_of(config, "model").items():
        if key in model and value != "auto" and value != model[key]:
            raise UserError(f"model.{key} = {value!r} is set, but {where} has {model[key]!r}: leave it out")
    if backbone is None:
        return
    wanted, have = widths_of(backbone.model_copy(update=settings_of(config, "backbone"))), widths_of(backbone)
    for key in settings_of(config, "backbone"):
        if key not in CHANGEABLE and wanted[key] != have[key]:
            raise UserError(f"backbone.{key} = {wanted[key]!r} is set, but {where} has {have[key]!r}: leave it out")
    if settings_of(config, "head").get("quantiles"):
        raise UserError(f"head.quantiles is set, but {where} forecasts the mean alone: leave it out, or train from it")
    for key in ("known_future", "static", "holidays"):
        if settings_of(config, "data").get(key):
            raise UserError(f"data.{key} is set, but {where} has no place for such covariates: leave it out")
