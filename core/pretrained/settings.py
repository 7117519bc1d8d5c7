"""Settings weighed against what a foreign checkpoint says: the same helpers for every model family."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import ValidationError
from torch import Tensor

from isoform.core.config.schema import AppConfig, BackboneConfig, Table
from isoform.core.errors import UserError

TRAINING_KEYS = frozenset(
    {"dropout", "mlp_dropout", "attention_dropout", "drop_path", "init", "recompute", "attention"}
)
"""Keys of a backbone that may change without another function coming out in evaluation; of a tokeniser and a head,
dropout. Tested: a key of the schema is either here or known to change the function."""

AnyTable = TypeVar("AnyTable", bound=Table)


def settings_of(config: AppConfig | None, table: str) -> dict[str, Any]:
    """The keys of a table that somebody set."""
    if config is None or table not in config.model_fields_set:
        return {}
    values = getattr(config, table)
    return {key: getattr(values, key) for key in values.model_fields_set}


def refuse_other(
    table: str,
    asked: Mapping[str, Any],
    have: Mapping[str, Any],
    where: str,
    free: Collection[str] = (),
) -> None:
    """Raises UserError for a key that was asked for and is something else in `where`.

    Keys that `have` lacks, or that are `free` to change, contradict nothing.
    """
    for key, value in asked.items():
        if key in have and key not in free and plain(value) != plain(have[key]):
            raise UserError(
                f"{table}.{key} = {plain(value)!r} is set, but {where} has {plain(have[key])!r}: leave it out"
            )


def plain(value: Any) -> Any:
    """A value as the schema stores it: config files have lists where tables have tuples."""
    return tuple(value) if isinstance(value, list) else value


def need(state: Mapping[str, Tensor], name: str, dims: int, where: str) -> Tensor:
    """A tensor of the file. Raises UserError where it is missing or of another number of axes."""
    if name not in state:
        raise UserError(
            f"{where}: has no tensor {name}, but {', '.join(list(state)[:4]) or 'nothing'}"
        )
    if state[name].dim() != dims:
        raise UserError(f"{where}: {name} has shape {list(state[name].shape)}, not {dims} axes")
    return state[name]


def widths_of(backbone: BackboneConfig) -> dict[str, Any]:
    """Every key of the table, with what an unset width means written out."""
    values = backbone.model_dump()
    head_dim = backbone.head_dim or backbone.dim // backbone.heads
    defaults = {
        "kv_heads": backbone.heads,
        "head_dim": head_dim,
        "value_dim": head_dim,
        "mlp_dim": 4 * backbone.dim,
        "cond_dim": backbone.dim,
    }
    for key, value in defaults.items():
        values[key] = values[key] or value
    return values


def differences(backbone: BackboneConfig, other: BackboneConfig) -> list[str]:
    """One phrase for every key that makes `backbone` another function than `other`."""
    ours, theirs = widths_of(backbone), widths_of(other)
    keys = [key for key in ours if key not in TRAINING_KEYS and ours[key] != theirs[key]]
    return [f"backbone.{key} is {ours[key]!r} here and {theirs[key]!r} there" for key in keys]


def refuse_unsupported(phrases: Sequence[str]) -> None:
    """Raises UserError for a model that its official code can't build, by what makes it so."""
    if phrases:
        raise UserError(f"the official code has no model like this one ({'; '.join(phrases)})")


def table(schema: type[AnyTable], values: Mapping[str, Any], where: str) -> AnyTable:
    """A table of these values. Raises UserError naming the first that is wrong."""
    try:
        return schema.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{where}: {key} = {first['input']!r} can't be honoured ({first['msg']})"
        ) from None


def switch(value: Any, name: str) -> bool:
    """A switch that official code gives as 0, 1 or a bool. Raises UserError for anything else."""
    if value not in (0, 1):
        raise UserError(f"{name} = {value!r} can't be honoured: it should be 0 or 1")
    return bool(value)
