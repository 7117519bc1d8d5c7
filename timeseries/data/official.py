"""The files of the forecasting benchmarks, row for row as their official loaders take them.

Borders, window counts and results of the papers belong to rows, so nothing is sorted, filled or moved here. Where a
file has a gap or a stamp twice (Weather has some), its stamps are irregular there, and the findings say so.
"""

from __future__ import annotations

import math
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from isoform.core.data.read import read_table
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.assemble import MOST_CELLS, make_names, make_series
from isoform.timeseries.data.clock import clock_of
from isoform.timeseries.data.columns import numbers_of
from isoform.timeseries.data.find_frequency import find_freq
from isoform.timeseries.data.frequency import fixed_step
from isoform.timeseries.data.names import pick
from isoform.timeseries.data.panel import Findings, Panel
from isoform.timeseries.data.source_file import check_size, file_digest
from isoform.timeseries.data.stamps import parse_stamps
from isoform.timeseries.data.table import read_columns

# source -> (what it is and where it comes from, licence)
_ABOUT = {
    "ett-hour": ("ETT (https://github.com/zhouhaoyi/ETDataset)", "CC BY-ND 4.0"),
    "ett-minute": ("ETT (https://github.com/zhouhaoyi/ETDataset)", "CC BY-ND 4.0"),
    "custom": (
        "electricity.csv, traffic.csv, weather.csv or exchange_rate.csv (linked at https://github.com/thuml/Autoformer)",
        "unstated",
    ),
    "solar": (
        "solar_AL.txt (https://github.com/laiguokun/multivariate-time-series-data)",
        "unstated",
    ),
    "pems": (
        "PEMS03.npz, 04, 07 or 08 (linked at https://github.com/thuml/iTransformer)",
        "unstated",
    ),
}
_LAST = "OT"  # the column that the official loader of `custom` moves behind the others
_FOREIGN = ("id", "tz", "freq", "time", "past", "known_future", "static", "drop")


def read_official(data: DataConfig) -> Panel:
    """The benchmark file data.path of data.source; the targets in the official order, or data.targets in theirs.

    ETT and custom: a csv with a column `date`; custom has OT last. Solar: numbers without a header, one row each
    10 minutes from 2006-01-01. PEMS: `data` [rows, sensors, features] of an npz, the first feature, one row each 5
    minutes from 2016-07-01 (the official loaders use no stamps of either). Raises UserError naming the file and where
    it comes from.
    """
    about, licence = _ABOUT[data.source]
    for key in _FOREIGN:
        if getattr(data, key):
            raise UserError(
                f'data.{key} is set, but data.source = "{data.source}" reads a benchmark; use source = "file"'
            )
    if data.path is None:
        raise UserError(f"data.path is not set: give a file of {about}, --set data.path=FILE")
    path = Path(data.path).expanduser()
    if not path.is_file():
        raise UserError(f"{path}: no such file (data.path); it should be a file of {about}")
    check_size(path, path.stat().st_size)
    findings = Findings()
    findings.data |= {"file": path.name, "format": data.source}
    if data.source == "pems":
        values, names, time = _pems(path), None, None
    elif data.source == "solar":
        values, names, time = _solar(path), None, None
    else:
        values, names, time = _dated(path, data, findings)
    if names is None:
        names = [str(i) for i in range(values.shape[1])]
        if data.targets is not None:
            chosen = [pick(name, names, str(path), "data.targets")[0] for name in data.targets]
            values, names = values[:, [int(name) for name in chosen]], chosen
    if not len(values) or not len(names):
        raise UserError(f"{path}: holds no values; it should be a file of {about}")
    if time is None:
        freq, start = ("5min", "2016-07-01") if data.source == "pems" else ("10min", "2006-01-01")
        time = pd.date_range(start, periods=len(values), freq=freq)
        findings.say(f"the file has no stamps; rows count as one each {freq} from {start}")
    else:
        freq = _freq(time, path, findings)
    series = make_series(time, values, make_names(names), whole=True)
    return Panel(
        series=(series,),
        freq=freq,
        tz=None,
        name=path.name,
        licence=licence,
        sha256=file_digest(path),
        findings=findings,
    )


def _dated(
    path: Path, data: DataConfig, findings: Findings
) -> tuple[np.ndarray, list[str], pd.DatetimeIndex]:
    table = read_columns(path, DataConfig(time=("date",)))
    stamps = parse_stamps([table.frame["date"]], str(path))
    bad = np.flatnonzero(np.isnat(stamps.time))
    if len(bad):
        raise UserError(
            f'{path} row {table.numbers[bad[0]]}: "{stamps.show(int(bad[0]))}" is no stamp; it should be a file of '
            f"{_ABOUT[data.source][0]}"
        )
    names = [str(name) for name in table.frame if name != "date"]
    if data.targets is not None:
        names = [pick(name, names, str(path), "data.targets")[0] for name in data.targets]
    elif data.source == "custom" and _LAST in names:
        names = [name for name in names if name != _LAST] + [_LAST]
    return numbers_of(table, names, findings), names, pd.DatetimeIndex(stamps.time)


def _freq(time: pd.DatetimeIndex, path: Path, findings: Findings) -> str:
    """The most common step; a sentence where others occur."""
    clock = clock_of(time)
    steps = np.diff(clock)
    freq = find_freq(np.sort(clock), steps[steps > 0], str(path))
    step = fixed_step(freq)
    odd = 0 if step is None else int((steps != step).sum())
    if odd:
        findings.say(
            f"{odd} steps are not {freq} long; the rows stay as they are, as the official loader takes them",
            irregular_steps=odd,
        )
    return freq


def _solar(path: Path) -> np.ndarray:
    table = read_table(path, headless=lambda records: True)
    columns = [table.numbers(name) for name in table.names]
    if table.ragged or any(column.unread for column in columns):
        raise UserError(f"{path}: is no table of numbers; it should be {_ABOUT['solar'][0]}")
    return np.stack([column.values for column in columns], axis=1)


def _pems(path: Path) -> np.ndarray:
    """[rows, sensors] of the first feature. Sizes are read from the array's header before it is unpacked."""
    about = _ABOUT["pems"][0]
    try:
        with zipfile.ZipFile(path) as archive, archive.open("data.npy") as member:
            version = np.lib.format.read_magic(member)
            reader = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, kind = reader(member)
            size = math.prod(shape) * kind.itemsize
            unpacked = archive.getinfo("data.npy").file_size
        if len(shape) not in (2, 3) or kind.kind not in "fiu":
            raise UserError(
                f'{path}: its array "data" is {kind} {list(shape)}, not numbers [rows, sensors, features]'
            )
        check_size(path, max(size, unpacked), "its content")
        if size > unpacked or math.prod(shape) > MOST_CELLS:
            raise UserError(
                f"{path}: its header asks for {size:,} bytes where it holds {unpacked:,}; download it again"
            )
        with np.load(path, allow_pickle=False) as archive:
            content = archive["data"]
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        said = " ".join(str(error).split())[:80]
        raise UserError(
            f'{path}: has no array "data" that can be read ({said}); it should be {about}'
        ) from None
    return np.asarray(content[..., 0] if content.ndim == 3 else content, np.float64)
