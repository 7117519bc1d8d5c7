"""Reading TOML with every mistake at once, one literal of a command line, and writing what reads back exactly."""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from collections.abc import Mapping
from typing import Any

Tree = dict[str, Any]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_STATEMENT = re.compile(r"""["'\w.\- \t]+=""")
_LINE = re.compile(r" \(at line (\d+), column \d+\)$")
_DATES = (datetime.date, datetime.time)
MOST_MISTAKES = 20  # that are told at once: each is one more reading of the whole text
MOST_TEXT = 2**19  # characters; isoform's own file of all apps has 77,000
_MOST_READ = 2**20  # characters, all readings together
_MOST_DOTS = 100  # of one key; reading it takes the square of them
DEEPEST = 20  # tables within tables; settings have three


def parse(text: str) -> tuple[Tree, list[tuple[int | None, str]]]:
    """The tables of `text`, and its mistakes as (line number or None, message).

    A line that is one bad `key = value` is taken out and the reading goes on, so that one run names every such line.
    An unclosed bracket or string makes all that follows ambiguous: reading stops there, and behind MOST_MISTAKES.
    """
    if len(text) > MOST_TEXT:
        return {}, [(None, f"is longer than {MOST_TEXT:,} characters")]
    lines = [*text.replace("\r\n", "\n").split("\n"), ""]
    errors: list[tuple[int | None, str]] = []
    for place, line in enumerate(lines, 1):
        if any(part.count(".") > _MOST_DOTS for part in re.split("[,=]", line)):
            return {}, [(place, f"has more than {_MOST_DOTS} dots in a row")]
    most = min(MOST_MISTAKES, 1 + _MOST_READ // max(1, len(text)))
    while len(errors) < most:
        try:
            tree = tomllib.loads("\n".join(lines))
            if _too_deep(tree):
                return {}, [*errors, (None, f"holds tables more than {DEEPEST} deep")]
            return tree, errors
        except tomllib.TOMLDecodeError as error:
            match = _LINE.search(str(error))
            message = _LINE.sub("", str(error))
            number = int(match.group(1)) if match else None
            errors.append((number, message[:1].lower() + message[1:]))
            if number is None or "nclosed" in message or not _STATEMENT.match(lines[number - 1]):
                return {}, errors
            lines[number - 1] = ""
        except (
            ValueError,
            RecursionError,
        ) as error:  # a number of thousands of digits, a thousand brackets
            return {}, [*errors, (None, f"can't be read ({error})")]
    return {}, [*errors, (None, f"has more mistakes than these {most}")]


def _too_deep(tree: Tree) -> bool:
    level: list[Any] = [tree]
    for _ in range(DEEPEST):
        inner = [list(one.values()) if isinstance(one, dict) else one for one in level]
        level = [one for part in inner for one in part if isinstance(one, dict | list)]
    return bool(level)


def literal(text: str) -> tuple[bool, Any]:
    """(True, value) where `text` is one TOML value, else (False, text). Dates count as text: no setting is one."""
    try:
        read = tomllib.loads(f"value = {text}\n")
    except tomllib.TOMLDecodeError:
        return False, text
    if set(read) != {"value"} or isinstance(read["value"], _DATES):
        return False, text
    return True, read["value"]


def dumps(tree: Mapping[str, Any]) -> str:
    """TOML text of nested tables of scalars, lists and tables; `tomllib.loads` gives an equal tree back."""
    return "\n".join(_table((), tree)).strip("\n") + "\n"


def _table(path: tuple[str, ...], tree: Mapping[str, Any]) -> list[str]:
    plain = [f"{_key(k)} = {value(v)}" for k, v in tree.items() if not isinstance(v, Mapping)]
    tables = {k: v for k, v in tree.items() if isinstance(v, Mapping)}
    lines = []
    if path and (plain or not tables):  # a table that holds only tables needs no header of its own
        lines = ["", f"[{'.'.join(map(_key, path))}]"]
    lines += plain
    for name, table in tables.items():
        lines += _table((*path, name), table)
    return lines


def value(item: Any) -> str:
    """One value in TOML's notation."""
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, int):
        return str(item)
    if isinstance(item, float):
        return (
            repr(item) if math.isfinite(item) else str(item)
        )  # inf, -inf, nan: the same words in both languages
    if isinstance(item, Mapping):
        return "{" + ", ".join(f"{_key(k)} = {value(v)}" for k, v in item.items()) + "}"
    if isinstance(item, list | tuple):
        return "[" + ", ".join(map(value, item)) + "]"
    if isinstance(item, _DATES):
        return item.isoformat()
    return _string(str(item))


def _key(name: str) -> str:
    return name if _BARE_KEY.fullmatch(name) else _string(name)


def _string(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '"'
        + re.sub(r"[\x00-\x1f\x7f]", lambda match: f"\\u{ord(match.group()):04x}", escaped)
        + '"'
    )
