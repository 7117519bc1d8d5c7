"""ASPRS .las and .laz, by laspy. Stored integers, flags, extra bytes and records are left as they are.

N points.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import laspy
import numpy as np

from isoform.core.errors import UserError
from isoform.pointcloud.files.cloud import Cloud, refuse_size

LEGACY = 31  # the largest class that point formats 0 to 5 can hold
STORED = ("X", "Y", "Z")
UNTOLD = "untold byte"  # of a point's record
OVERLAP = 12  # a class in formats 0 to 5, a flag of its own in newer ones
EMPTY = 64  # bytes that suffice for a .laz without points, behind its header


def read_las(path: Path, columns: Sequence[str] = ()) -> Cloud:
    """All points; coordinates are the stored integers times scale plus offset, in float64.

    The points that are there count, not the header's number. A no-data value of an extra dimension is NaN. Raises
    UserError for a file that is cut off, saying how many points are whole.
    """
    try:
        with laspy.open(path) as reader:
            said = reader.header.point_count
            promised = reader.header.point_count = _count_points(path, reader.header)
            refuse_size(promised * reader.header.point_format.size, path)
            no_data = _tell_dimensions(reader.header)
            las = reader.read()
            _know_no_data(las, no_data)
    except (laspy.errors.LaspyException, ValueError, OSError, struct.error, EOFError) as error:
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
        if dimension.name not in STORED:
            fields[dimension.name] = _field(las, dimension)
    if len(xyz) and not np.allclose(
        [las.header.mins, las.header.maxs], [xyz.min(0), xyz.max(0)], atol=1e-3
    ):
        notes.append("the header's bounds are not those of the points, which count")
    return Cloud(xyz, fields, None, "las", tuple(notes), las)


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
        with laspy.open(path, laz_backend=laspy.LazBackend.Lazrs) as reader:
            for points in reader.chunk_iterator(1000):
                found += len(points)
    except (RuntimeError, ValueError, OSError, laspy.errors.LaspyException):
        return found
    return found


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
