"""Sums of errors by blocks of windows, which a bootstrap draws in the windows' place.

Windows that share rows are no samples of their own, so whole blocks are drawn (Carlstein 1986). Of 30 series or more a
block is a series with all its windows; of fewer, the windows of a series whose horizons begin in one stretch of rows,
as long as the horizon or a season, whichever is longer. Fewer than 10 blocks say nothing.

n windows, H steps, V variates, K blocks, R resamples.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from isoform.core.supervised import bootstrap

MANY_SERIES = 30
FEWEST = 10  # blocks


class BlockSums:
    """Sums by block and variate, [K, V] a name. `rows`: of a block, where the series are few."""

    def __init__(self, series: int, rows: int) -> None:
        self.rows = None if series >= MANY_SERIES else rows
        self.series = series
        self.places: dict[int, int] = {}  # a block by number -> its row in the sums
        self.sums: dict[str, np.ndarray] = {}

    def of(self, where_n2: np.ndarray) -> np.ndarray:
        """[n] the block of each window, by its series and the first row of its horizon."""
        series_n, row_n = where_n2[:, 0], where_n2[:, 1]
        number_n = series_n if self.rows is None else series_n + self.series * (row_n // self.rows)
        numbers, place_n = np.unique(number_n, return_inverse=True)
        places = [self.places.setdefault(one, len(self.places)) for one in numbers.tolist()]
        return np.array(places)[place_n]

    def add(
        self, name: str, value_nHV: np.ndarray, factor: np.ndarray | float, block_n: np.ndarray
    ) -> None:
        """Adds the values of some windows to their blocks."""
        total_nV = value_nHV.sum(1, dtype=np.float64) * factor
        sums = self.sums.get(name, np.zeros((0, total_nV.shape[1])))
        if len(sums) < len(self.places):
            more = np.zeros((max(2 * len(sums), len(self.places)) - len(sums), sums.shape[1]))
            sums = self.sums[name] = np.concatenate([sums, more])
        np.add.at(sums, block_n, total_nV)

    def table(self) -> dict[str, np.ndarray]:
        """[K, V] by name, blocks without a value of it 0."""
        count = len(self.places)
        return {
            name: np.pad(sums[:count], ((0, count - len(sums[:count])), (0, 0)))
            for name, sums in self.sums.items()
        }


def intervals(pairs_K2: Mapping[str, np.ndarray]) -> dict[str, tuple[float, float]]:
    """95 % bootstrap intervals of figures from their (sum, count) by block; unit_rmse's sums are squared errors."""
    if not pairs_K2:
        return {}
    blocks = len(next(iter(pairs_K2.values())))
    if blocks < FEWEST:
        return {}
    found = {}
    for name, pair_K2 in pairs_K2.items():
        ratio = bootstrap.ratio(pair_K2[:, 0], pair_K2[:, 1])
        found[name] = bootstrap.root(ratio) if name.startswith("unit_rmse") else ratio
    return bootstrap.intervals(found, blocks)
