"""TimeseriesTask: windows in, forecasts out. What the engine asks of this domain, in the order it asks.

B windows, L rows of look-back, H rows of horizon, V variates, Q quantile levels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.schema import AppConfig
from isoform.core.domain import Figure, InitialWeights, Task
from isoform.core.errors import UserError
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.conformal import Calibration
from isoform.timeseries.data.scaling import Scaling
from isoform.timeseries.data.series import Panel
from isoform.timeseries.data.splits import borders_of
from isoform.timeseries.data.windows import WindowData
from isoform.timeseries.metrics import ForecastTally
from isoform.timeseries.models import build_model
from isoform.timeseries.settle import panel_of, season_of, settle
from isoform.timeseries.sizes import Sizes

INPUTS = ("context", "past", "known", "calendar", "static")  # of the model; the rest of a batch is for the loss


@dataclass(frozen=True)
class Drawn:
    """A window by its number, and what augmentation drew for it."""

    split: str
    index: int
    noise: np.ndarray | None = None  # [L, V]
    factor: float = 1.0


class TimeseriesTask(Task):
    """One time-series app with its data."""

    def __init__(self, config: AppConfig, panel: Panel | None = None, scaling: Scaling | None = None) -> None:
        assert isinstance(config, TimeseriesApp)
        self.config: TimeseriesApp = settle(config)[0]
        self.panel = panel_of(self.config.data) if panel is None else panel
        self.data = WindowData(self.config, self.panel, scaling)
        if scaling is None and not self.data.sizes().get("train"):
            rows = max(int(series.attrs["rows"]) for series in self.panel)
            raise UserError(
                f"{self._origin}: {rows} rows hold no training window of {self.data.context} rows of look-back and "
                f"{self.data.horizon} of horizon; shorten model.context or model.horizon"
            )
        self.levels = tuple(sorted(self.config.head.quantiles))
        self.augments = self.config.augment.each
        self.monitor = "mse" if self.config.head.loss == "mse" else "mae"
        self.season = season_of(self.config.data, self.panel.freq)
        self.calibration: Calibration | None = None  # of the best checkpoint, once it is known

    def sizes(self) -> dict[str, int]:
        """Windows of each split. See Task.sizes."""
        return self.data.sizes()

    def build(self) -> nn.Module:
        """A fresh model. Raises UserError where the tables contradict each other."""
        return make_model(self.config, Sizes.of(self.data))

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Drawn:
        """See Task.sample. The window itself is read with its whole batch, in one go."""
        if rng is None:
            return Drawn(split, index)
        a = self.config.augment
        shape = (self.data.context, len(self.data.variates))
        noise = rng.normal(0, a.jitter, shape).astype(np.float32) if a.jitter else None
        return Drawn(split, index, noise, float(np.exp(rng.normal(0, a.stretch))) if a.stretch else 1.0)

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

    def batches(self, split: str, size: int, rng: np.random.Generator | None) -> list[list[int]]:
        """See WindowData.batches."""
        return self.data.batches(split, size, rng)

    def mix(self, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Some of the variates, the same ones for a whole batch (augment.variates)."""
        count = batch["target"].shape[-1]
        keep = max(1, round(self.config.augment.variates * count))
        if keep == count:
            return batch
        chosen = torch.from_numpy(np.sort(rng.choice(count, keep, replace=False)))
        mine = ("context", "target", "observed")
        return {k: v.index_select(-1, chosen) if k in mine else v for k, v in batch.items()}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """The point forecast's loss, and beside it the pinball loss of the quantiles; missing targets count nothing."""
        output = self._forward(model, batch)
        target, observed = batch["target"], batch.get("observed")
        mean = output[..., 0]
        measure = {"mse": F.mse_loss, "mae": F.l1_loss, "huber": F.smooth_l1_loss}[self.config.head.loss]
        point = _mean(measure(mean, target, reduction="none"), observed)
        if not self.levels:
            return {"loss": point}
        level_Q = torch.tensor(self.levels, dtype=output.dtype, device=output.device)
        below = target[..., None] - output[..., 1:]
        pinball = _mean(torch.maximum(level_Q * below, (level_Q - 1) * below).mean(-1), observed)
        return {"loss": point + pinball, "point": point, "pinball": pinball}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"forecast", "target" [B, H, V] (scaled), "where" [B, 2]; "quantiles" [B, H, V, Q], "observed" [B, H, V]}."""
        output = self._forward(model, batch)
        found = {"forecast": output[..., 0], "target": batch["target"], "where": batch["where"]}
        if self.levels:
            found["quantiles"] = output[..., 1:]
        if "observed" in batch:
            found["observed"] = batch["observed"]
        return found

    def _forward(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        output: Tensor = model(**{name: batch[name] for name in INPUTS if name in batch})
        return output.float()

    def tally(self, split: str) -> ForecastTally:
        """Errors summed as the windows come by; intervals of test windows are calibrated ones. See metrics.py."""
        calibration = self.calibration if split == "test" else None
        return ForecastTally(self.data, split, self.levels, self.season, calibration=calibration)

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Of outputs that are all there; the engine uses `tally`."""
        tally = self.tally(split)
        tally.add(list(range(len(outputs["forecast"]))), outputs)
        return tally.metrics()

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Conformal offsets from the validation windows; see conformal.py."""
        from isoform.timeseries import conformal

        found = conformal.calibrate(outputs, self.levels)
        self.calibration = Calibration.of(found) if found else None
        return found

    def initial_weights(self, source: str) -> InitialWeights:
        """A run folder, a file in isoform's names, or whatever `isoform timeseries import` reads."""
        from isoform.core.engine import warm_start
        from isoform.timeseries.pretrained import initial_weights

        return warm_start.read_own(source) or initial_weights(source, self.config)

    def baselines(self) -> dict[str, dict[str, dict[str, float]]]:
        """See baselines/."""
        from isoform.timeseries.baselines import baselines

        return baselines(self.data, self.tally, self.season)

    def portable(self) -> dict[str, Any]:
        """Names, units, frequency and scale of the data: what forecasting another file needs."""
        data, panel = self.data, self.panel
        units = panel.first.coords.get("units")
        return {
            "variates": data.variates, "past": data.past, "known": data.known, "static": data.static,
            "calendar": data.calendar_names,
            "units": [] if units is None else [str(unit) for unit in units.values],
            "freq": panel.freq, "tz": panel.tz, "season": self.season, "levels": list(self.levels),
            "panel": "series" if len(panel.series) > 1 else "variates", "fitted_until": self._fitted_until,
            "context": data.context, "horizon": data.horizon,
            "bounds": {name: list(limits) for name, limits in self.config.data.bounds.items()},
            "scaling": data.scaling.to_json(),
            "data": {
                "origin": self._origin, "licence": panel.licence, "sha256": panel.sha256, "sizes": self.sizes(),
                "left_out": data.left_out,
            },
        }  # fmt: skip

    @property
    def _fitted_until(self) -> str | None:
        """The last stamp that training or validation saw, on the panel's clock: a backtest starts behind it."""
        cuts = borders_of(self.config.data, self.panel)
        seen = [max(cut["train"][1], cut["val"][1]) for cut in cuts]
        ends = [series.time.values[stop - 1] for series, stop in zip(self.panel, seen, strict=True) if stop]
        return str(max(ends)) if ends else None

    @functools.cached_property
    def _origin(self) -> str:
        """Where the data came from; of a user's file only its name, since a run folder travels."""
        origin = self.panel.origin
        return Path(origin).name if Path(origin).exists() else origin

    def card(self) -> dict[str, str]:
        """See Task.card."""
        sizes = ", ".join(f"{count} {split}" for split, count in self.sizes().items())
        data = self.data
        zone = f", {self.panel.tz}" if self.panel.tz else ""
        return {
            "data": f"{self._origin} ({sizes} windows)",
            "licence of the data": self.panel.licence,
            "SHA-256 of the data": self.panel.sha256,
            "variates": _listed(data.variates),
            "covariates": _listed([*data.past, *data.known, *data.static]) or "none",
            "time": f"one row each {self.panel.freq}{zone}; calendar {_listed(data.calendar_names) or 'unused'}",
            "windows": f"{data.context} rows of look-back, {data.horizon} of horizon, every row a start",
            "preprocessing": "each variate by mean and standard deviation of its training rows"
            if self.config.data.scale == "standard" else "none",
        }  # fmt: skip

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.nc, in the data's units; see predictions.py."""
        from isoform.timeseries.predictions import write

        path = folder / f"{stem}.nc"
        write(path, self.data, self.levels if self.calibration is None else self.calibration.levels, outputs)
        return [path]

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See figures.py."""
        from isoform.timeseries.figures import figures

        return figures(self, model, outputs)


def _mean(value: Tensor, observed: Tensor | None) -> Tensor:
    """Mean over what was observed; 0 where nothing was."""
    return value.mean() if observed is None else (value * observed).sum() / observed.sum().clamp(min=1)


def _listed(names: Sequence[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def make_model(config: TimeseriesApp, sizes: Sizes) -> nn.Module:
    """A fresh model. Raises UserError where the tables contradict each other."""
    try:
        return build_model(config, sizes)
    except ValueError as error:
        raise UserError(str(error)) from None


def task_of_run(config: AppConfig, portable: dict[str, Any], path: Path | None) -> TimeseriesTask:
    """The task of a finished run on its own data or on those at `path`, by the same borders and the run's scale."""
    assert isinstance(config, TimeseriesApp)
    if path is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"path": str(path)})})
        if config.data.source == "pedestrians":
            config = config.model_copy(update={"data": config.data.model_copy(update={"source": "file"})})
    scaling = Scaling.from_json(portable["scaling"]) if portable.get("scaling") else None
    task = TimeseriesTask(config, scaling=scaling)
    if portable.get("calibration"):
        found = Calibration.of(portable["calibration"])
        task.calibration = found.of_variates(portable["variates"], task.data.variates)
    return task


def rebuild(config: AppConfig, portable: dict[str, Any]) -> nn.Module:
    """The model of a run, without its data."""
    assert isinstance(config, TimeseriesApp)
    return make_model(config, Sizes.of_portable(portable))
