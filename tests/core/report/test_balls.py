"""Balls joined by sticks: what a page holds is what was handed in, its script sees it as the still picture does."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.report import balls as module
from isoform.core.report.balls import (
    MOST_VIEWS,
    Balls,
    Kind,
    Scene,
    Sheet,
    View,
    balls_figure,
    draw_still,
    scene_json,
)
from isoform.core.report.points import seen_from
from isoform.core.report.scenes import scripts_of

KINDS = [Kind("C", "#6b6f7a", 0.37), Kind("", "#d8452f", 0.2)]
EVIL = "</script><script>alert(1)</script><!--"


def body(count=7, seed=0, boxed=False, size=3.0):
    rng = np.random.default_rng(seed)
    sticks = np.stack([np.arange(count - 1), np.arange(1, count)], 1) if count else np.zeros((0, 2))
    box = rng.normal(size=(4, 3)) * size if boxed else None
    return Balls(rng.normal(size=(count, 3)) * size, rng.integers(2, size=count), sticks, box)


def scene_of(*views, name="one"):
    return Scene([Sheet(name, views)], KINDS, 0.11)


@given(st.integers(0, 23), st.floats(1e-2, 1e3), st.booleans(), st.integers(0, 2**31))
def test_a_scene_holds_its_balls(count, size, boxed, seed):
    given_ = body(count, seed, boxed, size)
    view = scene_json(scene_of(View([given_], "a body")))["sheets"][0]["views"][0]
    (step,) = view["steps"]
    places = np.reshape(step["places"], (-1, 3))
    np.testing.assert_allclose(places, given_.places, rtol=0, atol=0.00051)
    assert step["kind"] == given_.kind.tolist()
    assert np.reshape(step["sticks"], (-1, 2)).tolist() == np.asarray(given_.sticks).tolist()
    middle, radius = np.array(view["frame"]["middle"]), view["frame"]["radius"]
    shown = [places] + ([module._corners(given_.box)] if boxed else [])
    far = [np.linalg.norm(part - middle, axis=1).max() for part in shown if len(part)]
    assert max(far, default=0.0) + 0.37 <= radius + 0.005 if far else radius > 0


def test_views_of_a_frame_and_steps_of_a_view_share_a_measure():
    small, large = body(5, 1, size=1.0), body(5, 2, size=9.0)
    views = [View([small], frame=3), View([large], frame=3), View([small]), View([small, large])]
    frames = [view["frame"] for view in scene_json(scene_of(*views))["sheets"][0]["views"]]
    assert frames[0] == frames[1] == frames[3] and frames[2]["radius"] < frames[0]["radius"]


def test_what_cannot_be_shown_is_refused():
    for views in ([], [View([body()])] * (MOST_VIEWS + 1), [View([])]):
        with pytest.raises(ValueError, match="a sheet has 1 to"):
            scene_json(scene_of(*views))
    far = Balls(np.array([[np.inf, 0, 0]]), np.zeros(1, int), np.zeros((0, 2)))
    with pytest.raises(ValueError, match="finite"):
        scene_json(scene_of(View([far])))


def test_the_same_scene_gives_the_same_bytes_and_names_stay_text():
    one, two = (balls_figure(EVIL, scene_of(View([body()], EVIL), name=EVIL)) for _ in range(2))
    assert one == two and "<script" not in one.svg and "alert(1)" in one.svg


def test_a_still_shows_the_first_sheet_or_the_steps_of_its_only_view():
    sheets = [
        Sheet("a", [View([body(seed=k)], f"body {k}") for k in range(5)]),
        Sheet("b", [View([body(0)])]),
    ]
    svg = balls_figure("", Scene(sheets, KINDS, 0.1)).svg
    assert [f"body {k}" in svg for k in range(6)] == [True] * 5 + [False]
    assert ">C<" in svg, "the legend"
    steps = [
        Balls(one.places, one.kind, one.sticks, caption=f"t {k}")
        for k, one in enumerate(map(body, (3, 5, 7)))
    ]
    svg = balls_figure("", scene_of(View(steps))).svg
    assert [f"t {k}" in svg for k in range(4)] == [True, True, True, False]


def test_a_still_is_drawn_of_nothing_and_of_one_ball_and_of_many_as_pixels():
    for count in (0, 1, 701):
        plot = draw_still(scene_of(View([body(count, boxed=count == 1)], "$x_1$")))
        plot.canvas.draw()
    few, many = (balls_figure("", scene_of(View([body(n)]))).svg for n in (7, 701))
    assert "<image" not in few and "<image" in many and len(many) < 300_000


def test_the_box_has_its_twelve_edges():
    box = np.array([[1, 2, 3], [5, 0, 0], [0, 7, 0], [0, 0, 11]])
    corners = module._corners(box)
    lengths = sorted(np.linalg.norm(corners[i] - corners[j]) for i, j in module._EDGES)
    assert lengths == [5] * 4 + [7] * 4 + [11] * 4
    script = next(text for text in scripts_of(["balls"]) if "SHOW.balls" in text)
    pairs = json.loads(re.search(r"const EDGES = (.*);", script).group(1))
    assert {tuple(sorted(pair)) for pair in pairs} == {
        tuple(sorted(pair)) for pair in module._EDGES
    }


PROGRAM = """
const vm = require("vm"), fs = require("fs");
const [source, given] = process.argv.slice(-2).map((name) => fs.readFileSync(name, "utf8"));
const world = vm.createContext({document: {addEventListener: () => {}}, console, given: JSON.parse(given)});
vm.runInContext(source, world);
console.log(vm.runInContext(`(() => {
  const [scene, camera] = [given.scene, given.camera];
  const view = scene.sheets[0].views[2];
  return JSON.stringify({
    view: seenBy(camera, 2),
    atoms: atomsOf(view.steps[0], scene, view.frame, 2),
    corners: cornersOf(view.steps[0].box),
    start: START,
    last: stepOf(view, 9) === view.steps[view.steps.length - 1],
  });
})()`, world));
"""


def rotate(quaternion, places):
    """Places [N, 3] turned by a quaternion (x, y, z, w)."""
    x, y, z, w = quaternion
    cross = np.cross([x, y, z], places)
    return places + 2 * (w * cross + np.cross([x, y, z], cross))


def test_the_script_sees_what_the_still_picture_shows(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node")
    steps = [body(11, 5, boxed=True)]
    scene = scene_of(View([body()]), View([body()]), View(steps))
    camera = {"turn": 0.7, "tilt": 0.3, "zoom": 2.0, "right": 0.25, "down": -0.5}
    script, data = tmp_path / "balls.js", tmp_path / "given.json"
    own = [text for text in scripts_of(["balls"]) if "BSD-3-Clause" not in text[:200]]
    script.write_text("\n".join(own), encoding="utf-8")

    def answer(camera):
        data.write_text(json.dumps({"scene": scene_json(scene), "camera": camera}))
        done = subprocess.run(
            [node, "-e", PROGRAM, str(script), str(data)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    found = answer(camera)
    # At the start's turn and tilt, the axes are where matplotlib's still picture has them.
    first = answer({**camera, **found["start"]})
    seen = np.stack(seen_from(np.eye(3), flat=False), 1)
    np.testing.assert_allclose(rotate(first["view"][4:8], np.eye(3)), seen, atol=1e-12)
    assert found["last"] and found["view"][0] == -2000
    away, nearer = (
        150 - value for value in (answer({**camera, "zoom": 1.0})["view"][3], found["view"][3])
    )
    assert nearer == pytest.approx(away / 2)
    # Balls stand around the view's own place, and touch the frame's ball of radius 10 at most.
    places = np.array([[atom["x"] - 2000, atom["y"], atom["z"]] for atom in found["atoms"]])
    frame = scene_json(scene)["sheets"][0]["views"][2]["frame"]
    expected = (steps[0].places - frame["middle"]) * 10 / frame["radius"]
    np.testing.assert_allclose(places, expected, atol=0.01)
    assert np.linalg.norm(places, axis=1).max() <= 10
    assert [len(atom["bonds"]) for atom in found["atoms"]] == [1, *[2] * 9, 1]
    radii = [atom["style"]["sphere"]["radius"] * frame["radius"] / 10 for atom in found["atoms"]]
    np.testing.assert_allclose(radii, [KINDS[k].radius for k in steps[0].kind])
    np.testing.assert_allclose(found["corners"], module._corners(steps[0].box), atol=0.005)
