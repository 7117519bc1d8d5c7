"""Long files: ids as variates or as series, their covariates, static values and gaps."""

import numpy as np
import pandas as pd
import pytest

from isoform.timeseries.data import assemble

from .files import frame, hours, read, refused, same, values

NAN = np.nan


def long(ids=("b", "a", "c"), rows=7, starts=(0, 0, 0), **more):
    """Rows of ids behind one another; load of id k at hour t is 100 k + t."""
    parts = []
    for k, (name, start) in enumerate(zip(ids, starts, strict=True)):
        t = np.arange(start, start + rows)
        parts.append(
            pd.DataFrame({"date": hours(99)[t], "site": name, "load": 100.0 * k + t**2 / 4})
        )
    made = pd.concat(parts, ignore_index=True)
    for name, cells in more.items():
        made[name] = cells(made) if callable(cells) else cells
    return made


def test_ids_that_share_their_time_are_variates(tmp_path):
    panel = read(frame(tmp_path / "l.csv", long()), id="site")
    assert (
        panel.variates == ["a", "b", "c"]
        and len(panel.series) == 1
        and panel.first.attrs["id"] == ""
    )
    assert same(values(panel)["b"], np.arange(7) ** 2 / 4) and same(
        values(panel)["a"], 100 + np.arange(7) ** 2 / 4
    )
    assert (
        panel.findings.data["panel"] == "variates"
        and "share 100 % of their time" in panel.findings.lines[1]
    )


@pytest.mark.parametrize("seed", [0, 1])
def test_the_order_of_rows_says_nothing(tmp_path, seed):
    made = long(temp=lambda m: m["load"] * 2)
    shuffled = made.sample(frac=1, random_state=seed)
    for mode in ("variates", "series"):
        a = read(frame(tmp_path / "a.csv", made), id="site", past="temp", panel=mode)
        b = read(frame(tmp_path / "b.csv", shuffled), id="site", past="temp", panel=mode)
        assert len(a.series) == len(b.series) == (1 if mode == "variates" else 3)
        for x, y in zip(a, b, strict=True):
            assert x.identical(y)


def test_ids_with_times_of_their_own_are_series(tmp_path):
    panel = read(frame(tmp_path / "l.csv", long(starts=(0, 5, 11))), id="site")
    assert [one.attrs["id"] for one in panel] == ["a", "b", "c"] and panel.variates == ["load"]
    assert [one.sizes["time"] for one in panel] == [7, 7, 7] and panel.freq == "h"
    assert [str(one["time"].values[0])[11:13] for one in panel] == ["05", "00", "11"]
    assert same(values(panel, 0)["load"], 100 + np.arange(5, 12) ** 2 / 4)
    one = read(frame(tmp_path / "l.csv", long(starts=(0, 5, 11))), id="site", panel="variates")
    assert (
        one.first["target"].shape == (18, 3)
        and np.isnan(one.first["target"].values).sum() == 3 * 11
    )


def test_many_ids_are_series(tmp_path, monkeypatch):
    monkeypatch.setattr(assemble, "MOST_VARIATES", 103)
    for ids, series in ((103, 1), (107, 107)):
        made = {
            "id": np.repeat(np.arange(ids), 2),
            "date": np.tile(hours(2), ids),
            "x": np.arange(2.0 * ids) / 2,
        }
        panel = read(frame(tmp_path / "m.csv", made), id="id")
        assert len(panel.series) == series
    assert [one.attrs["id"] for one in panel][:3] == ["0", "1", "2"] and panel.series[101].attrs[
        "id"
    ] == "101"
    assert same(panel.series[101]["target"][:, 0], [101, 101.5])


def test_several_columns_an_id(tmp_path):
    made = long(temp=lambda m: m["load"] + 1)
    panel = read(frame(tmp_path / "l.csv", made), id="site", targets=["temp", "load"])
    assert panel.variates == ["a/temp", "a/load", "b/temp", "b/load", "c/temp", "c/load"]
    assert same(values(panel)["c/temp"], values(panel)["c/load"] + 1)


def test_covariates_common_to_all_ids_stay_one_column(tmp_path):
    made = long(holiday=lambda m: m["date"].dt.hour % 2, price=lambda m: m["load"] / 10)
    made.loc[3, "holiday"] = NAN  # the others know it
    panel = read(
        frame(tmp_path / "l.csv", made),
        id="site",
        targets="load",
        known_future=["holiday", "price"],
    )
    assert panel.names("known") == ["holiday", "a/price", "b/price", "c/price"]
    assert same(panel.first["known_values"][:, 0], [0, 1, 0, 1, 0, 1, 0])
    assert same(panel.first["known_values"][:, 1:] * 10, values(panel))


def test_static_values(tmp_path):
    made = long(
        area=lambda m: m["site"].map({"a": 1.5, "b": 2.5, "c": 3.5}),
        kind=lambda m: m["site"].map({"a": "x"}).fillna("y"),
    )
    path = frame(tmp_path / "l.csv", made)
    panel = read(path, id="site", targets="load", static=["area", "kind"], panel="series")
    assert panel.names("static") == ["area", "kind=x", "kind=y"]
    assert [one["static_values"].values.tolist() for one in panel] == [
        [1.5, 1, 0],
        [2.5, 0, 1],
        [3.5, 0, 1],
    ]
    panel = read(path, id="site", targets="load", static="area")
    assert panel.names("static") == ["a/area", "b/area", "c/area"] and same(
        panel.first["static_values"], [1.5, 2.5, 3.5]
    )
    made.loc[made["site"] == "b", "area"] = NAN
    refused(
        'column "area" (data.static) is empty for b',
        path=frame(path, made),
        id="site",
        static="area",
        targets="load",
    )
    made.loc[made["site"] == "b", "area"], made.loc[9, "area"] = 2, 7
    refused(
        '"area" (data.static) changes for a',
        path=frame(path, made),
        id="site",
        static="area",
        targets="load",
    )


def test_known_covariates_go_on_where_the_targets_end(tmp_path):
    made = long(price=lambda m: m["date"].dt.hour * 1.5)
    made.loc[
        (made["date"].dt.hour > 4) | ((made["site"] == "c") & (made["date"].dt.hour > 2)), "load"
    ] = NAN
    path = frame(tmp_path / "l.csv", made)
    one = read(path, id="site", targets="load", known_future="price").first
    assert (
        one.attrs["rows"] == 5
        and one.sizes["time"] == 7
        and one["known"].values.tolist() == ["price"]
    )
    each = read(path, id="site", targets="load", known_future="price", panel="series")
    assert [(s.attrs["rows"], s.sizes["time"]) for s in each] == [(5, 7), (5, 7), (3, 7)]


def test_duplicates_and_gaps_belong_to_their_id(tmp_path):
    made = long().drop(index=[2, 10])  # b at 2:00, a at 3:00
    made = pd.concat([made, made.iloc[[0, 17]], made.iloc[[5]].assign(load=7)])
    panel = read(frame(tmp_path / "l.csv", made), id="site")
    data = panel.findings.data
    assert (
        data["repeated_rows"],
        data["conflicting_stamps"],
        data["empty_steps"],
        data["longest_gap"],
    ) == (3, 1, 2, 1)
    found = values(panel)
    assert (
        np.isnan(found["b"].iloc[2])
        and np.isnan(found["a"].iloc[3])
        and found.isna().sum().sum() == 2
    )
    assert found["b"].iloc[6] == (9 + 7) / 2 and found["b"].iloc[0] == 0


def test_ids_of_any_spelling(tmp_path):
    names = ("NA", "10", "nan")
    panel = read(frame(tmp_path / "l.csv", long(names)), id="site")
    assert panel.variates == ["10", "NA", "nan"]
    assert read(frame(tmp_path / "n.csv", long(("007", "9", "10"))), id="site").variates == [
        "007",
        "9",
        "10",
    ]
    made = long()
    made.loc[4, "site"] = None
    refused("row 6", '"site" (data.id) is empty', path=frame(tmp_path / "e.csv", made), id="site")


def test_a_hidden_id_column_is_asked_for(tmp_path):
    path = frame(tmp_path / "l.csv", long())
    refused(
        'each stamp occurs 3 times, once for each "site"',
        'set data.id = ["site"]',
        'data.drop = ["site"] with data.aggregate = "sum"',
        path=path,
    )
    panel = read(path, drop="site")
    assert panel.variates == ["load"] and same(values(panel)["load"], 100 + np.arange(7) ** 2 / 4)
    assert "aggregated (mean)" in "".join(panel.findings.lines)


def test_an_id_without_values_is_left_out(tmp_path):
    made = long()
    made.loc[made["site"] == "a", "load"] = NAN
    panel = read(frame(tmp_path / "l.csv", made), id="site", panel="series")
    assert [one.attrs["id"] for one in panel] == ["b", "c"] and "left out: a" in "".join(
        panel.findings.lines
    )


def test_a_long_file_in_a_zone(tmp_path):
    local = pd.date_range("2024-10-27", periods=25, freq="h", tz="Europe/Berlin").tz_localize(None)
    made = pd.concat(
        [pd.DataFrame({"date": local, "id": k, "v": np.arange(25) * k}) for k in (1, 2)]
    )
    for rows in (made, made.sort_values("date", kind="stable")):
        panel = read(frame(tmp_path / "z.csv", rows), id="id", tz="Europe/Berlin")
        assert panel.tz == "Europe/Berlin" and same(values(panel)["2"], np.arange(25) * 2)


def test_real_data_as_a_long_file(golden_data, tmp_path):
    from .files import real

    wide = pd.read_csv(real(golden_data, "ETTh1.csv"), nrows=211)
    tall = wide.melt("date", var_name="sensor", value_name="v").sample(frac=1, random_state=0)
    panel = read(frame(tmp_path / "t.csv", tall), id="sensor")
    assert same(values(panel)[list(wide.columns[1:])], wide.iloc[:, 1:])
