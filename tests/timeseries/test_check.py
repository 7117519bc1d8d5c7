"""`check`: what was read in numbers, leakage found, and a page that a hostile name can't harm."""

import json

import numpy as np
import pandas as pd
import pytest

from isoform.core.errors import UserError
from isoform.timeseries.check import app_of_path, check
from isoform.timeseries.data.leakage import find_leaks
from isoform.timeseries.data.read import read_frame
from isoform.timeseries.data.survey import blocks, repeated_windows, survey

from .files import frame, hours, real
from .panels import app, panel, series, walk, with_gaps

NAN = np.nan


def report(path, context=5, horizon=3, **data):
    return check(app(context, horizon, source="file", path=str(path), **data))


def noise(rows, columns=2, seed=0):
    return np.random.default_rng(seed).normal(size=(rows, columns)).round(6)


def test_a_sound_file(tmp_path):
    x = noise(211)
    path = frame(tmp_path / "x.csv", {"date": hours(211), "load [MW]": x[:, 0], "temp": x[:, 1]})
    found = report(path, past="temp")
    assert not found.leakage and found.lines[-1] == "no leakage found"
    assert found.lines[0].startswith(
        "x.csv: 1 variate, 211 rows, one each h, from 2024-01-01 00:00:00 to 2024-01-09 18:00"
    )
    # 211 rows: 42 test, 21 validate, 148 train; 148 - 5 - 3 + 1, 21 - 3 + 1 and 42 - 3 + 1 windows.
    assert found.data["windows"] == {"train": 141, "val": 19, "test": 40} and found.data[
        "past"
    ] == ["temp"]
    assert found.data["splits"]["test"] == [str(hours(211)[169]), str(hours(211)[210])]
    about = found.data["variates"]["load [MW]"]
    assert (about["unit"], about["min"], about["max"], about["missing"]) == (
        "MW",
        x[:, 0].min(),
        x[:, 0].max(),
        0,
    )
    assert about["mean"] == pytest.approx(x[:, 0].mean()) and about["std"] == pytest.approx(
        x[:, 0].std()
    )
    json.dumps(found.data)
    assert found.page.count("<svg") == 1


def test_what_is_odd_is_said(tmp_path):
    x = noise(307, 3)
    x[:, 1] = 4
    x[100:160, 2] = 1.5
    x[7:11, 0] = NAN
    columns = {
        "date": hours(307),
        "a": x[:, 0],
        "flat": x[:, 1],
        "stuck": x[:, 2],
        "copy": x[:, 0],
        "No": range(307),
    }
    path = frame(tmp_path / "x.csv", pd.DataFrame(columns).drop(index=[50, 51]))
    found = report(path, bounds={"stuck": [0, 2]})
    said = "\n".join(found.lines)
    for line in (
        "2 steps have no row and count as missing; the longest gap is 2 steps from 2024-01-03 02:00:00",
        "always the same value: flat", "the same value for long: stuck (60 rows)", "equal in every row: a = copy",
    ):  # fmt: skip
        assert line in said, said
    wrong = int(((x[:, 2] < 0) | (x[:, 2] > 2))[np.r_[0:50, 52:307]].sum())
    assert f"outside data.bounds: stuck ({wrong} values)" in said
    assert found.data["variates"]["a"]["missing"] == pytest.approx(6 / 307, abs=1e-6)
    assert found.data["variates"]["stuck"]["longest_run"] == 60 and found.data["constant"] == [
        "flat"
    ]


def test_a_covariate_that_is_the_target_leaks(tmp_path):
    x = noise(97)
    columns = {
        "date": hours(97),
        "y": x[:, 0],
        "z": x[:, 1],
        "fahrenheit": x[:, 0] * 1.8 + 32,
        "next": [*x[2:, 0], NAN, NAN],
    }
    path = frame(tmp_path / "x.csv", columns)
    found = report(path, targets=["y", "z"], known_future="fahrenheit", past="next")
    assert found.leakage and found.lines[-1].startswith("LEAKAGE")
    assert found.data["leaks"] == [
        {"covariate": "fahrenheit", "variate": "y", "lead": 0}, {"covariate": "next", "variate": "y", "lead": 2},
    ]  # fmt: skip
    assert "covariate next is the target y 2 rows ahead: leave it out (data.drop)" in found.lines
    late = report(
        path, targets=["y", "z"], horizon=1, past="next"
    )  # 2 rows ahead is behind this horizon
    assert not late.leakage and not report(path, targets=["y", "z"], past="fahrenheit").leakage


def test_noise_does_not_leak():
    made = panel(series(walk(211, 3), known=walk(217, 2, seed=1), past=walk(211, 2, seed=2)))
    assert find_leaks(made, 24) == []


def test_test_rows_that_were_copied_from_training_leak(tmp_path):
    x = noise(400, 3)
    x[320:] = x[0:80]
    found = report(
        frame(
            tmp_path / "x.csv", {"date": hours(400), **{k: x[:, i] for i, k in enumerate("abc")}}
        ),
        5,
        11,
    )
    assert found.leakage and found.data["repeated_windows"] == found.data["test_windows"] == 70
    assert "70 of 70 test horizons stand word for word in the training rows" in found.lines
    cut = [{"train": (0, 280), "val": (280, 320), "test": (320, 400)}]
    x[380:] = 0  # horizons that begin in rows 320 to 369 are still those of training
    assert repeated_windows(panel(series(x)), cut, 11) == (50, 70)
    x[40:60] = (
        0  # those up to 349 are; the 10 of zeros alone stand there too, but nothing happens in them
    )
    assert repeated_windows(panel(series(x)), cut, 11) == (30, 70)
    assert repeated_windows(panel(series(noise(400, 3))), cut, 11) == (0, 70)


def test_the_survey_is_the_same_by_blocks(monkeypatch):
    from isoform.timeseries.data import survey as module

    low, high = np.full(3, 90.0), np.full(3, 110.0)
    made = panel(series(with_gaps(walk(211, 3), 0.2)), series(with_gaps(walk(101, 3, seed=4), 0.9)))
    whole = survey(made, low, high)
    monkeypatch.setattr(module, "BLOCK_CELLS", 3 * 17)
    assert len(list(blocks(made.first))) == 13
    parts = survey(made, low, high)
    together = np.concatenate([one["target"].values for one in made])
    for found in (whole, parts):
        assert np.allclose(found.mean, np.nanmean(together, 0)) and np.allclose(
            found.deviation, np.nanstd(together, 0)
        )
        assert (found.least == np.nanmin(together, 0)).all() and (
            found.most == np.nanmax(together, 0)
        ).all()
        assert (found.count == (~np.isnan(together)).sum(0)).all() and found.rows == 312
        assert (found.outside == ((together < 90) | (together > 110)).sum(0)).all()
    for key, picture in whole.pictures.items():
        assert all(np.allclose(a, b) for a, b in zip(picture, parts.pictures[key], strict=True))


def test_many_variates_have_a_summary_and_few_pictures(tmp_path):
    x = noise(61, 103)
    x[:6, 7] = NAN
    made = pd.DataFrame(x, columns=[f"v{i}" for i in range(103)]).assign(date=hours(61))
    found = report(frame(tmp_path / "x.csv", made))
    said = "\n".join(found.lines)
    assert (
        "missing values: 0.10 % in all, median 0.00 %, most 9.84 % of a variate" in said
        and "  v7: " in said
    )
    assert "  v8: " not in said and found.page.count("<svg") == 24


def test_series_of_their_own(tmp_path):
    made = pd.DataFrame(
        {"id": np.repeat([*"abc"], 50), "date": np.tile(hours(50), 3), "x": noise(150, 1)[:, 0]}
    )
    found = report(frame(tmp_path / "x.csv", made), id="id", panel="series")
    assert (
        found.data["series"] == 3
        and found.data["rows"] == 150
        and found.data["windows"]["test"] == 3 * 8
    )
    assert "3 series of 1 variate, 150 rows" in found.lines[0] and found.page.count("<svg") == 3


def test_a_file_alone_is_checked_as_one_s_own(tmp_path):
    path = frame(tmp_path / "x.csv", {"date": hours(611), "a": walk(611, 1)[:, 0]})
    found = check(app_of_path(path))
    assert found.data["horizon"] == 24 and found.data["windows"]["train"] > 0
    short = frame(tmp_path / "y.csv", {"date": hours(3), "a": [1, 3, 1]})
    found = check(app_of_path(short))
    assert found.data["rows"] == 3 and found.data["windows"] == {} and "too few" in found.refusal
    with pytest.raises(UserError, match="no such file"):
        check(app_of_path(tmp_path / "none.csv"))


def test_a_store_is_checked_on_the_disk(tmp_path):
    import xarray as xr

    x = with_gaps(walk(311, 2), 0.1)
    made = xr.Dataset(
        {"load": (("time", "site"), x, {"units": "MW"})}, {"time": hours(311), "site": ["a", "b"]}
    )
    made.to_zarr(tmp_path / "s.zarr", zarr_format=2)
    found = report(tmp_path / "s.zarr", stream="disk")
    assert found.data["variates"]["a"]["missing"] == pytest.approx(
        np.isnan(x[:, 0]).mean(), abs=1e-6
    )
    assert found.data["variates"]["b"]["unit"] == "MW" and "stay on the disk" in "\n".join(
        found.lines
    )


def test_names_cannot_become_markup(tmp_path):
    name = '"><script>alert(1)</script>$x_1$'
    made = pd.DataFrame({"date": hours(61), name: noise(61)[:, 0]})
    found = report(frame(tmp_path / "<b>.csv", made))
    assert (
        "<script" not in found.page
        and "<b>" not in found.page
        and "&lt;script&gt;alert(1)" in found.page
    )


def test_published_data(golden_data):
    found = check(app(96, 96, source="ett-hour", path=str(real(golden_data, "ETTh1.csv"))))
    assert found.data["windows"] == {"train": 8449, "val": 2785, "test": 2785} and not found.leakage
    assert (
        found.data["splits"]["test"][0] == "2017-10-24 00:00:00"
    )  # 16 months of 30 days behind 2016-07-01


def test_a_frame_with_a_change_of_the_clock_is_reported():
    local = pd.date_range("2024-01-01", "2024-12-31", freq="h", tz="Europe/Berlin").tz_localize(
        None
    )
    made = read_frame(
        pd.DataFrame({"date": local.astype(str), "x": noise(len(local), 1)[:, 0]}),
        app(5, 3, tz="Europe/Berlin").data,
    )
    assert "Europe/Berlin's clock: 2 rows in hours that it shows twice" in "\n".join(
        made.findings.lines
    )
