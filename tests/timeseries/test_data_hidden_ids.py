"""Files that hold several series: asked about where nothing is set, joined where that is asked for, by several ids."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig, TimeseriesApp
from isoform.timeseries.data.read import read_frame, read_panel

from .files import case, frame, hours, read, refused, same, values

DAYS = 61


def days(start="2024-01-01", periods=DAYS):
    return pd.date_range(start, periods=periods)


def sold(rng, *, time=None, **cells):
    """One series of counts, and what its rows have in common."""
    time = days() if time is None else time
    return pd.DataFrame({**cells, "date": time, "sold": rng.poisson(20, len(time))})


def shops(*ids, name="store", start=0):
    rng = np.random.default_rng(start)
    return pd.concat([sold(rng, **{name: one}) for one in ids], ignore_index=True)


def grid_of(*stores, items):
    rng = np.random.default_rng(3)
    return pd.concat(
        [sold(rng, store=store, item=item) for store in stores for item in items], ignore_index=True
    )


def asked(made, *names, joined=True, **data):
    """Asserts that the frame is refused and the setting proposed; what is proposed works."""
    listed = "[" + ", ".join(f'"{name}"' for name in names) + "]"
    with pytest.raises(UserError) as caught:
        read_frame(made, DataConfig(**data))
    said = str(caught.value)
    assert f"set data.id = {listed}" in said and "\n" not in said, said
    panel = read_frame(made, DataConfig(id=names, **{k: v for k, v in data.items() if k != "id"}))
    new = [name for name in names if name not in (data.get("id") or ())]
    if joined:
        drop = [*(data.get("drop") or ()), *new]
        total = read_frame(made, DataConfig(**{**data, "drop": drop, "aggregate": "sum"}))
        assert np.nansum(total.first["target"].values) == pytest.approx(made["sold"].sum())
    return panel


# The files that were averaged -----------------------------------------------------------------------------------------


def test_case_sum_of_stores():
    path = case("S1_sum_of_stores.csv")
    for drop in (["store"], []):
        panel = read(path, drop=drop, aggregate="sum")
        assert panel.variates == ["sales"] and values(panel)["sales"].sum() == 541
    refused('data.id = ["store"]', path=path)


def test_case_two_stores():
    path = case("S2_two_stores_text_id.csv")
    refused("each stamp occurs 2 times", 'set data.id = ["store"]', path=path)
    assert read(path, id="store").variates == ["A", "B"]


def test_case_store_and_item():
    path = case("S2_store_item.csv")
    for given in (None, "store", "item"):
        refused('"store"', '"item"', path=path, id=given)
    panel = read(path, id=["store", "item"])
    assert panel.variates == ["1/1", "1/2", "1/3", "2/1", "2/2", "2/3"]
    table = pd.read_csv(path).pivot(index="date", columns=["store", "item"], values="sales")
    assert same(values(panel), table)


# What is asked about --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [("b", "a"), (7, 3), (2.0, 1.0), tuple("abcdefg"), (True, False)])
def test_one_column_of_ids(ids):
    made = shops(*ids)
    for rows in (made, made.sample(frac=1, random_state=0), made.sample(frac=0.9, random_state=1)):
        panel = asked(rows, "store")
        assert len(panel.variates) * len(panel.series) == len(ids)


@pytest.mark.parametrize("items", [(1, 2, 3), ("x", "y", "z")])
def test_two_columns_of_ids(items):
    made = grid_of(1, 2, items=items)
    for rows in (made, made.sample(frac=0.9, random_state=1)):
        assert len(asked(rows, "store", "item").variates) == 6
        asked(rows, "store", "item", id=["store"], joined=False)
        asked(rows, "item", drop=["store"])


def test_most_stamps_are_enough():
    made = shops("a", "b", "c")
    again = made.sample(frac=0.2, random_state=2)
    assert len(asked(pd.concat([made, again]), "store").variates) == 3


def test_ids_with_times_of_their_own():
    rng = np.random.default_rng(1)
    made = [sold(rng, store=k, time=days() + pd.Timedelta(days=47 * k)) for k in range(5)]
    asked(pd.concat(made).sample(frac=1, random_state=0), "store")


@pytest.mark.parametrize("ids", [("a", "b"), (3, 5)])
def test_stores_that_follow_one_another(ids):
    """No stamp is there twice: later, earlier, or between the stamps of the other."""
    rng = np.random.default_rng(2)
    for shift in (pd.Timedelta(days=DAYS), pd.Timedelta(days=-DAYS), pd.Timedelta("12h")):
        made = [sold(rng, store=ids[0]), sold(rng, store=ids[1], time=days() + shift)]
        refused_frame(pd.concat(made), "constant over long stretches", 'data.id = ["store"]')
        if shift != pd.Timedelta("12h"):  # the days of all series begin alike
            panel = read_frame(pd.concat(made), DataConfig(id="store", panel="series"))
            assert [one.attrs["rows"] for one in panel] == [DAYS, DAYS]
        plain = read_frame(pd.concat(made), DataConfig(drop=["store"]))
        assert plain.variates == ["sold"]


def refused_frame(made, *words, **data):
    with pytest.raises(UserError) as caught:
        read_frame(made, DataConfig(**data))
    assert all(word in str(caught.value) for word in words), str(caught.value)


# What is not ----------------------------------------------------------------------------------------------------------


def one_store(**more):
    return shops("a").drop(columns="store").assign(**more)


@pytest.mark.parametrize(
    "made",
    [
        one_store(month=days().month_name()), one_store(day=days().strftime("%d/%m/%Y")),
        one_store(price=np.repeat([5, 6, 7], [20, 20, 21])), one_store(sky=list("ab" * 30 + "a")),
        one_store(promo=np.arange(DAYS) % 3 == 0), one_store(quarter="Q1"),
        pd.concat([one_store(), one_store()]),  # every row twice
        pd.concat([one_store(sky="a"), one_store(sky="b").iloc[[7]]]),  # one stamp corrected
        pd.concat([shops("a"), shops("b", start=1)]).drop(columns="store"),  # nothing tells them apart
        pd.concat([shops("a"), shops("b", start=1)]).drop(columns="store").assign(
            temp=np.random.default_rng(0).integers(0, 9, 2 * DAYS)
        ),
    ],
)  # fmt: skip
def test_one_series_is_one_series(made):
    panel = read_frame(made, DataConfig())
    assert panel.variates[0] == "sold" and len(panel.series) == 1


@pytest.mark.parametrize("freq", ["h", "15min"])
@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_the_flag_of_a_clock_that_was_set_back(freq, zone):
    utc = pd.date_range("2024-10-25", "2024-10-29", freq=freq, tz="Europe/Berlin")
    local, count = utc.tz_localize(None), np.arange(len(utc)) ** 2
    made = pd.DataFrame({"date": local, "zone": utc.strftime("%Z"), "v": count})
    panel = read_frame(made, DataConfig(tz=zone))
    assert panel.variates == ["v"] and panel.freq == freq


# Ids are no targets ---------------------------------------------------------------------------------------------------


def test_numbers_of_series_are_no_targets():
    made = grid_of(1, 2, items=(4, 5)).assign(
        price=np.arange(4 * DAYS) / 8, name=lambda m: "s" + m["store"].astype(str)
    )
    joined = read_frame(made, DataConfig(aggregate="sum"))
    assert joined.variates == ["sold", "price"]
    assert "store (tells rows of one stamp apart)" in "".join(joined.findings.lines)
    panel = read_frame(made, DataConfig(id=["name", "item"]))  # store numbers the names again
    assert panel.variates[:2] == ["s1/4/sold", "s1/4/price"] and len(panel.variates) == 8


# Several ids ----------------------------------------------------------------------------------------------------------


def test_ids_are_sorted_part_by_part():
    made = grid_of("b", "a", items=(10, 9, 100))
    names = ["a/9", "a/10", "a/100", "b/9", "b/10", "b/100"]
    assert read_frame(made, DataConfig(id=["store", "item"])).variates == names
    series = read_frame(made, DataConfig(id=["store", "item"], panel="series"))
    assert [one.attrs["id"] for one in series] == names and series.variates == ["sold"]
    other = read_frame(made, DataConfig(id=["item", "store"])).variates
    assert other == ["9/a", "9/b", "10/a", "10/b", "100/a", "100/b"]


@pytest.mark.parametrize("ending", ["csv", "parquet", "xlsx"])
def test_several_ids_with_static_and_known_columns(tmp_path, ending):
    made = grid_of(1, 2, items=("x", "y")).assign(
        area=lambda m: m["store"] * 7.5, price=lambda m: m["sold"] / 4
    )
    path = tmp_path / f"p.{ending}"
    {"csv": made.to_csv, "parquet": made.to_parquet, "xlsx": made.to_excel}[ending](
        path, index=False
    )
    roles = {"targets": "sold", "static": "area", "known_future": "price", "id": ["store", "item"]}
    panel = read(path, **roles, panel="series")
    assert [one.attrs["id"] for one in panel] == ["1/x", "1/y", "2/x", "2/y"]
    assert [float(one["static_values"][0]) for one in panel] == [7.5, 7.5, 15, 15]
    for (_, rows), one in zip(made.groupby(["store", "item"]), panel, strict=True):
        assert same(one["target"][:, 0], rows["sold"]) and same(
            one["known_values"][:, 0], rows["price"]
        )
    side = read(path, **roles, panel="variates")
    assert side.names("known") == [f"{one}/price" for one in ("1/x", "1/y", "2/x", "2/y")]
    assert side.names("static") == [f"{one}/area" for one in ("1/x", "1/y", "2/x", "2/y")]


def test_ids_that_would_be_called_alike_are_refused():
    made = pd.DataFrame({
        "date": [*hours(5), *hours(5)], "a": ["x/y"] * 5 + ["x"] * 5, "b": ["z"] * 5 + ["y/z"] * 5,
        "v": range(0, 20, 2),
    })  # fmt: skip
    refused_frame(made, 'both be called "x/y/z"', "a, b (data.id)", id=["a", "b"])


def test_an_empty_part_of_an_id_is_refused(tmp_path):
    made = grid_of("a", "b", items=("x", "y"))
    made.loc[8, "item"] = None
    path = frame(tmp_path / "e.csv", made)
    refused("row 10", '"item" (data.id) is empty', path=path, id=["store", "item"])
    refused('has no column "itm"', "data.id", "item", path=path, id=["store", "itm"])
    refused('"store" is named as id', path=path, id=["store", "store"])


def test_two_axes_of_a_netcdf_file_are_ids(tmp_path):
    load = np.random.default_rng(0).normal(size=(7, 2, 3))
    area = np.array([2.0, 3.0])
    xr.Dataset(
        {"load": (("item", "store", "time"), load.transpose(2, 1, 0)), "area": ("store", area)},
        {"time": hours(7), "store": ["b", "a"], "item": [5, 11, 2]},
    ).to_netcdf(tmp_path / "n.nc", engine="h5netcdf")
    panel = read(
        tmp_path / "n.nc", id=["store", "item"], targets="load", static="area", panel="series"
    )
    assert [one.attrs["id"] for one in panel] == ["a/2", "a/5", "a/11", "b/2", "b/5", "b/11"]
    assert same(panel.series[1]["target"][:, 0], load[:, 1, 0])
    assert [float(one["static_values"][0]) for one in panel] == [3, 3, 3, 2, 2, 2]


def test_settings_take_one_id_or_several():
    def id_of(given):
        data = {"domain": "timeseries", "app": "made", "data": {"id": given}}
        return TimeseriesApp.model_validate(data).data.id

    assert (id_of("store"), id_of(["store", "item"])) == (("store",), ("store", "item"))


# Whole doubles --------------------------------------------------------------------------------------------------------


def test_equal_values_are_no_doubles():
    """Two shops that sold alike: 5 and 5 are 10, and their rows differ in a column."""
    made = pd.DataFrame(
        {"date": [*hours(5), *hours(5)], "shop": ["a"] * 5 + ["b"] * 5, "sold": [5] * 10}
    )
    panel = read_frame(made, DataConfig(drop=["shop"], aggregate="sum", doubles="drop"))
    assert same(values(panel)["sold"], [10] * 5)
    assert panel.findings.data["equal_rows"] == 0 and panel.findings.data["repeated_rows"] == 5


def test_whole_doubles_are_named_and_left_out_where_asked(tmp_path):
    made = pd.DataFrame({"date": hours(7), "sold": [3, 1, 4, 1, 5, 9, 2], "note": list("abcdefg")})
    made = pd.concat([made, made.iloc[[2, 2, 5]], made.iloc[[3]].assign(sold=7)])
    path = frame(tmp_path / "d.csv", made)
    for doubles, expected in (("keep", [3, 1, 12, 8, 5, 18, 2]), ("drop", [3, 1, 4, 8, 5, 9, 2])):
        panel = read(path, aggregate="sum", doubles=doubles)
        assert same(values(panel)["sold"], expected)
        data = panel.findings.data
        assert (data["repeated_rows"], data["equal_rows"], data["conflicting_stamps"]) == (4, 3, 1)
        said = "".join(panel.findings.lines)
        assert "(row 9 like row 4, row 10 like row 4, row 11 like row 7)" in said
        assert (": left out" in said) == (doubles == "drop")
        assert (
            "at 1 stamps their values differ" in said and "2024-01-01 03:00:00 (rows 5, 12)" in said
        )


def test_doubles_are_of_one_instant():
    """An hour that a clock shows twice with equal values is two hours."""
    utc = pd.date_range("2024-10-26 22:00", periods=6, freq="h", tz="UTC")
    local = utc.tz_convert("Europe/Berlin").tz_localize(None)
    made = pd.DataFrame({"date": local, "v": [1.0, 2, 7, 7, 3, 4]})
    panel = read_frame(made, DataConfig(tz="Europe/Berlin", doubles="drop", aggregate="sum"))
    assert same(values(panel)["v"], [1, 2, 7, 7, 3, 4])
    twice = read_frame(
        made.loc[[0, 1, 2, 2, 3, 3, 4, 5]],
        DataConfig(tz="Europe/Berlin", doubles="drop", aggregate="sum"),
    )
    assert same(values(twice)["v"], [1, 2, 7, 7, 3, 4])


def test_whole_doubles_of_a_streamed_store_are_refused(tmp_path):
    time = hours(6)[[0, 1, 2, 2, 3, 4, 5]]
    xr.Dataset({"load": ("time", np.arange(7.0))}, {"time": time}).to_zarr(tmp_path / "z.zarr")
    path = tmp_path / "z.zarr"
    refused(
        'data.doubles = "drop"', 'data.stream = "memory"', path=path, stream="disk", doubles="drop"
    )
    assert read_panel(DataConfig(path=str(path), doubles="drop", stream="memory")).freq == "h"
