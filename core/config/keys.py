"""The settings of a schema as a flat list of dotted keys: what `--set`, did-you-mean, errors and `explain` look up."""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import PurePath
from typing import Annotated, Any, Literal, Union

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

import isoform.core.config.toml as toml

Path = tuple[str, ...]

# Where a run's data lie, which may change where they themselves don't.
PLACES = ("data.root", "data.path", "data.table")


@cache
def every(schema: type[BaseModel]) -> dict[Path, FieldInfo]:
    """Every field of `schema` and of the tables in it, in the order of their definition."""
    fields: dict[Path, FieldInfo] = {}
    for name, field in schema.model_fields.items():
        fields[(name,)] = field
        table = _table(field)
        if table is not None:
            fields |= {(name, *path): inner for path, inner in every(table).items()}
    return fields


@cache
def leaves(schema: type[BaseModel]) -> dict[Path, FieldInfo]:
    """Every setting of `schema`: its fields that aren't tables."""
    return {path: field for path, field in every(schema).items() if _table(field) is None}


def _table(field: FieldInfo) -> type[BaseModel] | None:
    """The table that a field holds (perhaps optionally), or None for a plain setting."""
    for option in _options(field.annotation):
        if isinstance(option, type) and issubclass(option, BaseModel):
            return option
    return None


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(o for option in typing.get_args(annotation) for o in _options(option))
    if typing.get_origin(annotation) is Annotated:
        return _options(typing.get_args(annotation)[0])
    return (annotation,)


def key_of(schema: type[BaseModel], location: Iterable[Any]) -> Path:
    """The setting that a pydantic error is about: its location without list positions and names of union branches."""
    path: list[str] = []
    table: type[BaseModel] | None = schema
    for part in location:
        if table is None:
            break
        if part in table.model_fields:
            path.append(part)
            table = _table(table.model_fields[part])
        elif (
            part != table.__name__
        ):  # an unknown key; a union's branch goes by the name of its table
            path.append(str(part))
            break
    return tuple(path)


def accepts(field: FieldInfo, value: Any) -> bool:
    """Whether `value`, as read from TOML, is of the field's type and in its range."""
    annotation: Any = (
        Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
    )
    try:
        TypeAdapter(annotation, config=ConfigDict(strict=True)).validate_json(to_json(value))
    except ValidationError:
        return False
    return True


def unsettable(field: FieldInfo) -> bool:
    """Whether the word "none" stands for an unset value: TOML has no null, and only free text could mean the word."""
    return accepts(field, None) and not accepts(field, "none")


def from_text(field: FieldInfo | None, text: str) -> Any:
    """A value of the command line: a TOML literal if it's one of the field's type, else the text as it stands.

    A list needs no brackets: a,b is ["a", "b"], and 0.5 is [0.5] where a list is meant. A name that holds a comma does:
    ["a,b"], or "a,b" in its quotes.
    """
    read, value = toml.literal(text)
    if field is not None and not read and "," in text:
        words = [part.strip() for part in text.split(",") if part.strip()]
        for items in ([toml.literal(word)[1] for word in words], words):
            if accepts(field, items):
                return items
    if field is None or not read:
        return value
    if not accepts(field, value) and accepts(field, [value]):
        return [value]
    return text if not accepts(field, value) and accepts(field, text) else value


def to_json(tree: Any) -> str:
    """JSON for pydantic's strict mode, in which a list may fill a tuple and text a path. A date fits no setting."""
    return json.dumps(
        tree,
        default=lambda value: str(value) if isinstance(value, PurePath) else {"date": str(value)},
    )


def flatten(tree: Mapping[str, Any], prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """(path, value) of everything in nested tables that isn't a filled table itself."""
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            yield from flatten(value, (*prefix, name))
        else:
            yield (*prefix, name), value


def suggest(wrong: str, known: Iterable[str]) -> str:
    """'; did you mean X?' for the nearest known name, or nothing."""
    near = difflib.get_close_matches(wrong, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def suggest_key(schema: type[BaseModel], wrong: Path) -> str:
    """A hint for an unknown key: what it is called now, the one key that bears this very name, or the nearest one."""
    moved: Mapping[str, str] = getattr(schema, "moved", {})
    if ".".join(wrong) in moved:
        return f"; it is called {moved['.'.join(wrong)]} now"
    by_name: dict[str, list[str]] = {}
    for path in every(schema):
        by_name.setdefault(path[-1], []).append(".".join(path))
    if len(by_name.get(wrong[-1], ())) == 1:
        return f"; did you mean {by_name[wrong[-1]][0]}?"
    beside = {path[-1]: ".".join(path) for path in every(schema) if path[:-1] == wrong[:-1]}
    near = difflib.get_close_matches(wrong[-1], beside, n=1, cutoff=0.6)
    if near:
        return f"; did you mean {beside[near[0]]}?"
    near = difflib.get_close_matches(wrong[-1], by_name, n=1, cutoff=0.75)
    return f"; did you mean {by_name[near[0]][0]}?" if near else ""


def names_of(annotation: Any) -> str:
    """A field's type in a reader's words: `int`, `int or "auto"`, `"adamw", "adam" or "sgd"`."""
    words: list[str] = []
    for option in _options(annotation):
        if typing.get_origin(option) is Literal:
            words += [toml.value(choice) for choice in typing.get_args(option)]
        elif option is type(None):
            words.append("unset")
        else:
            words.append(
                option.__name__
                if isinstance(option, type) and not typing.get_args(option)
                else str(option)
            )
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " or " + words[-1]
