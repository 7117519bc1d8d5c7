"""Short digests of samples, by which a run knows again what it was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import numpy as np

NOTHING = 0  # the digest of empty content, which is equal to nothing


def digests_of(contents: Iterable[str | bytes]) -> np.ndarray:
    """uint64 [n]: 8 bytes of BLAKE2b of each text or content; NOTHING for an empty one."""
    found = [_digest(one.encode() if isinstance(one, str) else one) for one in contents]
    return np.array(found, np.uint64)


def _digest(content: bytes) -> int:
    if not content:
        return NOTHING
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
