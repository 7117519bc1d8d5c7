"""Names and links of files under pictures: escaped, relative, alive, whatever their names are made of."""

import json
import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from isoform.core.domain import Figure, File
from isoform.core.report import files
from isoform.core.report.page import write_report
from isoform.core.runs.exported import BUNDLED
from isoform.core.runs.folder import RunFolder

NAMES = [
    b"plain.png",
    b"a b #1?&%20.png",
    b'<script>"x".png',
    b"latin \xe4\xff.png",
    "ü→.png".encode(),
]


def run_with(tmp_path, *rows):
    run = RunFolder(tmp_path / "runs" / "one")
    run.path.mkdir(parents=True)
    run.write_json(
        "results.json",
        {"app": "a", "domain": "d", "status": "finished", "parameters": 7, "precision": "fp32", "metrics": {},
         "baselines": {}},
    )  # fmt: skip
    figure = Figure("mistakes", svg="<svg></svg>", head=["image", "given <i>"], rows=rows)
    run.write_json("figures.json", [files.figure_json(figure, run.path)])
    return run


def links(page):
    text = page.read_text(encoding="utf-8")
    return [part.split('"', 1)[0] for part in text.split('<td><a href="')[1:]], text


@pytest.mark.parametrize("name", NAMES)
def test_a_link_leads_to_the_file(tmp_path, name):
    folder = tmp_path / "my data"
    folder.mkdir()
    path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))
    path.write_bytes(b"7")
    run = run_with(tmp_path, [File(os.fsdecode(name), path), "<b>cat</b>"])
    assert str(tmp_path) not in (run.path / "figures.json").read_text(), "no path of this machine"
    for page in (write_report([run.path]), write_report([run.path], tmp_path / "deep" / "x.html")):
        (found,), text = links(page)
        assert found.isascii() and not set(found) & set(' "<>#?')
        reached = os.path.join(os.fsencode(page.parent), unquote_to_bytes(found))
        assert Path(os.fsdecode(reached)).read_bytes() == b"7"
        assert "<b>cat" not in text and "<script>&#" not in text and "given &lt;i&gt;" in text


def test_a_file_that_is_gone_is_a_name(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"7")
    run = run_with(tmp_path, [File("a.png", path), "cat"], [File("no file"), "dog"])
    assert links(write_report([run.path]))[0] == ["../../a.png"]
    path.unlink()
    found, text = links(write_report([run.path]))
    assert not found and "<td>a.png</td>" in text and "<td>no file</td>" in text


def test_names_of_no_encoding_are_text():
    assert files.shown(os.fsdecode(b"a\xffb")) == "a�b"
    found = files.figure_json(Figure(os.fsdecode(b"\xe4")), Path())
    json.dumps(found, ensure_ascii=False).encode()
    assert "rows" not in found


def test_bundles_hold_no_links():
    assert not {"figures.json", "report.html", "suspected_labels.csv"} & set(BUNDLED)
