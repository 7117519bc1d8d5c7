"""The record of what was compiled: a JSON file, a line an entry, and digests of the code that it was compiled from."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Protocol, TypeVar


class Named(Protocol):
    """A key of a record."""

    @property
    def name(self) -> str:
        """Under which its entry stands."""


K = TypeVar("K", bound=Named)


def read_record(path: Path) -> dict[str, Any]:
    """The compiler ("triton") and the entries by name ("kernels"); empty where there is no file."""
    if not path.exists():
        return {"triton": "", "kernels": {}}
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Keep the record, a line an entry."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(found)}"
        for name, found in sorted(record["kernels"].items())
    )
    text = f'{{"triton": {json.dumps(record["triton"])},\n"kernels": {{\n{lines}\n}}}}\n'
    path.write_text(text, encoding="utf-8")


def of_this_compiler(record: dict[str, Any]) -> dict[str, Any]:
    """The entries by name; none if another Triton than the one at hand made them."""
    import triton

    found: dict[str, Any] = record["kernels"] if record["triton"] == triton.__version__ else {}
    return found


def stale_of(keys: Iterable[K], record: dict[str, Any], digest: Callable[[K], str]) -> list[K]:
    """Those of the keys that the record lacks, or has from other code or another compiler."""
    kernels = of_this_compiler(record)
    return [key for key in keys if kernels.get(key.name, {}).get("digest") != digest(key)]


@cache
def code_of(path: Path) -> str:
    """A module without what doesn't change its meaning: comments, layout, docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
            node.body = [each for each in node.body if not is_text(each)] or [ast.Pass()]
    return ast.dump(tree)


def is_text(node: ast.stmt) -> bool:
    """Whether a statement is a docstring."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
