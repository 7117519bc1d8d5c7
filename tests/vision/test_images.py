"""Odd image files: handled, or refused in one sentence."""

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from answers import refusal
from isoform.core.errors import UserError
from isoform.vision.data import images as I
from isoform.vision.data.images import MAX_PIXELS, read_image, to_input


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def gradient(height: int = 11, width: int = 17) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    array = np.stack([255 * x / (width - 1), 255 * y / (height - 1), np.full_like(x, 60)], -1)
    return Image.fromarray(array.round().astype(np.uint8))


def one_sentence(source, *words: str, channels: int | None = 3) -> str:
    return refusal(lambda: read_image(source, channels), *words)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP", "PPM"])
def test_lossless_formats_give_the_pixels(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    image = read_image(encoded(gradient(), kind, **options))
    assert image.shape == (3, 11, 17) and image.dtype == torch.uint8
    assert torch.equal(image, torch.from_numpy(np.array(gradient())).permute(2, 0, 1))


def test_palette_with_transparency_goes_over_white():
    image = Image.new("P", (5, 3), 1)
    image.putpalette([0, 0, 0, 200, 10, 20])
    image.info["transparency"] = 0
    image.putpixel((0, 0), 0)
    read = read_image(encoded(image, "PNG", transparency=0))
    assert read[:, 0, 0].tolist() == [255, 255, 255]
    assert read[:, 2, 4].tolist() == [200, 10, 20]


def test_half_transparent_over_white_and_kept_with_four_channels():
    data = encoded(Image.new("RGBA", (3, 2), (0, 0, 0, 127)), "PNG")
    assert abs(int(read_image(data)[0, 0, 0]) - 128) <= 1
    assert read_image(data, 4)[:, 0, 0].tolist() == [0, 0, 0, 127]
    assert read_image(data, None).shape[0] == 4


def test_cmyk_jpeg_becomes_rgb():
    read = read_image(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG"))  # red ink
    red, green, blue = read.float().mean((1, 2)).tolist()
    assert red > 200 and green < 60 and blue < 60


def test_exif_turns_the_image_upright():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to show
    plain = read_image(encoded(gradient(), "PNG"))
    turned = read_image(encoded(gradient(), "PNG", exif=exif))
    assert torch.equal(turned, torch.rot90(plain, -1, (1, 2)))


def test_damaged_exif_does_not_stop_the_reading():
    data = encoded(gradient(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff garbage")
    assert read_image(data).shape == (3, 11, 17)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_to_one(kind):
    values = np.array([[0, 32768, 65535]], np.uint16)
    read = read_image(encoded(Image.fromarray(values), kind), 1)
    assert read.dtype == torch.float32
    assert torch.allclose(read[0, 0], torch.tensor([0.0, 32768 / 65535, 1.0]))
    assert read_image(encoded(Image.fromarray(values), kind), 3).shape == (3, 1, 3)


def test_floating_point_tiff_is_taken_as_it_is():
    values = np.array([[-1.5, 0.25]], np.float32)
    assert read_image(encoded(Image.fromarray(values), "TIFF"), 1).tolist() == [[[-1.5, 0.25]]]


def test_bilevel_one_pixel_and_animation():
    assert read_image(encoded(Image.new("1", (7, 5), 1), "PNG"), 1).unique().tolist() == [255]
    assert read_image(encoded(Image.new("RGB", (1, 1), (1, 2, 3)), "PNG")).flatten().tolist() == [
        1,
        2,
        3,
    ]
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert read_image(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]))[
        :, 0, 0
    ].tolist() == [
        255,
        0,
        0,
    ]


def test_pages_of_a_tiff_are_channels():
    pages = [Image.fromarray(np.full((3, 5), value, np.uint8)) for value in (10, 20, 30, 40, 50)]
    data = encoded(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    assert read_image(data, 5)[:, 0, 0].tolist() == [10, 20, 30, 40, 50]
    one_sentence(data, "5 page(s)", "7 channels", channels=7)


def test_arrays_of_many_channels(tmp_path):
    array = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)
    np.save(tmp_path / "a.npy", array)
    assert torch.equal(read_image(tmp_path / "a.npy", 7), torch.from_numpy(array).permute(2, 0, 1))
    assert torch.equal(read_image(tmp_path / "a.npy", 3), torch.from_numpy(array))  # channels first
    one_sentence(tmp_path / "a.npy", "3 channels", "set tokeniser.channels", channels=2)
    np.save(tmp_path / "nan.npy", np.full((3, 5), np.nan))
    one_sentence(tmp_path / "nan.npy", "NaN")
    np.save(tmp_path / "object.npy", np.array([[{}]], object), allow_pickle=True)
    one_sentence(tmp_path / "object.npy", "not an npy array of numbers")
    (tmp_path / "text.npy").write_text("hello")
    one_sentence(tmp_path / "text.npy", "not an npy array of numbers")


def test_an_npy_header_cannot_ask_for_memory(tmp_path):
    header = (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (900000, 900000, 3), }".ljust(117)
        + b"\n"
    )
    (tmp_path / "bomb.npy").write_bytes(
        b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header
    )
    one_sentence(tmp_path / "bomb.npy")


def test_missing_empty_and_other_files(tmp_path):
    one_sentence(tmp_path / "none.png", "no such file")
    one_sentence(tmp_path, "is a folder")
    (tmp_path / "empty.png").touch()
    one_sentence(tmp_path / "empty.png", "empty (0 bytes)")
    (tmp_path / "text.png").write_text("not an image at all")
    one_sentence(tmp_path / "text.png", "not an image")
    one_sentence(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "not an image"
    )  # no PostScript is ever run


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"])
def test_truncated_files_are_refused_in_one_sentence(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    one_sentence(data[: len(data) // 2])
    one_sentence(data[:20])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"]), st.data())
def test_any_damage_is_read_or_refused_but_never_raises_anything_else(kind, data):
    raw = bytearray(encoded(gradient(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        image = read_image(bytes(raw))
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert image.shape[0] == 3


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n"
        + head
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    "side", [9_500, 30_000]
)  # Pillow would warn at the first and raise at the second
def test_too_many_pixels_are_refused_before_decoding(side, monkeypatch):
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    one_sentence(_png_header(side, side), f"{MAX_PIXELS / 1e6:.0f} million pixels")


def test_a_huge_baseline_jpeg_is_decoded_at_an_eighth(monkeypatch):
    monkeypatch.setattr(I, "MAX_PIXELS", 2_000)
    read = read_image(encoded(Image.new("RGB", (320, 240), (10, 200, 30)), "JPEG"))
    assert read.shape == (3, 30, 40)
    assert abs(int(read[1].float().mean()) - 200) < 4
    one_sentence(encoded(Image.new("RGB", (320, 240)), "JPEG", progressive=True), "320 x 240")
    one_sentence(encoded(Image.new("RGB", (3200, 2400)), "JPEG"), "3200 x 2400")


def test_jpeg_reduced_only_as_far_as_needed():
    data = encoded(gradient(400, 600), "JPEG")
    assert read_image(data, at_least=100).shape == (3, 100, 150)
    assert read_image(data, at_least=101).shape == (3, 200, 300)
    assert read_image(data).shape == (3, 400, 600)


def test_inputs_of_python(tmp_path):
    array = np.asarray(gradient())
    wanted = torch.from_numpy(array.copy()).permute(2, 0, 1)
    gradient().save(tmp_path / "a.png")
    for value in (
        array,
        torch.from_numpy(array.copy()),
        wanted,
        gradient(),
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
    ):
        assert torch.equal(to_input(value, 3), wanted)
    assert to_input(array, 1).shape == (1, 11, 17)
    assert to_input(array[:, :, 0].astype(np.float64) / 255, 1).dtype == torch.float32
    with pytest.raises(UserError, match="not int"):
        to_input(3, 3)
    with pytest.raises(UserError, match="int64"):
        to_input(array.astype(np.int64), 3)


@pytest.mark.parametrize(("mode", "size"), [("1", (4999, 7001)), ("RGB", (4999, 5003))])
def test_an_empty_page_is_no_damage(mode, size):
    """A scan without a word packs by a thousand, or eight thousand in one bit a pixel."""
    packed = io.BytesIO()
    Image.new(mode, size).save(packed, "PNG", optimize=True)
    width, height = size
    assert len(packed.getvalue()) < width * height / 250
    assert read_image(packed.getvalue(), 1).shape == (1, height, width)
