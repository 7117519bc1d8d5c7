"""Which of timm's ViTs isoform imports: `python -m isoform.vision.vit.coverage docs/timm.md` writes the list.

tests/vision/test_timm_parity.py compares every listed model with timm's own, live, and checks that the list is current.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from isoform.vision.vit.pretrained.timm_tables import Architecture, Unsupported, read_tables

MODULES = ("vision_transformer", "eva", "deit")

HEADER = """# timm models

Every ViT that timm {version} registers in its modules {modules},
and what `isoform vision import timm:NAME` does with it.

*matches*: the logits equal timm's within 1e-5, checked live with two blocks, perturbed norms, biases and scales, and at
full depth below 30 M parameters; export back to timm is bitwise. Otherwise the feature that isoform lacks, which the
import names too. Written by `python -m isoform.vision.vit.coverage docs/timm.md`; a test keeps it current.

"""


def names(module: str) -> list[str]:
    """The models that timm registers in one of its modules."""
    import timm

    return list(timm.list_models(module=module))


def meta_model(name: str, **kwargs: Any) -> Any:
    """A timm model without memory for its weights (torch's meta device)."""
    import timm
    import torch

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return timm.create_model(name, **kwargs)


def two_blocks(name: str, **kwargs: Any) -> Any:
    """The same with two blocks; where blocks differ in their key/value heads, the first and the middle one."""
    try:
        return meta_model(name, depth=2, **kwargs)
    except AssertionError:  # timm: one entry of num_kv_heads a block
        blocks = meta_model(name).blocks
        heads = tuple(blocks[i].attn.num_kv_heads for i in (0, len(blocks) // 2))
        return meta_model(name, depth=2, num_kv_heads=heads, **kwargs)


def state(model: Any) -> tuple[str, Architecture | None]:
    """ "matches" and the tables, or what is missing."""
    try:
        return "matches", read_tables(model)
    except Unsupported as error:
        return error.feature, None


def page(rows: Iterable[tuple[str, str, str]], version: str) -> str:
    """The page for (module, name, state) rows."""
    text = HEADER.format(version=version, modules=", ".join(f"`{m}.py`" for m in MODULES))
    table: dict[str, list[tuple[str, str]]] = {}
    for module, name, found in rows:
        table.setdefault(module, []).append((name, found))
    for module, entries in table.items():
        matching = sum(found == "matches" for _, found in entries)
        text += f"## {module}.py: {matching} of {len(entries)}\n\n| model | state |\n|---|---|\n"
        text += "".join(f"| `{name}` | {found} |\n" for name, found in entries) + "\n"
    return text.rstrip() + "\n"


def parse(text: str) -> dict[str, str]:
    """The names and states on the page."""
    cells = (line.split("|")[1:3] for line in text.splitlines() if line.startswith("| `"))
    return {name.strip(" `"): found.strip() for name, found in cells}


def rows() -> Iterator[tuple[str, str, str]]:
    """Module, name and state of every model."""
    for module in MODULES:
        for name in names(module):
            yield module, name, state(two_blocks(name))[0]


def main() -> None:
    """Writes the page to the path in the first argument."""
    import timm

    Path(sys.argv[1]).write_text(page(rows(), timm.__version__), encoding="utf-8")


if __name__ == "__main__":
    main()
