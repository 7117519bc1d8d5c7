"""Points that turn: what a page holds decodes to them, nothing but the one script runs, their colours differ."""

import base64
import itertools
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.report import points as module
from isoform.core.report.drawing import SERIES
from isoform.core.report.files import figure_json
from isoform.core.report.page import write_report
from isoform.core.report.points import (
    COLOURS,
    NONE,
    Scene,
    View,
    draw_still,
    points_figure,
    scene_json,
    seen_from,
    thin,
)
from isoform.core.report.scenes import scripts_of
from isoform.core.runs.folder import RunFolder

EVIL = "</script><script>alert(1)</script><!--"
RESULTS = {"app": "a", "domain": "d", "status": "finished", "parameters": 7, "precision": "fp32", "metrics": {},
           "baselines": {}}  # fmt: skip


def scene_of(caption="a cloud", names=("left", "right"), points=31, seed=0):
    rng = np.random.default_rng(seed)
    views = [
        View(
            rng.normal(size=(points + k, 3)) * (1, 5, 2),
            rng.integers(3, size=points + k),
            caption,
            k // 2,
        )
        for k in range(3)
    ]
    return Scene(views, (*COLOURS[:2], NONE), names, columns=(3, 1))


def page_of(folder, *figures):
    run = RunFolder(folder)
    run.path.mkdir(parents=True, exist_ok=True)
    run.write_json("results.json", RESULTS)
    run.write_json("figures.json", [figure_json(figure, run.path) for figure in figures])
    return write_report([run.path]).read_text(encoding="utf-8")


def decoded(view):
    """What points.js makes of a view: coordinates [N, 3] and colours [N]."""
    levels = np.frombuffer(base64.b64decode(view["points"]), "<u2").reshape(-1, 3)
    colour = np.frombuffer(base64.b64decode(view["colour"]), np.uint8)
    return np.array(view["low"]) + view["step"] * levels, colour


@given(
    st.integers(0, 97),
    st.floats(1e-3, 1e3),
    st.sampled_from([0.0, 5_432_109.125]),
    st.integers(0, 2**31),
)
def test_a_scene_decodes_to_its_points(count, size, far, seed):
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-size, size, (count, 3)) * (1, 0.5, 0) + far
    colour = rng.integers(256, size=count)
    found, own = decoded(scene_json(Scene([View(xyz, colour, "")]))["views"][0])
    assert found.shape == (count, 3) and own.tolist() == colour.tolist()
    extent = np.ptp(xyz, axis=0).max() if count else 0
    np.testing.assert_allclose(
        found, xyz, rtol=0, atol=0.51 * extent / 65_535 + 1e-15 * (far + size) * 4
    )


def test_a_view_has_a_colour_a_point():
    for colour in (np.zeros(3), [0, -1, 0, 0], [0, 1, 256, 0]):
        with pytest.raises(ValueError, match="a view has"):
            scene_json(Scene([View(np.zeros((4, 3)), np.array(colour), "")]))


def test_the_same_scene_gives_the_same_bytes(tmp_path):
    one, two = (points_figure("caption", scene_of()) for _ in range(2))
    assert one == two and "<image" in one.svg
    assert page_of(tmp_path / "a" / "run", one) == page_of(tmp_path / "b" / "run", two)


def test_a_page_of_points_stays_small(tmp_path):
    rng = np.random.default_rng(0)
    chosen = thin(1_000_003, 6_007)
    assert len(set(chosen.tolist())) == 6_007 and (np.diff(chosen) > 0).all()
    assert thin(7, 11).tolist() == list(range(7))
    xyz = rng.normal(size=(6_007, 3))
    scene = Scene([View(xyz, np.zeros(len(xyz)), "")] * 3)
    assert len(json.dumps(scene_json(scene))) < 3 * 6_007 * 9.4 + 1_000
    assert len(page_of(tmp_path / "run", points_figure("large", scene))) < 600_000


def test_names_from_data_stay_text(tmp_path):
    figure = points_figure(EVIL, scene_of(EVIL, (EVIL, "a & b")))
    text = page_of(tmp_path / "run", figure)
    assert "<script>alert" not in text and "<!--" not in text
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, flags=re.S)
    assert [kind for kind, _ in scripts] == [
        ' type="application/json"', ' type="application/json" id="isoform-data"', "", ""
    ]  # fmt: skip
    scene = json.loads(scripts[0][1])
    assert scene["names"][0] == EVIL and scene["views"][2]["caption"] == EVIL
    assert not re.search(r"\son\w+\s*=", re.sub(r"<script.*?</script>", "", text, flags=re.S))


def test_a_still_picture_stands_where_no_script_runs(tmp_path):
    text = page_of(tmp_path / "run", points_figure("points", scene_of(points=211)))
    assert "<noscript>" in text
    still = text[text.index('class="still"') : text.index("</svg>")]
    assert "hidden" not in still and still.count('href="data:image/png;base64,') == 3
    assert "a cloud" in still and "left" in still and "currentColor" in still


def test_a_still_is_drawn_of_nothing_and_of_one_point():
    for points in (np.zeros((0, 3)), np.ones((1, 3)), np.zeros((5, 3))):
        view = View(points, np.zeros(len(points), int), "$x_1$")
        draw_still(Scene([view])).canvas.draw()


def test_from_above_and_from_the_side():
    x, up, near = seen_from(np.eye(3), flat=True)
    np.testing.assert_allclose([x, up, near], np.eye(3), atol=1e-12)
    x, up, near = seen_from(np.eye(3), flat=False)
    np.testing.assert_allclose(x**2 + up**2 + near**2, 1)
    assert up[2] > 0.9 and near[1] < 0 < near[2], "z points upwards, and is seen from above"


# sRGB, its colour-blind readers' (Machado et al. 2009, severity 1), and Oklab, from their papers
SIGHT = {
    "full": np.eye(3),
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}  # fmt: skip


def linear(colour):
    parts = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)


def oklab(rgb):
    cones = np.array([[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
                      [0.0883024619, 0.2817188376, 0.6299787005]])  # fmt: skip
    axes = np.array([[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
                     [0.0259040371, 0.7827717662, -0.8086757660]])  # fmt: skip
    return axes @ np.cbrt(cones @ rgb.clip(0, 1))


@pytest.mark.parametrize("sight", SIGHT)
def test_colours_differ_for_every_reader(sight):
    seen = [oklab(np.array(SIGHT[sight]) @ linear(colour)) for colour in COLOURS]
    apart = [np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)]
    assert min(apart) > 0.1 and not set(COLOURS) & set(SERIES)
    assert np.linalg.norm(seen[0] - seen[1]) > 0.25, "right and wrong, seen and drawn"


@pytest.mark.parametrize("paper", ["#ffffff", "#1d1f25"])
def test_colours_are_seen_on_light_and_on_dark_paper(paper):
    light = [float(linear(c) @ [0.2126, 0.7152, 0.0722]) + 0.05 for c in (paper, *COLOURS, NONE)]
    contrast = [max(light[0], one) / min(light[0], one) for one in light[1:]]
    assert min(contrast) > 2


def node(program, *arguments):
    found = shutil.which("node")
    if found is None:
        pytest.skip("no node")
    done = subprocess.run(
        [found, "-e", program, *arguments], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PROGRAM = """
const vm = require("vm"), fs = require("fs");
const [source, scene] = process.argv.slice(-2).map((name) => fs.readFileSync(name, "utf8"));
const world = vm.createContext({document: {addEventListener: () => {}}, atob, console, scene: JSON.parse(scene)});
vm.runInContext(source, world);
const plain = vm.runInContext(`(() => {
  const views = viewsOf(scene);
  const seen = project(views[0].xyz, {...START});
  const {order, starts} = byDepth(seen.depth);
  return JSON.stringify({
    first: [...coordinatesOf(scene.views[0])],
    xyz: views.map((view) => [...view.xyz]), colour: views.map((view) => [...view.colour]),
    x: [...seen.x], y: [...seen.y], depth: [...seen.depth], order: [...order], starts: [...starts],
  });
})()`, world);
console.log(plain);
"""


def test_the_script_decodes_and_projects_as_python_does(tmp_path):
    scene = scene_of(points=101)
    script, data = tmp_path / "points.js", tmp_path / "scene.json"
    script.write_text("\n".join(scripts_of(["points"])), encoding="utf-8")
    data.write_text(json.dumps(scene_json(scene)))
    found = json.loads(node(PROGRAM, str(script), str(data)))
    first, _ = decoded(scene_json(scene)["views"][0])
    np.testing.assert_allclose(np.reshape(found["first"], (-1, 3)), first, atol=1e-12)
    frames = module._frames(scene.views)
    for view, xyz, colour in zip(scene.views, found["xyz"], found["colour"], strict=True):
        middle, radius = frames[view.frame]
        np.testing.assert_allclose(
            np.reshape(xyz, (-1, 3)), (view.points - middle) / radius, atol=1e-4
        )
        assert colour == view.colour.tolist()
    x, up, near = seen_from(np.reshape(found["xyz"][0], (-1, 3)), flat=False)
    nearer = 4 / (4 - near)
    np.testing.assert_allclose(found["depth"], near, atol=1e-6)
    np.testing.assert_allclose(found["x"], x * nearer, atol=1e-6)
    np.testing.assert_allclose(found["y"], up * nearer, atol=1e-6)
    assert sorted(found["order"]) == list(range(101)) and found["starts"][-1] == 101
    assert (np.diff(np.array(found["depth"])[found["order"]]) > -2 / 48 - 1e-6).all(), (
        "far ones first"
    )
