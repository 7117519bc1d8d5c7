"""Equal and nearly equal images: by their pixels, and by a difference hash that survives another size or compression.

N images. A hash is 64 bits: whether each of 8 x 8 cells is brighter than the one to its left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from isoform.vision.data.transforms import to_float

NEAR_BITS = 6  # of 64 that may differ
# Thumbnails of near duplicates differ (root mean square) by at most 0.02 of the range and a tenth of their contrast:
# recoded photographs stay below, and two different handwritten ones, the most alike images of MNIST, above.
NEAR_DIFFERENCE, NEAR_CONTRAST = 0.02, 0.1
_BANDS = 8  # hashes that differ in fewer bits than there are bands agree in one band wholly
_CROWD = 400  # how far, among images that share a band, the comparison looks


def fingerprint(image_CHW: Tensor) -> tuple[str, int, np.ndarray]:
    """(SHA-256 of the decoded pixels and their shape, difference hash, thumbnail [3 * 16 * 16] in [0, 1])."""
    image_CHW = image_CHW.contiguous()
    sha = hashlib.sha256(repr((tuple(image_CHW.shape), image_CHW.dtype)).encode() + image_CHW.numpy().tobytes())
    colour = to_float(image_CHW[:3] if image_CHW.shape[0] >= 3 else image_CHW[:1].expand(3, -1, -1))
    small = _area(colour.mean(0, keepdim=True), (8, 9))[0]
    bits = (small[:, 1:] - small[:, :-1] > 1 / 512).flatten().tolist()
    return sha.hexdigest(), sum(1 << i for i, bit in enumerate(bits) if bit), _area(colour, (16, 16)).flatten().numpy()


def exact_groups(digests: Sequence[str]) -> list[list[int]]:
    """Indices of images with equal pixels, a list for each set of at least two."""
    found: dict[str, list[int]] = {}
    for index, digest in enumerate(digests):
        found.setdefault(digest, []).append(index)
    return [members for members in found.values() if len(members) > 1]


def near_pairs(hashes: Sequence[int], thumbs_NP: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i < j) whose hashes differ in at most 6 bits and whose thumbnails hardly differ; equal images among them.

    Only hashes that agree in one of eight 8-bit bands are compared: all that differ in so few bits do. Where thousands
    of images share a band, each is compared with the 400 next to it in the order of the whole hash.
    """
    code_N = np.array(hashes, dtype=np.uint64)
    contrast_N = np.maximum(thumbs_NP.std(1), 1e-3)
    pairs: set[tuple[int, int]] = set()
    for band in range(_BANDS):
        part = (code_N >> np.uint64(8 * band)) & np.uint64(255)
        order = np.lexsort((code_N, part))
        ends = [*(np.flatnonzero(np.diff(part[order])) + 1), len(order)]
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            for begin in range(start, end, _CROWD):
                rows = order[begin : min(begin + _CROWD, end)]
                near = order[begin : min(begin + 2 * _CROWD, end)]
                i, j = np.nonzero(_bits(code_N[rows, None] ^ code_N[None, near]) <= NEAR_BITS)
                i, j = rows[i], near[j]
                keep = i != j
                i, j = i[keep], j[keep]
                for piece in range(0, len(i), 4096):
                    a, b = i[piece : piece + 4096], j[piece : piece + 4096]
                    distance = np.sqrt(np.square(thumbs_NP[a] - thumbs_NP[b]).mean(1))
                    most = np.minimum(NEAR_DIFFERENCE, NEAR_CONTRAST * np.maximum(contrast_N[a], contrast_N[b]))
                    alike = distance <= most
                    pairs |= set(zip(np.minimum(a, b)[alike].tolist(), np.maximum(a, b)[alike].tolist(), strict=True))
    return sorted(pairs)


def _bits(values: np.ndarray) -> np.ndarray:
    """Number of set bits of unsigned 64-bit integers."""
    bytes_of = np.ascontiguousarray(values).view(np.uint8).reshape(*values.shape, 8)
    return _SET_BITS[bytes_of].sum(-1, dtype=np.uint8)


_SET_BITS = np.array([byte.bit_count() for byte in range(256)], np.uint8)


def _area(image_CHW: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image_CHW[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
