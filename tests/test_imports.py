"""What may import what: domains, declared dependencies, what the command line reads first, no circle in core."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping

import pytest

from source_tree import (
    DOMAINS,
    FOLDERS,
    MODULES,
    PYPROJECT,
    ROOT,
    everywhere,
    imports,
    modules_in,
    parsed,
)

# Imports --------------------------------------------------------------------------------------------------------------


def crossing(source: str, here: str) -> Iterator[str]:
    """Imports that point up or sideways, relative imports, and imports of a folder by its bare name."""
    above = {"core": {*DOMAINS, "__main__"}}.get(here, {*DOMAINS, "__main__"} - {here})
    for line, module in imports(parsed(source)):
        parts = module.split(".")
        if (
            parts[0] == ""
            or parts[0] in FOLDERS
            or (parts[0] == "isoform" and set(parts[1:2]) & above)
        ):
            yield f":{line}: imports {module}"


@pytest.mark.parametrize(
    ("here", "source"),
    [
        ("core", "import isoform.vision"),
        ("core", "def f():\n    from isoform import vision"),
        ("vision", "from isoform.molecules.data import x"),
        ("vision", "from isoform.__main__ import main"),
        ("vision", "from core.tokens import Tokens"),
        ("vision", "from . import data"),
    ],
)
def test_the_import_rule_finds(here: str, source: str) -> None:
    assert list(crossing(source, here))


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_down(folder: str) -> None:
    assert not everywhere(lambda source: crossing(source, folder), (ROOT / folder).rglob("*.py"))


def reached(starts: Iterable[str]) -> set[str]:
    """The modules that importing `starts` imports, one after the other."""
    queue, seen = list(starts), set()
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += modules_in(MODULES[name].read_text(), MODULES, at_import=True)
    return seen


HEAVY = {"torch", "torchvision", "timm", "matplotlib", "sklearn", "scipy", "pandas"}
# What `isoform --help`, `isoform apps` and the errors of a configuration read before anything else.
FIRST = ["isoform.__main__", "isoform.core.config"]
FIRST += [
    name for d in DOMAINS for name in (f"isoform.{d}", f"isoform.{d}.config") if name in MODULES
]


def heavy(source: str) -> Iterator[str]:
    for line, module in imports(parsed(source), at_import=True):
        if module.split(".")[0] in HEAVY:
            yield f":{line}: imports {module}"


def test_what_the_command_line_reads_first_imports_no_torch() -> None:
    assert list(heavy("import torch.nn")) and not list(heavy("def f():\n    import torch"))
    first = reached(FIRST)
    assert {"isoform.core.cli.parser", "isoform.core.config.schema", "isoform.core.domain"} <= first
    assert not everywhere(heavy, [MODULES[name] for name in sorted(first)])


def declared(*extras: str) -> set[str]:
    """Import names of the dependencies and of some extras, whole extras of extras included."""
    renamed = {
        "scikit-learn": "sklearn",
        "pillow": "PIL",
        "python-neo-lzf": "lzf",
        "mlflow-skinny": "mlflow",
    }
    optional = PYPROJECT["project"]["optional-dependencies"]
    names, queue = (
        set(),
        [*PYPROJECT["project"]["dependencies"], *(d for e in extras for d in optional.get(e, []))],
    )
    while queue:
        requirement = queue.pop()
        match = re.match(r"([\w-]+)(?:\[([\w, -]+)\])?", requirement)
        assert match, requirement
        if match[1] == "isoform":
            queue += [d for extra in match[2].split(",") for d in optional[extra.strip()]]
        else:
            names.add(renamed.get(match[1], match[1].replace("-", "_")))
    return names


def undeclared(source: str, allowed: set[str], *, at_import: bool) -> Iterator[str]:
    for line, module in imports(parsed(source), at_import=at_import):
        top = module.split(".")[0]
        if top and top != "isoform" and top not in sys.stdlib_module_names and top not in allowed:
            yield f":{line}: imports {top}"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import_is_a_declared_dependency(folder: str) -> None:
    """At import time only what the domain's own extra installs; inside functions whatever some extra installs."""
    for path in (ROOT / folder).rglob("*.py"):
        triton = (
            {"triton"} if path.name.startswith("triton_") else set()
        )  # arrives with torch where there is a GPU
        first = declared(folder) | triton
        # pytorch3d has no wheel: an adapter uses it where somebody built it.
        later = declared(*PYPROJECT["project"]["optional-dependencies"]) | {"triton", "pytorch3d"}
        assert not everywhere(
            lambda source, ok=first: undeclared(source, ok, at_import=True), [path]
        )
        assert not everywhere(
            lambda source, ok=later: undeclared(source, ok, at_import=False), [path]
        )


def test_the_dependency_rule_finds_and_dev_and_demo_are_enough() -> None:
    assert list(undeclared("import timm", declared("vision"), at_import=True))
    assert not list(undeclared("def f():\n    import timm", declared("vision"), at_import=True))
    # Ray alone is left to whoever trains on a cluster of it: it is heavy, and one test is its own.
    everything = declared(*PYPROJECT["project"]["optional-dependencies"])
    assert declared("demo", "dev") | {"ray"} == everything


# No circle ------------------------------------------------------------------------------------------------------------


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules each of which reaches the others: the strongly connected ones of more than one."""
    reach = {name: set(graph[name]) for name in graph}
    for middle in graph:  # Warshall
        for name in graph:
            if middle in reach[name]:
                reach[name] |= reach[middle]
    groups = {frozenset(other for other in reach[name] if name in reach[other]) for name in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def test_the_circle_rule_finds() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert not circles({"a": {"b", "c"}, "b": {"c"}, "c": set()})
    later = "def f():\n    from isoform.core import b\nif TYPE_CHECKING:\n    from isoform.core.c import C"
    assert modules_in(later, ["isoform.core.b", "isoform.core.c"]) == {
        "isoform.core.b",
        "isoform.core.c",
    }


def test_no_circle_of_any_kind_inside_core() -> None:
    """Function-local and typing imports count too."""
    core = {name: path for name, path in MODULES.items() if name.startswith("isoform.core.")}
    graph = {name: modules_in(path.read_text(), core) - {name} for name, path in core.items()}
    assert not circles(graph)


# Without the optional libraries ---------------------------------------------------------------------------------------


WITHOUT = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import isoform
assert "torch" not in sys.modules, "import isoform imported torch"
import isoform.core.attention, isoform.core.backbone, isoform.vision, isoform.vision.vit.model
import torch
q = torch.randn(2, 3, 5, 4)
assert isoform.core.attention.attention(q, q, q).shape == q.shape
"""


def test_works_without_triton_timm_and_every_other_domains_extra() -> None:
    """A fresh process, in which importing any library that vision does not declare fails."""
    blocked = sorted((declared("dev", *DOMAINS) - declared("vision")) | {"triton", "mlxtend"})
    assert "timm" in blocked and "torch" not in blocked
    code = WITHOUT.format(blocked=blocked)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
