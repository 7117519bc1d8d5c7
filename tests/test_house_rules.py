"""What never stands in a file: kept data, wiring by text, a second reader of pickles, dense lines, unfinished work."""

from __future__ import annotations

import ast
import io
import re
import statistics
import tokenize
from collections.abc import Iterable, Iterator

import pytest

from source_tree import (
    HOUSE,
    MODULES,
    ROOT,
    SHIPPED,
    TEXTS,
    called,
    everywhere,
    name_of,
    parsed,
)

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


def test_no_wiring_by_text() -> None:
    assert not everywhere(wired_by_text, HOUSE)


def pickle_readers(source: str) -> Iterator[str]:
    """Classes that read pickles, and what they decide by."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.ClassDef):
            bases = [getattr(base, "attr", getattr(base, "id", "")) for base in node.bases]
            if any(base.endswith("Unpickler") for base in bases):
                yield f": class {node.name}"
        elif isinstance(node, ast.FunctionDef) and node.name in ("find_class", "persistent_load"):
            yield f": {node.name}"


def test_the_reader_rule_finds() -> None:
    planted = (
        "class A(pickle.Unpickler):\n    def find_class(self, module, name): ...\n"
        "class B(RestrictedUnpickler): ...\nclass C(Reader): ..."
    )
    assert len(list(pickle_readers(planted))) == 3


def test_one_class_reads_pickles() -> None:
    """Every other reader hands it an allow-list. (A worker's own messages, to and from itself, are no files.)"""
    names = ("class RestrictedUnpickler", "find_class", "persistent_load")
    file = "core/pretrained/unpickler.py"
    assert everywhere(pickle_readers, SHIPPED) == [f"{file}: {name}" for name in names]


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


def test_lines_are_light() -> None:
    assert not list(dense(p.read_text() for p in HOUSE))


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
