"""What a page lets run: the scripts of the kinds of scenes that it shows, by their hashes, and nothing else."""

import base64
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from isoform.core.domain import Figure
from isoform.core.report import scenes as module
from isoform.core.report.balls import Balls, Kind, Sheet, balls_figure
from isoform.core.report.balls import Scene as BallScene
from isoform.core.report.balls import View as BallView
from isoform.core.report.files import figure_json
from isoform.core.report.page import write_report
from isoform.core.report.points import Scene, View, points_figure
from isoform.core.report.scenes import SCRIPTS, kind_of, scripts_of
from isoform.core.runs.folder import RunFolder

HERE = Path(module.__file__).parent
RESULTS = {
    "app": "a",
    "domain": "d",
    "status": "finished",
    "parameters": 7,
    "precision": "fp32",
    "metrics": {},
    "baselines": {},
}


def points():
    return points_figure("points", Scene([View(np.eye(3), np.zeros(3, int), "a cloud")]))


def balls():
    step = Balls(np.eye(3), np.zeros(3, int), np.array([[0, 1]]))
    sheet = Sheet("one", [BallView([step], "a body")])
    return balls_figure("balls", BallScene([sheet], [Kind("C", "#6b6f7a", 0.3)], 0.1))


def page_of(folder, *figures):
    run = RunFolder(folder)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_json("results.json", RESULTS)
    run.write_json("figures.json", [figure_json(figure, run.path) for figure in figures])
    return write_report([run.path]).read_text(encoding="utf-8")


def scripts_in(text):
    """(texts of the scripts that run, hashes that the policy allows, the policy)."""
    found = re.findall(r"<script>(.*?)</script>", text, flags=re.S)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text).group(1)
    return found, re.findall(r"'sha256-([^']*)'", policy), policy


@pytest.mark.parametrize(
    ("figures", "count"),
    [([], 0), ([points], 2), ([balls], 3), ([balls, balls], 3), ([points, balls], 4)],
)
def test_a_page_carries_what_its_scenes_need_once(tmp_path, figures, count):
    found, hashes, policy = scripts_in(page_of(tmp_path / "run", *(make() for make in figures)))
    digests = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found]
    assert len(found) == count and hashes == digests
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:")
    assert ("script-src" in policy) == bool(figures)
    assert any("$3Dmol" in one for one in found) == (balls in figures)


def test_own_scripts_fetch_nothing_and_write_no_markup():
    names = {"scenes.js", *(name for kind in SCRIPTS.values() for name in kind)} - {module.DMOL}
    for name in names:
        text = (HERE / name).read_text(encoding="utf-8")
        assert "</" not in text, name
        for word in (
            "http",
            "import",
            "eval(",
            "innerHTML",
            "document.write",
            "fetch",
            "Function(",
        ):
            assert word not in text, (name, word)


def test_3dmol_is_the_one_that_is_named_and_brings_its_licence():
    script = (HERE / module.DMOL).read_bytes()
    assert hashlib.sha256(script).hexdigest() == module.DMOL_SHA256
    noted = next(text for text in scripts_of(["balls"]) if text.encode().endswith(script))
    assert module.DMOL_VERSION in noted[:40]
    for words in ("BSD-3-Clause", "University of Pittsburgh", "three.js authors", "John Resig"):
        assert words.lower() in noted[: -len(script)].lower(), words
    assert "<!--" not in noted and "</script" not in noted.lower() and "\r" not in noted


def test_scenes_of_runs_before_there_were_kinds_hold_points(tmp_path):
    figure = points()
    old = {name: value for name, value in figure.scene.items() if name != "kind"}
    assert kind_of(old) == "points"
    text = page_of(tmp_path / "run", Figure(figure.caption, figure.svg, scene=old))
    assert len(scripts_in(text)[0]) == 2
    data = re.search(r'<script type="application/json">(.*?)</script>', text, flags=re.S)
    assert "kind" not in json.loads(data.group(1))
