"""isoform's own exports read back: a bundle, or a .safetensors with its settings, as the folder of a run."""

from __future__ import annotations

import base64
import json
import re
import tempfile
import tomllib
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.core.pretrained.checkpoint_file import (
    EXPANSION_LIMIT,
    read_checkpoint,
    safetensors_metadata,
)
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs.checkpoint import Checkpoint
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.zoo import located

METADATA = "isoform"  # the entry of a .safetensors that holds everything beside the weights
MOST_DIGESTS = 5_000_000  # in that entry: with its metadata a .safetensors may take 100 MB
# Of a run folder what a bundle has, where the run has it.
BUNDLED = ("config.toml", "task.json", "calibration.npz", "seen.npz", "results.json", "card.md")
_CHECKPOINT = re.compile(r"checkpoints/step-\d{7,}/[a-z]+\.(safetensors|json)")


def is_exported(path: str | Path) -> bool:
    """Whether a file was written by `export --format bundle` or `safetensors`."""
    return bool(_kind(located(path)))


@contextmanager
def as_run(path: str | Path) -> Iterator[Path]:
    """The folder of a run: `path` itself, or one that holds what an exported file does, and is gone afterwards.

    Raises UserError for an exported file that is damaged or claims to be larger than it can be.
    """
    path = located(path)
    kind = _kind(path)
    if not kind:
        yield path
        return
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "run"
        folder.mkdir()
        try:
            (_unpack if kind == "bundle" else _unfold)(path, folder)
            yield folder
        except UserError as error:  # a reader knows the file, and not the folder
            raise UserError(str(error).replace(str(folder), str(path))) from error


def _kind(path: Path) -> str:
    if not path.is_file():
        return ""
    if METADATA in safetensors_metadata(path):
        return "safetensors"
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, NotImplementedError):  # a zip of a later version
        return ""
    return "bundle" if "config.toml" in names else ""


def _unpack(path: Path, folder: Path) -> None:
    """A bundle's files, by the names that it may have and no others."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if _belongs(one.filename)]
            whole = sum(one.file_size for one in members)
            if whole > EXPANSION_LIMIT and whole > 50 * path.stat().st_size:
                raise UserError(f"{path}: its {path.stat().st_size} bytes claim to hold {whole}")
            for one in members:
                archive.extract(one, folder)
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError) as error:
        raise UserError(f"{path}: is damaged ({error}); export it again") from error


def _belongs(name: str) -> bool:
    return name in BUNDLED or bool(_CHECKPOINT.fullmatch(name))


def _unfold(path: Path, folder: Path) -> None:
    """What the metadata of a .safetensors tell as files, its tensors as the one checkpoint."""
    try:
        about = json.loads(safetensors_metadata(path)[METADATA])
        texts = {"config.toml": about["config"], "task.json": json.dumps(about["task"])}
        config = tomllib.loads(about["config"])
        named = {name: str(config.get(name, "")) for name in ("domain", "app")}
        precision = str(about.get("precision", "fp32"))
        results = {**named, "precision": precision, "metrics": {}, "baselines": {}}
        arrays = arrays_of(about.get("calibration", {}))
        seen = digests_of_text(about["seen"]) if "seen" in about else None
        step = int(about.get("step", 0))
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="utf-8")
    except (
        ValueError, ArithmeticError, KeyError, TypeError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(
            f"{path}: its metadata entry {METADATA!r} can't be read ({error}); export it again"
        ) from error
    run = RunFolder(folder)
    run.write_json("results.json", results)
    run.write_arrays("calibration.npz", arrays)
    run.write_seen(seen)
    state = {"place": {"step": step, "best_step": step}}
    checkpoints.write(run.checkpoints, step, Checkpoint(read_checkpoint(path), None, {}, state))


def json_of(arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Arrays of plain numbers as JSON, NaN as null; see `arrays_of`."""
    return {
        name: {
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "values": [None if value != value else value for value in array.ravel().tolist()],
        }
        for name, array in arrays.items()
    }


def arrays_of(told: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What `json_of` was given, bit for bit. Raises ValueError, KeyError or TypeError for anything else."""
    found = {}
    for name, one in told.items():
        dtype = np.dtype(str(one["dtype"]))
        if dtype.kind not in "biuf":
            raise ValueError(f"{name} is not of plain numbers")
        values = [np.nan if value is None else value for value in one["values"]]
        found[name] = np.array(values, dtype).reshape([int(size) for size in one["shape"]])
    return found


def text_of_digests(seen: np.ndarray) -> str:
    """uint64 as text; see `digests_of_text`."""
    return base64.b64encode(seen.astype("<u8").tobytes()).decode()


def digests_of_text(text: str) -> np.ndarray:
    """What `text_of_digests` was given. Raises ValueError or TypeError for anything else."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<u8").astype(np.uint64)


__all__ = [
    "BUNDLED",
    "METADATA",
    "MOST_DIGESTS",
    "arrays_of",
    "as_run",
    "is_exported",
    "json_of",
    "text_of_digests",
]
