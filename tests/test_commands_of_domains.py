"""check and train on files of one's own, in every domain that there is: settings, and data of which some are lost."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import isoform
from isoform.core.config import get, resolve_app
from isoform.core.domain import Domain
from isoform.core.engine import trackers
from isoform.core.errors import UserError
from isoform.registry import domain

PREDICT = {"--draw", "--with", "--min-probability"}
TINY = ["backbone.dim=8", "backbone.depth=1", "backbone.heads=2", "backbone.mlp_dim=8"]
TINY += ["train.epochs=1", "eval.baselines=[]"]


def images(folder: Path) -> Path:
    """Two classes of 17 pictures, and two files that are no pictures."""
    rng = np.random.default_rng(0)
    for name, level in (("dark", 30), ("light", 190)):
        (folder / name).mkdir(parents=True)
        for k in range(17):
            made = (level + rng.integers(0, 50, (9, 11, 3))).astype(np.uint8)
            Image.fromarray(made).save(folder / name / f"{k:02}.png")
    (folder / "dark" / "torn.png").write_bytes(b"\x89PNG\r\n")
    (folder / "light" / "empty.png").write_bytes(b"")
    return folder


def molecules(path: Path) -> Path:
    """Alcohols and a molecule that can't be."""
    texts = [f"{'C' * k}O{end}" for k in range(1, 20) for end in ("", "C")]
    rows = [f"{text},{0.5 * text.count('C')}" for text in texts]
    path.write_text("\n".join(["smiles,label", *rows, "C(C)(C)(C)(C)C,1.5"]) + "\n")
    return path


def series(path: Path) -> Path:
    """131 hours of load, two cells of which are no number."""
    load = np.round(50 + 20 * np.sin(np.arange(131) / 3.8), 3).astype(str)
    load[[17, 61]] = "broken", "n/k"
    stamps = pd.date_range("2024-03-01", periods=131, freq="h")
    pd.DataFrame({"date": stamps, "load": load}).to_csv(path, index=False)
    return path


@dataclass(frozen=True)
class Own:
    """What a domain does with a file of one's own.

    key, settings  of a tiny training         changed  a setting, and what check says with it and not without it
    make, name     write the file, so called  lost     what of it can't be used, in words
    """

    app: str
    make: Callable[[Path], Path]
    name: str
    key: str
    settings: tuple[str, ...]
    changed: tuple[str, str]
    lost: tuple[str, ...]

    def sets(self) -> list[str]:
        """Of a training, for the command line."""
        every = (f"{self.key}={self.name}", *TINY, *self.settings)
        return [word for one in every for word in ("--set", one)]


OWN = {
    "vision": Own(
        "vit-folder", images, "pictures", "data.root",
        ("tokeniser.image=8", "tokeniser.patch=4", 'data.on_error="skip"'),
        ("data.val_fraction=0.5", "16 train, 16 val, 4 test"), ("2 unreadable image(s)", "torn.png"),
    ),
    "molecules": Own(
        "graphormer-own", molecules, "alcohols.csv", "data.path", ("head.descriptors=false",),
        ("data.val_fraction=0.5", "15 train, 19 val, 4 test"), ("line 40", "Explicit valence"),
    ),
    "timeseries": Own(
        "itransformer-own", series, "load.csv", "data.path",
        ("model.context=11", "model.horizon=3"),
        ("data.val_fraction=0.5", "val: 2024-03-02 15:00:00"), ('"broken"', 'row 63 column load ("n/k")'),
    ),
}  # fmt: skip


@pytest.fixture(params=list(OWN))
def own(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Own]:
    """(domain, what it does with its file), which lies in the working folder."""
    monkeypatch.chdir(tmp_path)
    found = OWN[request.param]
    found.make(Path(found.name))
    return request.param, found


def test_check_of_a_file_takes_settings(own: tuple[str, Own], cli) -> None:
    name, file = own
    (setting, said), skip = file.changed, []
    if name == "vision":
        skip = ["--set", 'data.on_error="skip"']
        assert cli(name, "check", file.name)[0] == 2  # two of its images can't be read
    code, out, err = cli(name, "check", file.name, *skip)
    assert code == 0 and said not in out, err
    code, out, err = cli(name, "check", file.name, *skip, "--set", setting)
    assert code == 0 and said in out, err
    code, out, err = cli(name, "check", file.name, "--set", "data.val_fractoin=0.5")
    assert code == 2 and "data.val_fractoin: unknown key" in err and "Traceback" not in err


class Told(trackers.Tracker):
    """A tracker that writes down what it is told."""

    library = "json"

    def start(self, config) -> None:
        self.lines = [f"start {config['train.epochs']}"]

    def log(self, step, numbers) -> None:
        self.lines.append(f"{step} {next(iter(numbers)).split('/')[0]}")

    def finish(self, results) -> None:
        Path("told").write_text("\n".join([*self.lines, results["status"]]))


def test_strict_stops_before_there_is_a_run_and_lists_what_is_lost(
    own: tuple[str, Own], cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the training without it tells its tracker, of which the run keeps no setting."""
    monkeypatch.setattr(trackers, "kinds", lambda: {"mlflow": Told})
    name, file = own
    words = [name, "train", file.app, "--run-dir", "run", *file.sets()]
    code, out, err = cli(*words, "--strict")
    assert code == 2 and err.startswith("--strict, and not all of the data can be used:"), err
    assert all(part in err for part in file.lost) and "or train without --strict" in err
    assert [path.name for path in Path().iterdir()] == [file.name]
    code, out, err = cli(*words, "--log", "mlflow")
    assert code == 0 and all(part in out for part in file.lost), err
    assert (Path("run") / "results.json").is_file()
    told = Path("told").read_text().splitlines()
    assert told[0] == "start 1" and told[-1] == "finished"
    assert [line.split()[1] for line in told[-3:-1]] == ["val", "test"]
    assert "mlflow" not in (Path("run") / "config.toml").read_text()
    assert cli(*words, "--resume")[0] == 0


def test_strict_in_python(own: tuple[str, Own]) -> None:
    name, file = own
    sets = dict(one.split("=", 1) for one in file.sets()[1::2])
    settings = {key: value_of(text) for key, text in sets.items()}
    with pytest.raises(UserError, match="not all of the data can be used") as caught:
        isoform.train(f"{name}/{file.app}", settings, run_dir="run", progress=False, strict=True)
    assert all(part in str(caught.value) for part in file.lost) and not Path("run").exists()


def value_of(text: str) -> object:
    """Of a setting, as the command line reads it."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def test_explain_says_what_decays(own: tuple[str, Own], cli) -> None:
    """Of the model that these data would train; the token of the graph and of the image are among what doesn't."""
    name, file = own
    words = [*file.sets(), "--set", "train.weight_decay=0.5", "--set", "train.layer_decay=0.75"]
    code, out, err = cli("explain", f"{name}/{file.app}", *words)
    line = next(line for line in out.splitlines() if line.startswith("optimiser "))
    assert code == 0 and "weight decay 0.5 on " in line and "times 0.562, 0.75, 1" in line, err
    token = {"vision": "tokeniser.class_token", "molecules": "tokeniser.graph_token"}.get(name, "")
    assert token in line


@pytest.mark.parametrize(
    "setting", ["backbone.heads=3", "backbone.depth=1,2", 'train.freeze="head"', "eval.batch=0"]
)
def test_check_ends_with_2_wherever_train_would(own: tuple[str, Own], setting: str, cli) -> None:
    """By the same sentence, and before anything is written."""
    name, file = own
    sets = [*file.sets(), "--set", setting]
    trained = cli(name, "train", file.app, *sets, "--run-dir", "run")
    checked = cli(name, "check", file.app, *sets, "--page", "page.html")
    assert trained[0] == checked[0] == 2, (trained, checked)
    assert trained[2].splitlines()[-1] == checked[2].splitlines()[-1]
    assert not Path("run").exists()


def test_check_ends_with_2_where_nothing_can_be_read(own: tuple[str, Own], cli) -> None:
    """Whether what can't be read is left out or not."""
    name, file = own
    source = Path(file.name)
    for path in source.rglob("*.png") if source.is_dir() else [source]:
        path.write_bytes(b"\x00\x01nothing of any kind\n" * 7)
    for sets in (file.sets(), [*file.sets(), "--set", 'data.on_error="skip"'][-2:]):
        if name != "vision" and sets[-1].startswith("data.on_error"):
            continue
        where = file.app if len(sets) > 2 else file.name
        assert cli(name, "check", where, *sets, "--page", "page.html")[0] == 2
    assert cli(name, "train", file.app, *file.sets(), "--run-dir", "run")[0] == 2


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        ("vision", {"--min-probability"}),
        ("pointcloud", {"--min-probability"}),
        ("timeseries", {"--with"}),
        ("molecules", {"--draw", "--with", "--min-probability"}),
    ],
)
def test_predict_offers_what_the_domain_takes(name: str, taken: set[str], cli) -> None:
    code, out, _ = cli(name, "predict", "--help")
    assert code == 0 and {word for word in PREDICT if f"\n  {word} " in out} == taken
    assert ("--with" in taken) == (type(domain(name)).baseline is not Domain.baseline)
    for word in PREDICT - taken:
        code, _, err = cli(name, "predict", "nowhere", "x", word, "1")
        assert code == 2 and f"unrecognized arguments: {word} 1" in err
    for word in taken:
        code, _, err = cli(name, "predict", "nowhere", "x", word, "1")
        assert code == 2 and "unrecognized" not in err


LISTS = {
    "vision": {
        "data.mean": ("0.1,0.2,0.3", (0.1, 0.2, 0.3)), "data.labels": ("a, b", ("a", "b")),
        "data.classes": ("2,10", ("2", "10")), "tokeniser.image": ("24,32", (24, 32)),
        "augment.crop_scale": ("0.5,1", (0.5, 1.0)), "data.std": ("0.5", (0.5,)),
        "eval.baselines": ("knn,majority", ("knn", "majority")), "data.missing": ("-999,NA", (-999.0, "NA")),
    },
    "molecules": {
        "data.targets": ("a,b", ("a", "b")), "data.counts": ("7,5,3", (7, 5, 3)),
        "eval.baselines": ("mean", ("mean",)),
    },
    "timeseries": {
        "data.targets": ("a,b", ("a", "b")), "data.id": ("store,item", ("store", "item")),
        "head.quantiles": ("0.1,0.9", (0.1, 0.9)), "eval.baselines": ("last,linear", ("last", "linear")),
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in LISTS for key in LISTS[name]])
def test_a_list_needs_no_brackets(name: str, key: str) -> None:
    text, want = LISTS[name][key]
    config = resolve_app(OWN[name].app, domain=domain(name), sets=[f"{key}={text}"])
    assert get(config.model_dump(), key.split(".")) == want
