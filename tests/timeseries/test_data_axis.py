"""The axis: rows in any order, twice or not at all lie on the same grid; zones, frequencies and aggregation by hand."""

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.timeseries.data.aggregate import bins, differ
from isoform.timeseries.data.axis import localise, taker
from isoform.timeseries.data.frequency import parse_freq

from .axes import axis_of, refused
from .files import same

NAN = np.nan
FREQS = [
    "h",
    "15min",
    "7s",
    "6h",
    "D",
    "B",
    "W-SUN",
    "MS",
    "ME",
    "QS-FEB",
    "QE-DEC",
    "YS-JAN",
    "250ms",
    "3D",
]


def on_grid(axis, values, how="mean", series=0):
    return axis.read(taker(np.asarray(values, np.float64)), 0, len(axis.time), how, series)


# Any order, duplicates, gaps ------------------------------------------------------------------------------------------


@settings(max_examples=70)
@given(
    st.sampled_from(FREQS),
    st.integers(13, 40),
    st.randoms(use_true_random=False),
    st.sampled_from(["mean", "sum", "last"]),
)
def test_a_regular_grid_is_found_again(freq, rows, random, how):
    """Rows shuffled, some twice, some missing (not the ends): the same grid and values, gaps as NaN."""
    time = pd.date_range("2019-12-30 00:00", periods=rows, freq=freq)
    numbers = np.random.default_rng(random.randrange(2**32)).normal(size=(rows, 3))
    kept = [0, 1, 2, rows - 3, rows - 2, rows - 1] + [
        i for i in range(3, rows - 3) if random.random() < 0.85
    ]
    # Business days are told by their weekends: one must be seen.
    if freq == "B":
        kept += list(range(6))
    kept = sorted(set(kept))
    order = kept + random.sample(kept, len(kept) // 3)
    random.shuffle(order)
    axis, findings = axis_of(time[order])
    assert axis.freq == freq and axis.tz is None
    assert (axis.time == time).all() and axis.repeated == len(order) - len(kept)
    times = np.bincount(order, minlength=rows)[:, None] if how == "sum" else 1
    expected = np.full((rows, 3), NAN)
    expected[kept] = (numbers * times)[kept]
    assert np.allclose(
        on_grid(axis, numbers[order], how), expected, rtol=1e-13, atol=0, equal_nan=True
    )
    assert how == "sum" or same(on_grid(axis, numbers[order], how), expected)
    assert not axis.differing.any()
    assert (order != sorted(order)) == any("sorted" in line for line in findings.lines)


@settings(max_examples=50)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["mean", "sum", "last"]))
def test_reading_by_pieces_is_reading_at_once(seed, how):
    rng = np.random.default_rng(seed)
    rows = 101
    stamps = pd.date_range("2024-01-01", periods=rows, freq="h")[
        np.sort(rng.integers(0, rows, 2 * rows))
    ]
    values = rng.integers(0, 3, (2 * rows, 2)).astype(float)
    values[rng.random(values.shape) < 0.2] = NAN
    axis, _ = axis_of(stamps, aggregate=how, freq="h")
    whole = on_grid(axis, values, how)
    cuts = np.unique([0, *rng.integers(0, len(axis.time), 5), len(axis.time)])
    asked = []

    def get(chosen):
        asked.append(len(chosen))
        return values[chosen]

    parts = [axis.read(get, a, b, how) for a, b in itertools.pairwise(cuts)]
    assert same(np.concatenate(parts), whole) and sum(asked) == 2 * rows  # every row once


def test_duplicates_by_hand():
    stamps = ["2024-01-01 00:00"] * 3 + ["2024-01-01 01:00"] * 2 + ["2024-01-01 02:00"] * 2
    values = [[1, NAN], [1, NAN], [4, 6], [7, 8], [7, 8], [NAN, 2], [3, NAN]]
    for how, expected in (
        ("mean", [[2, 6], [7, 8], [3, 2]]), ("sum", [[6, 6], [14, 16], [3, 2]]), ("last", [[4, 6], [7, 8], [3, 2]]),
    ):  # fmt: skip
        axis, _ = axis_of(stamps)
        assert same(on_grid(axis, values, how), expected)
        assert axis.repeated == 4 and axis.differing.tolist() == [True, False, True]


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from([0.0, -0.0, 1.0, 2.5, NAN])),
        min_size=1,
        max_size=17,
    )
)
def test_aggregating_is_what_a_dictionary_does(rows):
    """Of instants (0 to 4) on steps of two instants each: all rows of a step, whatever they hold."""
    rows.sort(key=lambda row: row[0])
    labels = np.array([label for label, _ in rows])
    block = np.array([[value, 1 - value] for _, value in rows])
    first = np.append(np.flatnonzero(np.diff(labels, prepend=-1)), len(rows))
    instants = labels[first[:-1]]
    for label, differs in zip(instants, differ(block, first), strict=True):
        assert differs == (len({repr(v + 0.0) for other, v in rows if other == label}) > 1)
    for how, rule in (("mean", np.mean), ("sum", np.sum), ("last", lambda x: x[-1])):
        found = bins(block, instants // 2, 3, how, first=first)
        for step in range(3):
            held = [v for label, v in rows if label // 2 == step and not np.isnan(v)]
            assert np.allclose(found[step, 0], rule(held) if held else NAN, equal_nan=True)


@pytest.mark.parametrize("copies", [2, 3, 7])
def test_the_mean_of_equal_rows_is_their_value_to_the_last_digit(copies):
    stamps = np.repeat(pd.date_range("2024-01-01", periods=31, freq="h"), copies)
    values = np.repeat(np.random.default_rng(0).normal(size=(31, 2)), copies, axis=0)
    axis, _ = axis_of(stamps)
    assert same(on_grid(axis, values), values[::copies]) and not axis.differing.any()


def test_a_coarser_mean_weighs_every_row_alike():
    """A mean of the hours' means would be 2: the first hour has three rows."""
    stamps = pd.to_datetime(["2024-01-01 00:00"] * 3 + ["2024-01-01 01:00"] * 1)
    axis, _ = axis_of(stamps, freq="D")
    assert same(on_grid(axis, [[1], [1], [1], [3]])[:, 0], [1.5])


def test_rows_taken_out_of_an_axis():
    stamps = pd.to_datetime(["2024-01-01 00:00"] * 3 + ["2024-01-01 01:00"] * 2)
    axis, _ = axis_of(stamps)
    fewer = axis.without(np.array([False, True, False, False, True]))
    assert fewer.repeated == 1 and fewer.order.tolist() == [0, 2, 3]
    assert same(on_grid(fewer, [[1], [2], [4], [8], [16]], "sum")[:, 0], [5, 8])
    none = fewer.without(np.array([False, True, False]))
    assert none.repeated == 0 and same(on_grid(none, np.arange(5)[:, None])[:, 0], [0, 3])


def test_infinite_sums_and_empty_bins():
    x = np.array([[1.0], [2.0], [NAN], [5.0]])
    place = np.array([0, 0, 2, 2])
    assert same(bins(x, place, 4, "sum"), [[3], [NAN], [5], [NAN]])
    assert same(bins(x, place, 4, "sum", np.array([2, 2, 2, 2])), [[3], [NAN], [NAN], [NAN]])
    assert same(bins(x[:0], place[:0], 2, "mean"), [[NAN], [NAN]])


# Frequencies ----------------------------------------------------------------------------------------------------------


def test_monthly_data_on_any_day_of_the_month_stand_for_the_month():
    axis, findings = axis_of(["2024-01-15", "2024-02-15", "2024-03-15", "2024-05-15"])
    assert axis.freq == "MS" and axis.time.strftime("%m-%d").tolist() == [
        "01-01",
        "02-01",
        "03-01",
        "04-01",
        "05-01",
    ]
    assert findings.data["moved"] == 4
    assert same(on_grid(axis, [[1], [2], [3], [5]])[:, 0], [1, 2, 3, NAN, 5])


def test_daily_data_with_a_weekend_are_no_business_days():
    assert axis_of(pd.date_range("2024-01-01", periods=6))[0].freq == "D"  # Monday to Saturday
    assert axis_of(pd.date_range("2024-01-01", periods=5))[0].freq == "D"  # no weekend was seen
    assert axis_of(pd.bdate_range("2024-01-01", periods=6))[0].freq == "B"


def test_a_stamp_between_two_steps_goes_to_the_nearer_one():
    stamps = [*pd.date_range("2024-01-01", periods=30, freq="h")]
    stamps[7] += pd.Timedelta("3s")
    stamps[11] -= pd.Timedelta("20min")
    axis, findings = axis_of(stamps)
    assert len(axis.time) == 30 and findings.data["moved"] == 2
    assert same(on_grid(axis, np.arange(30)[:, None])[:, 0], np.arange(30))


def test_irregular_stamps_need_a_frequency():
    stamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(
        np.cumsum([1, 5, 2, 9, 3, 11, 4, 8, 6, 7]), "min"
    )
    refused(stamps, "irregular", "f.csv column stamp", "set data.freq")
    axis, findings = axis_of(stamps, freq="15min")
    assert axis.time.strftime("%H:%M").tolist() == ["00:00", "00:15", "00:30", "00:45"]
    assert same(
        on_grid(axis, np.ones((10, 1)), "sum")[:, 0], [3, 2, 3, 2]
    )  # of single events: what there is
    assert findings.data["aggregated"] == "mean"


def test_a_finer_frequency_than_the_file_is_refused():
    hourly = pd.date_range("2024-01-01", periods=11, freq="h")
    refused(hourly, "data.freq = 15min is finer", "set h", freq="15min")
    refused(hourly[::5], "finer", freq="2h")
    assert axis_of(hourly[[0, 2, 4, 6, 7]], freq="h")[0].freq == "h"  # gaps, but one step as short


@pytest.mark.parametrize(
    ("said", "means"), [("H", "h"), ("15T", "15min"), ("M", "ME"), ("W", "W-SUN"), ("2h", "2h")]
)
def test_frequencies_as_pandas_wrote_them_once(said, means):
    assert parse_freq(said) == means


@pytest.mark.parametrize("text", ["", "0h", "-1h", "often", "h ago", "1.5.2"])
def test_no_frequencies(text):
    with pytest.raises(UserError, match="is no step"):
        parse_freq(text)


@pytest.mark.parametrize(
    ("freq", "how", "expected"),
    [
        ("6h", "mean", [2.5, 8.5, 14.5, 20.5, 26.0]), ("6h", "sum", [15, 51, 87, 123, NAN]),
        ("6h", "last", [5, 11, 17, 23, 28]), ("D", "sum", [276, NAN]), ("ME", "sum", [NAN]),
        ("W-SUN", "mean", [14.0]),
    ],
)  # fmt: skip
def test_coarser_steps_by_hand(freq, how, expected):
    axis, _ = axis_of(pd.date_range("2024-01-01", periods=29, freq="h"), freq=freq, aggregate=how)
    assert axis.freq == freq and same(on_grid(axis, np.arange(29.0)[:, None], how)[:, 0], expected)


def test_a_sum_with_a_missing_part_is_missing_and_a_mean_is_not():
    stamps = pd.date_range("2024-01-01", periods=48, freq="h").delete(30)
    values = np.ones((47, 2))
    values[3, 1] = NAN
    axis, _ = axis_of(stamps, freq="D", aggregate="sum")
    assert same(on_grid(axis, values, "sum"), [[24, NAN], [NAN, NAN]])
    axis, _ = axis_of(stamps, freq="D")
    assert same(on_grid(axis, values), np.ones((2, 2)))


def test_calendar_labels_are_those_of_pandas():
    stamps = pd.date_range("2023-11-05", periods=400)
    values = np.arange(400.0)
    for freq in ("MS", "ME", "QS", "QE", "YS", "YE", "W-WED"):
        axis, _ = axis_of(stamps, freq=freq)
        wanted = pd.Series(values, stamps).resample(freq).mean()
        assert (axis.time == wanted.index).all() and same(
            on_grid(axis, values[:, None])[:, 0], wanted
        )


def test_one_far_stamp_is_a_mistake():
    stamps = [pd.Timestamp("1970-01-01"), *pd.date_range("2024-01-01", periods=101, freq="h")]
    refused(stamps, "1970-01-01", "102 stamps", "correct the stamp")
    refused(["2024-01-01"], "one stamp tells no frequency", "data.freq")
    assert axis_of(["2024-01-01"], freq="D")[0].freq == "D"


# Zones and daylight saving --------------------------------------------------------------------------------------------


def local_hours(start, stop, zone="Europe/Berlin"):
    """What a naive logger of that zone writes: 2:00 missing in spring, 2:00 twice in autumn."""
    utc = pd.date_range(start, stop, freq="h", tz=zone)
    return utc, utc.tz_localize(None).strftime("%Y-%m-%d %H:%M").tolist()


@pytest.mark.parametrize("year", [2023, 2024])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Pacific/Auckland"])
def test_a_year_of_a_local_clock_is_regular_with_its_zone(zone, year):
    utc, texts = local_hours(f"{year}-01-01", f"{year}-12-31 23:00", zone)
    axis, findings = axis_of(texts, tz=zone)
    assert (
        axis.tz == zone
        and axis.freq == "h"
        and axis.repeated == 0
        and findings.data["doubled_hours"] == 2
    )
    assert (axis.time == utc.tz_convert("UTC").tz_localize(None)).all() and len(
        axis.time
    ) == 8760 + 24 * (year == 2024)
    backwards, _ = axis_of(texts[::-1], tz=zone)  # newest first
    assert (backwards.time == axis.time).all() and (
        backwards.order == np.arange(len(texts))[::-1]
    ).all()


def test_a_year_of_a_local_clock_without_its_zone_suggests_it():
    _, texts = local_hours("2024-01-01", "2024-12-31 23:00")
    axis, findings = axis_of(texts)
    assert axis.tz is None and axis.repeated == 1 and len(axis.time) == 24 * 366
    assert findings.data["suggested_tz"] == "Europe/Berlin" and "set data.tz" in findings.lines[-1]
    values = np.arange(len(texts), dtype=float)[:, None]
    found = pd.Series(on_grid(axis, values)[:, 0], axis.time)
    assert np.isnan(found["2024-03-31 02:00"]) and found["2024-10-27 02:00"] % 1 == 0.5
    plain = pd.date_range("2024-01-01", "2024-12-31 23:00", freq="h")
    assert "suggested_tz" not in axis_of(plain)[1].data
    assert "suggested_tz" not in axis_of([*plain, *plain[:999]])[1].data


def test_quarters_of_an_hour_in_the_doubled_hour():
    utc = pd.date_range("2024-10-26 20:00", "2024-10-27 05:00", freq="15min", tz="UTC")
    texts = utc.tz_convert("Europe/Berlin").tz_localize(None).astype(str)
    axis, findings = axis_of(texts, tz="Europe/Berlin")
    assert (axis.time == utc.tz_localize(None)).all() and findings.data["doubled_hours"] == 8


def test_each_series_of_a_long_file_has_its_own_doubled_hour():
    _, texts = local_hours("2024-10-27 00:00", "2024-10-27 06:00")
    codes = np.repeat([0, 1], len(texts))
    axis, _ = axis_of(texts * 2, codes, tz="Europe/Berlin")
    assert axis.span(0) == axis.span(1) == (0, 8) and axis.repeated == 0
    by_time = np.argsort(codes, kind="stable").reshape(2, -1).T.ravel()
    axis, _ = axis_of([(texts * 2)[i] for i in by_time], codes[by_time], tz="Europe/Berlin")
    assert axis.span(0) == axis.span(1) == (0, 8) and axis.repeated == 0


def test_rows_in_a_skipped_hour_are_left_out_and_named():
    texts = pd.date_range("2024-03-30", "2024-04-01", freq="h").astype(str)
    axis, findings = axis_of(texts, tz="Europe/Berlin")
    assert len(axis.order) == len(texts) - 1 and findings.data["skipped_hours"] == 1
    assert "Etc/GMT-1" in findings.lines[0] and len(axis.time) == 48  # 2 days and an hour, less one
    found, doubled, skipped = localise(
        np.array(["2024-03-31T02:30"], "M8[us]"), "Europe/Berlin", np.zeros(1, int)
    )
    assert np.isnat(found[0]) and (doubled, skipped) == (0, 1)


def test_offsets_mix_over_a_change_of_the_clock():
    utc = pd.date_range("2024-03-30", "2024-04-02", freq="h", tz="Europe/Berlin")
    texts = [stamp.isoformat() for stamp in utc]
    assert len({text[-6:] for text in texts}) == 2
    axis, findings = axis_of(texts)
    assert axis.tz == "UTC" and len(axis.time) == len(utc) and findings.data["tz"] == "UTC"
    assert axis_of(texts, tz="Asia/Kolkata")[0].tz == "Asia/Kolkata"
    assert axis_of(utc)[0].tz == "Europe/Berlin"  # a typed column names its zone


def test_days_and_longer_steps_count_on_the_wall():
    days = pd.date_range("2024-03-25", "2024-11-02", freq="D", tz="Europe/Berlin")
    for stamps, freq in ((days, "D"), (days[::7], "W-MON"), (days[days.day == 1], "MS")):
        axis, findings = axis_of([stamp.isoformat() for stamp in stamps], tz="Europe/Berlin")
        assert axis.freq == freq and axis.tz is None and findings.data["clock"] == "wall"
        assert (axis.time == stamps.tz_localize(None)).all()


def test_six_hours_of_a_clock_on_the_wall_or_of_utc():
    utc = pd.date_range("2024-03-25", "2024-04-05", freq="6h", tz="UTC")
    axis, _ = axis_of(utc, tz="Europe/Berlin")
    assert axis.tz == "Europe/Berlin" and len(axis.time) == len(utc)
    wall = pd.date_range("2024-03-25", "2024-04-05", freq="6h").tz_localize("Europe/Berlin")
    axis, _ = axis_of(wall, tz="Europe/Berlin")
    assert axis.tz is None and len(axis.time) == len(wall)


def test_days_of_23_and_25_hours_are_whole_days():
    _, texts = local_hours("2024-03-30", "2024-03-31 23:00")
    axis, _ = axis_of(texts, tz="Europe/Berlin", freq="D", aggregate="sum")
    assert same(on_grid(axis, np.ones((len(texts), 1)), "sum")[:, 0], [24, 23])
    _, texts = local_hours("2024-10-26", "2024-10-27 23:00")
    axis, _ = axis_of(texts, tz="Europe/Berlin", freq="D", aggregate="sum")
    assert axis.tz is None and same(on_grid(axis, np.ones((len(texts), 1)), "sum")[:, 0], [24, 25])


def test_hours_of_a_zone_with_half_an_hour_begin_on_its_clock():
    stamps = pd.date_range("2024-01-01", periods=12, freq="15min").astype(str)
    axis, _ = axis_of(stamps, tz="Asia/Kolkata", freq="h", aggregate="sum")
    assert axis.time.tz_localize("UTC").tz_convert("Asia/Kolkata").minute.tolist() == [0, 0, 0]
    assert same(on_grid(axis, np.ones((12, 1)), "sum")[:, 0], [4, 4, 4])


def test_unknown_zones_are_refused():
    for zone in ("Europe/Atlantis", "/etc/passwd", "../x", ""):
        refused(["2024-01-01", "2024-01-02"], f'data.tz = "{zone}"', "no such time zone", tz=zone)


# Stamps that can't be read --------------------------------------------------------------------------------------------


def test_a_few_unreadable_stamps_are_left_out_and_named():
    stamps = pd.date_range("2024-01-01", periods=307, freq="h").astype(str).tolist()
    stamps[4], stamps[100], stamps[200] = "4 o'clock", None, ""
    axis, findings = axis_of(stamps)
    assert len(axis.order) == 304 and len(axis.time) == 307
    assert 'row 5 ("4 o\'clock"), row 101 (""), row 201 ("")' in findings.lines[0]
    stamps[5] = "5 o'clock"  # 4 of 307 are more than 1 %
    refused(stamps, "4 of 307 stamps can't be read", "row 5", "4 o'clock", "write stamps as")
    refused(["a", "b"], "no cell is a stamp", "data.time")
