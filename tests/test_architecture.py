"""The shape of the tree: what may import what, where attention lives, how large a file grows, what never appears.

Rules are functions from source text to complaints, so each is also shown to find a planted breach.
"""

from __future__ import annotations

import ast
import functools
import importlib
import io
import os
import re
import statistics
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "isoform"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LAYERS = PYPROJECT["tool"]["importlinter"]["contracts"][0]["layers"]
DOMAINS = [name.strip().removeprefix("isoform.") for name in LAYERS[1].split("|")]
FOLDERS = ["core", *DOMAINS]
SHIPPED = [*PACKAGE.glob("*.py"), *(p for f in FOLDERS for p in (ROOT / f).rglob("*.py"))]
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


parsed = functools.cache(ast.parse)  # a file is parsed once for all rules


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def everywhere(rule, paths) -> list[str]:
    return [f"{name_of(path)}{complaint}" for path in paths for complaint in rule(path.read_text())]


# Attention and blocks live in core alone ------------------------------------------------------------------------------

PRODUCTS = {"matmul", "einsum", "bmm", "baddbmm", "mm", "MatMult"}
FUSED = re.compile(
    r"scaled_dot_product|MultiheadAttention|flash_attn|flex_attention|^Transformer(Encoder|Decoder|$)"
)
SCORES = re.compile(r"score|attn|attention|affinit", re.IGNORECASE)


def called(node: ast.AST) -> str:
    """The last name of what a call calls."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "attr", getattr(function, "id", ""))


def names_in(node: ast.AST) -> set[str]:
    return {
        getattr(n, "attr", getattr(n, "id", ""))
        for n in ast.walk(node)
        if isinstance(n, ast.Name | ast.Attribute)
    }


def has_product(node: ast.AST) -> bool:
    return any(
        called(n) in PRODUCTS or isinstance(getattr(n, "op", None), ast.MatMult)
        for n in ast.walk(node)
    )


def attention_outside_core(source: str) -> Iterator[str]:
    """Fused attention by name, classes called `...Block`, and a softmax over scores or over a product of matrices."""
    tree = parsed(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and node.name.endswith("Block"):
            yield f":{node.lineno}: class {node.name}"
        name = getattr(node, "attr", getattr(node, "id", getattr(node, "name", None)))
        if isinstance(node, ast.Name | ast.Attribute | ast.alias) and FUSED.search(str(name)):
            yield f":{node.lineno}: {name}"
    if "softmax" not in source.lower():  # spares most files the search for products
        return
    scopes = [tree, *(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))]
    found = set()
    for scope in scopes:
        products: set[str] = set()
        for _ in range(3):  # a product renamed, scaled and masked is still a product
            for node in ast.walk(scope):
                if not isinstance(node, ast.Assign | ast.AugAssign):
                    continue
                if has_product(node.value) or names_in(node.value) & products:
                    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                    products |= {
                        n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)
                    }
        for node in ast.walk(scope):
            if (
                isinstance(node, ast.Call)
                and "softmax" in called(node).lower()
                and "cross" not in called(node)
            ):
                over = [
                    *node.args,
                    *([node.func.value] if isinstance(node.func, ast.Attribute) else []),
                ]
                names = set().union(*(names_in(a) for a in over))
                if (
                    any(map(has_product, over))
                    or names & products
                    or any(SCORES.search(n) for n in names)
                ):
                    found.add(f":{node.lineno}: a softmax over scores")
    yield from sorted(found)


@pytest.mark.parametrize(
    "source",
    [
        "class EncoderBlock(nn.Module): ...",
        "nn.MultiheadAttention(8, 2)",
        "from torch.nn import TransformerEncoderLayer",
        "F.scaled_dot_product_attention(q, k, v)",
        "weights = (q @ k.mT).softmax(-1)",
        "weights = torch.softmax(scores, -1)",
        "def f(q, k):\n    a = torch.einsum('id,jd->ij', q, k)\n    b = a / 8\n    b += c\n    return F.softmax(b, -1)",
    ],
)
def test_the_attention_rule_finds(source: str) -> None:
    assert list(attention_outside_core(source))


def test_the_attention_rule_lets_class_probabilities_pass() -> None:
    source = "def predict(model, x):\n    logits = model(x)\n    y = x @ w\n    return logits.softmax(-1), y"
    assert not list(attention_outside_core(source))


def test_attention_and_blocks_live_in_core() -> None:
    outside = [
        p
        for p in SOURCES
        if not p.is_relative_to(ROOT / "core") and not p.is_relative_to(ROOT / "benchmarks")
    ]
    assert not everywhere(attention_outside_core, outside)


# Imports --------------------------------------------------------------------------------------------------------------


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


MODULES = {".".join(("isoform", *p.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): p
           for p in SHIPPED if p.is_relative_to(ROOT / "core") or p.relative_to(ROOT).parts[0] in DOMAINS}  # fmt: skip
MODULES |= {f"isoform.{p.stem}".removesuffix(".__init__"): p for p in PACKAGE.glob("*.py")}


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


# The tree -------------------------------------------------------------------------------------------------------------


def test_links_are_relative_and_match_the_folders() -> None:
    links = {p.name: os.readlink(p) for p in PACKAGE.iterdir() if p.is_symlink()}
    assert links == {name: f"../../{name}" for name in [*FOLDERS, "apps.toml", "zoo"]}
    assert all((PACKAGE / name).exists() for name in links)
    banned = PYPROJECT["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    assert sorted(banned) == sorted(FOLDERS)


FAMILY_FILES = ["tokeniser", "model", "head"]
WIRED = [d for d in DOMAINS if "DOMAIN" in (ROOT / d / "__init__.py").read_text()]
SHARED_FILES = [
    "config",
    "state",
    "prepare",
    "data",
    "losses",
    "metrics",
    "task",
    "predictor",
    "figures",
    "demo",
]
DOMAIN_FILES = [*SHARED_FILES, *FAMILY_FILES, "pretrained"]


@pytest.mark.parametrize("domain", WIRED)
def test_a_domain_holds_the_fixed_file_names(domain: str) -> None:
    folder = ROOT / domain

    def holds(where: Path, name: str) -> bool:
        return (where / f"{name}.py").is_file() or (where / name / "__init__.py").is_file()

    families = [p.parent for p in folder.glob("*/model.py")]
    missing = [
        name
        for name in DOMAIN_FILES
        if not any(holds(where, name) for where in [folder, *families])
    ]
    shared = {name for name in FAMILY_FILES if holds(folder, name)}
    missing += [
        f"{f.name}/{n}"
        for f in families
        for n in FAMILY_FILES
        if n not in shared and not holds(f, n)
    ]
    missing += [name for name in ("__main__.py", "README.md") if not (folder / name).is_file()]
    assert not missing


@pytest.mark.parametrize("domain", WIRED)
def test_a_wired_domain_meets_the_contract(domain: str) -> None:
    from isoform.core.domain import Domain

    wiring = importlib.import_module(f"isoform.{domain}").DOMAIN
    assert isinstance(wiring, Domain)
    assert wiring.name == domain


def test_files_stay_small() -> None:
    lines = {name_of(p): len(p.read_text().splitlines()) for p in SOURCES}
    assert not {name: n for name, n in lines.items() if n > 500}
    assert not {
        name: n
        for name, n in lines.items()
        if name in {f"demos/{d}.py" for d in DOMAINS} and n > 80
    }


# The house: wings, circles, wiring, what holds data, density ----------------------------------------------------------

# Rules that the tree doesn't meet yet: strict expected failures.
NOT_YET: set[str] = set()


def house_rule(name: str):
    reason = f"the tree doesn't meet the rule {name!r} yet"
    return (
        pytest.mark.xfail(reason=reason, strict=True, raises=AssertionError)
        if name in NOT_YET
        else lambda f: f
    )


HOUSE = [p for p in SHIPPED if not p.is_relative_to(PACKAGE)]  # core and the domains


def root_files(names: Iterable[str]) -> list[str]:
    """The files at core's root, beside its __init__."""
    return sorted(
        name for name in names if re.fullmatch(r"core/\w+\.py", name) and name != "core/__init__.py"
    )


def test_core_has_few_files_at_its_root() -> None:
    assert root_files(["core/a.py", "core/__init__.py", "core/wing/b.py", "vision/c.py"]) == [
        "core/a.py"
    ]
    assert len(root_files(map(name_of, HOUSE))) <= 15


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


@house_rule("circles")
def test_no_circle_of_any_kind_inside_core() -> None:
    """Function-local and typing imports count too."""
    core = {name: path for name, path in MODULES.items() if name.startswith("isoform.core.")}
    graph = {name: modules_in(path.read_text(), core) - {name} for name, path in core.items()}
    assert not circles(graph)


MEMOISING = {"lru_cache", "cache"}  # not cached_property, which dies with its object
CONTAINERS = {
    "dict",
    "list",
    "set",
    "defaultdict",
    "OrderedDict",
    "WeakKeyDictionary",
    "WeakValueDictionary",
    "deque",
}
# Made of their arguments alone, which are sizes and names: they hold none of a user's data.
DATALESS = {"vision/vit/resize.py"}


def holding(source: str) -> Iterator[str]:
    """Memoising decorators, empty containers at module level (there to be filled), and `global`.

    A function without parameters knows of no data; what it keeps is a library's.
    """
    tree = parsed(source)
    for node in ast.walk(tree):
        takes = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and bool(
            ast.unparse(node.args)
        )
        for decorator in getattr(node, "decorator_list", []) if takes else []:
            if {
                called(decorator),
                getattr(decorator, "attr", ""),
                getattr(decorator, "id", ""),
            } & MEMOISING:
                yield f":{node.lineno}: {node.name} is memoised"
        if isinstance(node, ast.Global):
            yield f":{node.lineno}: global {', '.join(node.names)}"
    for node in tree.body:
        value = (
            getattr(node, "value", None) if isinstance(node, ast.Assign | ast.AnnAssign) else None
        )
        literal = isinstance(value, ast.Dict | ast.List) and not getattr(
            value, "keys", getattr(value, "elts", None)
        )
        if literal or (called(value) in CONTAINERS and not value.args and not value.keywords):
            yield f":{node.lineno}: an empty container at module level"


@pytest.mark.parametrize(
    "source",
    ["@functools.lru_cache(maxsize=1)\ndef f(path): ...", "@cache\ndef f(*, x): ...", "_last: dict[str, int] = {}",
     "x = []", "x = defaultdict()", "def f():\n    global x\n    x = 1"],
)  # fmt: skip
def test_the_memory_rule_finds(source: str) -> None:
    assert list(holding(source))


def test_the_memory_rule_lets_tables_and_objects_pass() -> None:
    assert not list(holding("@cache\ndef formats(): ..."))
    assert not list(
        holding(
            "TABLE = {'a': 1}\nclass A:\n    @cached_property\n    def b(self):\n        x = {}\n"
        )
    )


@house_rule("memory")
def test_nothing_at_module_level_holds_data() -> None:
    places = [
        p
        for p in HOUSE
        if p.is_relative_to(ROOT / "core" / "data") or not p.is_relative_to(ROOT / "core")
    ]
    assert not everywhere(holding, [p for p in places if name_of(p) not in DATALESS])


def wired_by_text(source: str) -> Iterator[str]:
    """Texts "module:name" whose first part is a module of the tree."""
    known = {
        ".".join(name.split(".")[start:])
        for name in MODULES
        for start in range(1, name.count(".") + 1)
    }
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            match = re.fullmatch(r"([a-z_][\w.]*):([A-Za-z_]\w*)", node.value)
            if match and match[1] in known:
                yield f':{node.lineno}: "{node.value}"'


def test_the_wiring_rule_finds() -> None:
    assert list(wired_by_text('task=_later("task:VisionTask")')) and list(
        wired_by_text('f("core.cli.parser:Context")')
    )
    assert not list(wired_by_text('"""Reads task:VisionTask, and so on."""\nsource = "timm:NAME"'))


@house_rule("wiring")
def test_no_wiring_by_text() -> None:
    assert not everywhere(wired_by_text, HOUSE)


def pickle_readers(source: str) -> Iterator[str]:
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.ClassDef):
            bases = [getattr(base, "attr", getattr(base, "id", "")) for base in node.bases]
            if any(base.endswith("Unpickler") for base in bases):
                yield f":{node.lineno}: class {node.name}"


def test_the_reader_rule_finds() -> None:
    planted = (
        "class A(pickle.Unpickler): ...\nclass B(RestrictedUnpickler): ...\nclass C(Reader): ..."
    )
    assert len(list(pickle_readers(planted))) == 2


@house_rule("readers")
def test_one_class_reads_pickles() -> None:
    assert len(everywhere(pickle_readers, HOUSE)) == 1


def cross_entropies(source: str) -> Iterator[str]:
    for node in ast.walk(parsed(source)):
        name = getattr(node, "attr", getattr(node, "id", ""))
        if isinstance(node, ast.Attribute | ast.Name | ast.alias) and "cross_entropy" in (
            name or node.name
        ):
            yield f":{node.lineno}: {name or node.name}"


@pytest.mark.parametrize(
    "source", ["F.cross_entropy(a, b)", "from torch.nn.functional import binary_cross_entropy as f"]
)
def test_the_loss_rule_finds(source: str) -> None:
    assert list(cross_entropies(source)) and not list(cross_entropies("kind = 'cross_entropy'"))


@house_rule("losses")
def test_cross_entropy_occurs_in_one_file() -> None:
    found = [name_of(p) for p in HOUSE if list(cross_entropies(p.read_text()))]
    assert found == ["core/supervised/losses.py"]


def tokens_a_line(source: str) -> float:
    """Names, numbers and operators a line of code, on average."""
    lines: dict[int, int] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.NAME, tokenize.NUMBER, tokenize.OP):
            lines[token.start[0]] = lines.get(token.start[0], 0) + 1
    return statistics.mean(lines.values()) if lines else 0.0


def dense(sources: Iterable[str]) -> Iterator[str]:
    sources = list(sources)
    skipped = sum(source.count("# fmt: " + "skip") for source in sources)
    if skipped >= 60:
        yield f"{skipped} lines that ruff doesn't format"
    median = statistics.median(found for source in sources if (found := tokens_a_line(source)))
    if median >= 9.5:
        yield f"{median:.2f} tokens a line"


def test_the_density_rule_finds() -> None:
    assert tokens_a_line("a = b + 1  # not this one\n\nf(x)\n") == 4.5
    assert list(dense(["x = 1\n"] * 3 + ["y = 2  # fmt: " + "skip\n"] * 60))
    assert list(dense(["a = f(b, c, d, e) + 1\n"])) and not list(dense(["a = f(b)\n"]))


@house_rule("density")
def test_lines_are_light() -> None:
    assert not list(dense(p.read_text() for p in HOUSE))


# What never appears ---------------------------------------------------------------------------------------------------

UNFINISHED = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|X" + r"XX|raise NotImplemented" + r"Error)\b")
MACHINE = re.compile(
    r"(?<![\w./])/(wo"
    + r"rk|ro"
    + r"ot|ho"
    + r"me|Us"
    + r"ers|mn"
    + r"t)/\w|[A-Z]:\\\\?Us"
    + r"ers"
)


def matching(pattern: re.Pattern[str]):
    def rule(text: str) -> Iterator[str]:
        for number, line in enumerate(text.splitlines(), 1):
            if match := pattern.search(line):
                yield f":{number}: {match[0]}"

    return rule


@pytest.mark.parametrize(
    ("pattern", "breach", "fine"),
    [
        (UNFINISHED, "# TO" + "DO: later", "todos = []"),
        (UNFINISHED, "raise NotImplemented" + "Error", "except NotImplementedError"),
        (MACHINE, "open('/ho" + "me/me/data')", "tests/ho" + "me/x"),
        (MACHINE, "(/wo" + "rk/x)", "https://example.org/wo" + "rk/x"),
    ],
)
def test_unfinished_work_and_machine_paths(
    pattern: re.Pattern[str], breach: str, fine: str
) -> None:
    rule = matching(pattern)
    assert list(rule(breach)) and not list(rule(fine))
    assert not everywhere(rule, [p for p in TEXTS if p.is_file()])


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


def test_one_class_in_the_tree_reads_pickles() -> None:
    """Every other reader hands it an allow-list. (A worker's own messages, to and from itself, are no files.)"""
    readers = []
    for path in SHIPPED:
        for node in ast.walk(parsed(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith("Unpickler") for base in node.bases
            ):
                readers.append((path.name, node.name))
            if isinstance(node, ast.FunctionDef) and node.name in ("find_class", "persistent_load"):
                readers.append((path.name, node.name))
    names = ("RestrictedUnpickler", "find_class", "persistent_load")
    assert readers == [("unpickler.py", name) for name in names]
