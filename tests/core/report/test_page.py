import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote
from xml.etree import ElementTree

import pytest
import toy

from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.report import chart
from isoform.core.report import page as page_module
from isoform.core.report.drawing import SERIES, to_svg, to_table
from isoform.core.report.page import inline_svg, write_report
from isoform.core.runs.folder import RunFolder

EVIL = "<script>alert(1)</script>"


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.loads, self.data, self.inside = [], [], {}, None
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = (tag, dict(attributes))
        self.loads += [
            v
            for k, v in attributes
            if k in ("src", "href", "action", "data") and not (v or "").startswith("#")
        ]

    def handle_data(self, text):
        if self.inside and self.inside[0] == "script":
            name = self.inside[1].get("id")
            self.data[name] = self.data.get(name, "") + text

    def handle_endtag(self, tag):
        self.inside = None


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    root, found = tmp_path_factory.mktemp("report"), []
    for seed in (1, 2):
        run = RunFolder(root / f"seed-{seed}")
        train(toy.ToyTask(toy.app(seed=seed), names=[EVIL, "b & c", "d|e"]), run, progress=False)
        found.append(run)
    return found


def test_a_class_called_script_is_harmless(runs):
    text = (runs[0].path / "report.html").read_text()
    page = Page(text)
    assert EVIL not in text and "&lt;script&gt;alert(1)" in text
    assert page.tags.count("script") == 1 and set(page.data) == {"isoform-data"}
    for name in ("report.html", "card.md"):
        assert "<script>alert" not in (runs[0].path / name).read_text()


def test_embedded_json_cannot_end_its_element(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(toy.task(epochs=1), run, progress=False)
    results = run.results()
    results["metrics"]["test"][f"</script>{EVIL}"] = 0.5
    run.write_json("results.json", results)
    run.append_metrics({"step": 4, "epoch": 1, "split": "val", f"</script>{EVIL}": 0.5})
    page = Page(write_report([run.path]).read_text())
    assert page.tags.count("script") == 1
    assert json.loads(page.data["isoform-data"])[0]["results"]["metrics"] == results["metrics"]


def test_nothing_is_fetched(runs):
    text = (runs[0].path / "report.html").read_text()
    assert Page(text).loads == []
    assert not re.search(r"https?:|//\w|@import|url\((?!#)", text)
    assert "default-src 'none'" in text


def test_the_page_shows_the_run(runs):
    run = runs[0]
    text = (run.path / "report.html").read_text()
    results = run.results()
    assert f"{results['metrics']['test']['top1']:.4g}" in text and "majority" in text
    assert "isoform toy train toy-mlp --seed 1" in text and "accumulate = 3" in text
    assert results["environment"]["torch"] in text and "prefers-color-scheme: dark" in text
    for name in ("loss", "top1", "lr", "grad_norm"):
        assert f"<h3>{name}</h3>" in text
    assert text.count("<polyline") == 6  # loss and top1 of train and val, and two of the optimiser
    assert 'id="run0-0-a"' in text and 'href="#run0-0-a"' in text, "ids of pictures don't collide"


def test_several_runs_stand_side_by_side(runs, tmp_path):
    page = write_report([run.path for run in runs], tmp_path / "deep" / "both.html")
    text = page.read_text()
    assert page == tmp_path / "deep" / "both.html" and "Side by side" in text
    for run in runs:
        assert run.path.name in text and f"{run.results()['metrics']['test']['loss']:.4g}" in text
    assert write_report([run.path for run in runs]) == runs[0].path.parent / "report.html"


def body(page):
    """What a reader sees, without the embedded JSON and the figures' drawings."""
    text = page.read_text()
    text = text[text.index("<main>") : text.index("<script")]
    return re.sub(r"<svg.*?</svg>", "<svg/>", text, flags=re.S)


def test_the_headline_stands_large_beside_the_best_baseline(runs):
    run = runs[0]
    top1 = run.results()["metrics"]["test"]["top1"]
    text = body(run.path / "report.html")
    model, baseline = re.findall(r"<b>([^<]*)</b><span>([^<]*)</span></div>\s", text)[:2]
    assert model == (f"{top1:.4g}", "toy-mlp") and baseline == ("0.4", "best baseline: majority")
    assert "test top1, higher is better" in text
    sentence = (
        "better than every baseline"
        if top1 > 0.4
        else "The baseline majority is better than the model."
    )
    assert sentence in text


@pytest.mark.parametrize(
    ("mode", "baselines", "said"),
    [
        ("max", {"a": 0.3, "knn": 0.7}, "The baseline knn is better than the model."),
        ("max", {"a": 0.3, "knn": 0.4}, "The model is better than every baseline."),
        ("min", {"a": 0.7, "knn": 0.3}, "The baseline knn is better than the model."),
        ("min", {"a": 0.5, "knn": 0.7}, "The baseline a is as good as the model."),
    ],
)
def test_the_page_says_which_is_better(tmp_path, mode, baselines, said):
    results = {"app": "a", "domain": "d", "status": "finished", "parameters": 7, "precision": "fp32",
               "monitor": "m", "monitor_mode": mode, "metrics": {"test": {"m": 0.5}},
               "baselines": {name: {"test": {"m": value}} for name, value in baselines.items()}}  # fmt: skip
    RunFolder(tmp_path).write_json("results.json", results)
    text = body(write_report([tmp_path]))
    assert said in text and f"{'higher' if mode == 'max' else 'lower'} is better" in text


def test_headline_and_pictures_come_before_curves(runs):
    text = body(runs[0].path / "report.html")
    order = [
        'class="headline"',
        "<h2>Pictures</h2>",
        "<figcaption>",
        "<h2>Results",
        "<h2>Training</h2>",
    ]
    places = [text.index(part) for part in order]
    assert places == sorted(places)


def test_a_killed_run_says_that_it_was_interrupted(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(toy.task(), run, progress=False)
    run.write_json(
        "results.json", {**run.results(), "status": "running", "metrics": {}, "baselines": {}}
    )
    best = max(line["top1"] for line in run.metrics() if line["split"] == "val")
    text = body(write_report([run.path]))
    assert ">interrupted<" in text and "interrupted after step 16" in text and "--resume" in text
    assert f"<b>{best:.4g}</b>" in text and "val top1 so far" in text
    with run.lock():  # a living process trains there
        text = body(write_report([run.path]))
    assert ">running<" in text and "interrupted" not in text
    run.cut_metrics(0)
    (run.path / "figures.json").unlink()
    assert ">interrupted<" in body(write_report([run.path]))


def test_results_of_before_the_monitor_was_kept_have_a_page(tmp_path):
    run = RunFolder(tmp_path / "run")
    train(toy.task(epochs=1), run, progress=False)
    old = {name: value for name, value in run.results().items() if not name.startswith("monitor")}
    del old["environment"]["peak_memory_of"]
    run.write_json("results.json", old)
    text = body(write_report([run.path]))
    assert 'class="headline"' not in text and "test top1</span>" in text and "peak memory" in text
    run.write_json("results.json", {**old, "status": "preempted", "metrics": {}, "baselines": {}})
    assert ">interrupted<" in body(write_report([run.path]))


def test_runs_of_several_domains_get_a_card_each(runs, tmp_path):
    for run, domain in zip(runs, ("one", "other"), strict=True):
        copy = RunFolder(tmp_path / f"{domain} {EVIL.replace('/', '')}")
        copy.path.mkdir()
        for name in ("figures.json", "metrics.jsonl", "report.html"):
            copy.write_text(name, (run.path / name).read_text())
        copy.write_json("results.json", {**run.results(), "domain": domain})
    (tmp_path / "other <script>alert(1)<script>" / "figures.json").unlink()
    folders = sorted(tmp_path.iterdir())
    page = write_report(folders, tmp_path / "index.html")
    text, tags = body(page), Page(page.read_text())
    assert text.count('<article class="card">') == 2 and text.count("<svg/>") == 1
    assert set(tags.loads) == {quote(f"{folder.name}/report.html") for folder in folders}
    assert tags.tags.count("script") == 1 and "<table" not in text and "<h2>Training" not in text
    for run in runs:
        assert f"<b>{run.results()['metrics']['test']['top1']:.4g}</b>" in text


@pytest.mark.parametrize(("metrics", "says"), [(7, False), (11, True)])
def test_a_wide_table_scrolls_and_says_so(tmp_path, metrics, says):
    found = {f"metric_{i}": i / 13 for i in range(metrics)}
    results = {"app": "a", "domain": "d", "status": "finished", "parameters": 7, "precision": "fp32",
               "monitor": "metric_0", "monitor_mode": "min", "metrics": {"test": found}, "baselines": {}}  # fmt: skip
    run = RunFolder(tmp_path)
    run.write_json("results.json", results)
    rows = to_table(list(found), [["1"] * metrics])
    run.write_json("figures.json", [{"caption": "a table", "svg": "", "html": rows}])
    text = body(write_report([tmp_path]))
    assert (f"{metrics + 1} columns: scroll sideways" in text) == says
    assert (f"{metrics} columns: scroll sideways" in text) == says
    assert '<div class="wide" tabindex="0"><table>' in text


def test_an_imported_run_has_a_page(tmp_path):
    run = RunFolder(tmp_path)
    results = {"app": "a", "domain": "d", "status": "imported", "parameters": 7, "precision": "fp32", "metrics": {},
               "baselines": {}}  # fmt: skip
    run.write_json("results.json", results)
    run.write_text("config.toml", "# isoform 0.1.0, seed 0\n")
    text = write_report([tmp_path]).read_text()
    assert "imported" in text and "<pre># isoform 0.1.0" in text
    write_report([tmp_path, tmp_path])


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no results\.json"):
        write_report([tmp_path])


def test_a_foreign_svg_is_made_a_part():
    svg = (
        '<?xml version="1.0"?><!DOCTYPE svg PUBLIC "x" "http://y"><svg xmlns="http://a" xmlns:xlink="http://b">'
        '<metadata>http://c</metadata><clipPath id="p"/><g clip-path="url(#p)"><use xlink:href="#p"/></g></svg>'
    )
    expected = '<svg><clipPath id="f-p"/><g clip-path="url(#f-p)"><use href="#f-p"/></g></svg>'
    assert inline_svg(svg, "f") == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 10, [0, 2, 4, 6, 8, 10]), (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (3, 3, [3]), (-7, 51, [0, 20, 40]),
     (0.012, 0.034, [0.015, 0.02, 0.025, 0.03]), (0, 700, [0, 200, 400, 600])],
)  # fmt: skip
def test_ticks(low, high, expected):
    assert chart.ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("log", [False, True])
def test_a_chart_is_well_formed_and_inside_its_box(log):
    lines = [
        chart.Line("train <a>", range(1, 2001), [1000 / n for n in range(1, 2001)], 0),
        chart.Line("val", [7], [3.0], 9),
    ]
    svg = ElementTree.fromstring(chart.chart(lines, title='a "quoted" title', log=log))
    points = [
        tuple(map(float, p.split(","))) for p in svg.find(".//polyline").get("points").split()
    ]
    assert (
        300 < len(points) <= 601
        and points[0][0] == chart.LEFT
        and points[-1][0] == chart.WIDTH - chart.RIGHT
    )
    assert all(chart.TOP <= y <= chart.HEIGHT - chart.BOTTOM for _, y in points)
    assert svg.find(".//circle").get("stroke") == "var(--series-1)"
    assert "train <a>" in "".join(svg.itertext())


def test_a_flat_line_has_a_chart():
    ElementTree.fromstring(chart.chart([chart.Line("a", [1, 2], [0.0, 0.0], 0)], title="flat"))
    ElementTree.fromstring(chart.chart([chart.Line("a", [5], [2.0], 0)], title="one", log=True))


def results_of(**more):
    return {"app": "a", "domain": "d", "status": "finished", "parameters": 7, "precision": "fp32",
            "monitor": "m", "monitor_mode": "max", "metrics": {"test": {"m": 0.5, "k": 0.25}}, "baselines": {},
            **more}  # fmt: skip


def test_a_baseline_that_wins_is_told_on_top(tmp_path):
    values = {"knn": 0.7, "logistic": 0.9, "majority": 0.4}
    baselines = {name: {"test": {"m": value}} for name, value in values.items()}
    run = RunFolder(tmp_path / "one")
    run.path.mkdir()
    run.write_json("results.json", results_of(baselines=baselines, stored_baselines=["logistic"]))
    text = body(write_report([run.path]))
    sentence = (
        "The baseline logistic is better than the model. Predict with it: --with logistic. "
        "By test m: logistic 0.9, knn 0.7, the model 0.5."
    )
    assert text.count("is better than the model") == 1 and sentence in text
    assert text.index('role="alert"') < text.index("</header>") < text.index('class="headline"')
    run.write_json("results.json", results_of(baselines={"majority": baselines["majority"]}))
    assert 'role="alert"' not in body(write_report([run.path]))


def test_what_is_known_from_training_and_what_the_error_hangs_on_are_shown(tmp_path):
    run = RunFolder(tmp_path)
    unseen = {"split": "test", "samples": 1013, "known": 7, "metrics": {"m": 0.375, "k": 0.125}}
    more = {
        "unseen": unseen,
        "importance": {"test": {"graph": 0.31, "<b>": -0.02}},
        "notes": ["a <note>"],
    }
    run.write_json("results.json", results_of(**more))
    text = body(write_report([tmp_path]))
    assert "7 of 1,013 samples of test are known from training" in text
    assert "<td>without 7 of 1,013 known from training</td><td>0.375</td><td>0.125</td>" in text
    assert (
        "Exchanged between test samples, the graph by +31 %" in text
        and "the &lt;b&gt; by -2 %" in text
    )
    assert "a &lt;note&gt;" in text
    run.write_json("results.json", results_of(unseen={**unseen, "metrics": {}}))
    text = body(write_report([tmp_path]))
    assert "say nothing about new ones" in text and "<td>without" not in text


def test_runs_side_by_side_show_the_settings_that_differ(runs, tmp_path):
    text = body(write_report([run.path for run in runs], tmp_path / "both.html"))
    table = text[text.index("Settings that differ") : text.index("<h2>Pictures")]
    assert "<td>train.seed</td><td>1</td><td>2</td>" in table and table.count("<tr>") == 2
    same = body(write_report([runs[0].path] * 2, tmp_path / "same.html"))
    assert "the runs have the same settings" in same
    (tmp_path / "bare").mkdir()
    RunFolder(tmp_path / "bare").write_json("results.json", {**runs[0].results()})
    text = body(write_report([runs[0].path, tmp_path / "bare"], tmp_path / "bare.html"))
    assert "<td>train.lr</td><td>0.01</td><td>-</td>" in text


def test_drawings_take_the_colours_of_the_page():
    from matplotlib.figure import Figure as Plot

    plot = Plot(figsize=(1, 1))
    axes = plot.subplots()
    axes.plot([0, 1], [1, 0], color=SERIES[2])
    svg = to_svg(plot)
    assert f"stroke: var(--series-2, {SERIES[2]})" in svg and "stroke: currentColor" in svg
    assert "#000000" not in svg and svg.count(SERIES[2]) == svg.count("var(--series-2")
    style = (Path(page_module.__file__).parent / "style.css").read_text()
    for place, colour in enumerate(SERIES):
        assert f"--series-{place}: {colour};" in style, "light is what pictures are drawn in"
