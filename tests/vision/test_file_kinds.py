"""Kinds of files beside the common ones: bands, pages, LAB, DICOM, HEIC; and what another file is said to be."""

import io
import sys

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from answers import refusal
from isoform.core.errors import UserError
from isoform.vision.data import arrays, dicom, tiff
from isoform.vision.data import images as I
from isoform.vision.data.arrays import Reading
from isoform.vision.data.folders import list_images
from isoform.vision.data.images import look, read_image

CONTIG = {"photometric": "minisblack", "planarconfig": "contig"}
BANDS = np.arange(5 * 11 * 13, dtype=np.uint16).reshape(5, 11, 13)


def refused(source, *words, channels=None, reading=arrays.AS_STORED):
    refusal(lambda: read_image(source, channels, reading=reading), *words)


def tiff_of(array, **options):
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, **options)
    return buffer.getvalue()


def test_upper_case_endings(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((7, 11, 3), np.uint8))
    (tmp_path / "a.npy").rename(tmp_path / "A.NPY")
    assert read_image(tmp_path / "A.NPY").shape == (3, 7, 11)
    assert look(tmp_path / "A.NPY").kind == "npy uint8"
    assert [file.name for file in list_images(tmp_path, tmp_path, [])] == ["A.NPY"]


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_bands_of_a_tiff(planar, dtype, tmp_path):
    array = (BANDS % 251).astype(dtype)
    stored = array if planar == "separate" else array.transpose(1, 2, 0)
    (tmp_path / "a.tif").write_bytes(tiff_of(stored, photometric="minisblack", planarconfig=planar))
    read = read_image(tmp_path / "a.tif", 5)
    scale = 65535 if dtype == "uint16" else 1
    assert torch.allclose(read.float() * scale, torch.from_numpy(array.astype(np.float32)))
    assert read_image(tmp_path / "a.tif", None).shape == (5, 11, 13)
    header = look(tmp_path / "a.tif", None)
    assert (header.channels, header.height, header.width) == (5, 11, 13)
    refused(tmp_path / "a.tif", "5 channels of 11 x 13", "tokeniser.channels = 5", channels=3)


def test_one_of_several_bands_is_never_all():
    """Pillow opens such a file, and would give the first band alone."""
    planes = tiff_of(BANDS.astype(np.float32), photometric="minisblack", planarconfig="separate")
    refused(planes, "5 channels", channels=1)


def test_a_fourth_band_beside_rgb():
    array = (BANDS % 251).astype(np.uint8)[:4].transpose(1, 2, 0)
    data = tiff_of(array, photometric="rgb", extrasamples=["unspecified"])
    wanted = torch.from_numpy(array).permute(2, 0, 1)
    assert torch.equal(read_image(data, 4), wanted)
    assert torch.equal(read_image(data, 3), wanted[:3])


def test_colours_of_sixteen_bits_keep_them():
    array = np.random.default_rng(0).integers(0, 65535, (11, 13, 3), dtype=np.uint16)
    read = read_image(tiff_of(array, photometric="rgb"), 3)
    assert read.dtype == torch.float32 and len(read.unique()) > 300
    assert torch.allclose(read * 65535, torch.from_numpy(array.astype(np.float32)).permute(2, 0, 1))


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint32", "float32", "float64"])
def test_grey_in_a_unit_of_its_own(dtype):
    low = 0 if dtype == "uint32" else -1000
    array = np.array([[low, 3000, 17]], dtype)
    assert read_image(tiff_of(array), 1).flatten().tolist() == [low, 3000, 17]
    half = np.array([[0, 3000, 17]], dtype)
    assert read_image(tiff_of(half), 1).flatten().tolist() == [0, 3000, 17]


def test_unsigned_thirty_two_bits_stay_positive():
    assert read_image(tiff_of(np.array([[3_000_000_000]], np.uint32)), 1).item() == 3_000_000_000


@pytest.mark.parametrize("channels", [1, 3, None])
def test_lab_becomes_the_colours_it_was(channels):
    y, x = np.mgrid[:11, :17]
    rgb = Image.fromarray(np.stack([10 * x, 20 * y, 60 + 0 * x], -1).astype(np.uint8))
    profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
    lab = ImageCms.profileToProfile(rgb, *profiles, outputMode="LAB")
    buffer = io.BytesIO()
    lab.save(buffer, "TIFF")
    read = read_image(buffer.getvalue(), channels).float()
    wanted = torch.from_numpy(np.array(rgb.convert("L" if channels == 1 else "RGB")).copy()).float()
    wanted = wanted[None] if channels == 1 else wanted.permute(2, 0, 1)
    assert (read - wanted).abs().mean() < 2  # LAB of 8 bits rounds dark blues most


@pytest.mark.parametrize("channels", [None, 1, 3])
def test_a_tiff_of_several_pages_is_asked_about(channels):
    stack = tiff_of(BANDS[:3], photometric="minisblack")
    refused(stack, "3 pages", "data.page = 1", 'data.page = "all"', channels=channels)
    second = read_image(stack, channels, reading=Reading(page=2))
    assert torch.allclose(second[0] * 65535, torch.from_numpy(BANDS[1].astype(np.float32)))
    refused(stack, "pages is 3", "data.page = 4", channels=channels, reading=Reading(page=4))


def test_pages_as_channels():
    stack = tiff_of(BANDS, photometric="minisblack")
    both = read_image(stack, None, reading=Reading(page="all")), read_image(stack, 5)
    for read in both:
        assert torch.allclose(read * 65535, torch.from_numpy(BANDS.astype(np.float32)))
    refused(stack, "5 pages", "tokeniser.channels = 5", channels=3, reading=Reading(page="all"))
    windowed = read_image(stack, 5, reading=Reading(window=(100.0, 200.0)))
    assert float(windowed.min()) == 0 and float(windowed.max()) == 1


def test_pages_of_bands():
    stack = tiff_of(np.stack([BANDS, BANDS + 9]).transpose(0, 2, 3, 1), **CONTIG)
    refused(stack, "2 pages", channels=5)
    read = read_image(stack, 5, reading=Reading(page=2))
    assert torch.allclose(read * 65535, torch.from_numpy((BANDS + 9).astype(np.float32)))
    refused(stack, "2 pages has 5 channels", "set data.page", reading=Reading(page="all"))


def test_smaller_copies_in_a_tiff_are_no_pages():
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        file.write(np.full((23, 29), 7, np.uint8), photometric="minisblack")
        file.write(np.full((11, 13), 9, np.uint8), photometric="minisblack", subfiletype=1)
    assert read_image(buffer.getvalue(), 1).shape == (1, 23, 29)
    assert read_image(buffer.getvalue(), 1).unique().tolist() == [7]


def test_a_frame_of_an_animation():
    frames = [Image.new("RGB", (5, 3), colour) for colour in ("red", "blue")]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert read_image(buffer.getvalue())[:, 0, 0].tolist() == [255, 0, 0]
    second = read_image(buffer.getvalue(), reading=Reading(page=2))
    assert second[:, 0, 0].tolist() == [0, 0, 255]


def test_bands_are_counted_before_they_are_decoded(monkeypatch):
    data = tiff_of(BANDS.transpose(1, 2, 0), **CONTIG)
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(tiff, "MAX_PIXELS", 142)  # of 11 x 13
    refused(data, "million pixels", channels=5)


def test_a_small_file_cannot_ask_for_much():
    data = tiff_of(BANDS.transpose(1, 2, 0), tile=(16, 16), compression="zlib", **CONTIG)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        place = file.pages[0].tags["ImageLength"].valueoffset
    refused(data[:place] + b"\0\0\x31\0" + data[place + 4 :], "3211264 x 13", channels=5)


@pytest.mark.parametrize("place", [3, 8, 40, 90, 150, 200])
def test_damaged_bands_are_one_sentence(place):
    data = bytearray(tiff_of(BANDS.transpose(1, 2, 0), **CONTIG))
    data[place] ^= 0xFF
    try:
        read_image(bytes(data), 5)
    except UserError as error:
        assert "\n" not in str(error)
    refused(bytes(data[:60]), channels=5)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"%PDF-1.7\n", "a PDF document"),
        (b"<svg xmlns='x'></svg>", "an SVG drawing"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"PK\x03\x04\x00\x00", "a zip archive"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (b"\0\0\0\x18ftypmp42", "a video"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs"),
        (b"path,label\na,b\n", "text"),
        (b"8BPS\0\1", "a Photoshop document"),
        (b"\x93NUMPY\1\0", "a numpy array"),
    ],
)
def test_another_file_is_called_what_it_is(data, kind, tmp_path):
    (tmp_path / "a.jpg").write_bytes(data)
    refused(tmp_path / "a.jpg", f"a.jpg: is {kind}", "not an image")


def dicom_file(array, **tags):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["a"])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found = Dataset()
    found.file_meta = meta
    frames = array.shape[0] if array.ndim == 3 else 1
    found.Rows, found.Columns = array.shape[-2:]
    found.SamplesPerPixel, found.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = 8 * array.dtype.itemsize
    found.BitsAllocated, found.BitsStored, found.HighBit = bits, bits, bits - 1
    found.PixelRepresentation = int(array.dtype.kind == "i")
    if frames > 1:
        found.NumberOfFrames = frames
    for name, value in tags.items():
        setattr(found, name, value)
    found.PixelData = array.tobytes()
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, found, enforce_file_format=True)
    return buffer.getvalue()


STORED = np.arange(11 * 14, dtype=np.uint16).reshape(11, 14)


def test_dicom_in_hounsfield_units(tmp_path):
    data = dicom_file(STORED, RescaleSlope="2", RescaleIntercept="-1024")
    wanted = torch.from_numpy(STORED.astype(np.float32))[None] * 2 - 1024
    (tmp_path / "a.dcm").write_bytes(data)
    assert torch.equal(read_image(tmp_path / "a.dcm", 1), wanted)
    assert [file.name for file in list_images(tmp_path, tmp_path, [])] == ["a.dcm"]
    header = look(tmp_path / "a.dcm")
    assert (header.kind, header.channels, header.height, header.width) == ("DICOM", 1, 11, 14)
    windowed = read_image(data, 1, reading=Reading(window=(-1000.0, -800.0)))
    assert torch.allclose(windowed, ((wanted + 1000) / 200).clamp(0, 1))


def test_dicom_of_eight_bits_turned_and_in_frames():
    eight = (STORED % 256).astype(np.uint8)
    assert read_image(dicom_file(eight), 1).dtype == torch.uint8
    turned = read_image(dicom_file(eight, PhotometricInterpretation="MONOCHROME1"), 1)
    assert torch.equal(turned, 255 - torch.from_numpy(eight)[None])
    frames = dicom_file(np.stack([STORED, STORED + 1]))
    refused(frames, "2 frames", "data.page")
    assert float(read_image(frames, 1, reading=Reading(page=2))[0, 0, 0]) == 1
    assert read_image(frames, None, reading=Reading(page="all")).shape == (2, 11, 14)


def test_dicom_is_looked_at_before_it_is_decoded(monkeypatch):
    data = dicom_file(STORED)
    monkeypatch.setattr(dicom, "MAX_PIXELS", 11 * 14 - 1)
    monkeypatch.setattr(dicom, "_decode", lambda *_: pytest.fail("decoded"))
    refused(data, "11 x 14", "million pixels")
    refused(data[:200])


def test_dicom_without_its_library_names_the_extra(monkeypatch):
    data = b"\0" * 128 + b"DICM" + b"\0" * 40
    monkeypatch.setitem(sys.modules, "pydicom", None)
    refused(data, "is a DICOM file", "isoform[dicom]")


def test_heic(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    image = Image.new("RGB", (64, 48), (200, 30, 60))
    try:
        pillow_heif.from_pillow(image).save(tmp_path / "a.heic")
    except RuntimeError:
        pytest.skip("this build of libheif has no encoder")
    read = read_image(tmp_path / "a.heic")
    assert read.shape == (3, 48, 64)
    assert (read[:, 0, 0].float() - torch.tensor([200.0, 30, 60])).abs().max() < 8
    assert look(tmp_path / "a.heic").kind.startswith("HEIF")


def test_heic_without_its_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    refused(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "is a HEIC photo", "isoform[heic]")


def test_the_limit_of_heic_comes_before_decoding(tmp_path, monkeypatch):
    pillow_heif = pytest.importorskip("pillow_heif")
    try:
        pillow_heif.from_pillow(Image.new("RGB", (64, 48))).save(tmp_path / "a.heic")
    except RuntimeError:
        pytest.skip("this build of libheif has no encoder")
    monkeypatch.setattr(I, "MAX_PIXELS", 64 * 48 - 1)
    refused(tmp_path / "a.heic", "64 x 48", "million pixels")
