"""TimeseriesTask: windows in, forecasts out. What the engine asks of this domain, in the order it asks.

B windows, L rows of look-back, H rows of horizon, V variates, Q quantile levels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.baselines import Baseline
from isoform.core.config.state import DataRecord
from isoform.core.domain import Figure, InitialWeights, Task
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import join_names
from isoform.core.supervised.monitors import resolve_monitor
from isoform.timeseries import blocks, losses
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.conformal import Calibration
from isoform.timeseries.data.digests import digests_at
from isoform.timeseries.data.kept import keep_split
from isoform.timeseries.data.splits import origins
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.judged import windows_to_judge
from isoform.timeseries.metrics import ForecastAccumulator, seasonal_scale
from isoform.timeseries.models import make_model
from isoform.timeseries.sizes import INPUTS, Sizes
from isoform.timeseries.state import TimeseriesState

_SHOWN = 20  # names in a row of the card


@dataclass(frozen=True)
class Drawn:
    """A window by its number, and what augmentation drew for it."""

    split: str
    index: int
    noise: np.ndarray | None = None  # [L, V]
    factor: float = 1.0


class TimeseriesTask(Task):
    """One time-series app on its windows, or on those of other data."""

    items = "windows"
    kept_items = "stretches"  # of the rows of a column: windows overlap

    def __init__(self, config: TimeseriesApp, windows: WindowData) -> None:
        self.config: TimeseriesApp = config
        self.data, self.panel = windows, windows.panel
        self.levels = tuple(sorted(config.head.quantiles))
        self.augments = config.augment.each
        usual = "mse" if config.loss.kind == "mse" else "mae"
        self.monitor, self.monitor_mode = resolve_monitor(
            config.train.monitor, "forecasts", default=usual
        )
        self.season = windows.season
        self.notes = tuple(windows.unscored())
        self.calibration: Calibration | None = None  # of the best checkpoint, once it is known
        self.which: Mapping[str, str] = {}  # split -> its windows in words, of other data
        self.run_state: TimeseriesState | None = None  # of the run that is evaluated

    def sizes(self) -> dict[str, int]:
        """Windows of each split. See Task.sizes."""
        return self.data.sizes()

    def build(self) -> nn.Module:
        """A fresh model. Raises UserError where the tables contradict each other."""
        return make_model(self.config, Sizes.of(self.data))

    def sample(
        self,
        split: str,
        index: int,
        rng: np.random.Generator | None,
    ) -> Drawn:
        """See Task.sample. The window itself is read with its whole batch, in one go."""
        if rng is None:
            return Drawn(split, index)
        a = self.config.augment
        shape = (self.data.context, len(self.data.variates))
        noise = rng.normal(0, a.jitter, shape).astype(np.float32) if a.jitter else None
        return Drawn(
            split,
            index,
            noise,
            float(np.exp(rng.normal(0, a.stretch))) if a.stretch else 1.0,
        )

    def collate(self, samples: Sequence[Drawn]) -> dict[str, Tensor]:
        """See WindowData.batch for the names and shapes."""
        batch = self.data.batch(samples[0].split, [one.index for one in samples])
        if any(one.factor != 1.0 for one in samples):
            factor_B11 = torch.tensor([one.factor for one in samples])[:, None, None]
            batch["context"] = batch["context"] * factor_B11
            batch["target"] = batch["target"] * factor_B11
        noise = [one.noise for one in samples if one.noise is not None]
        if noise:
            batch["context"] = batch["context"] + torch.from_numpy(np.stack(noise))
        return batch

    def batches(
        self,
        split: str,
        size: int,
        rng: np.random.Generator | None,
    ) -> list[list[int]]:
        """See WindowData.batches."""
        return self.data.batches(split, size, rng)

    def mix(
        self,
        batch: dict[str, Tensor],
        rng: np.random.Generator,
    ) -> dict[str, Tensor]:
        """Some of the variates, the same ones for a whole batch (augment.variates)."""
        count = batch["target"].shape[-1]
        keep = max(1, round(self.config.augment.variates * count))
        if keep == count:
            return batch
        chosen = torch.from_numpy(np.sort(rng.choice(count, keep, replace=False)))
        mine = ("context", "target", "observed")
        return {k: v.index_select(-1, chosen) if k in mine else v for k, v in batch.items()}

    def loss(
        self,
        model: nn.Module,
        batch: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """The point forecast's loss, and beside it the pinball loss of the quantiles; missing targets count nothing."""
        output = self._forward(model, batch)
        target, observed = batch["target"], batch.get("observed")
        point = losses.point_loss(
            self.config.loss.kind,
            output[..., 0],
            target,
            observed,
        )
        if not self.levels:
            return {"loss": point}
        pinball = losses.pinball_loss(
            output[..., 1:],
            target,
            self.levels,
            observed,
        )
        return {"loss": point + pinball, "point": point, "pinball": pinball}

    def predict(
        self,
        model: nn.Module,
        batch: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        """{"forecast", "target" [B, H, V] (scaled), "where" [B, 2]; "quantiles" [B, H, V, Q], "observed" [B, H, V]}."""
        output = self._forward(model, batch)
        found = {"forecast": output[..., 0], "target": batch["target"], "where": batch["where"]}
        if self.levels:
            found["quantiles"] = output[..., 1:]
        if "observed" in batch:
            found["observed"] = batch["observed"]
        return found

    def _forward(
        self,
        model: nn.Module,
        batch: dict[str, Tensor],
    ) -> Tensor:
        output: Tensor = model(**{name: batch[name] for name in INPUTS if name in batch})
        return output.float()

    def accumulator(self, split: str) -> ForecastAccumulator:
        """Errors summed as the windows come by, of test by blocks too, for `intervals`. See metrics.py."""
        return self._sums(split, resampled=split == "test")

    def _sums(self, split: str, *, resampled: bool = False) -> ForecastAccumulator:
        """Intervals of test windows are calibrated ones."""
        return ForecastAccumulator(
            self.data,
            split,
            self.levels,
            self.season,
            self._mase_scale_SV,
            calibration=self.calibration if split == "test" else None,
            resampled=resampled,
        )

    @functools.cached_property
    def _mase_scale_SV(self) -> np.ndarray:
        return seasonal_scale(self.data, self.season, self.run_state)

    def metrics(
        self,
        split: str,
        outputs: Mapping[str, np.ndarray],
    ) -> dict[str, float]:
        """Of outputs that are all there; the engine uses `accumulator`."""
        accumulator = self.accumulator(split)
        accumulator.add(list(range(len(outputs["forecast"]))), outputs)
        return accumulator.metrics()

    def intervals(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float]]:
        """See blocks.py."""
        start = "by_block/"
        pairs = {n.removeprefix(start): v for n, v in outputs.items() if n.startswith(start)}
        return blocks.intervals(pairs)

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit:
        """See data/kept.py."""
        data = self.data
        return keep_split(self.panel, data.cuts, data.on_disk, before.spans if before else None)

    def digests(self, split: str) -> np.ndarray | None:
        """See Task.digests and data/digests.py; of a store that is streamed nothing is kept."""
        data = self.data
        if data.on_disk:
            return None
        pairs = data.where(split, np.arange(data.sizes()[split]))
        return digests_at(self.panel, pairs, data.horizon)

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Conformal offsets from the validation windows; see conformal.py."""
        from isoform.timeseries import conformal

        found = conformal.calibrate(outputs, self.levels)
        self.calibration = Calibration.of(found) if found else None
        if self.calibration is not None and self.calibration.note is not None:
            self.notes = (*self.notes, self.calibration.note)
        return found

    def group_metrics(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, dict[str, float]] | None:
        """See Task.group_metrics: of several series, each that has windows; figures.py draws them."""
        windows_S = outputs.get("by_series/windows")
        if windows_S is None:
            return None
        names = [name for name in outputs if name.startswith("by_series/")]
        rest = [name for name in names if not name.endswith(("/windows", "/count"))]
        found = {}
        for number, series in enumerate(self.panel):
            if windows_S[number]:
                own = {name.partition("/")[2]: float(outputs[name][number]) for name in rest}
                found[str(series.attrs["id"])] = {"samples": float(windows_S[number]), **own}
        return found

    def judged(self, split: str) -> str:
        """See Task.judged."""
        which = self.which.get(split, f"the {split} split of {self.panel.name}")
        return f"judged: {self.sizes()[split]:,} windows, {which}"

    def initial_weights(self, source: str) -> InitialWeights:
        """Whatever `isoform timeseries import` reads."""
        from isoform.timeseries.pretrained import initial_weights

        return initial_weights(source, self.config)

    def baselines(self) -> Sequence[Baseline]:
        """See baselines/."""
        from isoform.timeseries.baselines import baselines

        return baselines(self.data, self._sums, self.season)

    def inference_state(self) -> TimeseriesState:
        """Names, units, frequency and scale of the data: what forecasting another file needs."""
        data, panel = self.data, self.panel
        return TimeseriesState(
            variates=data.variates,
            past=data.past,
            known=data.known,
            static=data.static,
            calendar=data.calendar_names,
            units=panel.units,
            freq=panel.freq,
            tz=panel.tz,
            season=self.season,
            levels=list(self.levels),
            panel="series" if len(panel.series) > 1 else "variates",
            fitted_until=self._fitted_until,
            seasonal_scale=self._seasonal_scale,
            context=data.context,
            horizon=data.horizon,
            bounds=dict(self.config.data.bounds),
            scaling=data.scaling.to_record(),
            data=DataRecord(
                origin=panel.name,
                licence=panel.licence,
                sha256=panel.sha256,
                sizes=self.sizes(),
                left_out=data.left_out,
            ),
        )

    @property
    def _fitted_until(self) -> dict[str, str]:
        """By series, the last stamp that training or validation saw, on the panel's clock: a backtest starts behind.

        A series too short for any of their windows isn't there: of it they saw nothing.
        """
        found, data = {}, self.data
        for series, cut in zip(self.panel, data.cuts, strict=True):
            windows = origins(self.config.data, cut, data.context, data.horizon)
            if windows["train"] or windows["val"]:
                stop = max(cut["train"][1], cut["val"][1])
                found[str(series.attrs["id"])] = str(series.time.values[stop - 1])
        return found

    @property
    def _seasonal_scale(self) -> dict[str, list[float | None]]:
        ids = (str(series.attrs["id"]) for series in self.panel)
        each = (
            [None if x != x else x for x in scale_V] for scale_V in self._mase_scale_SV.tolist()
        )
        return dict(zip(ids, each, strict=True))

    def card(self) -> dict[str, str]:
        """See Task.card."""
        sizes = ", ".join(f"{count} {split}" for split, count in self.sizes().items())
        data = self.data
        covariates = [*data.past, *data.known, *data.static]
        marks = join_names(data.calendar_names, _SHOWN) if data.calendar_names else "unused"
        zone = f", {self.panel.tz}" if self.panel.tz else ""
        return {
            "data": f"{self.panel.name} ({sizes} windows)",
            "licence of the data": self.panel.licence,
            "SHA-256 of the data": self.panel.sha256,
            "variates": join_names(data.variates, _SHOWN),
            "covariates": join_names(covariates, _SHOWN) if covariates else "none",
            "time": f"one row each {self.panel.freq}{zone}; calendar {marks}",
            "windows": f"{data.context} rows of look-back, {data.horizon} of horizon, every row a start",
            "preprocessing": "each variate by mean and standard deviation of its training rows"
            if self.config.data.scale == "standard"
            else "none",
        }

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.nc, in the data's units; see predictions.py."""
        from isoform.timeseries.predictions import write

        path = folder / f"{stem}.nc"
        write(path, self.data, outputs)
        return [path]

    def figures(
        self,
        model: nn.Module,
        outputs: Mapping[str, np.ndarray],
    ) -> list[Figure]:
        """See figures.py."""
        from isoform.timeseries.figures import figures

        return figures(self, model, outputs)


def task_from_run(
    config: TimeseriesApp,
    state: TimeseriesState,
    path: Path | None,
) -> TimeseriesTask:
    """The task of a finished run on its own data or on those at `path`, on the run's scale; see judged.py."""
    if config.data.season is None:  # of a run from before seasons were settled with the rest
        data = config.data.model_copy(update={"season": state.season})
        config = config.model_copy(update={"data": data})
    found = windows_to_judge(config, state, path)
    task = TimeseriesTask(found.config, found.windows)
    task.which, task.notes = found.which, (*found.notes, *task.notes)
    task.run_state = state
    known = Calibration.of(state.calibration) if state.calibration else None
    if known is not None:
        task.calibration = known.of_variates(state.variates, task.data.variates)
    elif task.levels:
        known = Calibration.none(task.levels, task.data.horizon)
    if known is not None and known.note is not None:
        task.notes = (*task.notes, known.note)
    return task
