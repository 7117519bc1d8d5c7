"""NetCDF and Zarr: the same panel as a csv gives, stores that stay on the disk, and files that want to run code."""

import json
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from isoform.timeseries.data import disk, source_file, store
from isoform.timeseries.data.windows import WindowData

from .files import hours, read, refused, same, values
from .panels import app

NAN = np.nan
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*Zarr format 3 specification", "ignore:.*does not have a Zarr V3"
)


def dataset(rows=29, sites=3, seed=0):
    """load (time, site) in MW, temp (time) in degC, alt (site)."""
    x = np.random.default_rng(seed).normal(size=(rows, sites + 1)).astype(np.float32)
    return xr.Dataset(
        {
            "load": (("time", "site"), x[:, :-1], {"units": "MW"}), "temp": (("time",), x[:, -1], {"units": "degC"}),
            "alt": (("site",), np.arange(1.0, sites + 1)), "crs": ((), 7),
        },
        {"time": hours(rows), "site": [f"s{i}" for i in range(sites)]},
    )  # fmt: skip


def saved(made, path, chunks=None):
    encoding = {
        name: {"chunks": chunks[: made[name].ndim]}
        for name in made.data_vars
        if chunks and "time" in made[name].dims
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if path.suffix == ".nc":
            made.to_netcdf(path, engine="h5netcdf")
        else:
            made.to_zarr(
                path, zarr_format=2 if "2" in path.name else 3, encoding=encoding, mode="w"
            )
    return path


@pytest.mark.parametrize("name", ["a.nc", "a2.zarr", "a3.zarr", "old.nc"])
def test_variables_with_further_axes_are_columns(tmp_path, name):
    made = dataset()
    if name == "old.nc":
        made.to_netcdf(tmp_path / name, engine="scipy", format="NETCDF3_64BIT")
    else:
        saved(made, tmp_path / name)
    panel = read(tmp_path / name)
    assert panel.variates == ["s0", "s1", "s2", "temp"] and panel.first[
        "units"
    ].values.tolist() == ["MW"] * 3 + ["degC"]
    assert (
        same(values(panel).iloc[:, :3], made["load"]) and panel.first["target"].dtype == np.float32
    )
    assert read(tmp_path / name, targets="load").variates == ["s0", "s1", "s2"]
    assert read(tmp_path / name, targets="s1", known_future="temp").names("known") == ["temp"]
    assert len(panel.sha256) == 64


def test_two_such_variables_are_told_apart(tmp_path):
    made = dataset().assign(wind=(("time", "site"), np.ones((29, 3))))
    panel = read(saved(made, tmp_path / "w.nc"), past="wind", targets=["load/s2", "temp"])
    assert panel.variates == ["load/s2", "temp"] and panel.names("past") == [
        "wind/s0",
        "wind/s1",
        "wind/s2",
    ]
    assert same(values(panel)["load/s2"], made["load"][:, 2])
    refused('has no column "wind/s9"', path=tmp_path / "w.nc", targets="wind/s9")


@pytest.mark.parametrize("name", ["i.nc", "i3.zarr"])
def test_an_axis_as_id(tmp_path, name):
    path = saved(dataset(), tmp_path / name)
    panel = read(path, id="site", targets="load", known_future="temp", static="alt", panel="series")
    assert [one.attrs["id"] for one in panel] == ["s0", "s1", "s2"] and panel.variates == ["load"]
    assert same(panel.series[2]["target"][:, 0], dataset()["load"][:, 2]) and panel.names(
        "known"
    ) == ["temp"]
    assert [float(one["static_values"][0]) for one in panel] == [1, 2, 3]
    panel = read(path, id="site", targets="load")
    assert panel.variates == ["s0", "s1", "s2"] and same(values(panel), dataset()["load"])


def test_axes_in_any_order_packed_numbers_and_missing_ones(tmp_path):
    made = dataset().transpose("site", "time")
    made["load"][1, 5] = NAN
    encoding = {"load": {"dtype": "int16", "scale_factor": 0.001, "_FillValue": -32768}}
    made.to_netcdf(tmp_path / "p.nc", engine="h5netcdf", encoding=encoding)
    panel = read(tmp_path / "p.nc", targets="load")
    assert np.allclose(values(panel), made["load"].T, atol=1e-3, equal_nan=True) and np.isnan(
        values(panel).iloc[5, 1]
    )


def test_durations_stay_numbers(tmp_path):
    made = dataset().assign(sun=(("time",), np.arange(29.0) ** 2, {"units": "hours"}))
    panel = read(saved(made, tmp_path / "d.nc"), targets="sun")
    assert same(values(panel)["sun"], np.arange(29) ** 2) and panel.first[
        "units"
    ].values.tolist() == ["hours"]


def test_stamps_by_another_name_or_in_parts(tmp_path):
    made = dataset().rename(time="valid").drop_vars("site")
    path = saved(made, tmp_path / "v.nc")
    assert read(path).variates == ["0", "1", "2", "temp"] and read(path, time="valid").freq == "h"
    t = np.arange(29)
    clock = {"year": t * 0 + 2024, "month": t * 0 + 1, "day": t // 24 + 1, "hour": t % 24}
    parts = made.drop_vars("valid").assign_coords(
        {unit: ("valid", cells) for unit, cells in clock.items()}
    )
    panel = read(saved(parts, tmp_path / "y.nc"))
    assert (
        values(panel).index == hours(29)
    ).all() and "stamps: year, month, day, hour" in panel.findings.lines


# Stores on the disk ---------------------------------------------------------------------------------------------------


@pytest.fixture
def counted(monkeypatch):
    """The rows that are read of a store, one entry a read."""
    rows = []
    original = disk.Field.read

    def read_rows(self, *key):
        found = original(self, *key)
        rows.append(len(found))
        return found

    monkeypatch.setattr(disk.Field, "read", read_rows)
    return rows


@pytest.mark.parametrize("name", ["d2.zarr", "d3.zarr"])
def test_a_store_on_the_disk_is_read_by_slices(tmp_path, name, counted):
    made = dataset(211)
    path = saved(made, tmp_path / name, (13, 2))
    panel = read(path, stream="disk", targets="load", known_future="temp")
    target = panel.first["target"]
    assert not target.variable._in_memory and target.encoding["preferred_chunks"]["time"] == 13
    assert panel.first.attrs["rows"] == 211 and panel.first["known_values"].variable._in_memory
    counted.clear()
    assert same(target[17:30].values, made["load"][17:30]) and counted == [13]
    counted.clear()
    assert (
        same(target[[3, 200, 7], [2, 0]].values, made["load"].values[[3, 200, 7]][:, [2, 0]])
        and sum(counted) <= 211
    )
    assert same(target[5].values, made["load"][5]) and same(
        target[-1, 1].values, made["load"][-1, 1]
    )
    again = pickle.loads(pickle.dumps(target))  # as a loader's process gets it
    assert same(again[2:5].values, made["load"][2:5])


def messy(seed=3):
    """A store that isn't in order, has gaps, and stamps twice, some with other values."""
    made = dataset(97)
    rng = np.random.default_rng(seed)
    kept = np.sort(rng.choice(97, 83, replace=False))
    order = np.concatenate([kept, kept[[2, 30]], kept[[50]]])
    order[[10, 11]] = order[[11, 10]]
    chosen = made.isel(time=order).copy(deep=True)
    chosen["load"][-1] += 1  # the last one differs from its double
    chosen["load"][20, 1] = np.inf
    chosen["load"][25:27] = NAN
    return chosen


@pytest.mark.parametrize(
    ("freq", "how"), [(None, "mean"), (None, "last"), ("2h", "mean"), ("6h", "sum"), ("D", "last")]
)
def test_a_messy_store_is_the_same_on_the_disk_and_in_memory(tmp_path, freq, how):
    path = saved(messy(), tmp_path / "m3.zarr", (11, 2))
    options = {"targets": "load", "past": "temp", "freq": freq, "aggregate": how}
    disk, memory = read(path, stream="disk", **options), read(path, stream="memory", **options)
    assert (
        same(disk.first["target"], memory.first["target"])
        and disk.first.attrs == memory.first.attrs
    )
    assert same(disk.first["past_values"], memory.first["past_values"])
    assert (
        disk.first["time"].values == memory.first["time"].values
    ).all() and disk.freq == memory.freq
    assert disk.findings.data["empty_steps"] == memory.findings.data["empty_steps"]
    steps = disk.first.sizes["time"]
    parts = [disk.first["target"][i : i + 7].values for i in range(0, steps, 7)]
    assert same(np.concatenate(parts), memory.first["target"])


def test_windows_of_a_store_are_those_of_memory(tmp_path):
    path = str(saved(messy(), tmp_path / "w3.zarr", (11, 3)))
    made = {
        stream: WindowData(
            app(5, 3, source="file", path=path, stream=stream),
            read(path, stream=stream, targets="load"),
        )
        for stream in ("disk", "memory")
    }
    assert (
        made["disk"].on_disk
        and not made["memory"].on_disk
        and made["disk"].sizes() == made["memory"].sizes()
    )
    a, b = (one.batch("train", np.arange(0, 50, 7)) for one in made.values())
    assert a.keys() == b.keys() and all((a[key] == b[key]).all() for key in a)


def test_auto_streams_what_is_large(tmp_path, monkeypatch):
    path = saved(dataset(), tmp_path / "s3.zarr")
    assert read(path).first["target"].variable._in_memory
    monkeypatch.setattr(store, "STREAM_BYTES", 99)
    assert not read(path).first["target"].variable._in_memory
    assert read(path, stream="memory").first["target"].variable._in_memory
    assert read(path, id="site", targets="load").first["target"].variable._in_memory


def test_rows_behind_the_last_target_of_a_store(tmp_path):
    made = dataset(61)
    made["load"][53:] = NAN
    path = saved(made, tmp_path / "r3.zarr", (7, 3))
    one = read(path, stream="disk", targets="load", known_future="temp").first
    assert one.attrs["rows"] == 53 and one.sizes["time"] == 61
    assert read(path, stream="disk", targets="load").first.sizes["time"] == 53


def test_static_values_of_a_store_are_single_numbers(tmp_path):
    path = saved(dataset(), tmp_path / "k3.zarr")
    assert same(read(path, stream="disk", targets="load", static="crs").first["static_values"], [7])
    refused('"temp" (data.static) varies', path=path, stream="disk", targets="load", static="temp")


# Mistakes and bad intentions ------------------------------------------------------------------------------------------


class Bomb:
    def __reduce__(self):
        return (exec, ("raise SystemExit('ran')",))


def test_pickles_in_a_store_never_run(tmp_path):
    path = saved(dataset(5), tmp_path / "p2.zarr")
    about = json.loads((path / "temp" / ".zarray").read_text())
    for chunk in (path / "temp").glob("[0-9]*"):
        chunk.write_bytes(pickle.dumps(Bomb()))
    codec = {"id": "pickle", "protocol": 5}
    for changes, words in (
        ({"compressor": codec}, "p2.zarr"),  # zarr itself refuses these two
        ({"dtype": "|O", "filters": [codec], "compressor": None, "fill_value": None}, "p2.zarr"),
        ({"compressor": {"id": "base64"}}, 'array "temp" is packed by "base64"'),
    ):
        (path / "temp" / ".zarray").write_text(json.dumps(about | changes))
        for stream in ("disk", "memory"):
            refused(words, path=path, stream=stream)


def test_unknown_codecs_of_format_3_are_refused(tmp_path):
    path = saved(dataset(5), tmp_path / "q3.zarr")
    file = path / "temp" / "zarr.json"
    about = json.loads(file.read_text())
    about["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    file.write_text(json.dumps(about))
    refused("q3.zarr", path=path)


def test_damaged_and_foreign_files(tmp_path):
    (tmp_path / "x.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 99)
    refused("x.nc: is damaged or not what its ending says", path=tmp_path / "x.nc")
    (tmp_path / "y.nc").write_text("date,a\n")
    refused("it begins like no NetCDF file", path=tmp_path / "y.nc")
    path = saved(dataset(5), tmp_path / "z3.zarr")
    (path / "load" / "zarr.json").write_text("{")
    refused("z3.zarr: is damaged", path=path)
    refused("no variable holds dates", path=saved(dataset(5).drop_vars("time"), tmp_path / "n.nc"))
    twice = dataset(5).assign_coords(site=["a", "a", "b"])
    refused("labels along site repeat", path=saved(twice, tmp_path / "t.nc"))
    other = xr.Dataset(
        {"x": (("time",), [1.0, 2.0])},
        {"time": ("time", [0, 1], {"units": "days since 2001-01-01", "calendar": "360_day"})},
    )
    other.to_netcdf(tmp_path / "c.nc", engine="h5netcdf")
    refused("360_day", "no real dates", "convert_calendar", path=tmp_path / "c.nc")


def test_sizes_are_checked_before_reading(tmp_path, monkeypatch):
    nc, zarr = saved(dataset(), tmp_path / "s.nc"), saved(dataset(), tmp_path / "s3.zarr")
    monkeypatch.setattr(source_file, "MOST_BYTES", 199)
    refused("its content of", "write it as a Zarr store", path=nc)
    refused("its content of", path=zarr, stream="memory")
    read(zarr, stream="disk", targets="load")
    monkeypatch.setattr(store, "MOST_CHUNK_BYTES", 9)
    refused("has chunks of", path=zarr)


def test_the_digest_of_a_store_follows_its_content(tmp_path):
    path = saved(dataset(), tmp_path / "h3.zarr")
    before = read(path).sha256
    assert read(path).sha256 == before
    saved(dataset(seed=1), path)
    assert read(path).sha256 != before


def test_a_csv_cannot_stay_on_the_disk(tmp_path):
    pd.DataFrame({"date": hours(5), "x": [1, 3, 1, 3, 1]}).to_csv(tmp_path / "x.csv", index=False)
    assert (
        "only a Zarr store can stay on the disk"
        in read(tmp_path / "x.csv", stream="disk").findings.lines[0]
    )
