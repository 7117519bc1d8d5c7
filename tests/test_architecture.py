"""The shape of the tree: where attention lives, which files a domain has, how large a file grows."""

from __future__ import annotations

import ast
import importlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from source_tree import (
    DOMAINS,
    FOLDERS,
    HOUSE,
    PACKAGE,
    PYPROJECT,
    ROOT,
    SOURCES,
    called,
    everywhere,
    name_of,
    parsed,
)

# Attention and blocks live in core alone ------------------------------------------------------------------------------


PRODUCTS = {"matmul", "einsum", "bmm", "baddbmm", "mm", "MatMult"}
FUSED = re.compile(
    r"scaled_dot_product|MultiheadAttention|flash_attn|flex_attention|^Transformer(Encoder|Decoder|$)"
)
SCORES = re.compile(r"score|attn|attention|affinit", re.IGNORECASE)


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
    files = [*SOURCES, *(ROOT / "tests").rglob("*.py")]
    lines = {name_of(p): len(p.read_text().splitlines()) for p in files}
    assert not {name: n for name, n in lines.items() if n > 500}
    assert not {
        name: n
        for name, n in lines.items()
        if name in {f"demos/{d}.py" for d in DOMAINS} and n > 80
    }


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
