"""TIFF files that Pillow can't read or would round: any number of bands, colours of 16 bits, unsigned 32 bits."""

from __future__ import annotations

import io
import logging
import struct
from typing import Any

import numpy as np
from torch import Tensor

from isoform.core.errors import UserError
from isoform.vision.data.arrays import MAX_PIXELS, Reading, from_array, too_large
from isoform.vision.data.pages import choose_pages

# Times that pixels are larger than their file, beyond what zlib can do: pieces that a file lacks are read as 0.
MOST_COMPRESSED = 2000
MOST_PAGES = 10_000
REDUCED, MASK = 1, 4  # bits of NewSubfileType: a smaller copy, a transparency mask


def read_tiff(data: bytes, channels: int | None, name: str, reading: Reading) -> Tensor:
    """[C, H, W] of its bands, or of its pages where those are the channels. Raises UserError, and whatever damage does.

    Sizes are looked at before anything is decoded.
    """
    with _opened(data, name) as file:
        pages = _pages(file, name)
        wanted = choose_pages(len(pages), channels, reading, name, bands=_bands(pages[0]))
        chosen = [pages[number] for number in wanted]
        values = sum(page.imagewidth * page.imagelength * _bands(page) for page in chosen)
        side = max(page.imagewidth * page.imagelength for page in chosen)
        if side > MAX_PIXELS or values > 4 * MAX_PIXELS:
            raise UserError(f"{name}: {too_large(_describe(chosen[0]))}")
        if values * chosen[0].dtype.itemsize > MOST_COMPRESSED * len(data):
            raise UserError(f"{name}: damaged image ({_describe(chosen[0])} in {len(data)} bytes)")
        planes = [_bands_first(page, name) for page in chosen]
    shapes = {(plane.shape, plane.dtype) for plane in planes}
    if len(shapes) > 1:
        raise UserError(
            f"{name}: its pages differ in size or depth, so they are no channels of one image"
        )
    array = np.concatenate(planes)
    first = Reading(reading.window, reading.scale, "channels_first")
    return from_array(array, channels, name, first)


def size_of_tiff(
    data: bytes, channels: int | None, name: str, reading: Reading
) -> tuple[int, int, int]:
    """(channels, height, width) by the header alone."""
    with _opened(data, name) as file:
        pages = _pages(file, name)
        wanted = choose_pages(len(pages), channels, reading, name, bands=_bands(pages[0]))
        page = pages[wanted[0]]
        return len(wanted) * _bands(page), page.imagelength, page.imagewidth


def _opened(data: bytes, name: str) -> Any:
    import tifffile

    check_directories(data, name)

    log = logging.getLogger("tifffile")
    if not log.handlers:  # what is wrong is said in one sentence, not in the log
        log.addHandler(logging.NullHandler())
        log.setLevel(logging.CRITICAL + 1)
    return tifffile.TiffFile(io.BytesIO(data))


def check_directories(data: bytes, name: str) -> None:
    """Raises UserError where pages follow one another in a circle, share bytes, or are more than MOST_PAGES.

    In a circle tifffile goes on and on; Pillow compares the place of each page with those of all before.
    """
    order = "<" if data[:1] == b"I" else ">"
    big = data[2:4] in (b"\x2b\0", b"\0\x2b")
    number, tag_bytes, offset = ("Q", 20, "Q") if big else ("H", 12, "I")
    count, place = struct.Struct(order + number), struct.Struct(order + offset)
    taken = pages = 0
    at = place.unpack_from(data, 8 if big else 4)[0]
    while 0 < at <= len(data) - count.size:
        tags = count.unpack_from(data, at)[0]
        taken += count.size + tags * tag_bytes
        pages += 1
        if pages > MOST_PAGES:
            raise UserError(f"{name}: has more than {MOST_PAGES:,} pages; split it")
        if taken > len(data):
            raise UserError(f"{name}: damaged image (its pages overlap); replace or remove it")
        after = at + count.size + tags * tag_bytes
        if after > len(data) - place.size:
            return
        at = place.unpack_from(data, after)[0]


def _pages(file: Any, name: str) -> list[Any]:
    """Those that are no smaller copies or masks. Raises UserError where a size is none."""
    pages = [page for page in file.pages if not _is_extra(page)]
    for page in pages:
        sizes = page.imagewidth, page.imagelength, page.samplesperpixel
        if not all(isinstance(size, int) for size in sizes):  # a tag may hold a list of any length
            raise UserError(f"{name}: damaged image (a size of page {page.index} is no number)")
    return pages


def _is_extra(page: Any) -> bool:
    kind = int(page.subfiletype or 0)
    return bool(kind & (REDUCED | MASK)) and page.index > 0


def _bands(page: Any) -> int:
    return int(page.samplesperpixel)


def _bands_first(page: Any, name: str) -> np.ndarray:
    """[C, H, W] of one page."""
    try:
        array = np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise UserError(
            f"{name}: is a TIFF of {_describe(page)} compressed by {page.compression.name}, which needs imagecodecs: "
            "pip install imagecodecs"
        ) from None
    shape = dict(zip(page.axes, array.shape, strict=True))
    if set(shape) - {"S", "Y", "X"} or not {"Y", "X"} <= set(shape):
        raise UserError(f"{name}: is a TIFF with the axes {page.axes}, not an image")
    if array.ndim == 2:
        return array[None]
    return array.transpose([page.axes.index(axis) for axis in "SYX"])


def _describe(page: Any) -> str:
    """Such as "5 bands of 32 x 40 pixels (uint8)"."""
    return f"{_bands(page)} band(s) of {page.imagelength} x {page.imagewidth} pixels ({page.dtype})"
