"""One behaviour for a user's ugly table in every domain: the same numbers, the same finding, the same refusal."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from isoform.core.errors import UserError
from ugly_tables import ROWS, UGLY, Ugly

IMAGES = [f"{i}.png" for i in range(ROWS)]
STAMPS = [f"2024-03-01 {hour:02d}:00" for hour in range(ROWS)]
SMILES = ["C" * (i + 1) for i in range(ROWS)]

Read = tuple[
    dict[str, np.ndarray], list[str]
]  # column -> values with NaN where missing, and the findings


def vision(ugly: Ugly, folder, columns) -> Read:
    from isoform.vision.config import DataConfig
    from isoform.vision.data.tables import read_image_table

    for name in IMAGES:
        Image.new("L", (3, 5)).save(folder / name)
    path = folder / ugly.file
    path.write_bytes(ugly.content("path", IMAGES))
    records = read_image_table(
        DataConfig(
            source="table",
            table=str(path),
            task="regression",
            labels=tuple(columns),
            **ugly.settings,
        )
    )
    rows = ROWS if len(records.images) > 1 else 1
    targets = np.full((rows, len(columns)), np.nan)  # rows without any value are left out
    for name, row in zip(records.images.names, records.labels, strict=True):
        targets[IMAGES.index(name)] = [np.nan if cell is None else cell for cell in row]
    return dict(zip(columns, targets.T, strict=True)), list(records.findings)


def timeseries(ugly: Ugly, folder, columns) -> Read:
    from isoform.timeseries.config import DataConfig
    from isoform.timeseries.data.read import read_file

    path = folder / ugly.file
    path.write_bytes(ugly.content("date", STAMPS))
    panel = read_file(
        path, DataConfig(path=str(path), targets=tuple(columns), freq="h", **ugly.settings)
    )
    values = panel.first.target.values
    return {name: values[:, panel.variates.index(name)] for name in columns}, panel.findings.lines


def molecules(ugly: Ugly, folder, columns) -> Read:
    from isoform.molecules.config import DataConfig
    from isoform.molecules.data.read import read_file

    path = folder / ugly.file
    path.write_bytes(ugly.content("smiles", SMILES))
    found = read_file(
        path, DataConfig(path=str(path), targets=tuple(columns), task="regression", **ugly.settings)
    )
    return dict(zip(columns, found.targets.T, strict=True)), list(found.findings)


@pytest.mark.parametrize("read", [vision, timeseries, molecules], ids=lambda read: read.__name__)
@pytest.mark.parametrize("ugly", UGLY, ids=lambda ugly: ugly.name)
def test_every_domain_reads_an_ugly_table_alike(ugly: Ugly, read, tmp_path) -> None:
    columns = list(ugly.numbers)
    if ugly.refusal:
        with pytest.raises(UserError) as raised:
            read(ugly, tmp_path, columns or ["load"])
        assert ugly.refusal in str(raised.value) and "\n" not in str(raised.value)
        return
    values, findings = read(ugly, tmp_path, columns)
    for name, expected in ugly.numbers.items():
        np.testing.assert_array_equal(
            values[name], np.array([np.nan if v is None else v for v in expected])
        )
    assert not ugly.finding or any(ugly.finding in line for line in findings), findings


@pytest.mark.parametrize(
    "ugly", [one for one in UGLY if "t be read" in one.refusal], ids=lambda one: one.name
)
def test_no_other_column_is_taken_where_one_looks_like_numbers(ugly: Ugly, tmp_path) -> None:
    """Also where nobody names the columns: it isn't left out, and nothing else predicted, without a word."""
    from isoform.molecules.config import DataConfig as Molecules
    from isoform.molecules.data.read import read_file as read_molecules
    from isoform.timeseries.config import DataConfig as Series
    from isoform.timeseries.data.read import read_file as read_series

    for key, keys, read, config in (
        ("date", STAMPS, read_series, Series),
        ("smiles", SMILES, read_molecules, Molecules),
    ):
        lines = ugly.content(key, keys).decode().splitlines()
        mark = ";" if ";" in lines[0] else ","
        lines = [line + mark + more for line, more in zip(lines, ["good", *"8253641"], strict=True)]
        (tmp_path / "t.csv").write_text("\n".join(lines))
        with pytest.raises(UserError, match=r"load.*can't be read, such as"):
            read(tmp_path / "t.csv", config(path=str(tmp_path / "t.csv"), **ugly.settings))
