"""Rows a season: which there are at a frequency, and which one the training rows follow.

C candidates, V variates.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from isoform.timeseries.data.frequency import natural_seasons
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.splits import Borders

FEWEST = 3  # seasons that training rows must hold
BETTER = 0.95  # of a shorter season's error, at most, is that of a longer one that is chosen
_SERIES = 500  # that are judged at most, evenly spread
_VALUES = 1 << 24  # of a series that are judged, unless a few seasons are more
_SEASONS = 8  # the longest ones that are judged at least, where a series has them
_BLOCK = 1 << 20  # values read at a time


def seasons(freq: str, season: int) -> tuple[int, int, int]:
    """The natural ones of a frequency, if `season` is one of them; else `season` and what is longer than it."""
    natural = natural_seasons(freq)
    if season in natural:
        return natural
    return (
        season,
        natural[1] if natural[1] > season else 0,
        natural[2] if natural[2] > season else 0,
    )


def candidates(freq: str) -> tuple[int, ...]:
    """What a season can be, shortest first: a day or week of finer rows, a week or year of days, a year of the rest."""
    season, longer, year = natural_seasons(freq)
    return tuple(rows for rows in (season, longer or year) if rows)


def choose_season(panel: Panel, cuts: Sequence[Borders]) -> tuple[int, str]:
    """(rows, a sentence about it): of the candidates that the training rows hold 3 times, the one that they follow.

    That is the one with the smallest absolute error of the seasonal naive forecast on the training rows of the series
    that are long enough, each variate counting alike; a longer one must be 5 % better than a shorter one. 1 where no
    series holds three seasons.
    """
    tried = candidates(panel.freq)
    stops = [cut["train"][1] for cut in cuts]
    held = [rows for rows in tried if FEWEST * rows <= max(stops)]
    if not held:
        few = f"{max(stops):,} training rows are fewer than {FEWEST} of {tried[0]:,}"
        return 1, f"season: none ({few}), so the last value is the seasonal naive forecast"
    if len(held) == 1:
        return held[0], f"season: {held[0]:,} rows" if held[0] > 1 else ""
    longest = held[-1]
    able = [number for number, stop in enumerate(stops) if stop >= FEWEST * longest]
    spread = np.unique(np.linspace(0, len(able) - 1, _SERIES).round().astype(int))
    shares_C = np.zeros(len(held))
    for number in np.asarray(able)[spread]:
        shares_C += _shares(panel, int(number), stops[number], held)
    best = 0
    for i in range(1, len(held)):
        if shares_C[i] < BETTER * shares_C[best]:
            best = i
    return held[best], f"season: {held[best]:,} rows, of {' and '.join(map(str, held))} tried"


def _shares(panel: Panel, number: int, stop: int, held: Sequence[int]) -> np.ndarray:
    """[C] each candidate's share of the absolute error of all of them, summed over the variates of a series.

    On the rows where every candidate has a value that long before. A variate without such rows, or without error,
    counts nothing.
    """
    target, variates, longest = (
        panel.series[number]["target"].variable,
        len(panel.variates),
        held[-1],
    )
    start = max(0, stop - max(_SEASONS * longest, _VALUES // variates))
    errors_CV = np.zeros((len(held), variates))
    step = max(longest, _BLOCK // variates)
    for first in range(start + longest, stop, step):
        block = np.asarray(target[first - longest : min(stop, first + step)].values, np.float64)
        now = block[longest:]
        change_CNV = np.stack(
            [np.abs(now - block[longest - rows : len(block) - rows]) for rows in held]
        )
        known_NV = np.isfinite(change_CNV).all(0)
        errors_CV += np.where(known_NV, change_CNV, 0.0).sum(1)
    total_V = errors_CV.sum(0)
    shares_CV = np.divide(errors_CV, total_V, out=np.zeros_like(errors_CV), where=total_V > 0)
    found: np.ndarray = shares_CV.sum(1)
    return found
