"""NetCDF files and Zarr stores: read into memory as a table, or, for a large store, left on the disk as a lazy target.

T steps, C columns. A variable with further axes than time is one column for each of their labels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import xarray as xr

from isoform.core.data.hdf5 import refuse_endless, refuse_hostile, refuse_without_root
from isoform.core.data.text import LIMITS
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.assemble import Source, panel_of
from isoform.timeseries.data.clock import UNIT
from isoform.timeseries.data.disk import Field, read_streamed, readable, store_digest
from isoform.timeseries.data.names import find_time
from isoform.timeseries.data.panel import Findings, Panel
from isoform.timeseries.data.source_file import check_size, file_digest
from isoform.timeseries.data.table import Table

STREAM_BYTES = 2**30  # data.stream = "auto": larger targets of a Zarr store stay on the disk
MOST_CHUNK_BYTES = 2**30
# Packers that make bytes of bytes or numbers of numbers. "pickle" would run what the file says.
_CODECS = {
    "blosc", "zlib", "gzip", "bz2", "lzma", "lz4", "zstd", "delta", "quantize", "bitround", "fixedscaleoffset",
    "packbits", "astype", "shuffle", "crc32", "crc32c", "adler32", "fletcher32", "vlen-utf8", "bytes", "transpose",
    "sharding_indexed",
}  # fmt: skip
_UNREAL = (
    "{path}: stamps are no real dates ({what}); convert them, for example with xarray's "
    "convert_calendar('proleptic_gregorian')"
)


def read_store(path: Path, data: DataConfig, findings: Findings, kind: str) -> Panel:
    """The panel of a NetCDF file or Zarr store; see read.read_file.

    A Zarr target of more than 1 GiB (data.stream = "auto"), or any (data.stream = "disk"), stays on the disk.
    """
    with _opened(path, kind) as dataset:
        names = _time_of(dataset, data, path)
        if data.time is None:
            findings.say(f"stamps: {', '.join(names)}", time=list(names))
        row = str(dataset[names[0]].dims[0])
        id_axes = tuple(name for name in data.id or () if name in dataset.dims and name != row)
        fields = _fields(dataset, row, id_axes, set(names), path)
        if kind == "zarr":  # a folder has no order of its own
            fields.sort(key=lambda field: field.name)
        stream = (
            kind == "zarr" and data.id is None and data.stream != "memory" and data.targets != ()
        )
        if stream and (data.stream == "disk" or _target_bytes(fields, data) > STREAM_BYTES):
            return read_streamed(dataset, names, fields, data, findings, path)
        if data.stream == "disk":
            why = (
                "ids are read"
                if kind == "zarr"
                else f"only a Zarr store can stay on the disk; {path.name} is read"
            )
            findings.say(f"data.stream = disk: {why} into memory")
        fields = _wanted(fields, names, data)
        count = math.prod(dataset.sizes[axis] for axis in id_axes)
        # Along ids every step carries its stamp and its ids as well.
        check_size(
            path, sum(one.nbytes for one in fields) + 16 * count * dataset.sizes[row], "its content"
        )
        with readable(path):
            table = _table(dataset, names, row, fields, data, id_axes, path)
    digest = store_digest(path) if kind == "zarr" else file_digest(path)
    return panel_of(table, data, findings, Source(path.name, sha256=digest))


@contextmanager
def _opened(path: Path, kind: str) -> Iterator[xr.Dataset]:
    decoder = xr.coders.CFDatetimeCoder(time_unit=UNIT)  # else years end in 2262
    options: dict[str, Any] = {"decode_times": decoder, "decode_timedelta": False}
    with readable(path):
        if kind == "zarr":
            _refuse_codecs(path)
            options |= {"engine": "zarr", "chunks": None, "consolidated": False}
        else:
            with open(path, "rb") as file:
                head = file.read(4)
            engine = "h5netcdf" if head == b"\x89HDF" else "scipy" if head[:3] == b"CDF" else None
            if engine is None:
                raise ValueError("it begins like no NetCDF file")
            if engine == "h5netcdf":
                refuse_without_root(path)
                refuse_endless(path)
                with h5py.File(path, "r") as file:
                    refuse_hostile(file, path)
            options["engine"] = engine
        try:
            dataset = xr.open_dataset(path, **options)
        except ImportError as error:
            raise UserError(f"{path}: reading it needs another package ({error})") from None
        except ValueError as error:
            if "decode time" not in str(error):
                raise
            raise UserError(
                _UNREAL.format(path=path, what=" ".join(str(error).split(". ")[0].split()))
            ) from None
    try:
        yield dataset
    finally:
        if kind != "zarr":
            dataset.close()


def _refuse_codecs(path: Path) -> None:
    """Raises UserError for arrays whose packing could run code, and for chunks that memory wouldn't hold."""
    import zarr

    group = zarr.open_group(str(path), mode="r", use_consolidated=False)
    for name, array in group.arrays():
        about: Any = array.metadata.to_dict()
        found = list(
            about.get("codecs")
            or [*(about.get("filters") or ()), *filter(None, [about.get("compressor")])]
        )
        while found:
            codec = _settings_of(found.pop())
            known = str(codec.get("name") or codec.get("id"))
            settings = codec.get("configuration") or {}
            found += [*settings.get("codecs", ()), *settings.get("index_codecs", ())]
            if known.removeprefix("numcodecs.") not in _CODECS:
                raise UserError(
                    f'{path}: array "{name}" is packed by "{known}", which may run code or is unknown; '
                    "write the store again with zstd or blosc"
                )
        size = math.prod(array.chunks) * array.dtype.itemsize
        if size > MOST_CHUNK_BYTES:
            raise UserError(
                f'{path}: array "{name}" has chunks of {size / 2**30:.1f} GiB, too large to read; write the store '
                "again with chunks of some MiB"
            )


def _settings_of(codec: Any) -> dict[str, Any]:
    """A packer's name and options, whether zarr gives them as JSON, as numcodecs' object or as its own."""
    if isinstance(codec, dict):
        return codec
    found: dict[str, Any] = codec.get_config() if hasattr(codec, "get_config") else codec.to_dict()
    return found


def _time_of(dataset: xr.Dataset, data: DataConfig, path: Path) -> tuple[str, ...]:
    """The variable of stamps, or several (year, month, ...), all along one axis."""
    every = [str(name) for name in dataset.variables]
    plain = [name for name in every if dataset[name].ndim == 1]
    for name in plain:  # the package cftime decodes what has no numpy date
        if dataset[name].dtype == object and " since " in str(
            dataset[name].encoding.get("units", "")
        ):
            said = f'"{name}" is of the calendar {dataset[name].encoding.get("calendar", "")}'
            raise UserError(_UNREAL.format(path=path, what=said))
    names = find_time(plain, data, str(path))
    if not names:
        dated = [name for name in plain if dataset[name].dtype.kind == "M"]
        axes = [name for name in dated if name in dataset.dims]
        names = tuple(axes if len(axes) == 1 else dated)
        if len(names) != 1:
            problem = (
                f"{' and '.join(names)} all hold dates" if names else "no variable holds dates"
            )
            raise UserError(
                f"{path}: {problem}; name the one of stamps, data.time = NAME (variables: {', '.join(every[:12])})"
            )
    if len({dataset[name].dims for name in names}) > 1:
        raise UserError(
            f"{path}: the variables of data.time ({', '.join(names)}) lie along different axes"
        )
    return names


def _fields(
    dataset: xr.Dataset, row: str, id_axes: Sequence[str], times: set[str], path: Path
) -> list[Field]:
    """Every variable along time (or along the ids alone, or a single number) as columns with names of their own."""
    found: list[tuple[str, xr.Variable, tuple[str, ...]]] = []
    for name in map(str, dataset.variables):
        variable = dataset[name].variable
        index = name in dataset.dims and variable.dims == (name,)
        if name in times or index or (name in dataset.coords and row not in variable.dims):
            continue
        axes = [str(axis) for axis in variable.dims]
        if row in axes or set(id_axes) & set(axes) or not axes:
            rest = tuple(axis for axis in axes if axis not in (row, *id_axes))
            lead = [axis for axis in (row, *id_axes) if axis in axes]
            found.append((name, variable.transpose(*lead, *rest) if axes else variable, rest))
    count = sum(
        math.prod(variable.shape[variable.ndim - len(rest) :]) for _, variable, rest in found
    )
    if count > LIMITS.columns:
        raise UserError(
            f"{path}: has {count:,} columns, one for each label of the axes beside time; at most "
            f"{LIMITS.columns:,} are read"
        )
    spread = [name for name, _, rest in found if rest]
    taken = {name for name, _, rest in found if not rest}
    fields = []
    for name, variable, rest in found:
        columns = [name]
        if rest:
            labels = [
                "/".join(parts) for parts in product(*(_labels_of(dataset, axis) for axis in rest))
            ]
            if len(set(labels)) < len(labels):
                raise UserError(
                    f'{path}: labels along {", ".join(rest)} repeat, so the columns of "{name}" have no names'
                )
            bare = len(spread) == 1 and not taken & set(labels)
            columns = labels if bare else [f"{name}/{label}" for label in labels]
        fields.append(Field(name, variable, columns, str(variable.attrs.get("units", ""))))
    return fields


def _labels_of(dataset: xr.Dataset, axis: str) -> list[str]:
    if axis not in dataset.coords:
        return [str(i) for i in range(dataset.sizes[axis])]
    return [
        label.decode("utf-8", "replace") if isinstance(label, bytes) else str(label)
        for label in dataset[axis].values
    ]


def _target_bytes(fields: Sequence[Field], data: DataConfig) -> int:
    """About how large the targets are."""
    named = None if data.targets is None else set(data.targets)
    kept = [f for f in fields if f.numeric and f.variable.ndim]
    return sum(
        f.nbytes
        if named is None or f.name in named
        else f.nbytes * len(named & set(f.columns)) // max(1, len(f.columns))
        for f in kept
    )


def _wanted(fields: list[Field], times: Sequence[str], data: DataConfig) -> list[Field]:
    """The variables that a setting names, where the targets are named; all of them else, or to compare whole rows."""
    if data.targets is None or data.doubles == "drop":
        return fields
    ids = data.id or ()
    named = {*data.targets, *data.past, *data.known_future, *data.static, *ids, *times}
    return [field for field in fields if field.name in named or named & set(field.columns)]


def _table(
    dataset: xr.Dataset,
    times: Sequence[str],
    row: str,
    fields: Sequence[Field],
    data: DataConfig,
    id_axes: Sequence[str],
    path: Path,
) -> Table:
    """Everything in memory; along ids, the rows of a step behind one another."""
    sizes = {axis: dataset.sizes[axis] for axis in (row, *id_axes)}
    steps, total = sizes[row], math.prod(sizes.values())
    count = total // steps if steps else 1
    parts = [pd.DataFrame({name: np.repeat(dataset[name].values, count) for name in times})]
    if id_axes:
        labels = np.array(list(product(*(_labels_of(dataset, axis) for axis in id_axes))), object)
        parts.append(pd.DataFrame(np.tile(labels, (steps, 1)), columns=list(id_axes)))
    units: dict[str, str] = {}
    groups: dict[str, list[str]] = {}
    left_out: list[tuple[str, str]] = []
    for field in fields:
        axes = field.variable.dims
        text = field.variable.dtype.kind in "OSUT"
        named = field.name in (
            *data.past,
            *data.known_future,
            *data.static,
            *(data.targets or ()),
            *(data.id or ()),
        )
        if not field.numeric and not (text and (named or axes == (row,))):
            left_out.append((field.name, f"{field.variable.dtype}"))
            continue
        if not axes and field.name not in data.static:
            continue  # a single number that no setting asks for (a map projection)
        values = np.asarray(field.variable.values)
        if text:
            values = _as_text(values, field.name, path)
        whole = xr.Variable(axes, values).set_dims(
            {**sizes, **dict(zip(axes, values.shape, strict=True))}
        )
        rest = [axis for axis in axes if axis not in sizes]
        values = whole.transpose(*sizes, *rest).values.reshape(total, len(field.columns))
        parts.append(pd.DataFrame(values, columns=field.columns))
        units |= dict.fromkeys(field.columns, field.unit) if field.unit else {}
        if field.columns != [field.name]:
            groups[field.name] = field.columns
    frame = pd.concat(parts, axis=1)
    if len(set(frame.columns)) < frame.shape[1]:
        raise UserError(f"{path}: a variable is called like a label of another; rename it")
    numbers = np.arange(len(frame)) // count + 1
    return Table(frame, str(path), numbers, units, groups, tuple(times), left_out)


def _as_text(values: np.ndarray, name: str, path: Path) -> np.ndarray:
    """Objects that are all text, or missing. Raises UserError for any other object."""
    flat = [
        cell.decode("utf-8", "replace") if isinstance(cell, bytes) else cell
        for cell in values.ravel().tolist()
    ]
    if any(not isinstance(cell, str) and cell is not None and cell == cell for cell in flat):
        raise UserError(f'{path}: variable "{name}" holds objects; only numbers and text are read')
    return np.array(
        [cell if isinstance(cell, str) and cell else None for cell in flat], object
    ).reshape(values.shape)
