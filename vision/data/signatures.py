"""What a file is by its first bytes, for the sentence that says why it isn't read as an image."""

from __future__ import annotations

TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # the last two are BigTIFF
HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")

# (offset, bytes, what it is)
_SIGNATURES = (
    (0, b"%PDF", "a PDF document"), (0, b"%!PS", "a PostScript document"), (0, b"8BPS", "a Photoshop document"),
    (0, b"\x89HDF", "an HDF5 file"), (0, b"SIMPLE  =", "a FITS file"), (0, b"\x93NUMPY", "a numpy array"),
    (0, b"v/1\x01", "an OpenEXR image"), (0, b"DDS ", "a DDS texture"), (0, b"\xff\x0a", "a JPEG XL image"),
    (4, b"JXL ", "a JPEG XL image"), (4, b"ftypcrx", "a Canon raw photo"),
    (344, b"n+1\0", "a NIfTI volume"), (344, b"ni1\0", "a NIfTI header"), (4, b"ftyp", "a video (MP4 or QuickTime)"),
    (0, b"RIFF", "a RIFF file (video or sound)"), (0, b"\x1aE\xdf\xa3", "a video (Matroska or WebM)"),
    (0, b"PK\x03\x04", "a zip archive (or .npz, .docx)"), (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"), (0, b"Rar!", "a rar archive"), (257, b"ustar", "a tar archive"),
    (0, b"\x80\x04\x95", "a Python pickle"), (0, b"\x80\x02", "a Python pickle"), (0, b"SQLite format", "a database"),
    (0, b"PAR1", "a parquet table"), (0, b"\x7fELF", "a program"), (0, b"MZ", "a program"),
    (0, b"version https://git-lfs", "a pointer of git-lfs, whose file was not fetched"),
)  # fmt: skip
_TEXTS = (
    (b"<svg", "an SVG drawing"), (b"<!doctype html", "an HTML page"), (b"<html", "an HTML page"),
    (b"<?xml", "an XML document"), (b"{", "text (JSON)"),
)  # fmt: skip


def is_tiff(data: bytes) -> bool:
    """TIFF or BigTIFF."""
    return data.startswith(TIFF)


def is_heic(data: bytes) -> bool:
    """HEIC or HEIF, the photos of telephones."""
    return data[4:8] == b"ftyp" and data[8:12] in HEIC


def is_dicom(data: bytes) -> bool:
    """A DICOM file with its preamble."""
    return data[128:132] == b"DICM"


def what_is(data: bytes) -> str | None:
    """Such as "a PDF document"; None where nobody knows."""
    if is_tiff(data):
        return "a TIFF"
    for offset, signature, kind in _SIGNATURES:
        if data[offset : offset + len(signature)] == signature:
            return kind
    start = data[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for signature, kind in _TEXTS:
        if start.startswith(signature):
            return kind
    if b"<svg" in start:
        return "an SVG drawing"
    return "text" if start and _is_text(data[:512]) else None


def _is_text(data: bytes) -> bool:
    try:
        text = data.decode("utf-8", "strict")
    except UnicodeDecodeError as error:
        if error.start < len(data) - 3:  # a character cut at the end is fine
            return False
        text = data[: error.start].decode("utf-8")
    return all(char.isprintable() or char in "\t\r\n" for char in text)
