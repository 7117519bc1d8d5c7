"""A trained forecaster on series from anywhere: what follows a file, with intervals, in the file's own units.

n series, L rows of look-back, H rows of horizon, V variates, D features, Q quantile levels.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor, nn

from isoform.core.data.inputs import list_inputs
from isoform.core.domain import Predictor
from isoform.core.errors import UserError, join_names
from isoform.core.supervised.ensemble import spread_of
from isoform.timeseries import inputs_for_run, origin
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.conformal import Calibration
from isoform.timeseries.data.digests import find_known
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.scaling import Scaling
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.sizes import INPUTS
from isoform.timeseries.state import TimeseriesState

LEVELS = (0.1, 0.5, 0.9)  # of the quantiles, where nobody asks for others
DIGITS = 6  # that a forecast shows, counted from its variate's standard deviation
OWN_DIGITS = 3  # that it shows at least, counted from its own size
_MOST_DECIMALS = 300  # those of the smallest number with all its digits
_TOKENS = 1 << 15  # of one batch: attention between them takes memory with their square


@dataclass(frozen=True)
class Forecasts:
    """Of n windows, in the data's units and inside the bounds."""

    mean_nHV: np.ndarray  # float64; NaN for a variate without a value in its look-back
    quantiles_nHVQ: np.ndarray | None
    levels: tuple[float, ...] = ()
    spread_nHV: np.ndarray | None = (
        None  # of an ensemble's members: the standard deviation of their forecasts
    )

    def of(self, chosen: np.ndarray) -> Forecasts:
        """Of some of the windows."""
        quantiles, spread = self.quantiles_nHVQ, self.spread_nHV
        return Forecasts(
            self.mean_nHV[chosen],
            None if quantiles is None else quantiles[chosen],
            self.levels,
            None if spread is None else spread[chosen],
        )


class TimeseriesPredictor(Predictor):
    """Forecasts and features of one model.

    state (task.json) holds the names, the frequency and the scale of the run's data, and its intervals.
    Without a scale (an imported checkpoint) a file is scaled by its own first rows, as a training would have done.
    """

    def __init__(self, config: TimeseriesApp, state: TimeseriesState, model: nn.Module) -> None:
        self.config, self.state = config, state
        self.model = model.eval()
        self.context, self.horizon = int(config.model.context), int(config.model.horizon)
        self.back = (
            self.context
        )  # rows before a forecast that are handed to it, where there are so many
        self.scaling = None if state.scaling is None else Scaling.of_record(state.scaling)
        self.own = tuple(sorted(config.head.quantiles))  # levels that the model itself forecasts
        self.calibration = self._calibration(state.calibration)

    def _calibration(self, arrays: Mapping[str, np.ndarray] | None) -> Calibration | None:
        if arrays:
            return Calibration.of(arrays)
        return Calibration.none(self.own, self.horizon) if self.own else None

    # What comes in

    def read(self, data: Any, *, known_elsewhere: bool = False) -> Panel:
        """A file (.csv, .parquet, .nc, .zarr), a pandas DataFrame or a Panel, read as the run's own data were.

        known_elsewhere: it may lack the known-future covariates. Raises UserError for what can't be read, lacks a
        column of the run, or has rows of another frequency.
        """
        return inputs_for_run.read_for_run(
            data, self.config, self.state, known_elsewhere=known_elsewhere
        )

    def windows(self, panel: Panel) -> WindowData:
        """A panel as windows on the run's scale; columns that the run never saw get their own."""
        return WindowData(inputs_for_run.settings(self.config), panel, self.scaling)

    def use(self, model: nn.Module) -> None:
        """Forecasts with other weights from now on."""
        self.model = model.eval()

    # What goes out

    def forecast(
        self,
        data: Any,
        *,
        future: Any = None,
        start: str | pd.Timestamp | None = None,
        levels: Sequence[float] | None = None,
    ) -> xr.Dataset:
        """What follows the end of every series of `data`, or its rows from `start` on, forecast from those before.

        data    what `read` takes
        future  the same, with the known-future covariates of the horizon; they may also stand in `data`
        start   first stamp to forecast, local where it has no offset; rows of targets from there on aren't looked at
        levels  of the quantiles, (.1, .5, .9) if None and the run has intervals; () for none

        A Dataset with `mean` (id, time, variate), of an ensemble `spread` (the same, the standard deviation of its
        members' forecasts) and, with levels, `quantiles` (id, time, variate, quantile), in the units of the data and
        inside the run's bounds; `id` is there where the data have ids. Stamps are in UTC where the attribute
        `time_zone` is set. `step` (time, or id and time) counts from 1 and is 0 where a series has no forecast. A
        variate without any value in its look-back is NaN, and named in a warning. Raises UserError.
        """
        panel = self.read(data, known_elsewhere=future is not None)
        wanted = self.wanted_levels(levels)
        if note := self.note_on_intervals(levels):
            warnings.warn(note, stacklevel=2)
        ahead = (
            None
            if future is None
            else inputs_for_run.read_future(future, self.config, self.state, panel)
        )
        panel, windows = self._look_back(panel, start, ahead)
        if start is not None:
            self._warn_of_known(panel, start)
        for i in range(len(panel.series)):
            row = _origin(windows.panel)
            if windows.missing_future(i, row):
                origin.refuse_short_future(windows.panel, i, row, asked=ahead is not None)
                names = join_names(windows.missing_future(i, row), inputs_for_run.SHOWN)
                warnings.warn(
                    f"gaps of {names} in the horizon are filled like those of a look-back",
                    stacklevel=2,
                )
        made = self.run(windows, self._pairs(windows), wanted)
        self._warn_of_empty(made, windows.panel)
        return self._dataset(windows.panel, made, panel)

    def _look_back(
        self, panel: Panel, start: str | pd.Timestamp | None, ahead: Panel | None
    ) -> tuple[Panel, WindowData]:
        """The series that can be forecast, and their rows around the forecast's start as windows.

        Of several series those that are too short are left out, with a warning. Raises UserError where all are.
        """
        origins: list[tuple[int, int]] = []
        failed: list[str] = []
        for i in range(len(panel.series)):
            try:
                origins.append((i, origin.origin_of(panel, i, start, self.context)))
            except UserError as error:
                failed.append(str(error))
        if not origins:
            raise UserError(failed[0])
        if failed:
            more = f" (and {len(failed) - 1:,} more)" if len(failed) > 1 else ""
            warnings.warn(f"left out: {failed[0]}{more}", stacklevel=3)
        scale = self._scale_of(panel)
        known = inputs_for_run.names_of(self.state, "known")
        back = min(self.back, *(row for _, row in origins))
        cut = origin.cut(panel, origins, back, self.horizon, known, ahead)
        kept = replace(panel, series=tuple(panel.series[i] for i, _ in origins))
        return kept, WindowData(inputs_for_run.settings(self.config), cut, scale)

    def _pairs(self, windows: WindowData) -> np.ndarray:
        row = _origin(windows.panel)
        return np.array([[i, row] for i in range(len(windows.panel.series))])

    def wanted_levels(self, levels: Sequence[float] | None) -> tuple[float, ...]:
        """The quantile levels to give. Raises UserError for one that the run can't give, or any where it has none."""
        if self.calibration is None:
            if levels:
                raise UserError(
                    "this run has neither quantiles nor a calibration of its errors; ask for none (--quantiles ''), or "
                    "train with head.quantiles or a validation split"
                )
            return ()
        if levels is None:
            low, high = self.calibration.levels[0] - 1e-9, self.calibration.levels[-1] + 1e-9
            return tuple(level for level in LEVELS if low <= level <= high)
        self.calibration.refuse_outside(levels)
        return tuple(sorted(float(level) for level in levels))

    def note_on_intervals(self, levels: Sequence[float] | None = None) -> str | None:
        """Why there are no intervals, or what is wrong with them; None where all is well or none are wanted."""
        if levels is not None and not len(levels):
            return None
        if self.calibration is None:
            return "this run has neither quantiles nor a calibration of its errors: point forecasts alone"
        return self.calibration.note

    def run(
        self, windows: WindowData, pairs: np.ndarray, levels: tuple[float, ...] = ()
    ) -> Forecasts:
        """Forecasts of windows (series, row of the first step) in units, clipped to the bounds."""
        size = self._batch(windows)
        parts = [
            self._run_batch(windows, pairs[i : i + size], levels)
            for i in range(0, len(pairs), size)
        ]
        quantiles = [part.quantiles_nHVQ for part in parts if part.quantiles_nHVQ is not None]
        spread = [part.spread_nHV for part in parts if part.spread_nHV is not None]
        return Forecasts(
            np.concatenate([part.mean_nHV for part in parts]),
            np.concatenate(quantiles) if quantiles else None,
            levels,
            np.concatenate(spread) if spread else None,
        )

    def _batch(self, windows: WindowData) -> int:
        return max(1, min(self.config.eval.batch, _TOKENS // max(1, len(windows.variates))))

    def _run_batch(
        self, windows: WindowData, pairs: np.ndarray, levels: tuple[float, ...]
    ) -> Forecasts:
        mean, own = self._outputs(windows, pairs)
        empty_nV = windows.without_past(pairs)
        spread_V = windows.scaling.deviation("target", windows.variates)

        def finished(x: np.ndarray) -> np.ndarray:  # [n, H, V]
            units = _rounded(windows.forecast_units(x), spread_V)
            return np.where(empty_nV[:, None], np.nan, units)

        quantiles = None
        if levels:
            assert self.calibration is not None
            fitted = self.calibration.of_variates(self.state.variates, windows.variates)
            made = fitted.apply(mean, own, levels)
            quantiles = np.stack([finished(made[..., q]) for q in range(len(levels))], -1)
        spread = spread_of(self.model, lambda one: finished(one[..., 0]))
        return Forecasts(finished(mean), quantiles, levels, spread)

    def _outputs(
        self, windows: WindowData, pairs: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Scaled point forecasts [n, H, V], and the model's own quantiles [n, H, V, Q] where it has them."""
        output = self._call(self.model, windows.at(pairs)).numpy()
        return output[..., 0], output[..., 1:] if self.own else None

    def _call(self, function: Any, batch: Mapping[str, Tensor]) -> Tensor:
        device = next(self.model.parameters()).device
        with torch.no_grad():
            given = {name: batch[name].to(device) for name in INPUTS if name in batch}
            return function(**given).float().cpu()

    def _scale_of(self, panel: Panel) -> Scaling | None:
        """The run's scale, completed from all rows of the panel where it lacks columns."""
        names = {
            "target": panel.variates,
            **{kind: panel.names(kind) for kind in ("past", "known", "static")},
        }
        if self.scaling is not None and not any(
            self.scaling.lacks(kind, names[kind]) for kind in names
        ):
            return self.scaling
        return self.windows(panel).scaling

    def _warn_of_known(self, panel: Panel, start: str | pd.Timestamp) -> None:
        first = [origin.origin_of(panel, i, start, self.context) for i in range(len(panel.series))]
        pairs = np.stack([np.arange(len(first)), first], 1)
        known = int(find_known(panel, pairs, self.horizon, self.state.seen).sum())
        if known:
            of = f" of {known:,} of {len(first):,} series" if len(first) > 1 else ""
            warnings.warn(
                f"the run was trained on rows{of} from {start} on: how well it forecasts them says nothing about new "
                "ones",
                stacklevel=3,
            )

    def _warn_of_empty(self, made: Forecasts, cut: Panel) -> None:
        for i, series in enumerate(cut):
            empty = np.isnan(made.mean_nHV[i]).all(0) & ~np.isfinite(
                series.target.values[_origin(cut) - self.context : _origin(cut)]
            ).any(0)
            if empty.any():
                names = [name for name, none in zip(cut.variates, empty, strict=True) if none]
                shown = join_names(names, inputs_for_run.SHOWN)
                who = f"{series.attrs.get('id')}: " if series.attrs.get("id") else ""
                warnings.warn(
                    f"{who}{shown}: no value in the {self.context} rows before the forecast, so there is none",
                    stacklevel=3,
                )

    def _dataset(self, cut: Panel, made: Forecasts, panel: Panel) -> xr.Dataset:
        """Forecasts on the stamps that any series has; where one of them has none, `step` is 0 and the rest NaN."""
        instants = [one.time.values[_origin(cut) :] for one in cut]
        time = np.unique(np.concatenate(instants))
        step = np.zeros((len(instants), len(time)), np.int64)
        mean = np.full((*step.shape, len(panel.variates)), np.nan)
        spread = np.full_like(mean, np.nan)
        quantiles = np.full((*mean.shape, len(made.levels)), np.nan)
        for i, mine in enumerate(instants):
            at = np.searchsorted(time, mine)
            step[i, at] = np.arange(1, len(mine) + 1)
            mean[i, at] = made.mean_nHV[i]
            if made.spread_nHV is not None:
                spread[i, at] = made.spread_nHV[i]
            if made.quantiles_nHVQ is not None:
                quantiles[i, at] = made.quantiles_nHVQ[i]
        ids = [str(series.attrs.get("id", "")) for series in panel]
        units = inputs_for_run.units_of(panel, self.state)
        dims = ("id", "time", "variate")
        arrays: dict[str, Any] = {"mean": (dims, mean)}
        coords: dict[str, Any] = {
            "time": time,
            "variate": panel.variates,
            "units": ("variate", units),
            "id": ids,
        }
        same = bool((step == step[0]).all())
        coords["step"] = ("time", step[0]) if same else (("id", "time"), step)
        if made.levels:
            arrays["quantiles"] = ((*dims, "quantile"), quantiles)
            coords["quantile"] = list(made.levels)
        if made.spread_nHV is not None:
            arrays["spread"] = (dims, spread)
        attrs = {"title": f"forecast of {panel.name} by {self.config.app}", "freq": panel.freq}
        if panel.tz is not None:
            attrs["time_zone"] = panel.tz
        found = xr.Dataset(arrays, coords, attrs)
        return found.isel(id=0, drop=True) if ids == [""] else found

    # What every domain has

    def expand(self, inputs: Any) -> Sequence[Any]:
        """See Predictor.expand; whatever holds stamps is one input."""
        one = isinstance(inputs, pd.Series | xr.Dataset | xr.DataArray | Panel)
        return [inputs] if one else list_inputs(inputs)

    def predict(self, inputs: Any) -> list[dict[str, Any]]:
        """One row a stamp and variate that follows each input: input, id, stamp, variate, mean, q0.1, ..., error.

        An input that can't be forecast has one row, its reason in `error`.
        """
        from isoform.timeseries.forecast import columns_of

        rows: list[dict[str, Any]] = []
        for i, one in enumerate(self.track(self.expand(inputs), "predicting")):
            name = str(one) if isinstance(one, (str, Path)) else f"{type(one).__name__} {i}"
            try:
                columns = columns_of(self.forecast(one))
            except UserError as error:
                rows.append({"input": name, "error": str(error)})
                continue
            values = zip(*(_listed(column) for column in columns.values()), strict=True)
            rows += [
                {"input": name, **dict(zip(columns, row, strict=True)), "error": ""}
                for row in values
            ]
        return rows

    def embed(self, inputs: Any) -> np.ndarray:
        """[N, D] float32: the trunk's features of each input's last rows, mean over variates (and series).

        NaN for an input that can't be read, which is named in a warning. Raises UserError where none can.
        """
        found: dict[int, np.ndarray] = {}
        failed: list[str] = []
        items = self.expand(inputs)
        for i, one in enumerate(self.track(items, "embedding")):
            try:
                found[i] = self.features(one).mean(("id", "variate")).values
            except UserError as error:
                failed.append(str(error))
        if not found:
            raise UserError(failed[0] if failed else "there is no input to embed")
        for line in failed:
            warnings.warn(line, stacklevel=2)
        features = np.full((len(items), len(next(iter(found.values())))), np.nan, np.float32)
        for i, value in found.items():
            features[i] = value
        return features

    def features(self, data: Any, *, start: str | pd.Timestamp | None = None) -> xr.DataArray:
        """(id, variate, feature) the trunk's tokens of the look-back before the end, or before `start`."""
        panel, windows = self._look_back(self.read(data, known_elsewhere=True), start, None)
        method: Any = self.model.features
        pairs, size = self._pairs(windows), self._batch(windows)
        parts = [
            self._call(method, windows.at(pairs[i : i + size])) for i in range(0, len(pairs), size)
        ]
        coords = {"id": [str(one.attrs.get("id", "")) for one in panel], "variate": panel.variates}
        return xr.DataArray(torch.cat(parts).numpy(), coords, ("id", "variate", "feature"))


def _origin(cut: Panel) -> int:
    """The row of a cut (origin.cut) that the forecast starts with, the same in every series."""
    return int(cut.series[0].attrs["rows"])


def _rounded(units: np.ndarray, spread_V: np.ndarray) -> np.ndarray:
    """[n, H, V] without digits that are noise of 32-bit arithmetic: DIGITS of the variate's standard deviation stay.

    Whatever its size against that, a value keeps OWN_DIGITS of its own, so that nothing is rounded to 0.
    """
    with np.errstate(divide="ignore"):
        own = OWN_DIGITS - 1 - np.floor(np.log10(np.abs(units)))
    usual = DIGITS - 1 - np.floor(np.log10(spread_V))
    decimals = np.maximum(np.where(np.isfinite(own), own, -_MOST_DECIMALS), usual)
    decimals = np.minimum(decimals, _MOST_DECIMALS)
    found = units.copy()
    for count in np.unique(decimals).astype(int):
        mine = decimals == count
        found[mine] = np.round(units[mine], count)
    return found


def _listed(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)
