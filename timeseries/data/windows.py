"""WindowData: a panel as windows of rows, scaled, mended and cut into splits; what the task trains and is judged on.

B windows, L rows of look-back, H rows of horizon, V variates, P past and K known covariates, M marks, S static values.
A window is named by its series and by the row of its horizon's first step; its look-back is the L rows before that.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd

from isoform.core.data.splits import SPLITS
from isoform.core.errors import UserError
from isoform.core.supervised.metrics import describe_absent
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data import calendar, holidays
from isoform.timeseries.data.fill import fill
from isoform.timeseries.data.frequency import rows_a_season
from isoform.timeseries.data.limits import bounds_of
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.rows import (
    STORED,
    DiskRows,
    MemoryRows,
    Part,
    Reader,
    fit_moments,
    is_streamed,
    variable_of,
)
from isoform.timeseries.data.scaling import Moments, Scaling
from isoform.timeseries.data.splits import Borders, Index, borders_of, origins

if TYPE_CHECKING:
    from torch import Tensor


class WindowData:
    """Windows of a panel with the settings of an app, whose look-back and horizon are settled.

    panel, scaling          the data, and each column's mean and std: fitted on the training rows, or the ones given
                            (of a run), where columns that they don't know are fitted on this panel's training rows
    context, horizon        L and H
    variates, past, known, static, calendar_names
                            names along the last axis of what `batch` gives; holidays are the last of `known`
    season                  rows a season, of MASE and the seasonal naive forecast
    on_disk                 windows are read from a store block by block (data.stream)
    cuts                    borders of each series' splits: the ones given, else those of `splits.borders_of`, whose
                            training rows the scale is fitted on in any case (of folds the first one's, so that the
                            errors of all are in one unit)

    No window is ever left out but training windows above data.max_missing.
    Raises UserError for covariates of one name, and for splits and calendars that make no sense.
    """

    def __init__(
        self,
        config: TimeseriesApp,
        panel: Panel,
        scaling: Scaling | None = None,
        cuts: Sequence[Borders] | None = None,
    ) -> None:
        data, model = config.data, config.model
        assert isinstance(model.context, int) and isinstance(model.horizon, int), (
            "settle the app first"
        )
        self.config, self.panel = config, panel
        self.context, self.horizon = model.context, model.horizon
        self.variates, self.past = panel.variates, panel.names("past")
        self.known, self.static = panel.names("known"), panel.names("static")
        if data.holidays is not None:
            if holidays.NAME in self.known:
                raise UserError(
                    f'{panel.name}: has a column "{holidays.NAME}" already; drop it with data.drop, or unset '
                    "data.holidays"
                )
            self.known.append(holidays.NAME)
        marks = "none" if config.tokeniser.calendar == "none" else data.calendar
        self.calendar_names = list(calendar.names(marks, panel.freq))
        self.on_disk = is_streamed(panel, data.stream)
        columns = {
            "target": self.variates,
            "past": self.past,
            "known": self.known,
            "calendar": self.calendar_names,
        }
        self.reader = Reader(panel, columns, data.holidays)
        usual = borders_of(data, panel)
        self.cuts = usual if cuts is None else list(cuts)
        self.season = rows_a_season(panel.freq, data.season)
        if data.folds is not None:
            usual = borders_of(data.model_copy(update={"fold": 1}), panel)
        self.scaling = self.reader.scaling = self._fit(scaling, usual)
        self._fills = {kind: self.scaling.rest(kind, columns[kind]) for kind in STORED}
        span = self.context + self.horizon
        self.rows = (
            DiskRows(self.reader, self.horizon, span)
            if self.on_disk
            else MemoryRows(self.reader, self.horizon)
        )
        self._static = np.stack(
            [self._scaled_static(number) for number in range(len(panel.series))]
        )

    # What there is ----------------------------------------------------------------------------------------------------

    def sizes(self) -> dict[str, int]:
        """{split: windows}; a split without any is absent."""
        return {split: len(index) for split, index in self._index.items() if len(index)}

    @property
    def left_out(self) -> int:
        """Training windows that data.max_missing leaves out."""
        return sum(len(cut["train"]) for cut in self.origins) - len(self._index["train"])

    @property
    def has_missing(self) -> bool:
        """Whether any target of the panel is missing."""
        return any(len(gaps) for gaps in self._gaps)

    def unscored(self) -> list[str]:
        """Which variates have no value in the rows of validation or test, in sentences; of data in memory."""
        if self.on_disk or not self.has_missing:
            return []
        said = []
        for split in SPLITS[1:]:
            counts = sum(
                np.isfinite(self.scaled(series)[slice(*cut[split])]).sum(0)
                for series, cut in enumerate(self.cuts)
            )
            line = describe_absent(np.asarray(counts), self.variates, split, "variates")
            said += [line] if line and split in self.sizes() else []
        return said

    def where(self, split: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """int64 [n, 2]: (number of the series, row of the horizon's first step) of windows of a split."""
        return np.stack(self._index[split].where(indices), axis=1)

    def stamps(self, series: int, start: int, stop: int, aware: bool = False) -> pd.DatetimeIndex:
        """Local stamps of the rows [start, stop), which may lie behind the data's end; see calendar.stamps_of."""
        return calendar.stamps_of(self.panel, series, start, stop, aware)

    def scaled(self, series: int) -> np.ndarray:
        """[rows, V] float32 of one series, NaN where missing; a view. Raises ValueError for data on the disk."""
        if not isinstance(self.rows, MemoryRows):
            raise ValueError("the data are streamed from the disk: read them by windows")
        return self.rows.whole(series, "target")

    def to_units(self, x: np.ndarray, axis: int = -1) -> np.ndarray:
        """Scaled targets back in the data's units, float64; `axis` is the one of the variates."""
        shape = [1] * np.ndim(x)
        shape[axis] = len(self.variates)
        mean, std = (
            of("target", self.variates).reshape(shape)
            for of in (self.scaling.mean, self.scaling.std)
        )
        found: np.ndarray = np.asarray(x, np.float64) * std + mean
        return found

    def forecast_units(self, x: np.ndarray, axis: int = -1) -> np.ndarray:
        """Scaled forecasts (or quantiles of them) in the data's units and inside data.bounds: see `to_units`."""
        shape = [1] * np.ndim(x)
        shape[axis] = len(self.variates)
        low, high = (limit.reshape(shape) for limit in bounds_of(self.config.data, self.variates))
        return np.clip(self.to_units(x, axis), low, high)

    def inside_bounds(self, x: np.ndarray, axis: int = -1) -> np.ndarray:
        """The same on the scaled axis: the forecasts [..., V, ...] themselves where data.bounds is empty."""
        if not self.config.data.bounds:
            return x
        shape = [1] * np.ndim(x)
        shape[axis] = len(self.variates)
        mean, std = (of("target", self.variates) for of in (self.scaling.mean, self.scaling.std))
        low, high = (
            ((limit - mean) / std).astype(x.dtype).reshape(shape)
            for limit in bounds_of(self.config.data, self.variates)
        )
        return np.clip(x, low, high)

    def without_past(self, pairs: np.ndarray) -> np.ndarray:
        """[n, V] True where a variate has no value in the look-back of a window (series, row) [n, 2].

        Whatever a model says there comes of the training mean alone: it is no forecast.
        """
        found = np.zeros((len(pairs), len(self.variates)), bool)
        if not self.has_missing:
            return found
        for series in np.unique(pairs[:, 0]):
            mine = np.flatnonzero(pairs[:, 0] == series)
            ends = pairs[mine, 1]
            first = int(ends.min()) - self.context
            rows = self.reader.stored(int(series), "target", first, int(ends.max()))
            seen = np.zeros((len(rows) + 1, len(self.variates)), np.int64)
            np.cumsum(np.isfinite(rows), axis=0, out=seen[1:])
            found[mine] = seen[ends - first] == seen[ends - first - self.context]
        return found

    def spread_units(self) -> np.ndarray:
        """[V] float64: what one step on the scaled axis is in the data's units."""
        return self.scaling.std("target", self.variates)

    # Windows ----------------------------------------------------------------------------------------------------------

    def batch(self, split: str, indices: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        """Windows of a split, float32 but where noted; a function of (split, indices) alone.

        context   [B, L, V] look-back, scaled, gaps mended as data.fill says
        target    [B, H, V] horizon, scaled, 0 where missing
        observed  [B, H, V] bool, False where a target is missing; absent where the panel has no gap
        past      [B, L, P] and known [B, L + H, K], scaled and mended
        calendar  [B, L, M] marks, or [B, L + H, M] with tokeniser.calendar = "future"
        static    [B, S] scaled
        where     [B, 2] int64, see `where`
        Names without a column are absent.
        """
        return self._gather(*self._index[split].where(indices), self.has_missing)

    def at(self, pairs: Sequence[Sequence[int]] | np.ndarray) -> dict[str, Tensor]:
        """The same for any (series, row): the horizon may lie behind the data's end, where no target is observed.

        Calendar and holidays go on there; known covariates are the panel's rows behind the targets, and what those
        lack is mended like a gap (see `missing_future`). `observed` is absent only where neither the panel nor these
        windows have a gap. Raises UserError where the look-back begins before the first row, or the horizon begins
        more than one row behind the last.
        """
        found = np.asarray(pairs, np.int64).reshape(-1, 2)
        series, rows = found[:, 0], found[:, 1]
        lengths = np.array(self.reader.rows)[series]
        for number in np.flatnonzero((rows < self.context) | (rows > lengths))[:1]:
            name = self.panel.series[int(series[number])].attrs.get("id") or self.panel.name
            raise UserError(
                f"{name}: a forecast from row {rows[number]} on needs the {self.context} rows before it, and there are "
                f"{lengths[number]} rows; give more rows, or train with a shorter model.context"
            )
        beyond = bool((rows + self.horizon > lengths).any())
        return self._gather(series, rows, beyond or self.has_missing)

    def missing_future(self, series: int, row: int) -> list[str]:
        """Known covariates that lack a value in the horizon that begins at `row`; holidays never do."""
        gaps = np.isnan(self.reader.stored(series, "known", row, row + self.horizon)).any(0)
        return [
            name for name, gap in zip(self.reader.file_names("known"), gaps, strict=True) if gap
        ]

    def batches(self, split: str, size: int, rng: np.random.Generator | None) -> list[list[int]]:
        """Numbers of the windows of each batch of one pass, shuffled where `rng` is given; the last may be smaller.

        In memory any windows may meet in a batch. From a disk, places of the store are drawn (rows.POOL at a time) and
        their windows shuffled together, so that each block is read about once a pass; the batches are int32 or int64
        arrays, which take a tenth of a list's memory.
        """
        count = len(self._index[split])
        if not isinstance(self.rows, DiskRows):
            order = np.arange(count)
            if rng is not None:
                rng.shuffle(order)
            return [order[i : i + size].tolist() for i in range(0, count, size)]
        order = np.arange(count, dtype=np.int32 if count < 2**31 else np.int64)
        if rng is not None:
            order = self._drawn_by_place(self.rows, split, order, rng)
        return cast(list[list[int]], [order[i : i + size] for i in range(0, count, size)])

    def _drawn_by_place(
        self, rows: DiskRows, split: str, order: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """The windows of some places of the store at a time, shuffled together."""
        length, pool = rows.group_rows()
        edges = self._index[split].groups(length)
        groups = [order[start:stop] for start, stop in pairwise(edges)]
        drawn = rng.permutation(len(groups))
        parts = [order[:0]]
        for first in range(0, len(drawn), pool):
            part = np.concatenate([groups[group] for group in drawn[first : first + pool]])
            rng.shuffle(part)
            parts.append(part)
        return np.concatenate(parts)

    def _gather(self, series: np.ndarray, rows: np.ndarray, gaps: bool) -> dict[str, Tensor]:
        import torch  # here, so that data are checked without it

        found: dict[str, np.ndarray] = self.rows.windows(self._parts, series, rows)
        for name in found.keys() - {"target", "calendar"}:
            kind = self._parts[name].kind
            fill(found[name], self.config.data.fill, self._fills[kind])
        if gaps:
            found["observed"] = ~np.isnan(found["target"])
            found["target"][~found["observed"]] = 0.0
        if self.static:
            found["static"] = self._static[series]
        found["where"] = np.stack([series, rows], axis=1)
        return {name: torch.from_numpy(value) for name, value in found.items()}

    @functools.cached_property
    def _parts(self) -> dict[str, Part]:
        """The pieces of a window, those without a column left out."""
        before, after = self.context, self.horizon
        marked = after if self.config.tokeniser.calendar == "future" else 0
        parts = {
            "context": Part("target", -before, before),
            "target": Part("target", 0, after),
            "past": Part("past", -before, before),
            "known": Part("known", -before, before + after),
            "calendar": Part("calendar", -before, before + marked),
        }
        return {name: part for name, part in parts.items() if self.reader.names[part.kind]}

    # Built once -------------------------------------------------------------------------------------------------------

    def _fit(self, given: Scaling | None, cuts: Sequence[Borders]) -> Scaling:
        """The scale given, completed for the columns that it lacks; see the class."""
        base = Scaling({}, self.config.data.scale) if given is None else given
        tables: dict[str, dict[str, tuple[float, float]]] = {}
        kinds = [kind for kind in STORED if base.lacks(kind, self.reader.file_names(kind))]
        if kinds:
            # Rows that are all test data (a short file to forecast from) are better than none.
            stops = [cut["train"][1] for cut in cuts]
            if not any(stops):
                stops = self.reader.rows
            moments, self._gaps = fit_moments(self.reader, stops, kinds)
            for kind in kinds:
                tables[kind] = dict(
                    zip(self.reader.file_names(kind), moments[kind].pairs(), strict=True)
                )
        if self.config.data.holidays is not None:
            tables.setdefault("known", {})[holidays.NAME] = (0.0, 1.0)
        if base.lacks("static", self.static):
            # Of the series that train; where none does, all are better than none.
            numbers = [number for number, cut in enumerate(cuts) if cut["train"][1]]
            numbers = numbers or list(range(len(self.panel.series)))
            found = Moments(len(self.static))
            found.add(np.stack([self._stored_static(number) for number in numbers]))
            tables["static"] = dict(zip(self.static, found.pairs(), strict=True))
        return base.joined(Scaling(tables, base.scale))

    @functools.cached_property
    def _gaps(self) -> list[np.ndarray]:
        """Missing targets of every row by series; an empty array where none is missing. Reads the data through once."""
        return fit_moments(self.reader, [], ())[1]

    @functools.cached_property
    def origins(self) -> list[dict[str, range]]:
        """Rows at which a window may begin, by series and split."""
        return [origins(self.config.data, cut, self.context, self.horizon) for cut in self.cuts]

    @functools.cached_property
    def _index(self) -> dict[str, Index]:
        index = {split: Index([found[split] for found in self.origins]) for split in SPLITS}
        if self.config.data.max_missing < 1 and self.has_missing:
            kept = [self._kept(number, found["train"]) for number, found in enumerate(self.origins)]
            if sum(map(len, kept)) < len(index["train"]):
                index["train"] = Index([found["train"] for found in self.origins], kept)
        return index

    def _kept(self, series: int, rows: range) -> np.ndarray:
        """The training windows of a series that have enough values, by the row of their horizon's first step."""
        first = np.arange(rows.start, rows.stop)
        gaps = self._gaps[series]
        if not len(gaps):
            return first
        total = np.concatenate([[0], np.cumsum(gaps, dtype=np.int64)])
        missing = total[first + self.horizon] - total[first - self.context]
        cells = (self.context + self.horizon) * len(self.variates)
        return first[missing <= self.config.data.max_missing * cells]

    def _stored_static(self, series: int) -> np.ndarray:
        variable = variable_of(self.panel.series[series], "static") if self.static else None
        return np.zeros(0) if variable is None else np.asarray(variable.values, np.float64)

    def _scaled_static(self, series: int) -> np.ndarray:
        if not self.static:
            return np.zeros(0, np.float32)
        values = self.scaling.scaled("static", self.static, self._stored_static(series))
        return np.where(np.isnan(values), self.scaling.rest("static", self.static), values)
