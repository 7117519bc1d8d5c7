"""Public holidays as a covariate that is known ahead: 1 on a holiday's local date, else 0."""

from __future__ import annotations

import functools

import numpy as np
import pandas as pd

from isoform.core.errors import UserError

NAME = "holiday"  # of the covariate


def flags(stamps: pd.DatetimeIndex, region: str) -> np.ndarray:
    """[n] float32 of local stamps; `region` is a country, or a country and a region of it: "DE", "NZ-AUK".

    Days off in lieu count, as the package `holidays` lists them. Raises UserError for a place that it doesn't know.
    """
    if not len(stamps):
        check(region)
        return np.zeros(0, np.float32)
    days = stamps.values.astype("datetime64[D]")
    first, last = (int(year) for year in (stamps.year.min(), stamps.year.max()))
    return np.isin(days, _days(region, first, last)).astype(np.float32)


def check(region: str) -> None:
    """Raises UserError for a place whose holidays aren't known, or where the package is missing."""
    _days(region, 2024, 2024)


@functools.lru_cache(maxsize=64)
def _days(region: str, first: int, last: int) -> np.ndarray:
    """All holidays of the years from `first` to `last`."""
    try:
        import holidays
    except ModuleNotFoundError:
        raise UserError(
            "data.holidays needs the package holidays: pip install holidays, or unset data.holidays"
        ) from None
    country, _, part = region.partition("-")
    try:
        found = holidays.country_holidays(country, subdiv=part or None, years=range(first, last + 1))
    except NotImplementedError as error:
        raise UserError(
            f'data.holidays = "{region}": {error}; write the code of a country, or of one and a region: "DE", "NZ-AUK"'
        ) from None
    return np.array(sorted(found), "datetime64[D]")
