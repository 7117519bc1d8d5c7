"""Checkpoints: a folder a step, written beside its place and then renamed, with the SHA-256 of every file.

    step-0000120/  model.safetensors   raw weights
                   ema.safetensors     averaged weights, where they are trained
                   state.safetensors   the optimiser
                   state.json          the run's place: step, epoch, batch, best so far
                   manifest.json       the format's number, bytes and SHA-256 of the files above, written last

Where several processes hold a part each of the tensors, they write it (parts.py) in the place of the tensor files.

A folder of that name is therefore complete or was damaged later, and the hash tells which. Reading always checks it,
because a flipped bit in a tensor file loads without complaint.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from isoform.core.data.writers import plain_json
from isoform.core.errors import RunError, UserError
from isoform.core.runs.parts import INDEX, part_name, read_whole, write_index

# Of what is written here; a manifest without a number is of 1. tests/faults/formats keeps a run of each.
FORMAT = 2
_UNREADABLE = (OSError, SafetensorError, ValueError, KeyError, RecursionError)
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
    with _refusing(folder, step):
        new = begin(folder, step)
        _save(checkpoint.model, new / "model.safetensors")
        if checkpoint.ema is not None:
            _save(checkpoint.ema, new / "ema.safetensors")
        _save(checkpoint.optimizer, new / "state.safetensors")
        seal(folder, step, checkpoint.state)


def begin(folder: Path, step: int) -> Path:
    """The folder to write the checkpoint of `step` into until `seal` puts it into its place."""
    folder.mkdir(parents=True, exist_ok=True)
    _sweep(folder)
    new = _new(folder, step)
    new.mkdir()
    return new


def _new(folder: Path, step: int) -> Path:
    return folder / f".step-{step:07d}.new"


def write_part(
    folder: Path, step: int, rank: int, size: int, tensors: Mapping[str, Tensor]
) -> dict[str, Any]:
    """Writes the part of one process; returns its entry of the manifest. Raises RunError where the disk refuses."""
    file = _new(folder, step) / part_name(rank, size)
    with _refusing(folder, step):
        _save(tensors, file)
        sync(file)
        return {file.name: _fingerprint(file)}


def seal_parts(
    folder: Path,
    step: int,
    state: Mapping[str, Any],
    rows: Sequence[Mapping[str, int]],
    files: Mapping[str, Any],
) -> None:
    """Puts a checkpoint into its place once every process has written its part, whose `files` are hashed already.

    `rows`: by rank, the first row of each tensor's part. Raises RunError where the disk refuses.
    """
    with _refusing(folder, step):
        write_index(_new(folder, step), rows)
        seal(folder, step, state, files)


def seal(
    folder: Path, step: int, state: Mapping[str, Any], hashed: Mapping[str, Any] | None = None
) -> None:
    """Writes state.json and the manifest, and renames the folder that `begin` made to its place.

    In state.json NaN and infinity are null, as JSON has no word for them.
    """
    new, final = _new(folder, step), place(folder, step)
    (new / "state.json").write_text(json.dumps(plain_json(state)))
    for file in sorted(new.iterdir()):
        shutil.copymode(
            new / "state.json", file
        )  # safetensors writes files that others may not read
        sync(file)
    files = {
        file.name: (hashed or {}).get(file.name) or _fingerprint(file)
        for file in sorted(new.iterdir())
    }
    (new / "manifest.json").write_text(
        json.dumps({"format": FORMAT, "step": step, "files": files}, indent=1)
    )
    sync(new / "manifest.json")
    sync(new)
    if final.exists():
        final.rename(folder / f".{final.name}.old")
    new.rename(final)
    sync(folder)
    _sweep(folder)


@contextmanager
def _refusing(folder: Path, step: int) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        shutil.rmtree(_new(folder, step), ignore_errors=True)
        whole = ", ".join(place(folder, s).name for s in steps(folder)) or "none"
        raise RunError(
            f"the checkpoint of step {step} could not be written below {folder} ({error}); "
            f"earlier ones are intact ({whole}): make room and go on with --resume"
        ) from error


def verify(path: Path) -> None:
    """Compares every file with the manifest. Raises Damaged naming the first that differs."""
    for name, written in manifest(path).items():
        _verify(path, name, written)


def _verify(path: Path, name: str, written: tuple[int, str]) -> None:
    file, (size, digest) = path / name, written
    if not _is_file_of(path, name):
        raise Damaged(f"{name} is missing")
    if file.stat().st_size != size:
        raise Damaged(f"{name} has {file.stat().st_size} bytes where {size} were written")
    if _digest_on_disk(file) != digest:
        raise Damaged(f"{name} differs from what was written (SHA-256)")


def _digest_on_disk(file: Path) -> str:
    try:
        return str(_fingerprint(file)["sha256"])
    except OSError as error:
        if error.errno != errno.EIO:  # any other refusal is no damage, and may pass
            raise
        raise Damaged(f"{file.name} can't be read: {error.strerror}") from error


def _is_file_of(path: Path, name: str) -> bool:
    file = path / name
    try:
        return Path(name).name == name and not file.is_symlink() and file.is_file()
    except OSError:  # a name of thousands of letters
        return False


def manifest(path: Path) -> dict[str, tuple[int, str]]:
    """{file: (bytes, SHA-256)} as written.

    Raises Damaged where manifest.json is missing or no manifest, UserError where it is of a later format.
    """
    try:
        told = json.loads((path / "manifest.json").read_text())
        if told.get("format", 1) > FORMAT:
            raise UserError(
                f"{path}: is of format {told['format']}, and this isoform knows {FORMAT} at most: use a later version"
            )
        files: dict[str, dict[str, Any]] = told["files"]
        expected = {
            name: (int(entry["bytes"]), str(entry["sha256"])) for name, entry in files.items()
        }
    except FileNotFoundError as error:
        raise Damaged("manifest.json is missing") from error
    except (
        OSError, ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise Damaged("manifest.json is not readable") from error
    if not expected.keys() & {"model.safetensors", INDEX}:
        raise Damaged("manifest.json names no model.safetensors")
    return expected


def read(path: Path) -> Checkpoint:
    """A whole checkpoint, verified. Raises Damaged."""
    verify(path)
    try:
        return Checkpoint(
            _tensors(path, "model"),
            _tensors(path, "ema") or None,
            _tensors(path, "optimizer"),
            json.loads((path / "state.json").read_text()),
        )
    except _UNREADABLE as error:
        raise Damaged(str(error)) from error


def read_place(path: Path) -> dict[str, Any]:
    """The run's place alone, verified, however large the tensors beside it are. Raises Damaged."""
    files = manifest(path)
    if "state.json" not in files:
        raise Damaged("manifest.json names no state.json")
    _verify(path, "state.json", files["state.json"])
    try:
        return dict(json.loads((path / "state.json").read_text())["place"])
    except (*_UNREADABLE, TypeError) as error:
        raise Damaged(f"state.json can't be read ({error})") from error


def read_weights(path: Path, *, ema: bool = True) -> dict[str, Tensor]:
    """The averaged weights where the checkpoint has them and `ema` is true, else the raw ones. Raises Damaged."""
    verify(path)
    try:
        return (_tensors(path, "ema") if ema else {}) or _tensors(path, "model")
    except _UNREADABLE as error:
        raise Damaged(str(error)) from error


def gather(folder: Path, step: int) -> None:
    """Rewrites a checkpoint that several processes wrote as one process does: one model.safetensors.

    Raises RunError where it is damaged or the disk refuses.
    """
    path = place(folder, step)
    if not (path / INDEX).exists():
        return
    try:
        whole = read(path)
    except Damaged as error:
        raise RunError(f"checkpoint {path} is damaged ({error}); restore it from a copy") from error
    write(folder, step, whole)


_FILES = {"model": "model", "ema": "ema", "optimizer": "state"}


def _tensors(path: Path, kind: str) -> dict[str, Tensor]:
    """Those of one kind; none where the checkpoint has none of it."""
    if (path / INDEX).exists():
        return read_whole(path, kind)
    file = path / f"{_FILES[kind]}.safetensors"
    return load_file(file) if file.exists() or kind != "ema" else {}


def newest(folder: Path, say: Callable[[str], None]) -> tuple[int, Checkpoint] | None:
    """The newest checkpoint that is whole, None where there is none at all.

    Damaged ones are named through `say` and removed, so that they can't be taken for newer than what follows. Raises
    UserError where there are checkpoints and none is whole.
    """
    _sweep(folder)
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
    gone = folder / f".step-{step:07d}.gone"
    place(folder, step).rename(
        gone
    )  # first out of sight: a folder named step-N is never half deleted
    shutil.rmtree(gone, ignore_errors=True)


def _sweep(folder: Path) -> None:
    """Removes what a process that died left; what it was about to replace comes back where nothing took its place."""
    for old in folder.glob(".step-*.old"):
        final = folder / old.name.removeprefix(".").removesuffix(".old")
        if not final.exists():
            old.rename(final)
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
