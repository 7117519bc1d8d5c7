"""The one reader of foreign checkpoints: .safetensors, PyTorch's files (new and old), .npz, plain pickles.

Nothing in a file is run (unpickler.py), sizes are checked before anything is decompressed or allocated, and a damaged
file is one sentence. PyTorch's zip files carry checksums, which are verified here.
"""

from __future__ import annotations

import io
import json
import mmap
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import torch

from isoform.core.data.npy import header_of
from isoform.core.errors import UserError
from isoform.core.pretrained.unpickler import (
    CHECKPOINT,
    ERRORS,
    AllowList,
    Refused,
    Storage,
    unpickle,
)

HEADER_LIMIT = 100 << 20  # bytes of a .safetensors header; a large model's takes less than one MiB
PICKLE_LIMIT = 1 << 30  # bytes of a pickle without its tensors
EXPANSION_LIMIT = (
    64 << 20
)  # bytes that a compressed archive may grow to freely; beyond, at most fiftyfold
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """What a checkpoint file holds: names to tensors, or whatever tree of containers was saved.

    The kind is told by content. Values of unknown classes are inert placeholders. .npz arrays come as tensors. Raises
    UserError for a missing, damaged, truncated or oversized file and for one of another kind.
    """
    path = Path(path)
    with _explained(path):
        content = _read(path)
        if not isinstance(content, dict):
            raise Refused(f"it holds a {type(content).__name__} at its top, not a dictionary")
        return content


def read_tree(path: str | Path) -> Any:
    """As `read_checkpoint`, for files with anything at their top, such as the tuples of torch-geometric."""
    path = Path(path)
    with _explained(path):
        return _read(path)


def read_plain_pickle(
    path: str | Path, *, allow: AllowList = CHECKPOINT, encoding: str = "bytes"
) -> Any:
    """The value of a pickle of containers, numbers, strings and numeric arrays (CIFAR's batches).

    `allow` says what its names stand for; `encoding` is for strings of Python 2, as in pickle.load. Raises UserError as
    `read_checkpoint`.
    """
    path = Path(path)
    with _explained(path):
        if path.stat().st_size > PICKLE_LIMIT:
            raise Refused(f"it is larger than {PICKLE_LIMIT >> 20} MiB")
        return unpickle(path.read_bytes(), allow=allow, encoding=encoding)


def _read(path: Path) -> Any:
    with path.open("rb") as file:
        start = file.read(9)
    if start[:4] == b"PK\x03\x04":
        return _read_zip(path)
    if path.suffix == ".safetensors" or (len(start) == 9 and start[8:9] == b"{"):
        return _read_safetensors(path)
    if start[:1] == b"\x80":
        return _read_legacy(path)
    raise Refused("its content is none of .safetensors, a PyTorch checkpoint, .npz")


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{path}: there is no such file") from error
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror or error})") from error
    except (*ERRORS, zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: not a checkpoint that can be read, or damaged: {why}") from error


def safetensors_metadata(path: Path) -> dict[str, str]:
    """The texts beside the tensors of a .safetensors; empty for any other file, and for one that is damaged."""
    try:
        with path.open("rb") as file:
            if file.read(9)[8:] != b"{":
                return {}
        metadata = _safetensors_header(path).get("__metadata__", {})
    except (OSError, ValueError, RecursionError, Refused):
        return {}
    return metadata if isinstance(metadata, dict) else {}


def _safetensors_header(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(HEADER_LIMIT, max(size - 8, 0)):
            raise Refused(f"its header claims {length} bytes in a file of {size}")
        header = json.loads(file.read(length))
    if not isinstance(header, dict):
        raise Refused("its header is no object")
    return header


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _safetensors_header(path)
    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise Refused(str(error)) from error


def _read_zip(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        members = {member.filename: member for member in archive.infolist()}
        roots = [name for name in members if name == "data.pkl" or name.endswith("/data.pkl")]
        if len(roots) == 1:
            return _read_torch(
                archive, members, roots[0].removesuffix("data.pkl"), path.stat().st_size
            )
        if members and all(name.endswith(".npy") for name in members):
            return _read_npz(archive, members)
    raise Refused("it is a zip archive, but neither a PyTorch checkpoint nor .npz")


def _read_torch(
    archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo], root: str, size: int
) -> Any:
    if any(m.compress_type != zipfile.ZIP_STORED for m in members.values()):
        raise Refused("its members are compressed, as PyTorch never writes them")
    if (
        sum(m.file_size for m in members.values()) > size
        or members[f"{root}data.pkl"].file_size > PICKLE_LIMIT
    ):
        raise Refused("its members claim more bytes than the file has")
    if f"{root}constants.pkl" in members:
        raise Refused("it is a TorchScript program, not a checkpoint")
    if f"{root}byteorder" in members and archive.read(f"{root}byteorder") != b"little":
        raise Refused("it was written on a big-endian machine")
    storages: dict[str, Storage] = {}

    def storage(dtype: torch.dtype, key: str, numbers: int) -> Storage:
        if key not in storages:
            raw = bytearray(archive.read(f"{root}data/{key}"))
            storages[key] = Storage(
                torch.frombuffer(raw, dtype=torch.uint8)
                if raw
                else torch.empty(0, dtype=torch.uint8)
            )
        storage_bytes = storages[key].numbers
        if storage_bytes.numel() != numbers * dtype.itemsize:
            raise Refused(
                f"its storage {key} has {storage_bytes.numel()} bytes, not {numbers * dtype.itemsize}"
            )
        return Storage(storage_bytes.view(dtype))

    return unpickle(archive.read(f"{root}data.pkl"), storage)


def _one_pickle(file: mmap.mmap) -> bytes:
    """The bytes of the pickle that begins where the file stands."""
    start = file.tell()
    for _, _, _ in pickletools.genops(cast(IO[bytes], file)):
        if file.tell() - start > PICKLE_LIMIT:
            raise Refused(f"its pickle is larger than {PICKLE_LIMIT >> 20} MiB")
    end = file.tell()
    file.seek(start)
    return file.read(end - start)


def _read_legacy(path: Path) -> Any:
    """PyTorch's format before 1.6: pickles one after the other, then the storages' numbers."""
    size = path.stat().st_size
    # A view of the file gives what is there, where a file makes room first for all that a text claims to be long.
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as file:
        if unpickle(_one_pickle(file)) != LEGACY_MAGIC:
            raise Refused("it is a pickle, but not a PyTorch checkpoint")
        if unpickle(_one_pickle(file)) != 1001:
            raise Refused("it is a PyTorch checkpoint of an unknown version")
        system = unpickle(_one_pickle(file))
        if not (isinstance(system, dict) and system.get("little_endian", True)):
            raise Refused("it was written on a big-endian machine")
        storages: dict[str, Storage] = {}

        def storage(dtype: torch.dtype, key: str, numbers: int) -> Storage:
            claimed = sum(s.numbers.nbytes for s in storages.values())
            if key not in storages:
                if claimed + numbers * dtype.itemsize > size:
                    raise Refused("its storages claim more bytes than the file has")
                storages[key] = Storage(torch.empty(numbers, dtype=dtype))
            return storages[key]

        value = unpickle(_one_pickle(file), storage)
        keys = unpickle(_one_pickle(file))
        if not isinstance(keys, list) or {str(key) for key in keys} != storages.keys():
            raise Refused("its list of storages doesn't fit its tensors")
        for key in keys:
            numbers = storages[str(key)].numbers
            (count,) = struct.unpack("<q", file.read(8))
            raw = file.read(numbers.nbytes)
            if count != numbers.numel() or len(raw) != numbers.nbytes:
                raise Refused("it ends in the middle of a tensor")
            if raw:
                numbers.copy_(torch.frombuffer(bytearray(raw), dtype=numbers.dtype))
        return value


def _read_npz(archive: zipfile.ZipFile, members: dict[str, zipfile.ZipInfo]) -> dict[str, Any]:
    whole = sum(m.file_size for m in members.values())
    packed = sum(m.compress_size for m in members.values())
    if whole > EXPANSION_LIMIT and whole > 50 * packed:
        raise Refused(f"its {packed} bytes claim to hold {whole}")
    arrays = {}
    for name in members:
        with archive.open(name) as stream:
            data = io.BytesIO(stream.read())
        try:
            _, dtype = header_of(data, len(data.getbuffer()))
        except ValueError as error:
            raise Refused(f"its array {name}: {error}") from error
        if dtype.kind not in "biufc":
            raise Refused(f"its array {name} is not of plain numbers")
        array = np.lib.format.read_array(data, allow_pickle=False)
        arrays[name.removesuffix(".npy")] = torch.from_numpy(np.asarray(array, order="C"))
    return arrays


__all__ = ["read_checkpoint", "read_plain_pickle", "read_tree", "safetensors_metadata"]
