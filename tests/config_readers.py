"""Which settings does nobody read? For one test a domain: a key without a reader is deleted, or made to work."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel

from isoform.core.config.keys import leaves


@dataclass(frozen=True)
class Reads:
    """What one source file reads.

    attributes   names read off something, `.leaf` or getattr(_, "leaf"), and not called: no setting is a function
    names        all that it mentions: variables, attributes, imports
    texts        its string constants
    """

    attributes: frozenset[str]
    names: frozenset[str]
    texts: frozenset[str]


def unread_keys(
    schema: type[BaseModel], folders: Iterable[Path], dynamic: Mapping[str, str] | None = None
) -> list[str]:
    """The keys "table.leaf" of a schema that no file below `folders` reads.

    A file reads `table.leaf` where it reads an attribute `leaf`, and mentions the table: by an attribute `table`, or by
    the name of its class. `dynamic` names, for keys that are read by no attribute of their own (a loop over names), the
    file that does, by the end of its path; that file must hold the key's name as a text.
    """
    files = [path for folder in folders for path in sorted(folder.rglob("*.py"))]
    reads = {path: reads_of(path.read_text(encoding="utf-8")) for path in files}
    found = []
    for path in leaves(schema):
        key = ".".join(path)
        if key in (dynamic or {}):
            where = (dynamic or {})[key]
            named = [one for file, one in reads.items() if file.as_posix().endswith(where)]
            known = any(path[-1] in one.texts for one in named)
        else:
            known = any(_reads_key(one, path, schema) for one in reads.values())
        if not known:
            found.append(key)
    return found


def _reads_key(reads: Reads, path: tuple[str, ...], schema: type[BaseModel]) -> bool:
    if path[-1] not in reads.attributes:
        return False
    return len(path) == 1 or bool({path[-2], *_class_names(schema, path)} & reads.names)


def _class_names(schema: type[BaseModel], path: tuple[str, ...]) -> set[str]:
    """The names of the class of a key's table, and of the tables that it extends."""
    table: type[BaseModel] = schema
    for part in path[:-1]:
        annotation = table.model_fields[part].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return set()
        table = annotation
    return {
        one.__name__
        for one in table.__mro__
        if issubclass(one, BaseModel) and path[-1] in one.model_fields
    }


def reads_of(source: str) -> Reads:
    """What a source text reads; see Reads."""
    tree = ast.parse(source)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    attributes, names, texts = set(), set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            names.add(node.attr)
            if isinstance(node.ctx, ast.Load) and id(node) not in called:
                attributes.add(node.attr)
        elif isinstance(node, ast.Name):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add(node.asname or node.name.rpartition(".")[2])
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.add(node.value)
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "getattr"
        ):
            wanted = node.args[1] if len(node.args) > 1 else None
            if isinstance(wanted, ast.Constant) and isinstance(wanted.value, str):
                attributes.add(wanted.value)
                names.add(wanted.value)
    return Reads(frozenset(attributes), frozenset(names), frozenset(texts))
