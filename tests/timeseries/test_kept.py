"""What a run on series keeps: stretches that are found by their stamps, and a variate that test has no value of."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from isoform.core.domain.kept_split import compare
from isoform.timeseries import DOMAIN
from isoform.timeseries.data.kept import find_rows, keep_split
from isoform.timeseries.data.read import read_panel
from isoform.timeseries.prepare import prepare

from . import runs

STREAM = {"stream": "disk", "path": "s.zarr", "bounds": {}, "drop": []}


def kept_of(table: pd.DataFrame, path):
    config = runs.app(runs.saved(table, path))
    return DOMAIN.task(prepare(config)).kept_split()


def test_rows_in_front_change_no_stretch(tmp_path):
    whole = runs.frame()
    kept = kept_of(whole[17:], tmp_path / "a.csv")
    panel = read_panel(runs.app(runs.saved(whole, tmp_path / "a.csv")).data)
    span = kept.spans[""]["test"]
    assert find_rows(panel.first, span) == (span[2] + 17, span[3] + 17)
    found = compare(kept, keep_split(panel, [], False, kept.spans))
    assert not found.changed and not found.removed
    assert list(found.added) == ["17 rows from 2026-03-02T00:00:00 to 2026-03-02T16:00:00"]


def test_a_number_that_changes_is_in_its_column_and_stretch(tmp_path):
    table = runs.frame()
    kept = kept_of(table, tmp_path / "a.csv")
    table.loc[430, "south"] += 0.5
    assert dict(compare(kept, kept_of(table, tmp_path / "a.csv")).changed) == {
        "test": ["south (test)"]
    }


def test_a_hole_in_a_stretch_is_a_change_and_its_end_a_loss(tmp_path):
    table = runs.frame()
    kept = kept_of(table, tmp_path / "a.csv")
    panel = read_panel(runs.app(runs.saved(table.drop(index=[3, 4]), tmp_path / "a.csv")).data)
    found = compare(kept, keep_split(panel, [], False, kept.spans))
    assert list(found.changed) == ["train"] and not found.removed
    panel = read_panel(runs.app(runs.saved(table[:-1], tmp_path / "a.csv")).data)
    found = compare(kept, keep_split(panel, [], False, kept.spans))
    assert list(found.removed) == ["test"] and not found.changed and not found.added


def test_series_by_their_ids(tmp_path):
    long = pd.concat([runs.frame(131 + 10 * k).assign(who=name) for k, name in enumerate("pqr")])
    changes = {"id": ["who"], "panel": "series"}

    def kept_(table):
        config = runs.app(runs.saved(table, tmp_path / "a.csv"), data=changes)
        return read_panel(config.data), DOMAIN.task(prepare(config)).kept_split()

    _, kept = kept_(long)
    assert set(kept.spans) == {"p", "q", "r"}
    panel, _ = kept_(pd.concat([long[long.who != "q"], runs.frame(101).assign(who="s")]))
    found = compare(kept, keep_split(panel, [], False, kept.spans))
    assert not found.changed and list(found.added) == ["the series s"]
    assert found.removed["test"] == [f"q {name} (test)" for name in runs.VARIATES]


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_a_store_on_the_disk_is_known_by_its_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = runs.frame().drop(columns="temp").set_index("date")

    def kept_(values):
        dataset = values.rename_axis("time").to_xarray()
        dataset.to_zarr("s.zarr", mode="w")
        return DOMAIN.task(prepare(runs.app("s.zarr", data=STREAM))).kept_split()

    kept = kept_(table)
    assert [one.names for one in kept.splits.values()] == [[f"s.zarr ({s})"] for s in kept.splits]
    assert not compare(kept, kept_(table))
    table.iloc[5, 0] += 1
    assert set(compare(kept, kept_(table)).changed) == {"train", "val", "test"}


def test_a_variate_without_a_value_in_test_is_named(tmp_path, cli):
    table = runs.frame()
    table.loc[330:, "south"] = np.nan
    path = runs.saved(table, tmp_path / "a.csv")
    line = "warning: test holds 2 of 3 variates, and its metrics run over these; no sample of south"
    sets = [f"data.path={path}", "data.drop=[\"temp\"]", "model.context=29", "model.horizon=7", "train.epochs=1",
            "backbone.dim=8", "backbone.depth=1", "backbone.heads=2", "eval.baselines=[]"]  # fmt: skip
    words = [word for one in sets for word in ("--set", one)]
    code, out, err = cli("train", "itransformer-own", "--run-dir", tmp_path / "run", *words)
    assert code == 0 and line in out.splitlines(), err
    assert line in cli("check", "itransformer-own", *words, "--page", tmp_path / "p.html")[1]
    code, out, err = cli("eval", tmp_path / "run")
    assert code == 0 and line in err
    assert line in json.loads((tmp_path / "run" / "results.json").read_text())["notes"]
