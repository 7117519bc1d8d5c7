"""The time-series domain: iTransformer and SAMformer on the shared backbone. This file is its wiring; read it first."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from isoform.core.domain import Domain, Verb, lazily

if TYPE_CHECKING:
    import argparse

    from torch import nn


_later = lazily("isoform.timeseries")


def create(name: str, *, pretrained: bool | str = False, features_only: bool = False, **options: Any) -> nn.Module:
    """A model by the name of its app ("itransformer-etth1-96"); see `isoform.timeseries.models.create`."""
    model: nn.Module = _later("models:create")(name, pretrained=pretrained, features_only=features_only, **options)
    return model


def _forecast_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder")
    parser.add_argument("file", metavar="FILE", help=".csv, .parquet, .nc or .zarr with the columns of the run's data")
    parser.add_argument("--future", metavar="FILE", help="the known-future covariates over the horizon")
    parser.add_argument(
        "--from", metavar="STAMP", dest="start", help="first stamp to forecast (default: after the last)"
    )
    parser.add_argument("--quantiles", metavar="LEVELS", help="default: .1,.5,.9 where the run has intervals; '': none")
    parser.add_argument("--out", metavar="FILE", help=".csv, .parquet, .nc or .zarr (default: csv on stdout)")
    parser.add_argument("--plot", metavar="FILE", help="a picture: .png, .svg or .pdf")
    parser.add_argument("--checkpoint", default="best", metavar="best|last|STEP", help="default: best")


def _backtest_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder")
    parser.add_argument("file", metavar="FILE", help="the series, beyond what the run was trained on")
    parser.add_argument("--step", type=int, metavar="N", help="rows between forecasts (default: the horizon)")
    parser.add_argument("--lead", type=int, default=1, metavar="N", help="first step ahead that counts (default: 1)")
    parser.add_argument("--refit", type=int, metavar="N", help="train on with the rows before every N-th forecast")
    parser.add_argument(
        "--from", metavar="STAMP", dest="start", help="first stamp to judge (default: the first unseen)"
    )
    parser.add_argument("--against", metavar="FILE", help="your own forecasts: stamp, variate, value (and origin)")
    parser.add_argument("--out", metavar="FILE", help="every forecast as .csv or .parquet")
    parser.add_argument("--checkpoint", default="best", metavar="best|last|STEP", help="default: best")


DOMAIN = Domain(
    name="timeseries",
    summary="time series: forecasts with iTransformer and SAMformer",
    schema=lambda: import_module("isoform.timeseries.config").TimeseriesApp,
    settle=_later("settle:settle"),
    task=_later("task:TimeseriesTask"),
    task_of_run=_later("task:task_of_run"),
    predictor=_later("predictor:TimeseriesPredictor"),
    rebuild=_later("task:rebuild"),
    check=_later("data.check:check"),
    expand_inputs=list,
    import_weights=_later("pretrained:import_checkpoint"),
    export={
        "safetensors": _later("export:to_safetensors"),
        "official": _later("export:to_official"),
        "onnx": _later("export:to_onnx"),
        "openvino": _later("export:to_openvino"),
        "bundle": _later("export:to_bundle"),
    },
    verbs={
        "forecast": Verb(
            help="forecast what follows a file", arguments=_forecast_arguments, run=_later("forecast:run_forecast")
        ),
        "backtest": Verb(
            help="forecast again and again along a file, and judge", arguments=_backtest_arguments,
            run=_later("backtest:run_backtest"),
        ),
    },
    describe=_later("describe:describe"),
)  # fmt: skip
