import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from checks import assert_same_bits
from isoform.core.errors import UserError
from isoform.timeseries.data.calendar import marks
from isoform.timeseries.data.fill import fill
from isoform.timeseries.data.scaling import Scaling
from isoform.timeseries.data.windows import WindowData

from .panels import app, mended, panel, series, walk, with_gaps

L, H, V = 7, 5, 3


def made(
    values=None, context=L, horizon=H, calendar="past", scaling=None, tz=None, more=None, **data
):
    """WindowData of one series of 101 rows: 71 train, 10 validate and 20 test."""
    values = walk(101, V) if values is None else values
    return WindowData(
        app(context, horizon, calendar, **data),
        panel(series(values, **(more or {})), tz=tz),
        scaling,
    )


def scale_of(values, stop=71):
    train = values[:stop]
    return np.nanmean(train, 0), np.nanstd(train, 0)


# Windows are rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_every_window_is_its_rows(split):
    values = walk(101, V)
    data = made(values)
    mean, std = scale_of(values)
    scaled = ((values - mean) / std).astype(np.float32)
    first = {"train": L, "val": 71, "test": 81}[split]
    count = data.sizes()[split]
    assert count == {"train": 71 - L - H + 1, "val": 10 - H + 1, "test": 20 - H + 1}[split]
    batch = data.batch(split, range(count))
    assert set(batch) == {"context", "target", "calendar", "where"}
    assert batch["where"].tolist() == [[0, first + i] for i in range(count)]
    for i in range(count):
        row = first + i
        np.testing.assert_allclose(batch["context"][i], scaled[row - L : row], rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(batch["target"][i], scaled[row : row + H], rtol=1e-6, atol=1e-6)


def test_the_order_of_the_numbers_is_that_of_the_windows():
    data = made()
    every = data.batch("train", range(data.sizes()["train"]))
    some = [31, 0, 17, 17, 2]
    assert_same_bits(
        data.batch("train", some), {name: value[some] for name, value in every.items()}
    )
    assert data.where("train", some).tolist() == every["where"][some].tolist()


def test_a_batch_is_a_fresh_copy():
    data = made(with_gaps(walk(101, V), 0.2))
    before = data.batch("train", [3, 4])
    changed = data.batch("train", [3, 4])
    for value in changed.values():
        value.zero_()
    assert_same_bits(data.batch("train", [3, 4]), before)


def test_series_follow_one_another_and_windows_never_join_two():
    first, second, short = walk(101, 2), 5000 + walk(53, 2, 1), walk(11, 2, 2)
    data = WindowData(
        app(L, H), panel(series(first, id="a"), series(short, id="b"), series(second, id="c"))
    )
    # 71, 10, 20 rows; 8, 1, 2; 37, 5, 11
    assert data.sizes() == {"train": 60 + 26, "val": 6 + 1, "test": 16 + 7}
    batch = data.batch("train", [59, 60])
    assert batch["where"].tolist() == [[0, 66], [2, L]]
    back = data.to_units(batch["context"].numpy())
    np.testing.assert_allclose(back[1], second[:L], rtol=1e-4)
    pooled = np.concatenate([first[:71], short[:8], second[:37]])
    np.testing.assert_allclose(
        data.scaling.mean("target", data.variates), pooled.mean(0), rtol=1e-12
    )
    np.testing.assert_allclose(data.spread_units(), pooled.std(0), rtol=1e-12)


def test_units_come_back_along_any_axis():
    values = walk(101, V)
    data = made(values)
    batch = data.batch("test", [0, 3])
    back = data.to_units(batch["target"].numpy())
    np.testing.assert_allclose(back[1], values[84 : 84 + H], rtol=1e-6)
    quantiles = np.stack([batch["target"].numpy()] * 2, -1)
    np.testing.assert_allclose(data.to_units(quantiles, axis=2)[..., 1], back, rtol=1e-12)
    np.testing.assert_allclose(data.to_units(quantiles, axis=-2)[..., 0], back, rtol=1e-12)


def test_scaled_is_the_whole_series():
    values = with_gaps(walk(101, V), 0.1)
    data = made(values)
    mean, std = scale_of(values)
    np.testing.assert_allclose(data.scaled(0), (values - mean) / std, rtol=1e-5, atol=1e-6)


# No future in what a model sees ---------------------------------------------------------------------------------------


@settings(max_examples=25)
@given(
    st.integers(L, 101 - H),
    st.sampled_from(["last", "linear"]),
    st.floats(0, 0.6),
    st.integers(0, 9),
)
def test_what_happens_from_the_horizon_on_never_reaches_the_look_back(
    row, fill_method, share, seed
):
    values = with_gaps(walk(101, V, seed), share, seed)
    scaling = made(values, fill=fill_method).scaling
    later = values.copy()
    later[row:] = 1e6 - np.nan_to_num(later[row:])
    before, after = (
        made(v, fill=fill_method, scaling=scaling).at([(0, row)]) for v in (values, later)
    )
    assert_same_bits({"context": after["context"]}, {"context": before["context"]})


def test_rows_outside_training_never_reach_the_scale():
    values, changed = walk(101, V), walk(101, V)
    changed[71:] *= 1e3
    assert made(changed).scaling == made(values).scaling
    changed[70] *= 1e3
    assert made(changed).scaling != made(values).scaling


def test_rows_before_the_look_back_never_reach_it():
    values = with_gaps(walk(101, V), 0.5)
    scaling = made(values).scaling
    earlier = values.copy()
    earlier[: 40 - L] = 1e6
    before, after = (made(v, scaling=scaling).at([(0, 40)]) for v in (values, earlier))
    assert_same_bits({"context": after["context"]}, {"context": before["context"]})


# Missing values -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["last", "linear"])
@pytest.mark.parametrize("scale", ["standard", "none"])
def test_gaps_are_mended_from_the_window_alone(method, scale):
    values = with_gaps(walk(101, V), 0.4)
    values[20:40, 1] = np.nan  # whole look-backs without a value
    data = made(values, fill=method, scale=scale, max_missing=1.0)
    mean, std = scale_of(values)
    scaled = (values - mean) / std if scale == "standard" else values
    rest = np.zeros(V) if scale == "standard" else mean
    batch = data.batch("train", range(data.sizes()["train"]))
    for i, (_, row) in enumerate(batch["where"].tolist()):
        for v in range(V):
            want = mended(scaled[row - L : row, v], rest[v], method)
            np.testing.assert_allclose(batch["context"][i, :, v], want, rtol=1e-5, atol=1e-5)
    assert not torch.isnan(batch["target"]).any()


def test_a_line_by_hand():
    gappy = np.array([np.nan, 2, np.nan, np.nan, 8, np.nan], np.float32)
    for method, want in (("last", [9, 2, 2, 2, 8, 8]), ("linear", [9, 2, 4, 6, 8, 8])):
        found = fill(
            np.stack([gappy, np.full(6, np.nan, np.float32)], 1)[None], method, np.float32([9, 5])
        )
        assert found[0].T.tolist() == [want, [5] * 6]


def test_missing_targets_are_marked_and_nothing_else():
    values = with_gaps(walk(101, V), 0.3)
    data = made(values)
    batch = data.batch("test", range(data.sizes()["test"]))
    for i, (_, row) in enumerate(batch["where"].tolist()):
        seen = ~np.isnan(values[row : row + H])
        assert (batch["observed"][i].numpy() == seen).all()
        assert (batch["target"][i].numpy()[~seen] == 0).all()


def test_infinite_values_count_as_missing():
    values = walk(101, V)
    values[90, 1] = np.inf
    data = made(values)
    assert data.has_missing
    assert (
        not data.at([(0, 88)])["observed"][0, 2, 1]
        and torch.isfinite(data.at([(0, 93)])["context"]).all()
    )


def test_windows_without_gaps_say_so_only_where_the_panel_has_some():
    assert "observed" not in made().batch("train", [0])
    gappy = walk(101, V)
    gappy[100, 0] = np.nan
    assert made(gappy).batch("train", [0])["observed"].all()


@pytest.mark.parametrize("most", [0.0, 0.25, 0.5, 1.0])
def test_training_windows_with_too_many_gaps_are_left_out_and_counted(most):
    values = with_gaps(walk(101, V), 0.1)
    values[20:33] = np.nan
    data = made(values, max_missing=most)
    missing = np.isnan(values)
    rows = [r for r in range(L, 71 - H + 1) if missing[r - L : r + H].mean() <= most]
    assert 0 < len(rows) < 60 or most in (0.0, 1.0)
    assert [row for _, row in data.where("train", range(len(rows))).tolist()] == rows
    assert data.sizes().get("train", 0) == len(rows) and data.left_out == 60 - len(rows)
    assert data.sizes()["val"] == 6 and data.sizes()["test"] == 16


# Covariates -----------------------------------------------------------------------------------------------------------


def covered(known_rows=101, **data):
    more = {"past": walk(101, 2, 1), "known": walk(known_rows, 2, 2), "static": [3.0, 4.0]}
    return made(more=more, **data), more


def test_covariates_lie_beside_the_rows_that_they_are_known_for():
    data, more = covered()
    assert (data.past, data.known, data.static) == (["p0", "p1"], ["k0", "k1"], ["s0", "s1"])
    batch = data.batch("val", [2])
    for kind, stop in (("past", 73), ("known", 73 + H)):
        mean, std = scale_of(more[kind])
        want = (more[kind][73 - L : stop] - mean) / std
        np.testing.assert_allclose(batch[kind][0], want, rtol=1e-5, atol=1e-6)
    assert batch["static"].tolist() == [[0.0, 0.0]]  # of one series: nothing to tell apart


def test_static_values_are_scaled_over_the_series():
    members = [series(walk(53, 2, i), static=[float(i), np.nan]) for i in range(3)]
    data = WindowData(app(L, H), panel(*members))
    firsts = [0, 26, 52]
    found = data.batch("train", firsts)["static"]
    np.testing.assert_allclose(found[:, 0], np.array([-1, 0, 1]) * np.sqrt(1.5), rtol=1e-6)
    assert found[:, 1].tolist() == [0, 0, 0]


def test_a_series_that_only_tests_scales_no_static_value():
    starts = {3.0: "2024-01-01", 5.0: "2024-01-01", 7000.0: "2024-01-05"}
    members = [
        series(walk(101, 2), static=[value], start=start, id=f"{value:g}")
        for value, start in starts.items()
    ]
    cut = {"split": "date", "val_from": "2024-01-04", "test_from": "2024-01-05"}
    data = WindowData(app(L, H, **cut), panel(*members))
    assert [cut["train"][1] for cut in data.cuts] == [72, 72, 0]
    assert data.scaling.tables["static"] == {"s0": (4.0, 1.0)}


def test_gaps_of_covariates_are_mended_like_a_look_back():
    more = {"past": walk(101, 1, 1), "known": walk(101, 1, 2)}
    more["past"][50:53] = np.nan
    more["known"][56:59] = np.nan
    data = made(more=more, fill="linear")
    batch = data.at([(0, 55)])
    past, known = (
        data.scaling.scaled(kind, [kind[0] + "0"], more[kind])[:, 0] for kind in ("past", "known")
    )
    np.testing.assert_allclose(batch["past"][0, :, 0], mended(past[48:55], 0, "linear"), atol=1e-5)
    np.testing.assert_allclose(
        batch["known"][0, :, 0], mended(known[48:60], 0, "linear"), atol=1e-5
    )
    assert data.missing_future(0, 55) == ["k0"] and data.missing_future(0, 59) == []


@pytest.mark.parametrize(("calendar", "rows"), [("past", L), ("future", L + H)])
def test_marks_are_those_of_the_local_stamps(calendar, rows):
    data = made(calendar=calendar, tz="America/New_York")
    assert data.calendar_names == ["hour_of_day", "day_of_week", "day_of_month", "day_of_year"]
    batch = data.batch("val", [0])
    want = marks(data.stamps(0, 71 - L, 71 - L + rows), tuple(data.calendar_names))
    assert batch["calendar"][0].numpy().tobytes() == want.tobytes()
    first = data.stamps(0, 0, 1)[0]
    assert (first.day, first.hour) == (31, 19)  # midnight UTC, the evening before in New York


def test_marks_can_be_left_out_or_be_those_of_another_frequency():
    assert "calendar" not in made(calendar="none").batch("train", [0])
    assert made(calendar="past").batch("train", [0])["calendar"].shape == (1, L, 4)
    config = app(L, H)
    daily = config.model_copy(update={"data": config.data.model_copy(update={"calendar": "D"})})
    assert WindowData(daily, panel(series(walk(101, V)))).batch("train", [0])["calendar"].shape == (
        1,
        L,
        3,
    )


def test_holidays_are_the_last_known_covariate_and_stay_0_and_1():
    data, _ = covered(holidays="NZ-AUK", tz="Pacific/Auckland")
    assert data.known == ["k0", "k1", "holiday"]
    flags = data.batch("train", [0])["known"][
        0, :, 2
    ]  # from 13:00 on New Year's Day, 11 hours of it and the day after
    assert flags.tolist() == [1.0] * (L + H)
    assert data.batch("test", [0])["known"][0, :, 2].tolist() == [0.0] * (L + H)
    assert Scaling.of_record(data.scaling.to_record()).mean("known", data.known)[2] == 0.0


def test_a_column_called_holiday_and_data_holidays_are_one_too_many():
    named = series(walk(101, V), known=walk(101, 1)).assign_coords(known=["holiday"])
    with pytest.raises(UserError, match=r'has a column "holiday" already; drop it with data.drop'):
        WindowData(app(L, H, holidays="DE"), panel(named))


# From a given row on --------------------------------------------------------------------------------------------------


def test_any_row_gives_what_its_split_gives():
    data, _ = covered(calendar="future", holidays="DE")
    assert_same_bits(data.at([(0, 73), (0, 72)]), data.batch("val", [2, 1]))


@pytest.mark.parametrize("row", [101, 98])
def test_behind_the_end_nothing_is_observed_and_the_rest_goes_on(row):
    data, more = covered(known_rows=104, calendar="future", holidays="DE")
    batch = data.at([(0, row), (0, 50)])
    seen = np.arange(row, row + H) < 101
    assert (batch["observed"][0].numpy() == seen[:, None]).all() and batch["observed"][1].all()
    assert (batch["target"][0].numpy()[~seen] == 0).all()
    want = marks(data.stamps(0, row - L, row + H), tuple(data.calendar_names))
    assert batch["calendar"][0].numpy().tobytes() == want.tobytes()
    scaled = data.scaling.scaled("known", ["k0", "k1"], more["known"])
    end = min(104, row + H)
    np.testing.assert_allclose(
        batch["known"][0, : end - row + L, :2], scaled[row - L : end], atol=1e-6
    )
    np.testing.assert_allclose(
        batch["known"][0, end - row + L :, 1], scaled[-1, 1], atol=1e-6
    )  # carried forward
    assert data.missing_future(0, row) == (["k0", "k1"] if row == 101 else [])


def test_values_behind_the_last_row_are_as_good_as_unknown():
    values, past = walk(101, V), walk(101, 2, 1)
    known = walk(101, 2, 2)
    whole = series(values, past=past, known=known)
    cut = whole.assign_attrs(rows=90)
    data = WindowData(
        app(L, H), panel(cut), made(values, more={"past": past, "known": known}).scaling
    )
    batch = data.at([(0, 88)])
    assert batch["observed"][0, :, 0].tolist() == [True, True, False, False, False]
    assert data.missing_future(0, 90) == []  # covariates that are known ahead stay
    assert data.scaled(0).shape == (90, V)


@pytest.mark.parametrize("row", [L - 1, 102])
def test_a_look_back_that_does_not_exist_is_refused(row):
    with pytest.raises(
        UserError, match=f"made: a forecast from row {row} on needs the 7 rows before it"
    ):
        made().at([(0, 50), (0, row)])


def test_a_series_as_long_as_a_look_back_can_be_forecast():
    data = made(walk(L, V), scaling=made().scaling)
    assert data.sizes() == {}
    assert data.at([(0, L)])["context"].shape == (1, L, V)


def test_the_scale_of_a_run_is_kept_and_new_columns_are_fitted():
    old = made()
    fresh = 7 * walk(101, 2, 5)
    renamed = series(fresh).assign_coords(variate=["v1", "new"])
    data = WindowData(app(L, H), panel(renamed), old.scaling)
    assert data.scaling.mean("target", ["v1"]) == old.scaling.mean("target", ["v1"])
    assert data.scaling.mean("target", ["new"])[0] == pytest.approx(fresh[:71, 1].mean())


def test_a_file_without_training_rows_is_scaled_by_all_it_has():
    values = walk(23, V)
    data = made(values, val_fraction=0.001, test_fraction=0.999)
    np.testing.assert_allclose(
        data.scaling.mean("target", data.variates), values.mean(0), rtol=1e-12
    )


# Order ----------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 70), st.integers(0, 2**32))
def test_shuffling_is_a_permutation_and_a_function_of_its_generator(size, seed):
    data = ORDERED
    first, again = (data.batches("train", size, np.random.default_rng(seed)) for _ in range(2))
    assert first == again
    assert sorted(i for batch in first for i in batch) == list(range(60))
    assert [len(batch) for batch in first] == [size] * (60 // size) + [60 % size] * (60 % size > 0)


ORDERED = made()


def test_without_a_generator_windows_come_in_order():
    assert ORDERED.batches("val", 4, None) == [[0, 1, 2, 3], [4, 5]]
    assert ORDERED.batches("train", 7, np.random.default_rng(0)) != ORDERED.batches(
        "train", 7, None
    )
