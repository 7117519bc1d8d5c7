"""Molecules -> a store of graphs, worked out once and kept on disk under a name made of everything that it depends on.

n molecules, K kinds of bonds, Fb bond features.

A cached store is a folder of .npy files, read by memory map. It appears under its name in one step, when all of it is
on the disk; a folder that doesn't hold what it should is worked out and written again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from isoform.core.data.writers import usual_mode
from isoform.core.errors import UserError
from isoform.molecules.config import DataConfig
from isoform.molecules.data.graphs import HOPS, GraphStore, build_store, select
from isoform.molecules.data.records import Molecules, PackedGraphs

VERSION = 2  # of what is stored: raise it whenever equal input would give another store
FEW = 2000  # molecules: worked out in a second, so not kept unless data.cache says where
MANY = 5000  # molecules: from here on processes of their own save more time than they take to start


class Stored(NamedTuple):
    """Row i of the store is molecule kept[i] (int64, ascending); each other one comes with what is wrong with it."""

    store: GraphStore
    kept: np.ndarray
    skipped: list[tuple[int, str]]


def graph_store(
    molecules: Molecules,
    data: DataConfig,
    *,
    hops: int = HOPS,
    laplacian: int = 0,
    kinds: np.ndarray | None = None,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Stored:
    """The store of all molecules that become a graph, from the cache where it holds them.

    kinds      int16 [K + 1, Fb], of the store that a model was trained with, see `build_store`
    workers    processes that featurise; by the number of molecules and processors if None
    progress   called with the number of molecules featurised since its last call; not at all where the cache has them

    Raises UserError where data.cache can't be written, and as `build_store`.
    """
    key = _key(molecules, data, hops, laplacian, kinds)
    folder = cache_folder(data.cache)
    keeps = len(molecules) >= FEW or data.cache is not None
    if keeps and (found := load(folder / key)) is not None:
        return found
    graphs, kept, skipped = _graphs(molecules, data, workers, progress)
    stored = Stored(build_store(graphs, hops=hops, kinds=kinds, laplacian=laplacian), kept, skipped)
    if keeps:
        try:
            save(stored, folder / key)
        except OSError as error:
            if (
                data.cache is not None
            ):  # the user's own choice; elsewhere the store is simply not kept
                raise UserError(
                    f"{folder}: can't be written ({error.strerror}); choose another data.cache"
                ) from error
    return stored


def _graphs(
    molecules: Molecules,
    data: DataConfig,
    workers: int | None,
    progress: Callable[[int], None] | None,
) -> tuple[PackedGraphs, np.ndarray, list[tuple[int, str]]]:
    if molecules.graphs is None:
        from isoform.molecules.data.featurise import featurise_many

        if workers is None:
            workers = processors() if len(molecules) >= MANY else 0
        return featurise_many(
            _texts(molecules),
            workers,
            chirality=data.chirality,
            canonical=data.canonical,
            explicit_h=data.hydrogens,
            max_atoms=data.max_atoms,
            progress=progress,
        )
    sizes = molecules.graphs.sizes
    fits = (sizes >= 1) & (sizes <= data.max_atoms)
    skipped = [
        (int(i), f"has {sizes[i]} atoms, more than {data.max_atoms}" if sizes[i] else "has no atom")
        for i in np.flatnonzero(~fits)
    ]
    kept = np.flatnonzero(fits)
    return molecules.graphs if fits.all() else select(molecules.graphs, kept), kept, skipped


def processors() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _texts(molecules: Molecules) -> Sequence[str]:
    if molecules.blocks is None:
        return molecules.smiles
    return [
        block or smiles for block, smiles in zip(molecules.blocks, molecules.smiles, strict=True)
    ]


def save(stored: Stored, folder: Path) -> None:
    """Writes a store under that name, whole or not at all; one that is there already is replaced. Raises OSError."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name[:16]}."))
    try:
        arrays = {**_arrays(stored.store), "kept": stored.kept}
        for name, array in arrays.items():
            with (part / f"{name}.npy").open("wb") as file:
                np.save(file, array)
                os.fsync(file.fileno())
        about = {
            "version": VERSION,
            "arrays": {
                name: [array.dtype.str, list(array.shape)] for name, array in arrays.items()
            },
            "skipped": stored.skipped,
        }
        (part / "about.json").write_text(json.dumps(about))
        usual_mode(part)
        if folder.exists():
            shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)
    except OSError:
        if not folder.exists():  # another process may have been the first; its store is as good
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load(folder: Path) -> Stored | None:
    """The store saved under that name, memory-mapped; None where there is none or it is damaged."""
    try:
        about = json.loads((folder / "about.json").read_text())
        if about["version"] != VERSION:
            return None
        arrays = {
            name: _mapped(folder / f"{name}.npy", *kind) for name, kind in about["arrays"].items()
        }
        skipped = [(int(number), str(why)) for number, why in about["skipped"]]
        graphs = PackedGraphs(
            **{field.name: arrays.pop(field.name) for field in fields(PackedGraphs)}
        )
        kept = np.array(arrays.pop("kept"))
        return Stored(GraphStore(graphs=graphs, **arrays), kept, skipped)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _mapped(path: Path, dtype: str, shape: list[int]) -> np.ndarray:
    array = np.load(path) if 0 in shape else np.load(path, mmap_mode="r")  # nothing can't be mapped
    if array.dtype.str != dtype or array.shape != tuple(shape):
        raise ValueError(f"{path.name} isn't what was saved")
    return array


def _arrays(store: GraphStore) -> dict[str, np.ndarray]:
    own = {
        field.name: getattr(store, field.name)
        for field in fields(GraphStore)
        if field.name != "graphs"
    }
    return {
        **{field.name: getattr(store.graphs, field.name) for field in fields(PackedGraphs)},
        **own,
    }


def cache_folder(chosen: str | None) -> Path:
    """Where what is worked out of molecules is kept: data.cache, or the user's usual folder of such things."""
    if chosen is not None:
        return Path(chosen).expanduser()
    return (
        Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "isoform" / "molecules"
    )


def _key(
    molecules: Molecules, data: DataConfig, hops: int, laplacian: int, kinds: np.ndarray | None
) -> str:
    """SHA-256 of the molecules and of everything that decides what is made of them."""
    choices: dict[str, Any] = {
        "version": VERSION,
        "hops": hops,
        "laplacian": laplacian,
        "max_atoms": data.max_atoms,
    }
    digest = hashlib.sha256()
    if molecules.graphs is None:
        from rdkit import __version__ as rdkit

        choices |= {
            "chirality": data.chirality,
            "canonical": data.canonical,
            "hydrogens": data.hydrogens,
            "rdkit": rdkit,
        }
        digest.update(json.dumps(list(_texts(molecules)), default=repr).encode())
    else:
        for field in fields(PackedGraphs):
            _add(digest, getattr(molecules.graphs, field.name))
    if laplacian:
        from torch_geometric import __version__ as geometric

        choices["torch_geometric"] = geometric
    if kinds is not None:
        _add(digest, kinds)
    digest.update(json.dumps(choices, sort_keys=True).encode())
    return digest.hexdigest()


def _add(digest: Any, array: np.ndarray) -> None:
    digest.update(f"{array.dtype.str}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array))
