import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from isoform.timeseries.data.scaling import Moments, Scaling
from isoform.timeseries.state import ScalingRecord

from .panels import walk, with_gaps


def moments(values, pieces):
    found = Moments(values.shape[1])
    for piece in np.split(values, sorted(pieces)):
        found.add(piece)
    return found.pairs()


@given(
    arrays(np.float64, (53, 3), elements=st.floats(-1e3, 1e3) | st.just(np.nan)),
    st.lists(st.integers(0, 53), max_size=6), st.integers(1, 60),
)  # fmt: skip
def test_moments_are_those_of_all_values_whatever_the_pieces(values, pieces, block):
    found = Moments(3)
    found.rows = block
    for piece in np.split(values, sorted(pieces)):
        found.add(piece)
    for (mean, std), column in zip(found.pairs(), values.T, strict=True):
        seen = column[~np.isnan(column)]
        assert mean == pytest.approx(seen.mean() if len(seen) else 0.0, abs=1e-9)
        want = seen.std() if len(seen) else 0.0
        assert std == pytest.approx(want, abs=1e-9) or (std == 1.0 and want < 1e-9)


def test_pieces_never_change_a_bit():
    values = with_gaps(walk(1009, 7), 0.1)
    block = Moments(7)
    assert block.rows > 1009  # so it is made small here
    results = []
    for pieces in ([], [1, 2, 500], list(range(0, 1009, 13))):
        found = Moments(7)
        found.rows = 97
        for piece in np.split(values, pieces):
            found.add(piece)
        results.append(found.pairs())
    assert results[0] == results[1] == results[2]


def test_the_deviation_is_the_population_s():
    assert moments(np.array([[1.0], [2.0], [3.0], [6.0]]), [2]) == [(3.0, np.sqrt(3.5))]


@pytest.mark.parametrize("value", [0.1, 1e9 + 0.1, -7.0, 0.0])
def test_a_constant_column_is_divided_by_one(value):
    assert moments(np.full((1009, 1), value), [3, 700]) == [(value, 1.0)]


def test_a_column_without_values_stays_as_it_is():
    values = np.array([[np.nan, 5.0], [np.nan, 7.0]])
    assert moments(values, [1]) == [(0.0, 1.0), (6.0, 1.0)]


def test_a_small_spread_far_from_zero_keeps_its_digits():
    values = 1e8 + np.array([[0.0], [1.0], [2.0], [3.0]])
    assert moments(values, [2])[0][1] == pytest.approx(np.sqrt(1.25), abs=1e-12)


SCALING = Scaling(
    {"target": {"a": (10.0, 2.0), "b": (-1.0, 0.1)}, "known": {"holiday": (0.0, 1.0)}}
)


def test_columns_are_found_by_name():
    values = np.array([[9.0, 12.0]])
    assert SCALING.scaled("target", ["b", "a"], values).tolist() == [[100.0, 1.0]]
    assert SCALING.scaled("target", ["b", "a"], values).dtype == np.float32
    assert SCALING.lacks("target", ["a", "c"]) == ["c"] and SCALING.lacks("past", ["a"]) == ["a"]
    with pytest.raises(KeyError, match="c"):
        SCALING.mean("target", ["c"])


def test_without_scaling_values_stay_and_the_mean_fills():
    plain = Scaling(SCALING.tables, "none")
    assert plain.scaled("target", ["a"], np.array([[9.0]])).tolist() == [[9.0]]
    assert plain.rest("target", ["a", "b"]).tolist() == [10.0, -1.0]
    assert SCALING.rest("target", ["a", "b"]).tolist() == [0.0, 0.0]


def test_new_columns_join_and_known_ones_stay():
    other = Scaling({"target": {"a": (0.0, 5.0), "c": (3.0, 4.0)}})
    both = SCALING.joined(other)
    assert both.mean("target", ["a", "c"]).tolist() == [10.0, 3.0]
    assert both.std("known", ["holiday"]).tolist() == [1.0]


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(1e-300, 1e300),
    st.text('a"é ', max_size=3),
)
def test_json_keeps_every_bit(mean, std, name):
    before = Scaling({"past": {name: (mean, std)}}, "none")
    after = Scaling.of_record(
        ScalingRecord.model_validate_json(json.dumps(before.to_record().model_dump(mode="json")))
    )
    assert after.scale == "none" and after.tables["past"] == before.tables["past"]
