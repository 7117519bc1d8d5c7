"""Checkpoints: a folder a step, written beside its place and then renamed, with the SHA-256 of every file.

    step-0000120/  model.safetensors   raw weights
                   ema.safetensors     averaged weights, where they are trained
                   state.safetensors   the optimiser
                   state.json          the run's place: step, epoch, batch, best so far
                   manifest.json       bytes and SHA-256 of the files above, written last

A folder of that name is therefore complete or was damaged later, and the hash tells which. Reading always checks it,
because a flipped bit in a tensor file loads without complaint.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from isoform.core.errors import RunError, UserError

_NAME = re.compile(r"step-(\d{7,})")


class Damaged(Exception):
    """A checkpoint that isn't what was written: what is wrong with it."""


@dataclass(frozen=True)
class Checkpoint:
    """All that a run needs to go on: raw weights, averaged weights, optimiser tensors and the JSON of its place."""

    model: Mapping[str, Tensor]
    ema: Mapping[str, Tensor] | None
    optimizer: Mapping[str, Tensor]
    state: dict[str, Any]


def place(folder: Path, step: int) -> Path:
    """The folder of the checkpoint of `step`."""
    return folder / f"step-{step:07d}"


def steps(folder: Path) -> list[int]:
    """The steps that have a checkpoint folder, whole or damaged, in order."""
    if not folder.is_dir():
        return []
    return sorted(int(m[1]) for entry in folder.iterdir() if (m := _NAME.fullmatch(entry.name)))


def write(folder: Path, step: int, checkpoint: Checkpoint) -> None:
    """Writes the checkpoint of `step`, replacing one of the same step.

    Raises RunError where the disk refuses; earlier checkpoints are then untouched and nothing half-written is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    new, final = folder / f".step-{step:07d}.new", place(folder, step)
    try:
        new.mkdir()
        (new / "state.json").write_text(json.dumps(checkpoint.state))
        _save(checkpoint.model, new / "model.safetensors")
        if checkpoint.ema is not None:
            _save(checkpoint.ema, new / "ema.safetensors")
        _save(checkpoint.optimizer, new / "state.safetensors")
        for file in sorted(new.iterdir()):
            shutil.copymode(
                new / "state.json", file
            )  # safetensors writes files that others may not read
            sync(file)
        files = {file.name: _fingerprint(file) for file in sorted(new.iterdir())}
        (new / "manifest.json").write_text(json.dumps({"step": step, "files": files}, indent=1))
        sync(new / "manifest.json")
        sync(new)
        if final.exists():
            final.rename(folder / f".{final.name}.old")
        new.rename(final)
        sync(folder)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(new, ignore_errors=True)
        whole = ", ".join(place(folder, s).name for s in steps(folder)) or "none"
        raise RunError(
            f"the checkpoint of step {step} could not be written below {folder} ({error}); "
            f"earlier ones are intact ({whole}): make room and go on with --resume"
        ) from error
    _sweep(folder)


def verify(path: Path) -> None:
    """Compares every file with the manifest. Raises Damaged naming the first that differs."""
    for name, (size, digest) in manifest(path).items():
        file = path / name
        if Path(name).name != name or file.is_symlink() or not file.is_file():
            raise Damaged(f"{name} is missing")
        if file.stat().st_size != size:
            raise Damaged(f"{name} has {file.stat().st_size} bytes where {size} were written")
        if _fingerprint(file)["sha256"] != digest:
            raise Damaged(f"{name} differs from what was written (SHA-256)")


def manifest(path: Path) -> dict[str, tuple[int, str]]:
    """{file: (bytes, SHA-256)} as written. Raises Damaged where manifest.json is missing or no manifest."""
    try:
        files: dict[str, dict[str, Any]] = json.loads((path / "manifest.json").read_text())["files"]
        expected = {
            name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()
        }
    except FileNotFoundError as error:
        raise Damaged("manifest.json is missing") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged("manifest.json is not readable") from error
    if "model.safetensors" not in expected:
        raise Damaged("manifest.json names no model.safetensors")
    return expected


def read(path: Path) -> Checkpoint:
    """A whole checkpoint, verified. Raises Damaged."""
    verify(path)
    try:
        ema = path / "ema.safetensors"
        return Checkpoint(
            load_file(path / "model.safetensors"),
            load_file(ema) if ema.exists() else None,
            load_file(path / "state.safetensors"),
            json.loads((path / "state.json").read_text()),
        )
    except (OSError, SafetensorError, ValueError) as error:
        raise Damaged(str(error)) from error


def read_weights(path: Path, *, ema: bool = True) -> dict[str, Tensor]:
    """The averaged weights where the checkpoint has them and `ema` is true, else the raw ones. Raises Damaged."""
    verify(path)
    averaged = path / "ema.safetensors"
    try:
        return load_file(averaged if ema and averaged.exists() else path / "model.safetensors")
    except (OSError, SafetensorError) as error:
        raise Damaged(str(error)) from error


def newest(folder: Path, say: Callable[[str], None]) -> tuple[int, Checkpoint] | None:
    """The newest checkpoint that is whole, None where there is none at all.

    Damaged ones are named through `say` and removed, so that they can't be taken for newer than what follows. Raises
    UserError where there are checkpoints and none is whole.
    """
    present = steps(folder)
    for step in reversed(present):
        try:
            checkpoint = read(place(folder, step))
        except Damaged as error:
            say(
                f"checkpoint {place(folder, step).name} is damaged ({error}); trying the one before"
            )
            continue
        for later in present:
            if later > step:
                _remove(folder, later)
        return step, checkpoint
    if present:
        raise UserError(
            f"none of the {len(present)} checkpoints in {folder} is whole; restore one from a copy, "
            "or train into another folder with --run-dir"
        )
    return None


def prune(folder: Path, keep: Iterable[int]) -> None:
    """Removes every checkpoint but the newest two and those in `keep`."""
    present = steps(folder)
    for step in set(present) - set(present[-2:]) - set(keep):
        _remove(folder, step)


def sync(path: Path) -> None:
    """Makes sure that a file's or a folder's content survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(folder: Path, step: int) -> None:
    old = folder / f".step-{step:07d}.old"
    place(folder, step).rename(
        old
    )  # first out of sight: a folder named step-N is never half deleted
    shutil.rmtree(old, ignore_errors=True)


def _sweep(folder: Path) -> None:
    for leftover in folder.glob(".step-*"):
        shutil.rmtree(leftover, ignore_errors=True)


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    seen: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        storage = tensor.untyped_storage().data_ptr()
        separate[name] = (
            tensor.clone() if storage in seen else tensor
        )  # safetensors refuses tied weights
        seen.add(storage)
    save_file(separate, path, metadata={"format": "pt"})


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as stream:
        return {
            "bytes": file.stat().st_size,
            "sha256": hashlib.file_digest(stream, "sha256").hexdigest(),
        }


def finite(tensors: Iterable[Tensor]) -> bool:
    """True where no tensor holds NaN or infinity."""
    floating = [t for t in tensors if t.is_floating_point() and t.numel()]
    return not floating or bool(torch.isfinite(torch.stack(torch._foreach_norm(floating))).all())
