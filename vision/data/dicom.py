"""DICOM files, with the optional library pydicom: the modality's own values, such as Hounsfield units."""

from __future__ import annotations

import functools
import io
import zlib
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import numpy as np
from torch import Tensor

from isoform.core.errors import UserError
from isoform.vision.data.arrays import MAX_PIXELS, Reading, from_array, too_large
from isoform.vision.data.pages import choose_pages

_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MOST_UNPACKED = 8 * MAX_PIXELS

P = ParamSpec("P")
R = TypeVar("R")


def _told(function: Callable[P, R]) -> Callable[P, R]:
    """pydicom's own kinds of errors, which damage may raise wherever an element is asked for, as ValueError."""

    @functools.wraps(function)
    def wrapped(*args: P.args, **keywords: P.kwargs) -> R:
        try:
            return function(*args, **keywords)
        except Exception as error:
            if type(error).__module__.startswith("pydicom."):
                raise ValueError(str(error)) from error
            raise

    return wrapped


@_told
def read_dicom(data: bytes, channels: int | None, name: str, reading: Reading) -> Tensor:
    """[C, H, W] of one frame, or of all as channels: uint8 where stored so, else float32 in the modality's own unit.

    Rescale slope and intercept (or the modality's table) are applied; MONOCHROME1 without them is turned, so that high
    values are bright. Raises UserError, and whatever damage does; sizes are looked at before anything is decoded.
    """
    found = _opened(data, name)
    chosen = _frames(found, channels, name, reading)
    values = int(found.Rows) * int(found.Columns) * _samples(found)
    if int(found.Rows) * int(found.Columns) > MAX_PIXELS or values * len(chosen) > 4 * MAX_PIXELS:
        raise UserError(f"{name}: {too_large(f'{found.Rows} x {found.Columns} pixels')}")
    frames = [_decode(found, number, name) for number in chosen]
    if len(frames) == 1:
        last = Reading(reading.window, reading.scale, "channels_last")
        return from_array(frames[0], channels, name, last)
    first = Reading(reading.window, reading.scale, "channels_first")
    return from_array(np.stack(frames), channels, name, first)


@_told
def size_of_dicom(
    data: bytes, channels: int | None, name: str, reading: Reading
) -> tuple[int, int, int]:
    """(channels, height, width) by the header alone."""
    found = _opened(data, name)
    chosen = _frames(found, channels, name, reading)
    return len(chosen) * _samples(found), int(found.Rows), int(found.Columns)


def _opened(data: bytes, name: str) -> Any:
    try:
        import pydicom
    except ImportError:
        raise UserError(
            f"{name}: is a DICOM file, which needs pydicom: pip install 'isoform[dicom]'"
        ) from None
    _refuse_growth(data, name)
    found = pydicom.dcmread(io.BytesIO(data))
    if "PixelData" not in found:
        raise UserError(f"{name}: is a DICOM file without an image")
    return found


def _refuse_growth(data: bytes, name: str) -> None:
    """Raises UserError where a deflated file becomes more than an image: pydicom unpacks all of it at once.

    It begins behind the group 0002, whose first element says how long that is.
    """
    if _DEFLATED not in data[: 2**16]:
        return
    start = 144 + int.from_bytes(data[140:144], "little")
    unpacked = zlib.decompressobj(-zlib.MAX_WBITS)
    size, rest = 0, data[start:]
    while rest and not unpacked.eof:
        size += len(unpacked.decompress(rest, 2**20))
        rest = unpacked.unconsumed_tail
        if size > _MOST_UNPACKED:
            raise UserError(
                f"{name}: unpacks to more than {_MOST_UNPACKED >> 20} MiB; save it as it is"
            )


def _samples(found: Any) -> int:
    return int(found.get("SamplesPerPixel", 1))


def _frames(found: Any, channels: int | None, name: str, reading: Reading) -> list[int]:
    count = int(found.get("NumberOfFrames", 1) or 1)
    return choose_pages(count, channels, reading, name, bands=_samples(found), what="frames")


def _decode(found: Any, number: int, name: str) -> np.ndarray:
    """One frame: [H, W], or [H, W, 3]."""
    from pydicom.pixels import apply_modality_lut, get_decoder, pixel_array

    syntax = found.file_meta.TransferSyntaxUID
    if syntax.is_compressed and not get_decoder(syntax).is_available:
        raise UserError(
            f"{name}: is a DICOM file compressed as {syntax.name}, which needs a decoder: pip install "
            "pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        )
    array = np.asarray(pixel_array(found, index=number))
    if array.ndim == 3:
        return array
    if "RescaleSlope" in found or "ModalityLUTSequence" in found:
        return np.asarray(apply_modality_lut(array, found)).astype(np.float32)
    if found.PhotometricInterpretation == "MONOCHROME1":
        array = (1 << int(found.BitsStored)) - 1 - array
    return array if array.dtype == np.uint8 else array.astype(np.float32)
