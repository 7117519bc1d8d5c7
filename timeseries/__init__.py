"""The time-series domain: iTransformer and SAMformer on the shared backbone. This file is its wiring; read it first."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from isoform.core.domain import Domain, Verb

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from isoform.core.domain import (
        CheckReport,
        Export,
        Graph,
        ImportedModel,
        Prepared,
        Speaker,
        TrainedModel,
    )
    from isoform.timeseries.config import TimeseriesApp
    from isoform.timeseries.data.windows import WindowData
    from isoform.timeseries.predictor import TimeseriesPredictor
    from isoform.timeseries.state import TimeseriesState
    from isoform.timeseries.task import TimeseriesTask


class Timeseries(Domain["TimeseriesApp", "TimeseriesState", "WindowData"]):
    """See Domain for what each method promises."""

    name = "timeseries"
    summary = "time series: forecasts with iTransformer and SAMformer"
    predict_options = ("with",)

    def schema(self) -> type[TimeseriesApp]:
        """See config.py."""
        from isoform.timeseries.config import TimeseriesApp

        return TimeseriesApp

    def state_schema(self) -> type[TimeseriesState]:
        """See state.py."""
        from isoform.timeseries.state import TimeseriesState

        return TimeseriesState

    def prepare(self, config: TimeseriesApp) -> Prepared[TimeseriesApp, WindowData]:
        """See prepare.py."""
        from isoform.timeseries.prepare import prepare, without_leakage

        return without_leakage(prepare(config))

    def task(self, prepared: Prepared[TimeseriesApp, WindowData]) -> TimeseriesTask:
        """See task.py."""
        from isoform.timeseries.task import TimeseriesTask

        return TimeseriesTask(prepared.config, prepared.data)

    def check(self, config: TimeseriesApp) -> CheckReport:
        """See check.py."""
        from isoform.timeseries.check import check

        return check(config)

    def app_of_path(self, path: Path) -> TimeseriesApp:
        """What `itransformer-own` would make of a file."""
        from isoform.timeseries.check import app_of_path

        return app_of_path(path)

    def build_from_run(self, config: TimeseriesApp, state: TimeseriesState) -> nn.Module:
        """See models.py."""
        from isoform.timeseries.models import make_model
        from isoform.timeseries.sizes import Sizes

        return make_model(config, Sizes.of_state(state))

    def task_from_run(
        self, config: TimeseriesApp, state: TimeseriesState, data: Path | None
    ) -> TimeseriesTask:
        """See task.py."""
        from isoform.timeseries.task import task_from_run

        return task_from_run(config, state, data)

    def predictor(
        self, trained: TrainedModel[TimeseriesApp, TimeseriesState]
    ) -> TimeseriesPredictor:
        """See predictor.py; it also has `forecast`."""
        from isoform.timeseries.predictor import TimeseriesPredictor

        return TimeseriesPredictor(trained.config, trained.state, trained.model)

    def baseline(
        self, trained: TrainedModel[TimeseriesApp, TimeseriesState], folder: Path, name: str
    ) -> TimeseriesPredictor:
        """See stored_baselines.py."""
        from isoform.timeseries.stored_baselines import BaselinePredictor, read

        return BaselinePredictor(trained, *read(folder, name, int(trained.config.model.horizon)))

    def join_folds(
        self, members: Sequence[TrainedModel[TimeseriesApp, TimeseriesState]]
    ) -> tuple[TimeseriesState, list[nn.Module]]:
        """See folds.py."""
        from isoform.timeseries.folds import join_folds

        return join_folds(members)

    def join_predictions(self, folders: Sequence[Path], out: Path) -> None:
        """predictions.nc; see folds.py."""
        from isoform.timeseries.folds import join_predictions

        join_predictions(folders, out)

    def graph(self, trained: TrainedModel[TimeseriesApp, TimeseriesState]) -> Graph:
        """See export.py."""
        from isoform.timeseries.export import graph

        return graph(trained)

    def from_facts(
        self, trained: TrainedModel[TimeseriesApp, TimeseriesState], facts: Mapping[str, Any]
    ) -> TrainedModel[TimeseriesApp, TimeseriesState]:
        """See export.py."""
        from isoform.timeseries.export import config_of_facts

        told = super().from_facts(trained, facts)
        return replace(told, config=config_of_facts(told.config, facts))

    def import_weights(
        self, source: str, layout: str | None = None, config: TimeseriesApp | None = None
    ) -> ImportedModel[TimeseriesApp, TimeseriesState]:
        """See pretrained.py."""
        from isoform.timeseries.pretrained import import_checkpoint

        return import_checkpoint(source, layout, config)

    def export_formats(self) -> Mapping[str, Export]:
        """official: a checkpoint of the code base that the weights came from, else of thuml/iTransformer."""
        from isoform.timeseries.export import write_official

        return {"official": write_official}

    def app_of_model(self, name: str, **options: Any) -> tuple[TimeseriesApp, TimeseriesState]:
        """See models.py for the options."""
        from isoform.timeseries.models import app_of_model

        return app_of_model(name, **options)

    def describe(self, config: TimeseriesApp, *, detail: bool = True) -> Mapping[str, Any]:
        """See describe.py."""
        from isoform.timeseries.describe import describe

        return describe(config, detail=detail)

    def verbs(self) -> Mapping[str, Verb]:
        """See forecast.py and backtest.py."""
        forecast = Verb(
            help="forecast what follows a file", arguments=_forecast_arguments, run=_run_forecast
        )
        backtest = Verb(
            help="forecast again and again along a file, and judge",
            arguments=_backtest_arguments,
            run=_run_backtest,
        )
        return {"forecast": forecast, "backtest": backtest}


def _forecast_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder")
    parser.add_argument(
        "files",
        nargs="+",
        metavar="FILE",
        help=".csv, .parquet, .nc or .zarr with the columns of the run's data; several are forecast one by one",
    )
    parser.add_argument(
        "--future", metavar="FILE", help="the known-future covariates over the horizon"
    )
    parser.add_argument(
        "--from",
        metavar="STAMP",
        dest="start",
        help="first stamp to forecast (default: after the last)",
    )
    parser.add_argument(
        "--quantiles",
        metavar="LEVELS",
        help="default: .1,.5,.9 where the run has intervals; '': none",
    )
    parser.add_argument(
        "--out",
        metavar="FILE",
        help=".csv, .parquet, .nc or .zarr (default: csv on stdout); of several files one table, or a folder",
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit code 2 if any file fails, not only if all do"
    )
    parser.add_argument("--plot", metavar="FILE", help="a picture: .png, .svg or .pdf")
    parser.add_argument(
        "--with",
        dest="baseline",
        metavar="NAME",
        help="a baseline that the run stored, in its model's place, such as lag_boosting",
    )
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="default: best"
    )


def _run_forecast(args: argparse.Namespace, console: Speaker) -> int:
    from isoform.timeseries.forecast import run_forecast

    return run_forecast(args, console)


def _backtest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder")
    parser.add_argument(
        "file", metavar="FILE", help="the series, beyond what the run was trained on"
    )
    parser.add_argument(
        "--step", type=int, metavar="N", help="rows between forecasts (default: the horizon)"
    )
    parser.add_argument(
        "--lead", type=int, default=1, metavar="N", help="first step ahead that counts (default: 1)"
    )
    parser.add_argument(
        "--refit", type=int, metavar="N", help="train on with the rows before every N-th forecast"
    )
    parser.add_argument(
        "--from",
        metavar="STAMP",
        dest="start",
        help="first stamp to judge (default: the first unseen)",
    )
    parser.add_argument(
        "--against",
        metavar="FILE",
        help="other forecasts: stamp, variate, value (and origin), or a table of Nixtla's, Prophet's or Darts'",
    )
    parser.add_argument("--out", metavar="FILE", help="every forecast as .csv or .parquet")
    parser.add_argument(
        "--checkpoint", default="best", metavar="best|last|STEP", help="default: best"
    )


def _run_backtest(args: argparse.Namespace, console: Speaker) -> int:
    from isoform.timeseries.backtest import run_backtest

    return run_backtest(args, console)


DOMAIN = Timeseries()
