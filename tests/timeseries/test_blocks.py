"""Bootstrap intervals of forecasts: what blocks add up to, what a block is, and when there are too few."""

from __future__ import annotations

import json

import numpy as np
import pytest

from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.timeseries import DOMAIN, blocks
from isoform.timeseries.blocks import BlockSums
from isoform.timeseries.metrics import ForecastAccumulator

from .runs import Plain, app, frame, saved, trained
from .test_metrics import LEVELS, H, judged_by, made, outputs_of


def tables(judged):
    return {
        name.removeprefix("by_block/"): value
        for name, value in judged.outputs().items()
        if name.startswith("by_block/")
    }


@pytest.mark.parametrize(("missing", "series"), [(0.0, 1), (0.3, 2)])
def test_blocks_add_up_to_the_figures(missing, series):
    data = made(missing=missing, series=series, rows=211)
    judged = judged_by(data, outputs_of(data), resampled=True)
    pairs, metrics = tables(judged), judged.metrics()
    assert pairs.keys() == metrics.keys() - {"windows"}
    for name, pair_K2 in pairs.items():
        top, count = pair_K2.sum(0)
        value = np.sqrt(top / count) if name.startswith("unit_rmse") else top / count
        assert value == pytest.approx(metrics[name])
    found = blocks.intervals(pairs)
    assert found.keys() == pairs.keys()
    for name, (low, high) in found.items():
        assert low <= metrics[name] <= high


def test_a_block_is_a_stretch_of_rows_of_one_series_or_a_series_of_many():
    where = np.array([[0, 5], [0, 6], [0, 7], [1, 5], [0, 6]])
    few = BlockSums(series=2, rows=H)
    again = few.of(where)
    assert len({again[0], again[1], again[3]}) == 3 and again[1] == again[2] == again[4]
    many = BlockSums(series=blocks.MANY_SERIES, rows=H)
    assert many.of(where).tolist() == [0, 0, 0, 1, 0]


def test_windows_in_any_order_and_parts_give_the_same_sums():
    data = made(series=2, rows=211)
    outputs = outputs_of(data)
    whole = tables(judged_by(data, outputs, resampled=True))
    order = np.random.default_rng(0).permutation(len(outputs["target"]))
    parts = ForecastAccumulator(data, "test", LEVELS, 4, resampled=True)
    for some in np.array_split(order, 7):
        parts.add(some.tolist(), {name: value[some] for name, value in outputs.items()})
    for name, pair_K2 in tables(parts).items():
        one, other = (np.sort(table[:, 0]) for table in (pair_K2, whole[name]))
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-12)


def test_few_blocks_say_nothing_and_nobody_sums_them_unasked():
    data = made(rows=61)
    pairs = tables(judged_by(data, outputs_of(data), resampled=True))
    assert 0 < len(pairs["mae"]) < blocks.FEWEST and blocks.intervals(pairs) == {}
    assert tables(judged_by(data, outputs_of(data))) == {}
    assert blocks.intervals({}) == {}


def test_windows_that_share_rows_have_a_wider_interval_than_as_many_of_their_own():
    """Errors that come in runs of 50 windows are worth a 50th of as many independent ones."""
    rng = np.random.default_rng(0)
    runs = np.repeat(rng.normal(size=40) ** 2, 50)
    widths = []
    for rows in (1, 50):
        sums = BlockSums(series=1, rows=rows)
        where = np.stack([np.zeros(2000, int), np.arange(2000)], 1)
        for name, value in (("mae", runs), ("count", np.ones(2000))):
            sums.add(name, value[:, None, None], 1.0, sums.of(where))
        table = sums.table()
        pair = np.stack([table["mae"].sum(1), table["count"].sum(1)], 1)
        low, high = blocks.intervals({"mae": pair})["mae"]
        widths.append(high - low)
    assert widths[1] / widths[0] == pytest.approx(50**0.5, rel=0.15)


def test_a_run_has_intervals_and_eval_prints_the_same(tmp_path, cli):
    """By its own monitor; what it doesn't measure is refused, and no probability is asked of forecasts."""
    run = trained(tmp_path, frame(rows=1531), train={"monitor": "smape", "epochs": 1})
    results = RunFolder(run).results()
    assert (results["monitor"], results["monitor_mode"]) == ("smape", "min")
    test, ranges = results["metrics"]["test"], results["intervals"]["test"]
    assert ranges.keys() == test.keys() - {"windows"}
    for name, (low, high) in ranges.items():
        assert low <= test[name] <= high
    code, out, err = cli("eval", run, "--json")
    assert code == 0 and "95 % interval" in err
    for name, ends in json.loads(out.splitlines()[-1])["intervals"].items():
        assert ends == pytest.approx(ranges[name], rel=1e-5)
    with pytest.raises(UserError, match="roc_auc is no metric of forecasts; there are mse, mae"):
        prepared = DOMAIN.prepare(
            app(saved(frame(), tmp_path / "a.csv"), train={"monitor": "roc_auc"})
        )
        Plain(prepared.config, prepared.data)
