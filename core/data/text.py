"""A source of text as characters: unpacked within a limit, its encoding told by its bytes, its digest taken.

A source is a path, or "-" for what stands in standard input. Nothing is executed and nothing imported; a file is read
once.
"""

from __future__ import annotations

import codecs
import hashlib
import re
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isoform.core.data.findings import Finding
from isoform.core.errors import UserError

STDIN = "-"
_GZIP = b"\x1f\x8b"
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
_PART = 2**20  # bytes read or unpacked at a time
# A packed table is a tenth to a hundredth of itself. What unpacks to more than this and 300 times its size is a trap.
_SURELY_FINE = 2**27
_MOST_RATIO = 300


@dataclass(frozen=True)
class Limits:
    """What is read into memory at most: bytes of a file unpacked, its columns, and its cells."""

    bytes: int = 4 * 2**30
    columns: int = 200_000
    cells: int = 200_000_000


LIMITS = Limits()


@dataclass(frozen=True)
class Raw:
    """The bytes of a source, unpacked.

    origin   the path as given, for messages        name     its last part, "standard input" or as it was handed in
    sha256   of the file as it is stored (packed, where it is packed)
    """

    origin: str
    name: str
    content: bytes
    sha256: str
    findings: tuple[Finding, ...] = ()


def read_bytes(source: str | Path, limits: Limits = LIMITS, key: str = "data.path") -> Raw:
    """A source's bytes; what is packed by gzip is unpacked.

    key   the setting that named it, for messages. Raises UserError where there is no such file, where it can't be
          read, where it is damaged, and where it is larger than `limits` or unpacks to far more than a table does.
    """
    if str(source) == STDIN:
        content = _read_at_most(sys.stdin.buffer, limits, "standard input")
        origin = name = "standard input"
    else:
        path = Path(source).expanduser()
        origin, name = str(path), path.name
        content = _read_file(path, limits, key)
    digest = hashlib.sha256(content).hexdigest()
    findings: tuple[Finding, ...] = ()
    ends_in_gz = name.lower().endswith(".gz")
    if ends_in_gz or content.startswith(_GZIP):
        content = _unpack(content, limits, origin)
        if not ends_in_gz:
            findings = (
                Finding(
                    f"{name} is packed by gzip, though its name doesn't end in .gz; it was unpacked"
                ),
            )
    return Raw(origin, name, content, digest, findings)


def _read_file(path: Path, limits: Limits, key: str) -> bytes:
    try:
        if path.is_dir():
            raise UserError(f"{path}: is a folder where a file is expected ({key})")
        with open(path, "rb") as file:
            return _read_at_most(file, limits, str(path))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file ({key})") from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: can't be read ({getattr(error, 'strerror', None) or error})"
        ) from None


def _read_at_most(file: BinaryIO, limits: Limits, origin: str) -> bytes:
    parts: list[bytes] = []
    size = 0
    while part := file.read(_PART):  # one read of the limit would ask for as much memory
        parts.append(part)
        size += len(part)
        if size > limits.bytes:
            raise UserError(
                f"{origin}: its size is more than the {_size(limits.bytes)} that are read into memory; split it"
            )
    return b"".join(parts)


def _unpack(packed: bytes, limits: Limits, origin: str) -> bytes:
    """The content of a gzip file of one or several members."""
    parts: list[bytes] = []
    size = 0
    most = min(limits.bytes, max(_SURELY_FINE, _MOST_RATIO * len(packed)))
    rest = packed
    try:
        while rest:
            member = zlib.decompressobj(16 + zlib.MAX_WBITS)
            while not member.eof:
                part = member.decompress(rest, _PART)
                rest = member.unconsumed_tail
                if not part and not rest and not member.eof:
                    raise EOFError("it ends in the middle")
                size += len(part)
                if size > most:
                    raise UserError(
                        f"{origin}: its unpacked size is more than {_size(most)}, from {_size(len(packed))} packed, "
                        "and it isn't read any further; unpack it yourself and look what it holds"
                    )
                parts.append(part)
            rest = member.unused_data.lstrip(b"\0")
    except (zlib.error, EOFError) as error:
        raise UserError(
            f"{origin}: damaged or unreadable ({error}); pack or download it again"
        ) from None
    if not parts:
        raise UserError(f"{origin}: damaged or unreadable (it is empty); pack or download it again")
    return b"".join(parts)


def _size(count: int) -> str:
    """ "4 GiB", "20 MiB", "7 KiB" or "300 bytes"."""
    for unit, shift in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if count >= 1 << shift:
            return f"{count >> shift:,} {unit}"
    return f"{count} bytes"


def decode(raw: Raw) -> tuple[str, list[Finding]]:
    """(text, findings): by a byte order mark, else UTF-8, else UTF-16 where every other byte is 0, else cp1252.

    Text in cp1252 (or Latin-1, in which no byte is wrong) can't be told from other encodings of one byte a letter, so
    that is said. Raises UserError for bytes that are no text, and where text that begins in an encoding breaks it.
    """
    content = raw.content
    encoding = _marked(content)
    if encoding is not None:
        text = _decoded(raw, encoding)
        return text, [] if encoding == "utf-8-sig" else [
            Finding(f"{raw.name} is {encoding.upper()}, by its mark")
        ]
    guess = _utf_16(content)
    if guess is not None:
        text = _decoded(raw, guess)
        return text, [
            Finding(f"{raw.name} is {guess.upper()} without a mark: every other byte is 0")
        ]
    if b"\0" in content:
        raise UserError(
            f"{raw.origin}: is no text; save it as csv in UTF-8, or give it the ending of what it is"
        )
    try:
        return content.decode("utf-8"), []
    except UnicodeDecodeError:
        pass
    try:
        text, named = content.decode("cp1252"), "Windows-1252 (Latin-1)"
    except UnicodeDecodeError:
        text, named = content.decode("latin-1"), "Latin-1"
    return text, [
        Finding(f"{raw.name} is not UTF-8; it was read as {named}, so names may hold odd letters")
    ]


def _marked(content: bytes) -> str | None:
    """The encoding that a byte order mark tells."""
    if content.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    return None


def _utf_16(content: bytes) -> str | None:
    """utf-16-le or -be where the zeros of Latin letters stand at every other place, and nowhere else."""
    head = content[:4096]
    if len(content) % 2 or len(head) < 4:
        return None
    even, odd = head[::2].count(0), head[1::2].count(0)
    if even == 0 and odd >= 0.7 * len(head) / 2:
        return "utf-16-le"
    if odd == 0 and even >= 0.7 * len(head) / 2:
        return "utf-16-be"
    return None


def _decoded(raw: Raw, encoding: str) -> str:
    try:
        text = raw.content.decode(encoding)
    except UnicodeDecodeError as error:
        raise UserError(
            f"{raw.origin}: damaged or unreadable ({error}); save it again as UTF-8"
        ) from None
    if "\0" in text:
        raise UserError(
            f"{raw.origin}: is no text; save it as csv in UTF-8, or give it the ending of what it is"
        )
    return text


def lines_of(text: str) -> Iterator[str]:
    """The lines of a text with their ends (LF, CR LF or CR) as they are; no copy of the whole is made."""
    place = 0
    while place < len(text):
        end = text.find("\n", place) + 1 or len(text)
        line = text[place:end]
        if "\r" in line[:-2]:
            yield from (match[0] for match in _LINE.finditer(line))
        else:
            yield line
        place = end
