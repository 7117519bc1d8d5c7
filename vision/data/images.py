"""Any image file to one tensor [C, H, W], or one sentence that says why not.

What the numbers become is told in arrays.py. Sizes are checked before anything is decoded, so a small file cannot ask
for gigabytes.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.npy import header_of
from isoform.core.errors import UserError
from isoform.vision.data import dicom, tiff
from isoform.vision.data.arrays import (
    AS_STORED,
    MAX_PIXELS,
    NOT_AN_IMAGE,
    Reading,
    channel_axis,
    from_array,
    shape_of,
    too_large,
)
from isoform.vision.data.pages import choose_pages
from isoform.vision.data.signatures import is_dicom, is_heic, is_tiff, what_is

if TYPE_CHECKING:
    from PIL import Image

EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm",
    ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico", ".npy", ".dcm", ".dicom", ".heic", ".heif",
})  # fmt: skip
# Formats with a signature and a decoder of their own: no EPS (runs a program), no TGA (no signature).
_FORMATS = (
    "JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "ICO", "PCX", "SGI", "QOI",
)  # fmt: skip
# What decoders raise on damaged files; each plugin has its own habits.
_DAMAGE = (
    OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, ArithmeticError, MemoryError, AttributeError,
    RuntimeError, AssertionError, struct.error, zlib.error,
)  # fmt: skip
UNSUSPECTED = 1 << 26  # numbers that any file may claim: an empty page packs into nearly nothing
# Times pixels: each pass of a progressive JPEG goes over all of them, however few bytes it has. Usual are 10 passes.
MOST_SCANNED = 10_000_000_000
_SUBFILE, _BITS, _SAMPLES, _SAMPLE_FORMAT = 254, 258, 277, 339  # tags of a TIFF
_UNSIGNED = 1  # of _SAMPLE_FORMAT


@dataclass(frozen=True)
class Header:
    """What a file's header tells, nothing decoded: format and mode such as "PNG P"; channels, pixels; array shape."""

    kind: str
    channels: int
    height: int
    width: int
    shape: tuple[int, ...] = ()  # of an array


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(f for f in _FORMATS if f in Image.OPEN)


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """The image's header as Pillow reads it, nothing decoded yet: `.size`, `.mode`, `.format`.

    Raises UserError when the file is missing, empty, no image, or larger than MAX_PIXELS (a baseline JPEG of any size
    opens: it can be decoded at an eighth of its size).
    """
    name = _name(source, name)
    data = _bytes_of(source, name)
    image = _open(data, name)
    if image is None:
        raise UserError(_not_an_image(data, name))
    return image


def look(
    source: str | Path,
    channels: int | None = None,
    reading: Reading = AS_STORED,
) -> Header:
    """Format, channels and size by the header. Raises UserError as read_image does, where the header shows it."""
    name = _name(source, None)
    if _is_npy(source):
        return _look_at_array(_read_npy(Path(source), name), channels, reading, name)
    data = _bytes_of(source, name)
    if is_dicom(data):
        return Header("DICOM", *_guarded(dicom.size_of_dicom, data, channels, name, reading))
    image = _open(data, name)
    if is_tiff(data) and (image is None or _falls_short(image, channels)):
        return Header("TIFF", *_guarded(tiff.size_of_tiff, data, channels, name, reading))
    if image is None:
        raise UserError(_not_an_image(data, name))
    frames = _guarded(_frames, image, channels, name, reading)
    grey = image.mode in ("1", "L", "F") or image.mode.startswith("I")
    depth = len(frames) if len(frames) > 1 else 1 if grey else 3
    kind = f"{image.format} {image.mode}"
    if image.format != "TIFF" and getattr(image, "is_animated", False):
        kind += f", frame {frames[0] + 1}"
    return Header(kind, depth, image.height, image.width)


def _look_at_array(array: np.ndarray, channels: int | None, reading: Reading, name: str) -> Header:
    kind, shape = f"npy {array.dtype}", array.shape
    if len(shape) == 2:
        return Header(kind, 1, shape[0], shape[1], shape)
    if len(shape) != 3:
        raise UserError(f"{name}: {NOT_AN_IMAGE.format(shape_of(array))}")
    if channel_axis(shape, channels, reading, name) == 0:
        return Header(kind, shape[0], shape[1], shape[2], shape)
    return Header(kind, shape[2], shape[0], shape[1], shape)


def read_image(
    source: str | Path | bytes,
    channels: int | None = 3,
    *,
    at_least: int | None = None,
    name: str | None = None,
    reading: Reading = AS_STORED,
) -> Tensor:
    """[C, H, W] uint8, or float32 for other depths and where a window or scale is set; upright (EXIF).

    channels: 1 (grey), 3 (RGB; transparency over white), 4 (RGBA), another number for arrays and TIFF files of so many
    bands or pages; None: as many as the file has (1, 3, or 4 with transparency)
    at_least: the caller needs no more than this many pixels along the shorter side, which lets JPEG decode faster
    Of an animation the first frame is read, unless data.page says another one; a TIFF of several pages is asked about.
    Raises UserError with one sentence for whatever cannot be read.
    """
    name = _name(source, name)
    if _is_npy(source):
        return from_array(_read_npy(Path(str(source)), name), channels, name, reading)
    data = _bytes_of(source, name)
    if is_dicom(data):
        return _guarded(dicom.read_dicom, data, channels, name, reading)
    image = _open(data, name)
    if is_tiff(data) and (image is None or _falls_short(image, channels)):
        return _guarded(tiff.read_tiff, data, channels, name, reading)
    if image is None:
        raise UserError(_not_an_image(data, name))
    _shrink(image, at_least)
    return _guarded(from_pil, image, channels, name, reading)


def _guarded(function: Any, source: Any, channels: int | None, name: str, reading: Reading) -> Any:
    """What a decoder gives; what it raises on damage as one sentence."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(source, channels, name, reading)
    except UserError:
        raise
    except _DAMAGE as error:
        raise UserError(
            f"{name}: truncated or damaged image ({_brief(error)}); replace or remove it"
        ) from None


def _open(data: bytes, name: str) -> Image.Image | None:
    """Pillow's header; None where it knows no such image."""
    from PIL import Image, JpegImagePlugin

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # JPEG without Image.open, which refuses by size before a reduced decode is possible.
            if data.startswith(b"\xff\xd8"):
                image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
            else:
                formats = _heic_format(name) if is_heic(data) else _formats()
                image = Image.open(io.BytesIO(data), formats=formats)
                if image.format == "TIFF":
                    tiff.check_directories(data, name)
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: {too_large(str(error))}") from None
    except Image.UnidentifiedImageError:
        return None
    except _DAMAGE as error:
        raise UserError(
            f"{name}: damaged image header ({_brief(error)}); replace or remove it"
        ) from None
    width, height = image.size
    reducible = (
        image.format == "JPEG"
        and not image.info.get("progressive")
        and width * height <= 64 * MAX_PIXELS
    )
    if width * height > MAX_PIXELS and not reducible:
        raise UserError(f"{name}: {too_large(f'{width} x {height} pixels')}")
    numbers = width * height * len(image.getbands())
    if numbers > max(UNSUSPECTED, tiff.MOST_COMPRESSED * len(data)):
        raise UserError(
            f"{name}: damaged image ({width} x {height} pixels in {len(data):,} bytes); replace or remove it"
        )
    scans = data.count(b"\xff\xda") if image.info.get("progressive") else 1
    if scans * width * height > MOST_SCANNED:
        raise UserError(
            f"{name}: a JPEG of {width} x {height} pixels in {scans:,} passes takes too long to decode; save it anew"
        )
    return image


def _heic_format(name: str) -> tuple[str, ...]:
    try:
        import pillow_heif
    except ImportError:
        raise UserError(
            f"{name}: is a HEIC photo, which needs pillow-heif: pip install 'isoform[heic]'"
        ) from None
    pillow_heif.register_heif_opener()
    return ("HEIF",)


def _not_an_image(data: bytes, name: str) -> str:
    found = what_is(data)
    what = f"is {found}, not" if found else "not"
    return f"{name}: {what} an image that can be read (JPEG, PNG, TIFF, WebP, BMP, GIF, npy)"


def from_pil(
    image: Image.Image,
    channels: int | None,
    name: str = "image",
    reading: Reading = AS_STORED,
) -> Tensor:
    """A Pillow image to [C, H, W]; see read_image. Raises what decoding raises, and UserError."""
    frames = _frames(image, channels, name, reading)
    if len(frames) > 1:
        return _pages(image, frames, channels, name, reading)
    if frames[0]:
        image.seek(frames[0])
    image = _upright(image)
    values = Reading(reading.window, reading.scale, "channels_last")
    if _is_wide(image):
        return from_array(_wide(image), channels, name, values)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = rgba if channels in (None, 4) else _over_white(rgba)
    elif image.mode in ("LAB", "HSV"):  # which Pillow turns to nothing but RGB
        image = image.convert("RGB")
    wanted = channels or {"1": 1, "L": 1, "RGBA": 4}.get(image.mode, 3)
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    array = np.asarray(image.convert(modes.get(wanted, "RGB")))
    return from_array(array, channels, name, values)


def _frames(image: Image.Image, channels: int | None, name: str, reading: Reading) -> list[int]:
    """Which frames are read; smaller copies and masks in a TIFF are none."""
    unusual = channels is not None and channels not in (1, 3, 4)
    if image.format != "TIFF" and reading.page == "auto" and not unusual:
        return [0]
    numbers = list(range(getattr(image, "n_frames", 1)))
    if image.format == "TIFF" and len(numbers) > 1:
        numbers = [number for number in numbers if not _is_extra(image, number)] or [0]
        image.seek(0)
    bands = len(image.getbands())
    chosen = choose_pages(len(numbers), channels, reading, name, bands=bands)
    return [numbers[place] for place in chosen]


def _is_extra(image: Any, number: int) -> bool:
    image.seek(number)
    kind = int(image.tag_v2.get(_SUBFILE) or 0)
    return number > 0 and bool(kind & (tiff.REDUCED | tiff.MASK))


def _falls_short(image: Any, channels: int | None) -> bool:
    """Whether Pillow would read colours of a TIFF at 8 bits, unsigned 32 bits as signed, or not all of its bands.

    A fourth band of unknown meaning beside RGB is read where 4 channels are asked for.
    """
    tags, bands = image.tag_v2, len(image.getbands())
    try:
        bits, samples = int(max(tags.get(_BITS) or (1,))), int(tags.get(_SAMPLES, 1))
        kind = int(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))[0])
    except _DAMAGE:  # let the other reader say what is wrong
        return True
    if image.mode == "I" and bits == 32 and kind == _UNSIGNED:
        return True
    if image.mode == "RGB" and samples == 4 and channels != 4:
        samples = 3
    return samples > bands or (samples > 1 and bits > 8)


def _is_npy(source: str | Path | bytes) -> bool:
    return not isinstance(source, bytes) and str(source).lower().endswith(".npy")


def _name(source: str | Path | bytes, name: str | None) -> str:
    return name or (str(source) if not isinstance(source, bytes) else "image")


def _bytes_of(source: str | Path | bytes, name: str) -> bytes:
    data = source if isinstance(source, bytes) else read_bytes(Path(source), name)
    if not data:
        raise UserError(f"{name}: the file is empty (0 bytes); replace or remove it")
    return data


def read_bytes(path: Path, name: str) -> bytes:
    """A file's content. Raises UserError with its name where it can't be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, not an image") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{name}: cannot be read ({_brief(error)})") from None


def _read_npy(path: Path, name: str) -> np.ndarray:
    try:
        with path.open("rb") as file:
            header_of(file, path.stat().st_size)
        # It refuses pickled objects; nothing is read yet.
        array = np.lib.format.open_memmap(path, mode="r")
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except (*_DAMAGE, RecursionError) as error:
        raise UserError(f"{name}: not an npy array of numbers ({_brief(error)})") from None
    return array


def _shrink(image: Image.Image, at_least: int | None) -> None:
    """Asks a JPEG decoder for 1/2, 1/4 or 1/8 of the size where that is enough, or where the whole is too much."""
    width, height = image.size
    if image.format != "JPEG":
        return
    ratio = 1.0 if at_least is None else max(at_least / min(width, height), 1 / 8)
    if width * height > MAX_PIXELS:
        ratio = min(
            ratio,
            1 / 2
            if width * height <= 4 * MAX_PIXELS
            else 1 / 4
            if width * height <= 16 * MAX_PIXELS
            else 1 / 8,
        )
    if ratio <= 0.5:
        image.draft(None, (int(width * ratio), int(height * ratio)))


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    image.load()
    try:
        return ImageOps.exif_transpose(image)
    except _DAMAGE:  # the pixels are sound, only the tag is not
        return image


def _over_white(rgba: Image.Image) -> Image.Image:
    from PIL import Image

    white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgba).convert("RGB")


def _is_wide(image: Image.Image) -> bool:
    """More than 8 bits a pixel, of one channel."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _wide(image: Image.Image) -> np.ndarray:
    """The numbers of such an image: uint16, int32 or float32 by its type, whatever the numbers are."""
    array = np.asarray(image)
    sixteen = image.mode.startswith("I;16") or image.format in ("PNG", "PPM")
    return array.astype(np.uint16) if sixteen and image.mode != "F" else array


def _pages(
    image: Image.Image,
    frames: list[int],
    channels: int | None,
    name: str,
    reading: Reading,
) -> Tensor:
    """One channel a page."""
    values = Reading(reading.window, reading.scale)
    planes = []
    for number in frames:
        image.seek(number)
        width, height = image.size
        if width * height * len(frames) > 4 * MAX_PIXELS:
            raise UserError(f"{name}: {too_large(f'{width} x {height} x {len(frames)} values')}")
        array = _wide(image) if _is_wide(image) else np.asarray(image.convert("L"))
        planes.append(from_array(array, 1, name, values))
    if len({(plane.shape, plane.dtype) for plane in planes}) > 1:
        raise UserError(
            f"{name}: its pages differ in size or depth, so they are no channels of one image"
        )
    if channels not in (None, len(planes)):
        raise UserError(
            f"{name}: has {len(planes)} pages, a channel each, where {channels} are expected; set "
            f"tokeniser.channels = {len(planes)}"
        )
    return torch.cat(planes)


def _brief(error: BaseException) -> str:
    """The first line of an exception's message, short enough for a sentence."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:120]


def to_input(
    value: Any,
    channels: int | None,
    *,
    at_least: int | None = None,
    name: str | None = None,
    reading: Reading = AS_STORED,
) -> Tensor:
    """Whatever a person hands to predict: a path, bytes, a Pillow image, an array or a tensor, to [C, H, W]."""
    if isinstance(value, (str, Path, bytes)):
        return read_image(value, channels, at_least=at_least, name=name, reading=reading)
    if isinstance(value, (np.ndarray, Tensor)):
        return from_array(
            value.detach().cpu().numpy() if isinstance(value, Tensor) else value,
            channels,
            name or "array",
            reading,
        )
    if hasattr(value, "convert") and hasattr(value, "mode"):
        return _guarded(from_pil, value, channels, name or "image", reading)
    raise UserError(
        f"an image is a path, bytes, a Pillow image, an array or a tensor, not {type(value).__name__}"
    )
