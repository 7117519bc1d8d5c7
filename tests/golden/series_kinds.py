"""Adapter of the kind series-windows: a benchmark's file through the reader and the windows that training uses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from golden.cases import Case
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.data.windows import WindowData

LOADERS = {
    "Dataset_ETT_hour": "ett-hour", "Dataset_ETT_minute": "ett-minute", "Dataset_Custom": "custom",
    "Dataset_Solar": "solar", "Dataset_PEMS": "pems",
}  # fmt: skip
# Of the official loader; label_len only repeats rows of the look-back in front of a horizon.
KEYS = {
    "data_file",
    "loader",
    "features",
    "target",
    "seq_len",
    "label_len",
    "pred_len",
    "timeenc",
    "freq",
    "scale",
}


def settings(config: dict[str, Any], path: Path, horizon: int) -> TimeseriesApp:
    """The app of an official loader's settings. Raises ValueError for one that isoform can't honour."""
    if unknown := config.keys() - KEYS:
        raise ValueError(f"unknown settings {sorted(unknown)}")
    if config.get("timeenc", 1) != 1:
        raise ValueError(
            "timeenc = 0 can't be honoured: marks are fractions, not numbers of hours and days"
        )
    return TimeseriesApp.model_validate({
        "domain": "timeseries", "app": "golden",
        "data": {
            "source": LOADERS[config["loader"]], "path": str(path), "calendar": config.get("freq", "h").upper(),
            "targets": targets(config, path), "scale": "standard" if config.get("scale", True) else "none",
        },
        "model": {"context": config["seq_len"], "horizon": horizon},
        "tokeniser": {"calendar": "future"},
    })  # fmt: skip


def targets(config: dict[str, Any], path: Path) -> list[str] | None:
    """The columns in the loader's order, where it isn't that of the reader: one alone, or another one than OT last."""
    last, source = config.get("target", "OT"), LOADERS[config["loader"]]
    if config.get("features", "M") == "S":
        return [last]
    if source != "custom" or last == "OT":
        return None
    with path.open() as file:
        names = file.readline().strip().split(",")
    return [name for name in names if name not in ("date", last)] + [last]


def series_windows(case: Case, tmp_path: Path) -> None:
    """Window counts, the scale, and chosen windows with their marks."""
    path = data_file(case)
    horizons = case.config["pred_len"]
    output: dict[str, Tensor] = {}
    for horizon in horizons if isinstance(horizons, list) else [horizons]:
        data = WindowData(config := settings(case.config, path, horizon), read_panel(config.data))
        if case.config.get("features", "M") != "S":
            assert data.variates == case.json["data_file"]["columns"]
        check_counts(case, data)
        output["scaler_mean"] = torch.from_numpy(data.scaling.mean("target", data.variates))
        output["scaler_std"] = torch.from_numpy(data.scaling.std("target", data.variates))
        for split, size in data.sizes().items():
            for which, number in (("first", 0), ("last", size - 1)):
                output |= dict(pieces(f"H{horizon}/{split}_{which}", data, split, number))
    case.compare(output=output)


def data_file(case: Case) -> Path:
    """The real file that a case was made from."""
    about = case.json["data_file"]
    found = [path for path in sorted(case.data.rglob(about["name"])) if path.is_file()]
    assert found, (
        f"{about['name']} is not below {case.data}: give its folder with --golden-data DIR"
    )
    assert hashlib.sha256(found[0].read_bytes()).hexdigest() == about["sha256"], (
        f"{found[0]} is another file"
    )
    return found[0]


def check_counts(case: Case, data: WindowData) -> None:
    """Windows of each split, and the rows that they lie in with their look-backs."""
    counts, sizes = case.json["window_counts"], data.sizes()
    asked = f"L{data.context}_H{data.horizon}/"
    for name, want in counts.items():
        if name.startswith(asked):
            size = sizes[name.removeprefix(asked)]
            rows = size + data.context + data.horizon - 1
            assert (size, rows) == (want["windows"], want["rows_of_split_with_lookback"]), name
    assert any(name.startswith(asked) for name in counts), f"the case has no counts for {asked}"


def pieces(name: str, data: WindowData, split: str, number: int) -> Iterator[tuple[str, Tensor]]:
    """Look-back, horizon and their marks, whole, at both ends, and on average over time."""
    batch = {key: value[0].double() for key, value in data.batch(split, [number]).items()}
    L = data.context
    found = {
        "x": batch["context"], "y": batch["target"],
        "x_mark": batch["calendar"][:L], "y_mark": batch["calendar"][L:],
    }  # fmt: skip
    for key, value in found.items():
        yield f"{name}/{key}", value
        yield f"{name}/{key}_ends", value[[0, -1]]
        yield f"{name}/{key}_mean", value.mean(0)


KINDS: dict[str, Callable[[Case, Path], None]] = {"series-windows": series_windows}
