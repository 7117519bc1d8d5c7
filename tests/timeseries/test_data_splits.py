import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.data.splits import SPLITS
from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.splits import Index, borders, borders_of, origins, window_counts

from .panels import panel, series, walk


def counts(data, rows, context, horizon):
    found = origins(data, borders(data, rows), context, horizon)
    return tuple(len(found[split]) for split in SPLITS)


# Rows of the published files. The counts are the lengths of the official loaders, which can be checked by hand:
# a split of n rows has n - H + 1 windows whose horizons lie in it, and the first L rows of training start none.
@pytest.mark.parametrize(
    ("source", "rows", "context", "horizon", "want"),
    [
        ("ett-hour", 17420, 96, 96, (8449, 2785, 2785)),
        ("ett-hour", 17420, 96, 720, (7825, 2161, 2161)),
        ("ett-hour", 17420, 512, 96, (8033, 2785, 2785)),
        ("ett-minute", 69680, 96, 96, (34369, 11425, 11425)),
        ("custom", 7588, 96, 96, (5120, 665, 1422)),  # Exchange
        ("custom", 7588, 96, 720, (4496, 41, 798)),
        ("custom", 52696, 96, 96, (36696, 5175, 10444)),  # Weather
        ("custom", 26304, 96, 96, (18221, 2537, 5165)),  # ECL
        ("custom", 17544, 96, 96, (12089, 1661, 3413)),  # Traffic
        ("solar", 52560, 96, 96, (36601, 5161, 10417)),
        ("pems", 26208, 96, 12, (15617, 5135, 5135)),  # PEMS03
        ("pems", 16992, 96, 12, (10088, 3291, 3292)),  # PEMS04
        ("pems", 28224, 96, 12, (16827, 5538, 5538)),  # PEMS07
        ("pems", 17856, 96, 12, (10606, 3464, 3465)),  # PEMS08
        ("pems", 28224, 12, 12, (16911, 5622, 5622)),  # as the paper prints it
    ],
)
def test_window_counts_of_the_benchmarks(source, rows, context, horizon, want):
    assert counts(DataConfig(source=source), rows, context, horizon) == want


def test_ett_borders_leave_the_end_of_the_file_out():
    cut = borders(DataConfig(source="ett-hour"), 17420)
    assert cut == {"train": (0, 8640), "val": (8640, 11520), "test": (11520, 14400)}


def test_ett_with_too_few_rows_is_refused():
    with pytest.raises(UserError, match="has 57599 rows where the borders of ETT need 57600"):
        borders(DataConfig(source="ett-minute"), 57599)


def test_solar_leaves_a_gap_and_pems_never_looks_back_over_a_border():
    assert borders(DataConfig(source="solar"), 109) == {
        "train": (0, 76),
        "val": (76, 86),
        "test": (88, 109),
    }
    data = DataConfig(source="pems")
    cut = borders(data, 101)
    assert cut == {"train": (0, 60), "val": (60, 80), "test": (80, 101)}
    found = origins(data, cut, 7, 3)
    assert (found["val"].start, found["val"].stop) == (67, 78)
    assert origins(DataConfig(), cut, 7, 3)["val"] == range(60, 78)


def test_fractions_of_the_rows_with_test_last():
    cut = borders(DataConfig(val_fraction=0.1, test_fraction=0.2), 1000)
    assert cut == {"train": (0, 700), "val": (700, 800), "test": (800, 1000)}
    assert borders(DataConfig(test_fraction=0.0), 50)["test"] == (50, 50)


STAMPS = pd.date_range("2024-01-01", periods=240, freq="h")  # ten days


def dated(tz=None, stamps=STAMPS, **data):
    return borders(DataConfig(**data), len(stamps), stamps, tz)


def test_dates_are_the_first_rows_of_their_split():
    assert dated(val_from="2024-01-05", test_from="2024-01-08T12:00") == {
        "train": (0, 96), "val": (96, 180), "test": (180, 240)
    }  # fmt: skip
    assert dated(test_from="2024-01-08 00:30")["val"] == (
        169 - 24,
        169,
    )  # a fraction of all rows, before test
    assert dated(val_from="2024-01-05")["test"] == (192, 240)


def test_a_date_with_an_offset_is_taken_on_the_local_clock():
    wanted = "2024-01-05T00:00:00-05:00"  # 06:00 in Berlin
    assert dated("Europe/Berlin", test_from=wanted)["test"] == (102, 240)
    with pytest.raises(UserError, match="has an offset and the stamps have none"):
        dated(test_from=wanted)


def test_an_hour_that_comes_twice_counts_from_its_first_time():
    utc = pd.date_range("2024-10-26 22:00", periods=48, freq="h", tz="UTC")
    local = utc.tz_convert("Europe/Berlin").tz_localize(None)
    assert list(local.hour[:6]) == [0, 1, 2, 2, 3, 4]
    assert dated("Europe/Berlin", local, test_from="2024-10-27 02:00")["test"] == (2, 48)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"test_from": "soon"}, 'data.test_from = "soon" is no date'),
        ({"val_from": ""}, 'data.val_from = "" is no date'),
        ({"val_from": "2024-01-08", "test_from": "2024-01-05"}, "must lie before data.test_from"),
    ],
)
def test_dates_that_make_no_sense(data, message):
    with pytest.raises(UserError, match=message):
        dated(**data)


def test_dates_beside_the_data_name_its_range():
    made = panel(series(walk(101, 2)))
    with pytest.raises(
        UserError,
        match="leaves no row for test: made goes from 2024-01-01 00:00:00 to 2024-01-05 04",
    ):
        borders_of(DataConfig(test_from="2025-01-01"), made)
    two = panel(series(walk(101, 2)), series(walk(101, 2), start="2025-01-01"))
    assert [cut["test"] for cut in borders_of(DataConfig(test_from="2025-01-01"), two)] == [
        (101, 101),
        (0, 101),
    ]


@given(
    st.sampled_from(["custom", "solar", "pems", "file"]), st.integers(1, 400), st.integers(1, 40), st.integers(1, 40),
    st.floats(0.05, 0.4), st.floats(0, 0.4),
)  # fmt: skip
def test_horizons_never_leave_their_split_and_splits_never_meet(
    source, rows, context, horizon, val, test
):
    data = DataConfig(source=source, val_fraction=val, test_fraction=test)
    cut = borders(data, rows)
    assert cut["train"][0] == 0 and cut["test"][1] == rows
    assert all(cut[a][1] <= cut[b][0] for a, b in (("train", "val"), ("val", "test")))
    for split, (start, stop) in cut.items():
        low = start if source == "pems" else 0
        want = [r for r in range(rows) if r - context >= low and r >= start and r + horizon <= stop]
        assert list(origins(data, cut, context, horizon)[split]) == want


def test_counts_of_a_panel_add_up_and_empty_splits_are_absent():
    two = panel(series(walk(101, 2)), series(walk(29, 2)))
    data = DataConfig(val_fraction=0.1, test_fraction=0.2)  # 71, 10, 20 and 20, 3, 6 rows
    assert window_counts(data, two, 7, 5) == {"train": 60 + 9, "val": 6, "test": 16 + 2}
    assert window_counts(data, two, 7, 11) == {"train": 54 + 3, "test": 10}


@given(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30)), min_size=1, max_size=5),
    st.integers(1, 60),
    st.data(),
)
def test_numbers_of_windows_are_series_and_rows_in_order(spans, group, data):
    ranges = [range(start, start + length) for start, length in spans]
    kept = None
    if data.draw(st.booleans()):
        kept = [
            np.array(data.draw(st.lists(st.sampled_from(r), unique=True)) if len(r) else [], int)
            for r in ranges
        ]
        kept = [np.sort(one) for one in kept]
    index = Index(ranges, kept)
    want = [(s, r) for s, rows in enumerate(ranges if kept is None else kept) for r in rows]
    assert len(index) == len(want)
    found = np.stack(index.where(np.arange(len(want))), 1)
    assert found.tolist() == [list(pair) for pair in want]
    edges = index.groups(group)
    parts = [[(s, r // group) for s, r in want[a:b]] for a, b in itertools.pairwise(edges)]
    assert all(len(set(part)) == 1 for part in parts)
    assert sum(map(len, parts)) == len(want) and len(parts) == len(
        {(s, r // group) for s, r in want}
    )


def test_a_number_behind_the_last_window_is_refused():
    index = Index([range(5, 12)])
    with pytest.raises(IndexError, match="window 7 of 7"):
        index.where([0, 7])
