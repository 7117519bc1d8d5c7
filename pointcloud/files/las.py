"""ASPRS .las and .laz, by laspy. Stored integers, flags, extra bytes and records are left as they are.

N points.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import laspy
import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud, refuse_growth, refuse_size

LEGACY = 31  # the largest class that point formats 0 to 5 can hold
STORED = ("X", "Y", "Z")
UNTOLD = "untold byte"  # of a point's record
# Of a point; laspy takes time with their square. A record has room for 341 names of extra bytes.
MOST_FIELDS = 1000
OVERLAP = 12  # a class in formats 0 to 5, a flag of its own in newer ones
# One thread: those of the other backend are not there in a loader process, which then waits for them for ever.
BACKEND = laspy.LazBackend.Lazrs
RECORD, LONG_RECORD = 54, 60  # bytes in front of what a record holds
# Newer kinds of items, which a chunk of packed points holds as so many layers; an item of bytes has one a byte.
BYTES = 14
LAYERS = {10: 9, 11: 1, 12: 2, 13: 1}
LAYERED = 3  # the way of packing that goes with them
_DAMAGE = (
    laspy.errors.LaspyException,
    ValueError,
    OSError,
    ArithmeticError,
    struct.error,
    EOFError,
)
EMPTY = 64  # bytes that suffice for a .laz without points, behind its header


def read_las(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """All points; coordinates are the stored integers times scale plus offset, in float64.

    The points that are there count, not the header's number. A no-data value of an extra dimension is NaN. Raises
    UserError for a file that is cut off, saying how many points are whole.
    """
    try:
        _refuse_untrue(path)
        with laspy.open(path, laz_backend=BACKEND) as reader:
            said = reader.header.point_count
            promised = reader.header.point_count = _count_points(path, reader.header)
            refuse = refuse_size
            if reader.header.are_points_compressed:
                refuse = refuse_growth
                _refuse_untrue_packing(path, reader.header)
            refuse(promised * reader.header.point_format.size, path)
            no_data = _tell_dimensions(reader.header)
            with _panics_as_errors():
                las = reader.read()
            _know_no_data(las, no_data)
    except _DAMAGE as error:
        raise UserError(f"{path}: is no LAS that can be read ({error})") from None
    except RuntimeError as error:  # what lazrs raises
        whole = _whole_points(path)
        raise UserError(
            f"{path}: its compressed points are cut off or damaged ({error}); {whole:,} of {promised:,} can be read"
        ) from None
    if len(las.points) != promised:
        raise UserError(f"{path}: is cut off: {len(las.points):,} of {promised:,} points are whole")
    notes = []
    if promised != said:
        notes.append(
            f"the header speaks of {said:,} points and {promised:,} are there, which count"
        )
    xyz = np.stack([np.asarray(las[axis], np.float64) for axis in "xyz"], 1)
    fields = {}
    for dimension in las.point_format.dimensions:
        if dimension.name and dimension.name not in STORED:
            fields[dimension.name] = _field(las, dimension)
    if len(xyz) and not np.allclose(
        [las.header.mins, las.header.maxs], [xyz.min(0), xyz.max(0)], atol=1e-3
    ):
        notes.append("the header's bounds are not those of the points, which count")
    return Cloud(xyz, fields, None, "las", tuple(notes), las)


def _refuse_untrue(path: Path) -> None:
    """Raises ValueError for a header of records and places that the file has no room for: laspy would make some."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(375).ljust(375, b"\0")
        length, start, records = struct.unpack_from("<HII", head, 94)
        if not length <= start <= size or length + RECORD * records > start:
            raise ValueError("its header names places or records that aren't there")
        if head[:4] != b"LASF" or head[24:26] < b"\1\4":
            return
        at, more = struct.unpack_from("<QI", head, 235)
        for _ in range(more):
            file.seek(at)
            told = file.read(LONG_RECORD)
            if len(told) < LONG_RECORD:
                raise ValueError("its header names records that aren't there")
            at += LONG_RECORD + struct.unpack_from("<Q", told, 20)[0]
            if at > size:
                raise ValueError("a record behind its points is longer than the file")


def _refuse_untrue_packing(path: Path, header: laspy.LasHeader) -> None:
    """Raises ValueError for packed points that name more chunks, or other parts of a point, than there can be.

    And UserError for newer ones that are cut off.

    The library that unpacks them makes room for what they name, and ends the process where it can't.
    """
    told = header.vlrs.get("LasZipVlr")
    packing = bytes(told[0].record_data) if told else b""
    if len(packing) < 34:
        raise ValueError("how its points are packed is not told")
    (way,), (items,) = struct.unpack_from("<H", packing), struct.unpack_from("<H", packing, 32)
    if len(packing) < 34 + 6 * items:
        raise ValueError("how its points are packed is cut off")
    sizes = [struct.unpack_from("<H", packing, 36 + 6 * k)[0] for k in range(items)]
    if sum(sizes) != header.point_format.size:
        raise ValueError("its packed points are of another size than its header says")
    kinds = [struct.unpack_from("<H", packing, 34 + 6 * k)[0] for k in range(items)]
    layered = bool({BYTES, *LAYERS} & {*kinds})
    if layered != (way == LAYERED):
        raise ValueError("its points are packed in another way than is told")
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(header.offset_to_point_data)
        table = int.from_bytes(file.read(8), "little", signed=True)
        if table == -1:  # a stream's stands in the last eight bytes
            file.seek(size - 8)
            table = int.from_bytes(file.read(8), "little", signed=True)
        whole = table <= size - 8  # else it is cut off, and is told how far it can be read
        chunks = size
        if whole:
            if table <= header.offset_to_point_data:
                raise ValueError("the table of its packed points is not there")
            file.seek(table + 4)
            chunks = int.from_bytes(file.read(4), "little")
            if chunks > size:
                raise ValueError(f"it says it has {chunks:,} chunks of packed points")
        if not layered:
            return
        layers = sum(LAYERS.get(kind, n) for kind, n in zip(kinds, sizes, strict=True))
        at, most = header.offset_to_point_data + 8, 2 * header.point_count * sum(sizes) + EMPTY
        found = 0
        while chunks and at < min(table, size):
            points, end = _chunk(file, at, sum(sizes), layers)
            if end > table or end - at > most:
                raise ValueError("its packed points are longer than the place they have")
            found += points if end <= size else 0
            at, chunks = end, chunks - 1
    if whole and found < header.point_count:
        raise ValueError(
            f"its packed points are {found:,}, and its header says {header.point_count:,}"
        )
    if not whole:  # without its table the library would take other bytes for sizes
        raise UserError(
            f"{path}: its compressed points are cut off; {found:,} of {header.point_count:,} can be read"
        )


def _chunk(file: BinaryIO, at: int, point: int, layers: int) -> tuple[int, int]:
    """(points, end) of the chunk at `at`: a first point as it is, a count, the layers' sizes, and the layers."""
    file.seek(at + point)
    told = struct.unpack(f"<{1 + layers}I", file.read(4 + 4 * layers).ljust(4 + 4 * layers, b"\0"))
    return told[0], at + point + 4 * len(told) + sum(told[1:])


def _tell_dimensions(header: laspy.LasHeader) -> dict[str, np.ndarray]:
    """Names all extra bytes, each that no record tells of as a dimension of its own; returns name -> no-data value.

    Of several records laspy reads the first alone, and untold bytes it would write so that it can't read them again.
    """
    records = header.vlrs.get("ExtraBytesVlr")
    told = {
        one.format_name(): one.no_data
        for record in records
        for one in record.extra_bytes_structs
        if one.no_data is not None
    }
    whole = laspy.PointFormat(header.point_format.id)
    for record in records:
        for dimension in record.type_of_extra_dims():
            whole.add_extra_dimension(dimension)
    untold = header.point_format.size - whole.size
    fields = len(whole.dimensions) + max(0, untold)
    if fields > MOST_FIELDS:
        raise ValueError(f"a point has {fields:,} fields, and {MOST_FIELDS:,} at most are read")
    if untold > 0 or (untold == 0 and len(records) > 1):
        for number in range(1, untold + 1):
            whole.add_extra_dimension(laspy.ExtraBytesParams(f"{UNTOLD} {number}", "u1"))
        header.point_format = whole
    return told


def _know_no_data(las: laspy.LasData, told: Mapping[str, np.ndarray]) -> None:
    """laspy reads no-data values into the record of extra bytes alone, and would write them no more."""
    dimensions = las.point_format.dimensions
    for k, dimension in enumerate(dimensions):
        if dimension.name in told:
            dimensions[k] = dimension._replace(no_data=told[dimension.name])


def _field(las: laspy.LasData, dimension: laspy.DimensionInfo) -> np.ndarray:
    values = np.asarray(las[dimension.name])
    if dimension.no_data is None:
        return values
    stored = np.asarray(las.points.array[dimension.name])
    return np.where(stored == np.asarray(dimension.no_data), np.nan, values.astype(np.float64))


def _count_points(path: Path, header: laspy.LasHeader) -> int:
    """How many points there are: those that fill the room up to what follows them, else as many as the header says.

    Raises UserError for a room that is too small, and for compressed points whose number isn't told.
    """
    said: int = header.point_count
    starts = (header.start_of_first_evlr, header.start_of_waveform_data_packet_record)
    begin, size = header.offset_to_point_data, header.point_format.size
    end = min([path.stat().st_size, *(start for start in starts if start > begin)])
    whole, rest = divmod(max(0, end - begin), size)
    if header.are_points_compressed:
        if said == 0 and end - begin > EMPTY:
            raise UserError(
                f"{path}: its header speaks of 0 points, and compressed ones follow: mend the header"
            )
        return said
    if whole < said:
        raise UserError(f"{path}: is cut off: {whole:,} of {said:,} points are whole")
    return said if rest else whole


def _whole_points(path: Path) -> int:
    """How many points of a damaged .laz can be read, in chunks."""
    found = 0
    try:
        with laspy.open(path, laz_backend=BACKEND) as reader, _panics_as_errors():
            for points in reader.chunk_iterator(1000):
                found += len(points)
    except (RuntimeError, *_DAMAGE):
        return found
    return found


@contextmanager
def _panics_as_errors() -> Iterator[None]:
    """lazrs gives up over some damage with a PanicException, which is no Exception and in no module."""
    try:
        yield
    except BaseException as error:
        if type(error).__name__ == "PanicException":
            raise RuntimeError(str(error)) from None
        raise


def write_las(
    path: Path, cloud: Cloud, labels: Mapping[str, np.ndarray], *, codes: np.ndarray | None = None
) -> list[str]:
    """The file that `cloud` was read from, with more fields; returns notes.

    labels  new extra dimensions [N] by name; a name that is taken gets a number behind it
    codes   [N] classes to put into the field "classification", which is otherwise left alone. One above 31 in an old
            point format promotes the file to format 6 or its like, which can hold it; class 12 becomes the flag overlap

    Coordinates are the same stored integers under the same scale and offset.
    """
    las = laspy.LasData(cloud.carrier.header, cloud.carrier.points.copy())
    las.evlrs = cloud.carrier.evlrs
    notes = []
    if las.header.version.minor == 0:
        las.header.version = laspy.header.Version(1, 2)
        notes.append("LAS 1.0 is not written: it is 1.2 now, which holds the same")
    if codes is not None and len(codes) and codes.max() > LEGACY and las.header.point_format.id < 6:
        newer = {0: 6, 1: 6, 2: 7, 3: 7, 4: 9, 5: 10}[las.header.point_format.id]
        overlap = np.asarray(las.classification) == OVERLAP
        las = laspy.convert(las, point_format_id=newer, file_version="1.4")
        las.overlap = overlap
        notes.append(
            f"classes above {LEGACY} don't fit the file's old point format: it is {newer} now"
        )
    if codes is not None:
        las.classification = codes.astype(np.uint8)
    taken = set(las.point_format.dimension_names)
    for name, values in labels.items():
        own = name
        number = 2
        while own in taken:
            own, number = f"{name} {number}", number + 1
        if own != name:
            notes.append(f"there is a field {name} already: the new one is called {own}")
        las.add_extra_dim(laspy.ExtraBytesParams(own, values.dtype, description="isoform"))
        las[own] = values
        taken.add(own)
    las.write(str(path))
    return notes
