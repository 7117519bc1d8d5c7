"""What reading foreign checkpoints has in common in every domain: settings weighed against what a file says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor

from isoform.core.config.schema import AppConfig, BackboneConfig, Table
from isoform.core.errors import UserError

# Keys of a backbone that may change without another function coming out in evaluation.
CHANGEABLE = {"dropout", "mlp_dropout", "attention_dropout", "drop_path", "init", "recompute", "attention"}

AnyTable = TypeVar("AnyTable", bound=Table)


def settings_of(config: AppConfig | None, table: str) -> dict[str, Any]:
    """The keys of a table that somebody set."""
    if config is None or table not in config.model_fields_set:
        return {}
    values = getattr(config, table)
    return {key: getattr(values, key) for key in values.model_fields_set}


def need(state: Mapping[str, Tensor], name: str, dims: int, where: str) -> Tensor:
    """A tensor of the file. Raises UserError where it is missing or of another number of axes."""
    if name not in state:
        raise UserError(f"{where}: has no tensor {name}, but {', '.join(list(state)[:4]) or 'nothing'}")
    if state[name].dim() != dims:
        raise UserError(f"{where}: {name} has shape {list(state[name].shape)}, not {dims} axes")
    return state[name]


def widths_of(backbone: BackboneConfig) -> dict[str, Any]:
    """Every key of the table, with what an unset width means written out."""
    b = backbone
    head = b.head_dim or b.dim // b.heads
    return {
        **b.model_dump(), "kv_heads": b.kv_heads or b.heads, "head_dim": head, "value_dim": b.value_dim or head,
        "mlp_dim": b.mlp_dim or 4 * b.dim, "cond_dim": b.cond_dim or b.dim,
    }  # fmt: skip


def differences(backbone: BackboneConfig, other: BackboneConfig) -> list[str]:
    """One phrase for every key that makes `backbone` another function than `other`."""
    ours, theirs = widths_of(backbone), widths_of(other)
    keys = [key for key in ours if key not in CHANGEABLE and ours[key] != theirs[key]]
    return [f"backbone.{key} is {ours[key]!r} here and {theirs[key]!r} there" for key in keys]


def table(schema: type[AnyTable], values: Mapping[str, Any], where: str) -> AnyTable:
    """A table of these values. Raises UserError naming the first that is wrong."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(f"{where}: {key} = {first['input']!r} can't be honoured ({first['msg']})") from None


def switch(value: Any, name: str) -> bool:
    """A switch that official code gives as 0, 1 or a bool. Raises UserError for anything else."""
    if value not in (0, 1):
        raise UserError(f"{name} = {value!r} can't be honoured: it should be 0 or 1")
    return bool(value)
