"""A run keeps its split: what eval and --resume do with data that grew, shrank, were touched, moved or exchanged."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from commands import exit_code

TINY = ["backbone.dim=8", "backbone.depth=1", "backbone.heads=2", "backbone.mlp_dim=8"]
TINY += ["train.epochs=1", "train.warmup=0", "eval.baselines=[]"]
Cli = Callable[..., tuple[int, str, str]]


def draw(path: Path, seed: int, level: int) -> None:
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((level + rng.integers(0, 50, (9, 11, 3))).astype(np.uint8)).save(path)


def images(folder: Path) -> None:
    """17 dark and 19 light pictures."""
    for name, level, count in (("dark", 30, 17), ("light", 190, 19)):
        for k in range(count):
            draw(folder / name / f"{k:02}.png", 100 * level + k, level)


def swap_images(folder: Path) -> None:
    (folder / "dark").rename(folder / "third")
    (folder / "light").rename(folder / "dark")
    (folder / "third").rename(folder / "light")


def molecules(path: Path) -> None:
    """41 alcohols and ethers with two labels."""
    texts = [f"{'C' * k}O{end}" for k in range(1, 22) for end in ("", "C")][:41]
    frame = pd.DataFrame({"smiles": texts})
    frame["size"] = [0.5 * text.count("C") for text in texts]
    frame["oddity"] = [round(float(np.sin(3 * k)), 3) for k in range(len(texts))]
    frame.to_csv(path, index=False)


def series(path: Path) -> None:
    """131 hours of load and wind."""
    t = np.arange(131)
    load, wind = 50 + 20 * np.sin(t / 3.8), 7 + np.cos(t / 2.9) + (37 * t % 11)
    stamps = pd.date_range("2024-03-01", periods=131, freq="h")
    pd.DataFrame({"date": stamps, "load": load, "wind": wind}).to_csv(path, index=False)


def add_row(*cells: object) -> Callable[[Path], None]:
    def grow(path: Path) -> None:
        with path.open("a") as file:
            file.write(",".join(map(str, cells)) + "\n")

    return grow


def rename_columns(a: str, b: str) -> Callable[[Path], None]:
    def swap(path: Path) -> None:
        pd.read_csv(path).rename(columns={a: b, b: a}).to_csv(path, index=False)

    return swap


def drop_molecule(path: Path, name: str) -> None:
    frame = pd.read_csv(path)
    frame[frame.smiles != name].to_csv(path, index=False)


@dataclass(frozen=True)
class Own:
    """Data of one's own in a domain, and what may become of them.

    lose     takes a sample of test, by its name, away         pair   classes, targets or columns that `swap` exchanges
    new      how what `grow` adds is called in a sentence
    """

    app: str
    name: str
    key: str
    settings: tuple[str, ...]
    make: Callable[[Path], None]
    grow: Callable[[Path], None]
    new: str
    lose: Callable[[Path, str], None]
    swap: Callable[[Path], None]
    pair: tuple[str, str]
    predictions: str = "predictions.csv"

    def command(self, domain_name: str) -> list[str]:
        every = (f"{self.key}={self.name}", *TINY, *self.settings)
        sets = [word for one in every for word in ("--set", one)]
        return [domain_name, "train", self.app, "--run-dir", "run", *sets]


OWN = {
    "vision": Own(
        "vit-folder", "pictures", "data.root", ("tokeniser.image=8", "tokeniser.patch=4"),
        images, lambda folder: draw(folder / "dark" / "00a.png", 7, 30), "dark/00a.png",
        lambda folder, name: (folder / name).unlink(), swap_images, ("dark", "light"),
    ),
    "molecules": Own(
        "graphormer-own", "alcohols.csv", "data.path", ("head.descriptors=false",),
        molecules, add_row("OCCCCO", 2, 0.25), "OCCCCO", drop_molecule,
        rename_columns("size", "oddity"), ("oddity", "size"),
    ),
    "timeseries": Own(
        "itransformer-own", "load.csv", "data.path", ("model.context=11", "model.horizon=3"),
        series, add_row("2024-03-06 11:00:00", 51.5, 8.5), "1 rows from 2024-03-06T11:00:00",
        lambda path, name: pd.read_csv(path)[:-2].to_csv(path, index=False),
        rename_columns("load", "wind"), ("load", "wind"), "predictions.nc",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Domain -> a folder with its data and a finished run on them, made once."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = folder = tmp_path_factory.mktemp(name)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                OWN[name].make(Path(OWN[name].name))
                assert exit_code(*OWN[name].command(name)) == 0
        return made[name]

    return of


@dataclass
class Case:
    """A copy of trained data and run in the working folder."""

    name: str
    own: Own
    cli: Cli
    before: bytes  # predictions.*

    @property
    def data(self) -> Path:
        return Path(self.own.name)

    @property
    def test(self) -> list[str]:
        return list(json.loads(Path("run/split.json").read_text())["splits"]["test"]["names"])

    def evaluate(self) -> tuple[int, str, str]:
        return self.cli(self.name, "eval", "run")

    def resume(self, *words: str) -> tuple[int, str, str]:
        """Of a run that was stopped behind its last checkpoint."""
        results = json.loads(Path("run/results.json").read_text())
        Path("run/results.json").write_text(json.dumps({**results, "status": "preempted"}))
        return self.cli(self.name, "train", self.own.app, "--run-dir", "run", "--resume", *words)

    def assert_predictions_stay(self) -> None:
        assert (Path("run") / self.own.predictions).read_bytes() == self.before


@pytest.fixture(params=list(OWN))
def case(request, trained, tmp_path, monkeypatch, capsys) -> Case:
    def cli(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = exit_code(*words)
        return code, *capsys.readouterr()

    shutil.copytree(trained(request.param), tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    own = OWN[request.param]
    return Case(request.param, own, cli, (Path("run") / own.predictions).read_bytes())


def test_eval_of_data_that_grew_judges_the_old_split(case: Case) -> None:
    case.own.grow(case.data)
    code, _, err = case.evaluate()
    assert (
        code == 0 and f"that were added since the training aren't judged: 1 ({case.own.new}" in err
    )
    case.assert_predictions_stay()


def test_resume_refuses_data_that_grew(case: Case) -> None:
    case.own.grow(case.data)
    code, _, err = case.resume()
    assert code == 2 and f"1 added ({case.own.new}" in err and err.count("\n") == 1
    case.assert_predictions_stay()


def test_eval_of_data_that_shrank_names_what_is_gone(case: Case) -> None:
    gone = case.test[0]
    case.own.lose(case.data, gone)
    code, _, err = case.evaluate()
    assert code == 2 and "of test that this run keeps are gone" in err and gone in err
    case.assert_predictions_stay()


def test_resume_refuses_data_that_shrank(case: Case) -> None:
    gone = case.test[0]
    case.own.lose(case.data, gone)
    code, _, err = case.resume()
    assert code == 2 and " removed (" in err and gone in err and err.count("\n") == 1
    case.assert_predictions_stay()


def files_of(place: Path) -> list[Path]:
    return [file for file in [place, *place.rglob("*")] if file.is_file()]


@pytest.mark.parametrize("verb", ["eval", "resume"])
def test_touched_data_are_the_same(case: Case, verb: str) -> None:
    for file in files_of(case.data):
        os.utime(file, (1_000_000_007, 1_000_000_007))
        file.write_bytes(file.read_bytes())
    code, _, err = case.evaluate() if verb == "eval" else case.resume()
    assert code == 0 and "since the training" not in err
    case.assert_predictions_stay()


def test_eval_of_moved_data_says_how_to_tell_of_their_place(case: Case) -> None:
    case.data.rename("elsewhere")
    code, _, err = case.evaluate()
    assert code == 2 and f"--resume --set {case.own.key}=NEW" in err and err.count("\n") == 1
    case.assert_predictions_stay()


@pytest.mark.parametrize("finished", [False, True])
def test_resume_accepts_a_new_place_of_the_same_data(case: Case, finished: bool) -> None:
    place = f"new{case.data.suffix}"
    case.data.rename(place)
    words = ["--set", f"{case.own.key}={place}"]
    command = [case.name, "train", case.own.app, "--run-dir", "run", "--resume"]
    assert case.resume()[0] == 2  # they aren't at the old one
    if finished:
        results = json.loads(Path("run/results.json").read_text())
        Path("run/results.json").write_text(json.dumps({**results, "status": "finished"}))
    code, out, err = case.cli(*command, *words) if finished else case.resume(*words)
    assert code == 0, err
    assert f"which config.toml names from now on: {case.own.key} = {place}" in out
    assert place in Path("run/config.toml").read_text()
    assert case.evaluate()[0] == 0
    case.assert_predictions_stay()


def test_resume_refuses_a_new_place_of_other_data(case: Case) -> None:
    place = f"new{case.data.suffix}"
    case.data.rename(place)
    case.own.grow(Path(place))
    before = Path("run/config.toml").read_bytes()
    code, _, err = case.resume("--set", f"{case.own.key}={place}")
    assert code == 2 and f"1 added ({case.own.new}" in err
    code, _, err = case.resume("--set", f"{case.own.key}={place}", "--set", "train.lr=0.5")
    assert code == 2 and "train.lr" in err
    assert Path("run/config.toml").read_bytes() == before


def test_eval_of_exchanged_data_says_so_and_keeps_the_predictions(case: Case) -> None:
    case.own.swap(case.data)
    code, _, err = case.evaluate()
    a, b = case.own.pair
    stem, _, ending = case.own.predictions.partition(".")
    assert code == 0 and f"{a} and {b} were exchanged since the training" in err
    assert "changed since the training, in content or label" in err and "of test" in err
    assert (Path("run") / f"{stem}.changed.{ending}").is_file()
    case.assert_predictions_stay()


def test_resume_refuses_exchanged_data(case: Case) -> None:
    case.own.swap(case.data)
    code, _, err = case.resume()
    a, b = case.own.pair
    assert code == 2 and f"{a} and {b} are exchanged" in err and err.count("\n") == 1
    case.assert_predictions_stay()
