"""Structure-aware mutations: a file of a kind, a few places changed as somebody would who means harm.

Everything is drawn from one random.Random, so a mutation is known by its seed alone. `Change.places` says where the
file was touched and how many bytes, to count how much lies past its header, which a random byte seldom does in a small
file.
"""

from __future__ import annotations

import gzip
import io
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

NUMBERS = (
    b"0", b"-1", b"-0", b"1", b"2147483647", b"2147483648", b"4294967296", b"99999999999999999999", b"1e308", b"-1e400",
    b"nan", b"inf", b"-inf", b"1e-320", b"0x10", b"1_000", b"", b".", b"65536", b"1000000", b"1e9",
)  # fmt: skip
WORDS = (
    b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\n\n", b'"', b"'", b",", b";", b"\t", b"#", b"$$$$", b"M  END",
    b"loop_", b"[[", b"{}", b"../../x", b"/etc/passwd", b"%s%n", b"\xe2\x80\xae", b"()" * 50, b"[" * 3000, b"A" * 5000,
)  # fmt: skip
NAMES = ("../x", "/x", "a/../../x", "", "x" * 300, "con", "a\0b", "data.pkl", "a/b/c.npy", "..\\x")
_NUMBER = re.compile(rb"[-+]?\d+\.?\d*(?:[eE][-+]?\d+)?")
LARGEST = 1 << 20  # bytes that are changed once more
_PAST = 0.7  # share of the changes that are meant for what follows the header


@dataclass
class Change:
    """What was changed: kinds in order, how many of them past the header, and the bytes of both."""

    kinds: list[str] = field(default_factory=list)
    past_kinds: int = 0
    touched: int = 0
    past: int = 0

    def note(self, kind: str, at: int, size: int, header: int) -> None:
        """One change of `size` bytes at `at`."""
        size = max(1, size)
        self.kinds.append(kind)
        self.past_kinds += at >= header
        self.touched += size
        self.past += max(0, min(size, at + size - header))


def mutate(
    rng: random.Random, data: bytes, form: str, header: int, others: Sequence[bytes]
) -> tuple[bytes, Change]:
    """A changed copy. `form`: text, binary, png, gzip, zip, stored (a zip that is never packed) or safetensors."""
    change = Change()
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        if len(data) < LARGEST:  # time is told of small files
            data = _FORMS[form](rng, data, header, others, change)
    return data, change


def _at(rng: random.Random, size: int, header: int) -> int:
    header = min(header, size)
    if rng.random() < _PAST and header < size:
        return rng.randrange(header, size)
    return rng.randrange(max(1, header)) if size else 0


def text(
    rng: random.Random, data: bytes, header: int, others: Sequence[bytes], change: Change
) -> bytes:
    """A number becomes an extreme one; lines and words come, go, and change places."""
    kind = rng.choice(
        (
            "number",
            "number",
            "number",
            "word",
            "line",
            "swap",
            "copy",
            "cut",
            "splice",
            "byte",
            "grow",
        )
    )
    at = _at(rng, len(data), header)
    if kind == "number":
        found = list(_NUMBER.finditer(data))
        if found:
            later = [one for one in found if one.start() >= at] or found
            one = rng.choice(later[:20])
            new = rng.choice(NUMBERS)
            change.note(kind, one.start(), len(new), header)
            return data[: one.start()] + new + data[one.end() :]
        kind = "byte"
    if kind == "word":
        word = rng.choice(WORDS)
        change.note(kind, at, len(word), header)
        return data[:at] + word + data[at:]
    if kind in ("line", "swap", "copy"):
        return _lines(rng, data, kind, header, change)
    if kind == "grow":
        piece, times = data[at : at + rng.randrange(1, 30)], rng.choice((3, 50, 1000))
        change.note(kind, at, len(piece) * times, header)
        return data[:at] + piece * times + data[at:]
    return _bytes(rng, data, kind, at, header, others, change)


def _lines(rng: random.Random, data: bytes, kind: str, header: int, change: Change) -> bytes:
    lines = data.split(b"\n")
    one, two = sorted((rng.randrange(len(lines)), rng.randrange(len(lines))))
    at = sum(len(line) + 1 for line in lines[:one])
    change.note(kind, at, len(lines[one]) + 1, header)
    if kind == "line":
        del lines[one]
    elif kind == "swap":
        lines[one], lines[two] = lines[two], lines[one]
    else:
        lines[two:two] = lines[one : two + 1] * rng.choice((1, 1, 40))
    return b"\n".join(lines)


def binary(
    rng: random.Random, data: bytes, header: int, others: Sequence[bytes], change: Change
) -> bytes:
    """A length or a count becomes an extreme one, bits flip, stretches come and go."""
    kind = rng.choice(
        (
            "count",
            "count",
            "count",
            "count",
            "bit",
            "byte",
            "drop",
            "repeat",
            "cut",
            "splice",
            "zero",
        )
    )
    at = _at(rng, len(data), header)
    if kind == "count":
        size, order = rng.choice((1, 2, 4, 4, 8)), rng.choice("<>")
        letter = {1: "B", 2: "H", 4: "I", 8: "Q"}[size]
        at = min(at // size * size if rng.random() < 0.6 else at, max(0, len(data) - size))
        most = 256**size - 1
        (now,) = struct.unpack_from(order + letter, data.ljust(at + size, b"\0"), at)
        values = (
            0,
            1,
            most,
            most // 2,
            most // 2 + 1,
            now + 1,
            now - 1,
            now * 2,
            now << 8,
            rng.randrange(most),
        )
        packed = struct.pack(order + letter, rng.choice(values) % (most + 1))
        change.note(kind, at, size, header)
        return data[:at] + packed + data[at + size :]
    if kind in ("drop", "repeat", "zero"):
        piece = data[at : at + rng.choice((1, 2, 4, 16, 64))]
        change.note(kind, at, len(piece), header)
        new = {"drop": b"", "repeat": piece * rng.choice((2, 9)), "zero": bytes(len(piece))}[kind]
        return data[:at] + new + data[at + len(piece) :]
    return _bytes(rng, data, kind, at, header, others, change)


def _bytes(
    rng: random.Random,
    data: bytes,
    kind: str,
    at: int,
    header: int,
    others: Sequence[bytes],
    change: Change,
) -> bytes:
    if kind == "cut":
        change.note(kind, at, 1, header)
        return data[:at]
    if kind == "splice":
        other = rng.choice(others)
        there = _at(rng, len(other), header)
        change.note(kind, at, len(other) - there, header)
        return data[:at] + other[there:]
    if not data:
        return b"\0"
    change.note(kind, at, 1, header)
    new = data[at] ^ (1 << rng.randrange(8)) if kind == "bit" else rng.randrange(256)
    return data[:at] + bytes([new]) + data[at + 1 :]


def png(
    rng: random.Random, data: bytes, header: int, others: Sequence[bytes], change: Change
) -> bytes:
    """As binary, and then every checksum is put right, so that what was changed is also read."""
    if rng.random() < 0.2:
        return binary(rng, data, header, others, change)
    chunks, at = [], 8
    while at + 12 <= len(data):
        (size,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += 12 + size
    if not chunks:
        return binary(rng, data, header, others, change)
    which = rng.randrange(len(chunks))
    name, body = chunks[which]
    if name == b"IDAT" and rng.random() < 0.6:  # the pixels below the packing
        try:
            inner = zlib.decompress(body)
        except zlib.error:
            inner = body
        body = zlib.compress(binary(rng, inner, 0, [inner], change))
    elif rng.random() < 0.2:
        chunks.insert(
            rng.randrange(len(chunks)),
            (rng.choice((b"IDAT", b"PLTE", b"tRNS", b"iCCP", b"eXIf")), body),
        )
        change.note("chunk", header, len(body), header)
    else:
        body = binary(rng, body, len(body) + 1 if name == b"IHDR" else 0, [body], change)
    chunks[which] = (name, body)
    made = [data[:8]]
    for name, body in chunks:
        made += [
            struct.pack(">I", len(body)),
            name,
            body,
            struct.pack(">I", zlib.crc32(name + body)),
        ]
    return b"".join(made)


def packed(inner: Callable[..., bytes]) -> Callable[..., bytes]:
    """Of gzip: what is packed is changed and packed again, and now and then the packing itself."""

    def change_packed(
        rng: random.Random, data: bytes, header: int, others: Sequence[bytes], change: Change
    ) -> bytes:
        try:
            content = gzip.decompress(data)
        except (OSError, EOFError, zlib.error):
            return binary(rng, data, 10, others, change)
        if rng.random() < 0.25:
            return binary(rng, data, 10, others, change)
        return gzip.compress(inner(rng, content, header, [content], change), 1, mtime=0)

    return change_packed


def archive(compression: int) -> Callable[..., bytes]:
    """Of zip: a member's content, name or number changes and checksums are right again; or the bytes as they are."""

    def change_archive(
        rng: random.Random, data: bytes, header: int, others: Sequence[bytes], change: Change
    ) -> bytes:
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as opened:
                members = [(one.filename, opened.read(one)) for one in opened.infolist()]
        except Exception:  # noqa: BLE001  an archive that was broken before is a row of bytes
            members = []
        if not members or rng.random() < 0.25:
            return binary(rng, data, header, others, change)
        which = rng.randrange(len(members))
        name, content = members[which]
        kind = rng.choice(
            (
                "content",
                "content",
                "content",
                "content",
                "name",
                "twice",
                "gone",
                "exchange",
                "large",
            )
        )
        if kind == "content":
            form = (
                text
                if content[:1] in (b"<", b"{", b"[") or name.endswith((".xml", ".toml", ".json"))
                else binary
            )
            content = form(rng, content, min(header, len(content) // 2), [content], change)
            members[which] = (name, content)
        else:
            change.note(kind, 0, 16, header)
        if kind == "name":
            members[which] = (rng.choice((*NAMES, name.upper(), name + "x", "../" + name)), content)
        elif kind == "twice":
            members.append((name, binary(rng, content, 0, [content], change)))
        elif kind == "gone":
            del members[which]
        elif kind == "exchange":
            other = rng.randrange(len(members))
            members[which], members[other] = (name, members[other][1]), (members[other][0], content)
        elif kind == "large":
            members[which] = (name, content + bytes(rng.choice((1000, 10**6, 30 * 10**6))))
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", compression) as written:
            for one, inside in members:
                info = zipfile.ZipInfo(one or "x", (1980, 1, 1, 0, 0, 0))
                info.compress_type = compression
                written.writestr(info, inside, compresslevel=1)
        return made.getvalue()

    return change_archive


def safetensors(
    rng: random.Random, data: bytes, header: int, others: Sequence[bytes], change: Change
) -> bytes:
    """The JSON in front changes as text does, and its length is put right."""
    if rng.random() < 0.5 or len(data) < 8:
        return binary(rng, data, header, others, change)
    (size,) = struct.unpack_from("<Q", data)
    size = min(size, len(data) - 8)
    made = text(rng, data[8 : 8 + size], 0, [data[8 : 8 + size]], change)
    return struct.pack("<Q", len(made)) + made + data[8 + size :]


_FORMS: dict[str, Callable[..., bytes]] = {
    "text": text,
    "binary": binary,
    "png": png,
    "gzip": packed(text),
    "zip": archive(zipfile.ZIP_DEFLATED),
    "stored": archive(zipfile.ZIP_STORED),
    "safetensors": safetensors,
}
