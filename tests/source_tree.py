"""The files of the source tree, and what rules over their text share.

Rules are functions from source text to complaints, so each is also shown to find a planted breach.
"""

from __future__ import annotations

import ast
import functools
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "isoform"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAYERS = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
DOMAINS = [name.strip().removeprefix("isoform.") for name in LAYERS[1].split("|")]
FOLDERS = ["core", *DOMAINS]
SHIPPED = [*PACKAGE.glob("*.py"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))]
HOUSE = [p for p in SHIPPED if not p.is_relative_to(PACKAGE)]  # core and the domains
SOURCES = [*SHIPPED, *(ROOT / "demos").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
TEXTS = [
    *SOURCES,
    *(ROOT / "tests").rglob("*.py"),
    *(p for p in ROOT.iterdir() if p.suffix in (".md", ".toml") or p.name == "Makefile"),
    *(ROOT / "docs").rglob("*.md"),
    *(
        p
        for f in FOLDERS
        for p in (ROOT / f).rglob("*")
        if p.suffix in (".md", ".html", ".j2", ".css", ".js")
    ),
    ROOT / ".ci" / "run",
]
MODULES = {".".join(("isoform", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
           for p in SHIPPED if p.is_relative_to(ROOT / "core") or p.relative_to(ROOT).parts[0] in DOMAINS}  # fmt: skip
MODULES |= {f"isoform.{p.stem}".removesuffix(".__init__"): p for p in PACKAGE.glob("*.py")}

parsed = functools.cache(ast.parse)  # a file is parsed once for all rules


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def everywhere(rule, paths) -> list[str]:
    return [f"{name_of(path)}{complaint}" for path in paths for complaint in rule(path.read_text())]


def called(node: ast.AST) -> str:
    """The last name of what a call calls."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def imports(tree: ast.AST, *, at_import: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of every import; with `at_import` only those that importing the file runs, whatever happens."""
    later = (
        (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.If, ast.Try) if at_import else ()
    )
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield node.lineno, base
            if not at_import:  # `from isoform import vision` names a module too
                yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif not isinstance(node, later):
            yield from imports(node, at_import=at_import)


def modules_in(source: str, modules: Iterable[str], *, at_import: bool = False) -> set[str]:
    """Those of `modules` that a file imports: anywhere, or with `at_import` whenever it is imported itself."""
    tree, found = parsed(source), set()
    for _, name in imports(tree, at_import=at_import):
        found.add(name)
    if at_import:
        for node in tree.body:
            if isinstance(node, ast.ImportFrom):
                found |= {f"{node.module}.{alias.name}" for alias in node.names}
        found |= {
            ".".join(name.split(".")[:end])
            for name in found
            for end in range(1, name.count(".") + 1)
        }
    return found & set(modules)
