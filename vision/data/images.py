"""Any image file to one tensor [C, H, W], or one sentence that says why not.

8-bit images become uint8; 16-bit and floating-point ones become float32, 16-bit ones scaled to [0, 1]. Sizes are
checked before anything is decoded, so a small file cannot ask for gigabytes.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.errors import UserError

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS = 89_478_485  # a third of a gibibyte of RGB, and where Pillow begins to warn
EXTENSIONS = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm",
    ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".avif", ".ico", ".npy",
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


@functools.cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    return tuple(f for f in _FORMATS if f in Image.OPEN)


def open_image(source: str | Path | bytes, name: str | None = None) -> Image.Image:
    """The image's header, nothing decoded yet: `.size`, `.mode`, `.format`.

    Raises UserError when the file is missing, empty, no image, or larger than MAX_PIXELS (a baseline JPEG of any size
    opens: it can be decoded at an eighth of its size).
    """
    from PIL import Image, JpegImagePlugin

    name = name or (str(source) if not isinstance(source, bytes) else "image")
    data = source if isinstance(source, bytes) else read_bytes(Path(source), name)
    if not data:
        raise UserError(f"{name}: the file is empty (0 bytes); replace or remove it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if data.startswith(
                b"\xff\xd8"
            ):  # without Image.open, which refuses by size before a reduced decode is possible
                image: Image.Image = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
            else:
                image = Image.open(io.BytesIO(data), formats=_formats())
    except Image.DecompressionBombError as error:
        raise UserError(f"{name}: {_too_large(str(error))}") from None
    except Image.UnidentifiedImageError:
        raise UserError(
            f"{name}: not an image that can be read (JPEG, PNG, TIFF, WebP, BMP, GIF, npy)"
        ) from None
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
        raise UserError(f"{name}: {_too_large(f'{width} x {height} pixels')}")
    return image


def read_image(
    source: str | Path | bytes,
    channels: int | None = 3,
    *,
    at_least: int | None = None,
    name: str | None = None,
) -> Tensor:
    """[C, H, W] uint8, or float32 for 16-bit and floating-point images; the first frame, upright (EXIF).

    channels: 1 (grey), 3 (RGB; transparency over white), 4 (RGBA), another number for .npy arrays [H, W, C] and TIFF
    files with one page a channel; None: as many as the file has (1, 3, or 4 with transparency)
    at_least: the caller needs no more than this many pixels along the shorter side, which lets JPEG decode faster
    Raises UserError with one sentence for whatever cannot be read.
    """
    name = name or (str(source) if not isinstance(source, bytes) else "image")
    if not isinstance(source, bytes) and str(source).endswith(".npy"):
        return from_array(_read_npy(Path(source), name), channels, name)
    image = open_image(source, name)
    _shrink(image, at_least)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return from_pil(image, channels, name)
    except UserError:
        raise
    except _DAMAGE as error:
        raise UserError(
            f"{name}: truncated or damaged image ({_brief(error)}); replace or remove it"
        ) from None


def from_pil(
    image: Image.Image,
    channels: int | None,
    name: str = "image",
) -> Tensor:
    """A Pillow image to [C, H, W]; see read_image. Raises what decoding raises, and UserError."""
    if channels is not None and channels not in (1, 3, 4):
        return _pages(image, channels, name)
    image = _upright(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return from_array(_wide(image, name), channels, name)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = rgba if channels in (None, 4) else _over_white(rgba)
    if channels is None:
        channels = {"1": 1, "L": 1, "RGBA": 4}.get(image.mode, 3)
    array = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels]))
    return _planes(array)


def from_array(
    array: np.ndarray | Tensor,
    channels: int | None,
    name: str = "array",
) -> Tensor:
    """An array [H, W], [H, W, C] or [C, H, W] (the side that equals `channels` is the channels) to [C, H, W].

    uint8 stays; uint16 is scaled to [0, 1]; floats are taken as they are and must be finite. Grey becomes RGB by
    repetition and RGB becomes grey by Rec. 601 luma; any other number of channels is refused with UserError.
    """
    array = np.asarray(array)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or 0 in array.shape:
        raise UserError(
            f"{name}: an image has 2 or 3 axes and no empty one, this array is {_shape(array)}"
        )
    if array.shape[0] * array.shape[1] * array.shape[2] > 4 * MAX_PIXELS:
        raise UserError(f"{name}: {_too_large(_shape(array) + ' values')}")
    usual = (1, 3, 4) if channels is None else (channels, 1, 3)
    last, first = array.shape[2], array.shape[0]
    if first != last and first in usual and (last not in usual or first == channels):
        array = array.transpose(1, 2, 0)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = array.astype(np.float32) / 65535
    elif np.issubdtype(array.dtype, np.floating):
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise UserError(f"{name}: holds NaN or infinite values; fill them before training")
    elif array.dtype != np.uint8:
        raise UserError(
            f"{name}: values of type {array.dtype} are not read; store uint8, uint16 or float32"
        )
    found = array.shape[2]
    if channels is None or found == channels:
        return _planes(array)
    if found == 1:
        return _planes(np.repeat(array, channels, axis=2))
    if found == 3 and channels == 1:
        grey = array.astype(np.float32) @ np.asarray([0.299, 0.587, 0.114], np.float32)
        return _planes(
            (grey.round().astype(np.uint8) if array.dtype == np.uint8 else grey)[:, :, None]
        )
    raise UserError(
        f"{name}: has {found} channels where {channels} are expected; set tokeniser.channels = {found}"
    )


def _planes(array_HWC: np.ndarray) -> Tensor:
    if array_HWC.ndim == 2:
        array_HWC = array_HWC[:, :, None]
    return torch.from_numpy(
        np.array(array_HWC.transpose(2, 0, 1), order="C")
    )  # a copy: Pillow's memory is read-only


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
        array = np.lib.format.open_memmap(
            path, mode="r"
        )  # refuses pickled objects; nothing is read yet
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


def _wide(image: Image.Image, name: str) -> np.ndarray:
    """The values of a 16-bit, 32-bit or floating-point grey image as uint16 or float32."""
    array = np.asarray(image)
    if image.mode == "F":
        return array
    if array.size and (array.min() < 0 or array.max() > 65535):
        raise UserError(
            f"{name}: 32-bit integers beyond 65535 are not read; store 16-bit or floating-point values"
        )
    return array.astype(np.uint16)


def _pages(image: Image.Image, channels: int, name: str) -> Tensor:
    """One channel a page of a TIFF."""
    pages = getattr(image, "n_frames", 1)
    if pages != channels:
        raise UserError(
            f"{name}: has {pages} page(s) of mode {image.mode} where {channels} channels are expected; "
            f"store an .npy array [H, W, {channels}] or a TIFF with one page a channel"
        )
    planes = []
    for page in range(pages):
        image.seek(page)
        if image.size[0] * image.size[1] * channels > 4 * MAX_PIXELS:
            raise UserError(
                f"{name}: {_too_large(f'{image.size[0]} x {image.size[1]} x {channels} values')}"
            )
        wide = image.mode in ("I", "F") or image.mode.startswith("I;16")
        planes.append(
            from_array(_wide(image, name) if wide else np.asarray(image.convert("L")), 1, name)
        )
    if len({(p.shape, p.dtype) for p in planes}) > 1:
        raise UserError(
            f"{name}: its pages differ in size or depth, so they are no channels of one image"
        )
    return torch.cat(planes)


def _too_large(what: str) -> str:
    return f"{what}, more than the {MAX_PIXELS / 1e6:.0f} million pixels that are decoded; shrink or crop it first"


def _shape(array: np.ndarray) -> str:
    return " x ".join(map(str, array.shape)) or "a single number"


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
) -> Tensor:
    """Whatever a person hands to predict: a path, bytes, a Pillow image, an array or a tensor, to [C, H, W]."""
    if isinstance(value, (str, Path, bytes)):
        return read_image(value, channels, at_least=at_least, name=name)
    if isinstance(value, (np.ndarray, Tensor)):
        return from_array(
            value.detach().cpu().numpy() if isinstance(value, Tensor) else value,
            channels,
            name or "array",
        )
    if hasattr(value, "convert") and hasattr(value, "mode"):
        try:
            return from_pil(value, channels, name or "image")
        except UserError:
            raise
        except _DAMAGE as error:
            raise UserError(
                f"{name or 'image'}: truncated or damaged image ({_brief(error)})"
            ) from None
    raise UserError(
        f"an image is a path, bytes, a Pillow image, an array or a tensor, not {type(value).__name__}"
    )
