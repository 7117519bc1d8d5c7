"""Random panels as pandas writes them, read back: pandas' own sums and means of all rows, by id and stamp."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.read import read_file

ZONE = "Europe/Berlin"
TEXTS = ("NA", "Ost", "10 a", "b/c", "Zürich")
NUMBERS = (7, 19, 103, 5, 23)
STEPS = 17


@dataclass(frozen=True)
class Made:
    """A panel: rows with ids, `when` (UTC where `zoned`, else a clock's) and two columns of values."""

    rows: pd.DataFrame
    ids: list[str]
    freq: str
    zoned: bool

    def expected(self, how: str, ids: list[str]) -> dict[str, pd.DataFrame]:
        """Name of a series -> its values on the grid, by pandas."""
        kept = self.rows[[*ids, "when", "load", "temp"]]
        parts = kept.groupby(ids) if ids else [((), kept)]
        found = {}
        for key, part in parts:
            grouped = part.drop(columns=ids).groupby("when")
            whole = grouped.sum(min_count=1) if how == "sum" else grouped.mean()
            grid = pd.date_range(whole.index.min(), whole.index.max(), freq=self.freq)
            found["/".join(map(str, key))] = whole.reindex(grid)
        return found


@st.composite
def panels(draw):
    """Two to four series of one or two ids, rows shuffled, some twice, some with other values, some missing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    zoned = draw(st.booleans())
    freq = "h" if zoned else draw(st.sampled_from(["h", "D", "15min"]))
    ids = draw(st.sampled_from([["site"], ["nr"], ["site", "nr"], ["nr", "kind"]]))
    start = (
        "2024-10-26 20:00" if zoned else "2024-02-27"
    )  # over the change of a clock; over a leap day
    time = pd.date_range(start, periods=STEPS, freq=freq)
    cells = {"site": TEXTS, "nr": NUMBERS, "kind": NUMBERS[::-1]}
    series = [
        {name: cells[name][k % (5 - place)] for place, name in enumerate(ids)} for k in range(4)
    ]
    parts = []
    for one in series[: draw(st.integers(2, 4))]:
        # The first two rows say how long a step is; gaps anywhere else.
        there = np.flatnonzero((rng.random(STEPS) < 0.85) | (np.arange(STEPS) < 2))
        times = rng.choice([1, 1, 1, 2, 3], len(there))  # rows of one stamp
        values = (
            rng.integers(-9, 3, (times.sum(), 2)) + rng.integers(0, 100, (times.sum(), 2)) / 100
        )
        values[rng.random(values.shape) < 0.08] = np.nan
        part = pd.DataFrame({**one, "when": time[np.repeat(there, times)]})
        part["load"], part["temp"] = 10 ** rng.integers(0, 5) * values[:, 0], values[:, 1]
        parts += [part, part.sample(rng.integers(1, 5), random_state=1)]  # and whole rows twice
    rows = pd.concat(parts).sample(frac=1, random_state=int(rng.integers(1000)))
    return Made(rows.round(2).reset_index(drop=True), ids, freq, zoned)


def written(made: Made, texts: bool) -> pd.DataFrame:
    """As a person's file has it: a unit in the name, stamps with their offset where they have one."""
    rows = made.rows.rename(columns={"load": "load [MW]", "when": "date"})
    if made.zoned:
        local = rows["date"].dt.tz_localize("UTC").dt.tz_convert(ZONE)
        rows["date"] = [stamp.isoformat() for stamp in local] if texts else local
    return rows


def spelled(number: float, decimal: str, thousands: str) -> str:
    """1234.5 as "1.234,50"; nothing where it is missing."""
    if np.isnan(number):
        return ""
    plain = f"{number:,.2f}"
    return plain.translate({ord(","): thousands, ord("."): decimal})


def assert_as_pandas(path, made: Made, how: str, doubles: str = "keep") -> None:
    data = DataConfig(id=made.ids, aggregate=how, freq=made.freq, panel="series", doubles=doubles)
    panel = read_file(path, data)
    expected = made.expected(how, made.ids)
    assert sorted(one.attrs["id"] for one in panel) == sorted(expected)
    assert panel.variates == ["load [MW]", "temp"] and panel.units == ["MW", ""]
    assert (panel.tz is not None) == made.zoned
    for one in panel:
        wanted = expected[one.attrs["id"]]
        wanted = wanted[: one.attrs["rows"]]
        assert (pd.DatetimeIndex(one["time"].values) == wanted.index).all()
        np.testing.assert_allclose(one["target"].values, wanted, rtol=1e-12, atol=1e-9)


HOW = st.sampled_from(["sum", "mean"])


@settings(max_examples=30)
@given(
    panels(),
    HOW,
    st.sampled_from([(",", ".", ""), (";", ".", ""), (";", ",", "."), ("\t", ",", "")]),
)
def test_csv(tmp_path_factory, made, how, dialect):
    delimiter, decimal, thousands = dialect
    rows = written(made, texts=True)
    for name in ("load [MW]", "temp"):
        rows[name] = [spelled(number, decimal, thousands) for number in rows[name]]
    path = tmp_path_factory.mktemp("csv") / "panel.csv"
    rows.to_csv(path, sep=delimiter, index=False)
    assert_as_pandas(path, made, how)


@settings(max_examples=15)
@given(panels(), HOW)
def test_parquet(tmp_path_factory, made, how):
    path = tmp_path_factory.mktemp("parquet") / "panel.parquet"
    written(made, texts=False).to_parquet(path, index=False)
    assert_as_pandas(path, made, how)


@settings(max_examples=10)
@given(panels(), HOW)
def test_xlsx(tmp_path_factory, made, how):
    path = tmp_path_factory.mktemp("xlsx") / "panel.xlsx"
    written(made, texts=made.zoned).to_excel(path, index=False)
    assert_as_pandas(path, made, how)


@settings(max_examples=10)
@given(panels())
def test_without_doubles(tmp_path_factory, made):
    """data.doubles = "drop" is pandas' drop_duplicates, and no row more."""
    path = tmp_path_factory.mktemp("csv") / "panel.csv"
    written(made, texts=True).to_csv(path, index=False)
    single = Made(made.rows.drop_duplicates(), made.ids, made.freq, made.zoned)
    assert_as_pandas(path, single, "sum", doubles="drop")


@settings(max_examples=10)
@given(panels(), HOW)
def test_joined_over_the_ids(tmp_path_factory, made, how):
    """Ids that are dropped, or a data.aggregate that is set: all rows of a stamp, whatever series they are of."""
    path = tmp_path_factory.mktemp("csv") / "panel.csv"
    written(made, texts=True).to_csv(path, index=False)
    (wanted,) = made.expected(how, []).values()
    for drop in (made.ids, []):
        data = DataConfig(drop=drop, targets=["load", "temp"], aggregate=how, freq=made.freq)
        one = read_file(path, data).first
        np.testing.assert_allclose(
            one["target"].values, wanted[: one.attrs["rows"]], rtol=1e-12, atol=1e-9
        )


@pytest.mark.parametrize("how", ["sum", "mean"])
def test_coarser_steps_run_over_all_rows(tmp_path, how):
    """Days of hours of which some have several rows: pandas' groups of days."""
    rng = np.random.default_rng(0)
    time = np.repeat(pd.date_range("2024-01-01", periods=24 * 5, freq="h"), rng.integers(1, 4, 120))
    rows = pd.DataFrame({"date": time, "site": "a", "load": rng.normal(size=len(time))})
    rows.sample(frac=1, random_state=2).to_csv(tmp_path / "h.csv", index=False)
    panel = read_file(tmp_path / "h.csv", DataConfig(id="site", freq="D", aggregate=how))
    wanted = rows.groupby(rows["date"].dt.floor("D"))["load"].agg(how)
    np.testing.assert_allclose(panel.first["target"].values[:, 0], wanted, rtol=1e-12)
