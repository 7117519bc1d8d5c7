"""One sentence for each mistake in the settings and files of series."""

import gzip

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data import source_file
from isoform.timeseries.data.read import read_file

from .files import frame, hours, refused, wide


def test_mistakes_in_settings(plain_csv):
    refused("data.path is not set")
    refused("no such file or folder", path=plain_csv.with_name("none.csv"))
    refused('has no column "laod" (data.targets)', path=plain_csv, targets="laod")
    refused(
        'has no column "bb"', "did you mean b?", "only date, a, b, c", path=plain_csv, past="bb"
    )
    refused('has no column "when" (data.time)', path=plain_csv, time="when")
    refused('has no column "site" (data.id)', path=plain_csv, id="site")
    refused('column "a" is named as past and as targets', path=plain_csv, past="a", targets="a")
    refused('column "a"', path=plain_csv, past=["a", "a"])
    refused('column "a" (data.static) changes', path=plain_csv, static="a")
    refused('data.freq = "often"', path=plain_csv, freq="often")
    refused("data.freq = 15min is finer", path=plain_csv, freq="15min")
    refused("has no numeric column", path=plain_csv, drop=["a", "b", "c"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ("the first line is empty",)),
        ("\n\n1,2\n", ("the first line is empty",)),
        ("date,a\n", ("has a head but no rows",)),
        ("date,a\n\n\n", ("has a head but no rows",)),
        ("date,a\n2024-01-01,1\n", ("one stamp tells no frequency",)),
        ("date,a,a\n2024-01-01,1,2\n", ('they are called "a"',)),
        ("2024-01-01,1\n2024-01-02,2\n", ("holds values", "name the columns")),
        (
            "date,a\n2024-01-01,1,2\n2024-01-02,3,4\n",
            ("line 2: has 3 cells where there are 2 columns", "1 more"),
        ),
        (
            "date,a\n2024-01-01,1\n2024-01-02,1,2,3\n",
            ("line 3: has 4 cells where there are 2 columns",),
        ),
        ('date,a\n2024-01-01,"1\n', ("line 2", "is a quotation mark missing?")),
        ("date,a\n2024-01-01,x\n2024-01-02,y\n", ("no numeric column", "a text")),
        ("a,b\n1,2\n3,4\n", ("data.time = NAME", "a, b")),
        ("x,y,v\n2024-01-01,2024-01-01,1\n2024-01-02,2024-01-02,2\n", ("x and y all hold dates",)),
        ("date,v\n1,5\n2,6\n", ("holds numbers from 1 to 2", "no stamps")),
        ("date,v\n2024-01-01,\n2024-01-02,\n", ("no numeric column",)),
        ("PK\x03\x04\0\0", ("is no text",)),
    ],
)
def test_mistakes_in_a_csv(tmp_path, content, words):
    (tmp_path / "x.csv").write_text(content)
    refused("x.csv", *words, path=tmp_path / "x.csv")


def test_mistakes_in_other_files(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(wide(99).tobytes())[:400])
    refused("damaged", path=tmp_path / "x.csv.gz")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 nothing")
    refused("is no parquet file", path=tmp_path / "x.parquet")
    (tmp_path / "x.docx").touch()
    refused("is no file of series by its ending", ".parquet", path=tmp_path / "x.docx")
    (tmp_path / "folder").mkdir()
    refused("is a folder and no Zarr store", path=tmp_path / "folder")
    path = frame(tmp_path / "t.csv", {"date": hours(3), "a": ["x", "y", "z"]})
    refused('column "a" holds no number ("x" in row 2)', path=path, targets="a")


def test_large_files_are_refused_before_they_are_read(tmp_path, plain_csv, monkeypatch):
    monkeypatch.setattr(source_file, "MOST_BYTES", 2**20)
    bomb = tmp_path / "b.csv.gz"
    bomb.write_bytes(gzip.compress(b"date,a\n" + b"0" * 2**21))
    refused("its unpacked size", path=bomb)
    pq.write_table(
        pa.table({"date": np.zeros(2**18, "M8[s]"), "a": np.zeros(2**18)}), tmp_path / "b.parquet"
    )
    assert (tmp_path / "b.parquet").stat().st_size < 2**20  # packed by runs
    refused("its content of", path=tmp_path / "b.parquet")
    monkeypatch.setattr(source_file, "MOST_BYTES", 99)
    refused("its size of", path=plain_csv)


@settings(max_examples=60)
@given(
    st.binary(max_size=300)
    | st.text(alphabet="date,a;b0129.-:T \n\"'x\t", max_size=200).map(str.encode)
)
def test_any_bytes_are_read_or_refused_with_a_sentence(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(b"date,a\n" + content)
    try:
        panel = read_file(path, DataConfig())
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert panel.first["target"].dims == ("time", "variate")
