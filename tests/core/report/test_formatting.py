import math

import pytest

from isoform.core.report.formatting import clock, fraction, mebibytes, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (math.nan, "-"),
        (12345, "12345"),
        (0.123456, "0.1235"),
        (1e-12, "0"),
        (-2.5, "-2.5"),
        (123456.0, "1.235e+05"),
    ],
)
def test_numbers(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0:00"), (59.6, "1:00"), (3599, "59:59"), (3661, "1:01:01")]
)
def test_durations(seconds, text):
    assert clock(seconds) == text


def test_fractions_and_sizes():
    assert (fraction(1 / 3), fraction(math.nan), mebibytes(3000 * 2**20)) == (
        "0.333",
        "-",
        "3,000 MiB",
    )
