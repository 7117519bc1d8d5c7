"""Digests of samples, by which a run knows again what it was trained on and what its split was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from isoform.core.domain.kept_split import Mark

READERS, AT_A_TIME = 4, 4096  # files read at once, and handed to these readers together
NOTHING = 0  # the digest of empty content, which is equal to nothing


def digests_of(contents: Iterable[str | bytes]) -> np.ndarray:
    """uint64 [n]: 8 bytes of BLAKE2b of each text or content; NOTHING for an empty one."""
    found = [_digest(one.encode() if isinstance(one, str) else one) for one in contents]
    return np.array(found, np.uint64)


def content_digest(content: bytes | str) -> str:
    """BLAKE2b of 16 bytes, hex, of a sample's content."""
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    return hashlib.blake2b(raw, digest_size=16).hexdigest()


def file_digests(paths: Sequence[Path]) -> list[str]:
    """`content_digest` of files, read piece by piece and several at a time; "" of what can't be read."""
    with ThreadPoolExecutor(READERS) as pool:
        found: list[str] = []
        for first in range(0, len(paths), AT_A_TIME):
            found += pool.map(_file_digest, paths[first : first + AT_A_TIME])
    return found


def file_mark(path: Path) -> Mark:
    """By which a file is known not to have been written since; zeros where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return 0, 0, 0
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def set_digest(members: Iterable[str]) -> str:
    """One digest of a set of texts, whatever their order."""
    return content_digest("\0".join(sorted(members)))


def _file_digest(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, _content_hash)
    except OSError:
        return ""
    return found.hexdigest()


def _content_hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=16)


def _digest(content: bytes) -> int:
    if not content:
        return NOTHING
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
