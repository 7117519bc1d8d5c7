"""TimeseriesTask as the engine and the command line use it, on a small file of three sines."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr

import isoform
from commands import exit_code
from isoform.core import config as configs
from isoform.core.data import read
from isoform.core.errors import UserError
from isoform.timeseries import DOMAIN, metrics
from isoform.timeseries.prepare import prepare

CONTEXT, HORIZON, ROWS = 13, 5, 331
SMALL = [
    "data.source=file",
    "data.season=24",
    f"model.context={CONTEXT}",
    f"model.horizon={HORIZON}",
    "train.epochs=1",
    "train.batch=32",
    "train.accumulate=1",
    "backbone.dim=16",
    "train.log_every=50",
]
# Sines of one period, each what another will be some rows later: leakage, and what these tests want.
SINES = "data.allow_leakage=true"  # fmt: skip


def write_sines(path, names=("north", "south", "east"), rows=ROWS, missing=()):
    t = np.arange(rows)
    table = pd.DataFrame({"stamp": pd.date_range("2024-03-01", periods=rows, freq="h")})
    for i, name in enumerate(names):
        table[name] = 50 * (i + 1) + 10 * np.sin(2 * np.pi * (t + 5 * i) / 24) + 0.1 * t
    for row, name in missing:
        table.loc[row, name] = np.nan
    table.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def sines(tmp_path_factory):
    return write_sines(tmp_path_factory.mktemp("data") / "sines.csv")


def app(path, *sets, name="itransformer-tiny"):
    drop = ["data.val_from", "data.test_from", "data.until"] if name == "itransformer-tiny" else []
    config = configs.resolve_app(
        name, domain=DOMAIN, sets=[*SMALL, SINES, f"data.path={path}", *sets]
    )
    plain = {key.split(".")[1]: None for key in drop}
    return config.model_copy(update={"data": config.data.model_copy(update=plain)})


def task_of(config):
    return DOMAIN.task(DOMAIN.prepare(config))


@pytest.fixture(scope="module")
def run(sines, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "sines"
    settings = dict(one.split("=") for one in SMALL)
    settings = {
        key: json.loads(value) if value[0].isdigit() else value for key, value in settings.items()
    }
    settings |= {"data.path": str(sines), "data.allow_leakage": True}
    settings["head.quantiles"] = [0.1, 0.5, 0.9]
    return isoform.train("timeseries/itransformer-own", run_dir=folder, progress=False, **settings)


def test_every_window_is_a_sample(sines):
    task = task_of(app(sines))
    # 331 rows: 66 test, 33 validation, 232 train; stride 1, horizons within their split.
    assert task.sizes() == {
        "train": 232 - CONTEXT - HORIZON + 1,
        "val": 33 - HORIZON + 1,
        "test": 66 - HORIZON + 1,
    }


def test_augmentation_is_a_function_of_its_generator(sines):
    task = task_of(app(sines))

    def draw(seed):
        drawn = [task.sample("train", i, np.random.default_rng(seed + i)) for i in (3, 8, 1)]
        return task.collate(drawn)

    one, again, other = draw(0), draw(0), draw(50)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["context"], other["context"])
    plain = task.collate([task.sample("train", i, None) for i in (3, 8, 1)])
    assert not torch.equal(plain["target"], one["target"])  # stretched with its look-back
    ratio = one["target"] / plain["target"]
    assert torch.allclose(ratio, ratio[:, :1, :1].expand_as(ratio), atol=1e-4)


def test_a_batch_keeps_the_same_variates(sines):
    task = task_of(app(sines, "augment.variates=0.67"))
    batch = task.collate([task.sample("train", i, None) for i in range(7)])
    mixed = task.mix(batch, np.random.default_rng(1))
    assert mixed["target"].shape == (7, HORIZON, 2) and mixed["context"].shape == (7, CONTEXT, 2)
    assert mixed["calendar"].shape == batch["calendar"].shape
    chosen = [
        v
        for v in range(3)
        if any(torch.equal(batch["target"][..., v], mixed["target"][..., w]) for w in (0, 1))
    ]
    assert len(chosen) == 2
    for w, v in enumerate(chosen):
        assert torch.equal(batch["context"][..., v], mixed["context"][..., w])


class Fixed(torch.nn.Module):
    """Forecasts one number everywhere, with quantiles around it."""

    def forward(self, context, **_):
        out = torch.full((len(context), HORIZON, context.shape[-1], 3), 0.5)
        out[..., 1], out[..., 2] = 0.0, 1.0
        return out


def test_loss_by_hand_and_without_missing_targets(tmp_path):
    path = write_sines(tmp_path / "gaps.csv", missing=[(40, "south"), (41, "south"), (42, "east")])
    task = task_of(app(path, "head.quantiles=[0.2, 0.9]", "augment.variates=1.0"))
    batch = task.collate([task.sample("train", i, None) for i in range(25, 42)])
    seen = batch["observed"]
    assert seen.dtype == torch.bool and not seen.all()
    found = task.loss(Fixed(), batch)
    target = batch["target"][seen]
    point = (target - 0.5).square().mean()
    pinball = (
        torch.maximum(0.2 * target, -0.8 * target)
        + torch.maximum(0.9 * (target - 1), -0.1 * (target - 1))
    ) / 2
    torch.testing.assert_close(found["point"], point)
    torch.testing.assert_close(found["pinball"], pinball.mean())
    torch.testing.assert_close(found["loss"], point + pinball.mean())
    batch["target"] = torch.where(seen, batch["target"], 1e6)
    torch.testing.assert_close(task.loss(Fixed(), batch)["loss"], found["loss"])


def test_a_run_judges_itself_beside_baselines(run):
    test = run.metrics["test"]
    assert {"mse", "mae", "windows", "unit_mae", "mase", "crps"} <= test.keys()
    assert test["windows"] == 66 - HORIZON + 1
    assert {"last", "seasonal_naive", "linear"} <= run.results["baselines"].keys()
    for found in run.results["baselines"].values():
        assert found["test"]["windows"] == test["windows"]
    assert (run.folder / "report.html").read_text().count("<svg") >= 4


def test_the_file_is_opened_and_parsed_once(sines, tmp_path, monkeypatch):
    """Whatever asks for the data in a training of two seeds: preparing, the task, the baselines, the pictures."""
    opened, parsed, scales = [], [], []
    own_parse, own_scale = read.table_of, metrics._scale_of

    def counting_open(file, *args, **keywords):
        if str(file) == str(sines):
            opened.append(file)
        return builtin_open(file, *args, **keywords)

    builtin_open = builtins.open
    monkeypatch.setattr(builtins, "open", counting_open)
    monkeypatch.setattr(
        Path, "open", lambda self, *args, **keywords: counting_open(self, *args, **keywords)
    )
    monkeypatch.setattr(
        read, "table_of", lambda *args, **keywords: parsed.append(1) or own_parse(*args, **keywords)
    )
    monkeypatch.setattr(metrics, "_scale_of", lambda *args: scales.append(1) or own_scale(*args))
    sets = [*SMALL, SINES, f"data.path={sines}", "head.quantiles=[0.1, 0.9]"]
    words = [word for one in sets for word in ("--set", one)]
    folder = tmp_path / "run"
    argv = [
        "timeseries",
        "train",
        "itransformer-own",
        "--run-dir",
        str(folder),
        "--seeds",
        "2",
        *words,
    ]
    assert exit_code(*argv) == 0
    assert (len(opened), len(parsed)) == (1, 1)
    assert len(scales) == 3  # MASE's denominators, once a seed and once of both together
    monkeypatch.undo()
    results = [
        json.loads((folder / f"seed-{seed}" / "results.json").read_text()) for seed in (1, 2)
    ]
    assert (
        results[0]["baselines"] == results[1]["baselines"]
        and results[0]["metrics"] != results[1]["metrics"]
    )


def test_a_check_refuses_what_a_training_refuses(tmp_path, capsys):
    short, late = (
        app(write_sines(tmp_path / f"{name}.csv", rows=rows))
        for name, rows in (("short", 20), ("late", 331))
    )
    late = late.model_copy(update={"data": late.data.model_copy(update={"val_from": "2030-01-01"})})
    for rows, config in ((20, short), (331, late)):
        report = DOMAIN.check(config)
        with pytest.raises(UserError) as refused:
            DOMAIN.prepare(config)
        assert report.refusal == str(refused.value) and report.data["rows"] == rows
    assert DOMAIN.check(app(write_sines(tmp_path / "fine.csv"))).refusal is None
    argv = [
        "timeseries",
        "check",
        str(tmp_path / "short.csv"),
        "--set",
        "model.context=19",
        "--set",
        "model.horizon=3",
    ]
    assert exit_code(*argv) == 2
    assert "too few for a look-back of 19" in capsys.readouterr().err


def test_predictions_are_in_the_data_s_units(run, sines):
    table = pd.read_csv(sines, index_col="stamp", parse_dates=True)
    with xr.open_dataset(run.folder / "predictions.nc", engine="h5netcdf") as found:
        assert found.sizes["window"] == 66 - HORIZON + 1 and list(found.variate.values) == [
            "north",
            "south",
            "east",
        ]
        origin = pd.Timestamp(found.origin.values[7])  # the last stamp known
        truth = table.loc[origin:].iloc[1 : 1 + HORIZON]
        np.testing.assert_allclose(found.truth.values[7], truth, rtol=1e-5)
        assert (np.diff(found.quantiles.values, axis=-1) >= 0).all()


def test_eval_on_other_variates_and_rows(run, tmp_path, capsys):
    """Of variates that the run never saw every window is judged; own predictions stay as they are."""
    other = write_sines(tmp_path / "west.csv", names=("west", "low"), rows=251)
    own = (run.folder / "predictions.nc").stat().st_mtime_ns
    argv = ["timeseries", "eval", str(run.folder), "--data", str(other), "--json"]
    assert exit_code(*argv) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert found["metrics"]["windows"] == 251 - CONTEXT - HORIZON + 1
    assert found["judged"].endswith("every one of west.csv, of which this run has seen nothing")
    assert "2 of 2 variates are new to this run" in " ".join(found["notes"])
    assert (run.folder / "predictions.nc").stat().st_mtime_ns == own
    assert (run.folder / "predictions.west.nc").exists()


def test_too_few_rows_are_one_sentence(tmp_path):
    path = write_sines(tmp_path / "short.csv", rows=20)
    with pytest.raises(UserError, match=r"short\.csv.*20 rows"):
        task_of(app(path))


def test_preparing_twice_changes_nothing(sines):
    config = configs.resolve_app("itransformer-own", domain=DOMAIN, sets=[f"data.path={sines}"])
    prepared = prepare(config)
    once, again = prepared.config, prepare(prepared.config)
    assert again.config == once
    assert list(again.notes) == ["stamps: column stamp"] == list(prepared.notes[:1])
    assert (once.model.horizon, once.backbone.dim) == (24, 64) and isinstance(
        once.train.epochs, int
    )
