"""A checkpoint that several processes wrote: each its part of every tensor, in a file of its own.

    step-0000120/  part-1-of-2.safetensors   tensors as "model/NAME", "ema/NAME", "optimizer/KIND/NAME"
                   part-2-of-2.safetensors
                   index.json                {tensor: [[file, first row], ...]} in the order of the rows
                   state.json  manifest.json as in every checkpoint

Read by any number of processes: what they want is put together again, whoever wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

INDEX = "index.json"
Pieces = Mapping[str, Sequence[tuple[str, int]]]  # of a tensor: file and first row


def part_name(rank: int, size: int) -> str:
    """The file of one process."""
    return f"part-{rank + 1}-of-{size}.safetensors"


def write_index(folder: Path, found: Sequence[Mapping[str, int]]) -> None:
    """index.json of what each process wrote: {tensor: first row} by rank."""
    pieces: dict[str, list[tuple[str, int]]] = {}
    for rank, rows in enumerate(found):
        for name, first in rows.items():
            pieces.setdefault(name, []).append((part_name(rank, len(found)), first))
    (folder / INDEX).write_text(json.dumps(pieces, indent=1, sort_keys=True))


def read_whole(folder: Path, kind: str) -> dict[str, Tensor]:
    """The tensors of one kind ("model", "ema", "optimizer"), whole; none where the checkpoint has none of it.

    Raises OSError, ValueError, KeyError or SafetensorError for what isn't such a checkpoint.
    """
    pieces = _pieces(folder)
    files = {file: None for places in pieces.values() for file, _ in places}
    opened = {file: safe_open(folder / file, framework="pt") for file in files}
    tensors: dict[str, Tensor] = {}
    for name, places in pieces.items():
        if not name.startswith(f"{kind}/"):
            continue
        in_order = sorted(places, key=lambda place: place[1])
        parts = [opened[file].get_tensor(name) for file, _ in in_order]
        tensors[name.partition("/")[2]] = parts[0] if len(parts) == 1 else torch.cat(parts)
    return tensors


def _pieces(folder: Path) -> Pieces:
    found = json.loads((folder / INDEX).read_text())
    try:
        pieces = {
            str(name): [(str(file), int(row)) for file, row in places]
            for name, places in found.items()
        }
    except (AttributeError, TypeError) as error:
        raise ValueError(f"{INDEX} is no index of parts") from error
    for file in {file for places in pieces.values() for file, _ in places}:
        if Path(file).name != file or (folder / file).is_symlink():
            raise ValueError(f"{INDEX} names {file!r}, which is no file beside it")
    return pieces
