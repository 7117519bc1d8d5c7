"""Adapters of the vision kinds: a case in, an assertion out; `tmp_path` is where checkpoints for the importer go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from golden.cases import Case
from isoform.core.resize import resize_patch_kernel, resize_position_table


def size_of(name: str) -> tuple[int, int]:
    """(9, 8) of "grid_9x8"."""
    rows, columns = name.rpartition("_")[2].split("x")
    return int(rows), int(columns)


def resize_table(mode_of: Callable[[str], str]) -> Callable[[Case, Path], None]:
    """A position table carried to every stored grid."""

    def run(case: Case, tmp_path: Path) -> None:
        table = case.input["table"]
        old = tuple(case.config["old_grid"])
        prefix = case.config.get("num_prefix_tokens", 1)
        got: dict[str, Tensor] = {}
        for name in case.output:
            got[name] = resize_position_table(table, old, size_of(name), prefix=prefix, mode=mode_of(name))
        case.compare(output=got)

    return run


def resize_kernel(case: Case, tmp_path: Path) -> None:
    """A patch kernel carried to every stored patch size."""
    case.compare(output={name: resize_patch_kernel(case.input["kernel"], size_of(name)) for name in case.output})


KINDS = {
    "resize-timm": resize_table(lambda name: "timm"),
    "resize-mae": resize_table(lambda name: "mae"),
    "resize-dinov2": resize_table(lambda name: "dinov2" if "offset01" in name else "dinov2_registers"),
    "resize-patch-kernel": resize_kernel,
}
