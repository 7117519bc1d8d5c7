"""Equal and nearly equal images: by their pixels, and by a difference hash that survives another size or compression.

N images. A hash is 64 bits: whether each of 8 x 8 cells is brighter than the one to its left.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from isoform.vision.data.values import extent, to_float

NEAR_BITS = 6  # of 64 that may differ
# Thumbnails of near duplicates differ (root mean square) by at most 0.02 of the range and a tenth of their contrast:
# recoded photographs stay below, and two different handwritten ones, the most alike images of MNIST, above.
NEAR_DIFFERENCE, NEAR_CONTRAST = 0.02, 0.1
_BANDS = 8  # hashes that differ in fewer bits than there are bands agree in one band wholly
_PIECE = 4096  # pairs whose thumbnails are compared at a time
_CROWD = 400  # how far, among images that share a band, the comparison looks
_SET_BITS = np.array([byte.bit_count() for byte in range(256)], np.uint8)


class Print(NamedTuple):
    """An image by its content.

    digest     SHA-256 of the decoded pixels and their shape
    code       the difference hash
    thumb      [3 * 16 * 16] of the values
    low, high  [C] of the values; 0 and 1 of 8-bit images
    """

    digest: str
    code: int
    thumb: np.ndarray
    low: np.ndarray
    high: np.ndarray


def fingerprint(image_CHW: Tensor) -> Print:
    """What an image is known again by; see `Print`."""
    return fingerprints(image_CHW[None])[0]


def fingerprints(images_NCHW: Tensor) -> list[Print]:
    """`fingerprint` of each of several images of one size."""
    images_NCHW = images_NCHW.contiguous()
    about = repr((tuple(images_NCHW.shape[1:]), images_NCHW.dtype)).encode()
    shas = [hashlib.sha256(about + one.tobytes()).hexdigest() for one in images_NCHW.numpy()]
    ends = [extent(image) for image in images_NCHW]
    low, high = (np.stack([end[k].numpy() for end in ends]) for k in range(2))
    three = images_NCHW.shape[1] >= 3
    colour = images_NCHW[:, :3] if three else images_NCHW[:, :1].expand(-1, 3, -1, -1)
    colour = to_float(colour)
    codes = _difference_hashes(colour.mean(1, keepdim=True), high.max(1) - low.min(1)).tolist()
    thumbs = _shrink(colour, (16, 16)).flatten(1).numpy()
    return [Print(*one) for one in zip(shas, codes, thumbs, low, high, strict=True)]


def _difference_hashes(grey_N1HW: Tensor, width_N: np.ndarray) -> np.ndarray:
    """uint64 [N]; bit i is that of the i-th cell. width: of the range that an image's values come from."""
    cells = _shrink(grey_N1HW, (8, 9))[:, 0].numpy()
    brighter = cells[..., 1:] - cells[..., :-1] > width_N[:, None, None] / 512
    bits = brighter.reshape(len(brighter), -1)
    return np.packbits(bits, axis=1, bitorder="little").view("<u8")[:, 0]


def exact_groups(digests: Sequence[str]) -> list[list[int]]:
    """Indices of images with equal pixels, a list for each set of at least two."""
    groups: dict[str, list[int]] = {}
    for index, digest in enumerate(digests):
        groups.setdefault(digest, []).append(index)
    return [members for members in groups.values() if len(members) > 1]


def near_pairs(hashes: Sequence[int], thumbs_NP: np.ndarray) -> list[tuple[int, int]]:
    """Pairs (i < j), equal ones too, whose hashes differ in at most 6 bits and thumbnails (in [0, 1]) hardly at all.

    Only hashes that agree in one of eight 8-bit bands are compared: all that differ in so few bits do. Where thousands
    of images share a band, each is compared with the 400 next to it in the order of the whole hash.
    """
    code_N = np.array(hashes, dtype=np.uint64)
    contrast_N = np.maximum(thumbs_NP.std(1), 1e-3)
    # The means of every 16 cells differ by no more than the cells do, and rule most pairs out.
    means_N = thumbs_NP.reshape(len(thumbs_NP), thumbs_NP.shape[1] // 16, 16).mean(2)
    pairs: set[tuple[int, int]] = set()
    for i, j in _candidates(code_N):
        apart = np.square(means_N[i] - means_N[j]).mean(1) > (1.001 * NEAR_DIFFERENCE) ** 2
        i, j = i[~apart], j[~apart]
        distance = np.sqrt(np.square(thumbs_NP[i] - thumbs_NP[j]).mean(1))
        contrast = np.maximum(contrast_N[i], contrast_N[j])
        alike = distance <= np.minimum(NEAR_DIFFERENCE, NEAR_CONTRAST * contrast)
        first = np.minimum(i, j)[alike]
        second = np.maximum(i, j)[alike]
        pairs.update(zip(first.tolist(), second.tolist(), strict=True))
    return sorted(pairs)


def _candidates(code_N: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Indices (i, j) of images whose hashes differ in few bits, at most 4,096 pairs at a time."""
    for band in range(_BANDS):
        part_N = (code_N >> np.uint64(8 * band)) & np.uint64(255)
        order = np.lexsort((code_N, part_N))
        changes = np.flatnonzero(np.diff(part_N[order])) + 1
        for crowd in np.split(order, changes):
            for begin in range(0, len(crowd), _CROWD):
                rows = crowd[begin : begin + _CROWD]
                others = crowd[begin : begin + 2 * _CROWD]
                different = _count_bits(code_N[rows, None] ^ code_N[None, others])
                i, j = np.nonzero(different <= NEAR_BITS)
                i, j = rows[i], others[j]
                apart = i != j
                yield from _pieces(i[apart], j[apart])


def _pieces(i: np.ndarray, j: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(i), _PIECE):
        yield i[start : start + _PIECE], j[start : start + _PIECE]


def _count_bits(values: np.ndarray) -> np.ndarray:
    """Number of set bits of unsigned 64-bit integers."""
    bytes_of = np.ascontiguousarray(values).view(np.uint8)
    return _SET_BITS[bytes_of.reshape(*values.shape, 8)].sum(-1, dtype=np.uint8)


def _shrink(images_NCHW: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(images_NCHW, size, mode="bilinear", antialias=True, align_corners=False)
