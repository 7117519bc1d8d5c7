"""Every test that a page names is there: a page that quotes a lost one vouches for nothing."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping

from source_tree import ROOT, name_of, parsed

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "tests").rglob("*.md")]
# `FILE`, `FILE::TEST`, `::TEST` of the file named before it in the line, and `TEST` of any file in a line
# that names one (timm has models called so).
QUOTED = re.compile(
    r"(?P<file>[\w/]*\btest_\w+\.py)|::(?P<of_file>test_\w+)|`(?P<of_any>test_\w+)`"
)


def defined() -> dict[str, set[str]]:
    """File -> the names of its tests."""
    return {
        name_of(path): {
            node.name
            for node in ast.walk(parsed(path.read_text()))
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
        }
        for path in (ROOT / "tests").rglob("test_*.py")
    }


def missing(text: str, tests: Mapping[str, set[str]]) -> Iterator[str]:
    """What a page quotes and `tests` lacks; a file may be named by the end of its path."""
    every = set().union(*tests.values())
    for number, line in enumerate(text.splitlines(), 1):
        found: set[str] | None = None
        for match in QUOTED.finditer(line):
            if match["file"]:
                files = [name for name in tests if f"/{name}".endswith(f"/{match['file']}")]
                found = set().union(*(tests[name] for name in files))
                if not files:
                    yield f":{number}: {match['file']}"
            elif match["of_file"] and match["of_file"] not in (found or ()):
                yield f":{number}: ::{match['of_file']}"
            elif match["of_any"] and found is not None and match["of_any"] not in every:
                yield f":{number}: {match['of_any']}"


def test_the_rule_finds() -> None:
    tests = {"tests/a/test_x.py": {"test_one"}, "tests/test_y.py": {"test_two"}}
    fine = "`a/test_x.py::test_one`, `test_y.py`, `::test_two`, `test_one`"
    assert not list(missing(f"{fine}\nthe model `test_three`", tests))
    for breach in (
        "`test_z.py`",
        "`test_y.py::test_one`",
        "`test_x.py`, `::test_two`",
        "`test_y.py`, `test_three`",
    ):
        assert len(list(missing(breach, tests))) == 1, breach


def test_every_quoted_test_is_there() -> None:
    tests = defined()
    assert not [
        f"{name_of(page)}{lost}" for page in PAGES for lost in missing(page.read_text(), tests)
    ]
