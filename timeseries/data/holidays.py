"""Public holidays as a covariate that is known ahead: 1 on a holiday's local date, else 0."""

from __future__ import annotations

import numpy as np
import pandas as pd

from isoform.core.errors import UserError

NAME = "holiday"  # of the covariate


class Holidays:
    """The holidays of a country, or of a country and a region of it: "DE", "NZ-AUK".

    Days off in lieu count, as the package `holidays` lists them. Raises UserError for a place that it doesn't know, or
    where the package is missing.
    """

    def __init__(self, region: str) -> None:
        self.region = region
        self._days: dict[tuple[int, int], np.ndarray] = {}  # (first year, last year) -> days
        self._of(2024, 2024)

    def flags(self, stamps: pd.DatetimeIndex) -> np.ndarray:
        """[n] float32 of local stamps: 1 on a holiday."""
        if not len(stamps):
            return np.zeros(0, np.float32)
        days = stamps.values.astype("datetime64[D]")
        first, last = int(stamps.year.min()), int(stamps.year.max())
        return np.isin(days, self._of(first, last)).astype(np.float32)

    def _of(self, first: int, last: int) -> np.ndarray:
        if (first, last) not in self._days:
            self._days[first, last] = _list_days(self.region, first, last)
        return self._days[first, last]


def _list_days(region: str, first: int, last: int) -> np.ndarray:
    """All holidays of the years from `first` to `last`."""
    try:
        import holidays
    except ModuleNotFoundError:
        raise UserError(
            "data.holidays needs the package holidays: pip install holidays, or unset data.holidays"
        ) from None
    country, _, part = region.partition("-")
    try:
        found = holidays.country_holidays(
            country, subdiv=part or None, years=range(first, last + 1)
        )
    except NotImplementedError as error:
        raise UserError(
            f'data.holidays = "{region}": {error}; write the code of a country, or of one and a region: "DE", "NZ-AUK"'
        ) from None
    return np.array(sorted(found), "datetime64[D]")
