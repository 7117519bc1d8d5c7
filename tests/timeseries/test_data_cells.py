"""Cells of a user's file as numbers: the files of ../shared/cases give their right values, and kinds of our own do."""

from __future__ import annotations

import numpy as np
import pytest

from isoform.core.data.read import read_table

from .files import case, hours, read, refused, table, values

# file, settings, column -> (rows, missing, least, greatest, mean) as counted independently, part of what is said
RIGHT = [
    ("S3_german_integers.csv", {}, "Absatz", (80, 0, 726, 1195, 957.7), "thousands mark"),
    ("S3_german_integers.csv", {}, "Preis", (80, 0, 9.0, 9.2, 9.099), "the comma is the decimal mark"),
    ("S3_german_peaks.csv", {}, "Last", (80, 0, 725.9, 1195.2, 957.7), "thousands mark"),
    ("M1_pipe.csv", {}, "load", (60, 0, 77.25, 122.96, 100.8), "divided by a vertical bar"),
    ("M1_preamble.csv", {}, "flow", (60, 0, 78.61, 123.13, 100.7), "passed over"),
    ("M1_semicolon_header_with_comma.csv", {}, "Leistung, MW", (60, 0, 77.28, 121.68, 100.7), "semicolon"),
    ("M1_sentinel.csv", {}, "flow", (120, 0, -9999, 123.3, -489.1), "data.missing = [-9999]"),
    ("M1_sentinel.csv", {"missing": (-9999,)}, "flow", (120, 7, 74.94, 123.3, 99.99), "counts as missing"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "settings", "column", "right", "said"), RIGHT)
def test_the_cases_give_their_right_values(name, settings, column, right, said) -> None:
    path = case(name)
    panel = read(path, **settings)
    by_panel = values(panel)[column].to_numpy()
    assert any(said in line for line in panel.findings.lines), panel.findings.lines
    core = read_table(path, missing=settings.get("missing", ())).numbers(column)
    assert not core.unread and not core.problem
    for found in (by_panel, core.values):
        rows, missing, least, greatest, mean = right
        assert (len(found), int(np.isnan(found).sum())) == (rows, missing)
        assert np.nanmin(found) == pytest.approx(least, abs=0.05)
        assert np.nanmax(found) == pytest.approx(greatest, abs=0.05)
        assert np.nanmean(found) == pytest.approx(mean, abs=0.06)


def test_a_column_that_looks_like_numbers_is_refused_and_can_be_left_out(tmp_path) -> None:
    rows = [[stamp, f"{i}.5 ± 0.25", i % 7] for i, stamp in enumerate(hours(29))]
    path = table(tmp_path / "x.csv", ["date", "flow", "good"], rows)
    said = refused('column "flow"', '"0.5 ± 0.25"', "data.drop", path=path)
    assert said == refused('column "flow"', path=path, targets=("flow", "good"))
    assert read(path, drop=("flow",)).variates == ["good"]


def test_words_beside_numbers_stay_missing_and_named(tmp_path) -> None:
    rows = [[stamp, "closed" if i % 3 == 0 else i] for i, stamp in enumerate(hours(29))]
    panel = read(table(tmp_path / "x.csv", ["date", "sales"], rows))
    assert int(np.isnan(values(panel)["sales"]).sum()) == 10
    assert any('("closed")' in line for line in panel.findings.lines)


@pytest.mark.parametrize(("decimal", "right"), [(".", 1.203), (",", 1203.0)])
def test_the_decimal_mark_can_be_set_where_a_file_leaves_it_open(tmp_path, decimal, right) -> None:
    rows = [[stamp, f"1.{203 + 7 * i}"] for i, stamp in enumerate(hours(29))]
    path = table(tmp_path / "x.csv", ["date", "sales"], rows, ";")
    assert any("data.decimal settles it" in line for line in read(path).findings.lines)
    panel = read(path, decimal=decimal)
    assert values(panel)["sales"].iloc[0] == right
    assert not any("data.decimal" in line for line in panel.findings.lines)
