"""The unit of time in this domain: microseconds since 1970 as int64, on one clock (UTC, or the wall's).

They hold the years 1 to 9999, as pandas, xarray and the zones do. Whatever a file holds beyond them is cut off: a
stamp in nanoseconds becomes the microsecond that it lies in.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd

UNIT: Final = "us"
STAMP = f"M8[{UNIT}]"  # numpy's name of the type
NAT = np.datetime64("NaT", UNIT)
SECOND = 10**6
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 7 * DAY
FIRST_YEAR, LAST_YEAR = 1, 9999
FIRST, LAST = np.datetime64("0001-01-01", UNIT), np.datetime64("9999-12-31T23:59:59.999999", UNIT)
# Of stamps with a zone, which another clock may show a day earlier or later.
FIRST_ZONED, LAST_ZONED = np.datetime64("0001-01-02", UNIT), np.datetime64("9999-12-30", UNIT)


def clock_of(stamps: pd.DatetimeIndex) -> np.ndarray:
    """int64 [n] microseconds of naive stamps, or in UTC of those with a zone."""
    return np.asarray(stamps.as_unit(UNIT).asi8)


def stamps_at(clock: np.ndarray) -> pd.DatetimeIndex:
    """Naive stamps of int64 [n] microseconds."""
    return pd.DatetimeIndex(clock.view(STAMP))


def instants(stamps: pd.DatetimeIndex) -> np.ndarray:
    """datetime64[us] [n], in UTC where the stamps have a zone."""
    plain = stamps if stamps.tz is None else stamps.tz_convert("UTC").tz_localize(None)
    return np.asarray(plain.as_unit(UNIT).values)


def within(time: np.ndarray) -> np.ndarray:
    """datetime64 of any unit as datetime64[us]; NaT for other years than 1 to 9999."""
    if time.dtype == np.dtype("M8[ns]"):  # never outside
        return time.astype(STAMP)
    good = (time >= FIRST.astype(time.dtype)) & (time <= LAST.astype(time.dtype))
    return time.astype(STAMP) if good.all() else np.where(good, time, NAT).astype(STAMP)
