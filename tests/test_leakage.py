"""What check calls leakage stops train too, in every domain; where data.allow_leakage is set, train says it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

TINY = ["backbone.dim=8", "backbone.depth=1", "backbone.heads=2", "backbone.mlp_dim=8"]
TINY += ["train.epochs=1", "train.warmup=0", "eval.baselines=[]"]


def images(folder: Path) -> None:
    """A training image is in test too, under another name."""
    rng = np.random.default_rng(0)
    for part, count in (("train", 11), ("val", 3), ("test", 5)):
        for name, level in (("dark", 30), ("light", 190)):
            (folder / part / name).mkdir(parents=True)
            for k in range(count):
                made = (level + rng.integers(0, 50, (9, 11, 3))).astype(np.uint8)
                Image.fromarray(made).save(folder / part / name / f"{k:02}.png")
    again = folder / "test" / "dark" / "again.png"
    again.write_bytes((folder / "train" / "dark" / "07.png").read_bytes())


def molecules(path: Path) -> None:
    """A training molecule is in test too, spelled otherwise, and nothing asks for parsing."""
    texts = [f"{'C' * k}O{end}" for k in range(3, 20) for end in ("", "C")]
    rows = [
        (text, 0.5 * text.count("C"), "train" if k < 23 else "val") for k, text in enumerate(texts)
    ]
    rows += [("NCCN", 1.0, "test"), ("O" + "C" * 7, 3.5, "test")]
    pd.DataFrame(rows, columns=["smiles", "label", "split"]).to_csv(path, index=False)


def series(path: Path) -> None:
    """A covariate is the load of an hour later."""
    rng = np.random.default_rng(0)
    load = 50 + np.cumsum(rng.normal(0, 1, 132))
    stamps = pd.date_range("2024-03-01", periods=131, freq="h")
    frame = pd.DataFrame({"date": stamps, "load": load[:-1], "plan": 2 * load[1:] + 1})
    frame.to_csv(path, index=False)


@dataclass(frozen=True)
class Leaking:
    """Data of a domain that leak, a tiny training on them, and what is said of them."""

    app: str
    name: str
    settings: tuple[str, ...]
    make: Callable[[Path], None]
    said: tuple[str, ...]


LEAKING = {
    "vision": Leaking(
        "vit-folder", "pictures", ("data.root=pictures", "tokeniser.image=8", "tokeniser.patch=4"), images,
        ("test/dark/again.png (test)", "train/dark/07.png (train)"),
    ),
    "molecules": Leaking(
        "graphormer-own", "m.csv",
        ("data.path=m.csv", "head.descriptors=false", "data.split=given", "data.duplicates=keep"),
        molecules, ("line 10", "line 37"),
    ),
    "timeseries": Leaking(
        "itransformer-own", "load.csv",
        ("data.path=load.csv", "model.context=11", "model.horizon=3", 'data.past=["plan"]', 'data.targets=["load"]'),
        series, ("covariate plan is the target load 1 row ahead",),
    ),
}  # fmt: skip


@pytest.fixture(params=list(LEAKING))
def leaking(request, tmp_path, monkeypatch) -> tuple[str, Leaking]:
    monkeypatch.chdir(tmp_path)
    found = LEAKING[request.param]
    found.make(Path(found.name))
    return request.param, found


def test_the_same_finding_stops_check_and_train(leaking: tuple[str, Leaking], cli) -> None:
    name, data = leaking
    sets = [word for one in (*TINY, *data.settings) for word in ("--set", one)]
    code, out, err = cli(name, "check", data.app, *sets, "--page", "page.html")
    assert code == 2 and "LEAKAGE" in out, err
    Path("page.html").unlink()
    code, _, err = cli(name, "train", data.app, "--run-dir", "run", *sets)
    assert code == 2 and all(part in err for part in data.said), err
    assert "set data.allow_leakage = true" in err and err.count("\n") == 1
    assert [path.name for path in Path().iterdir()] == [data.name]


def test_leakage_that_is_allowed_is_said(leaking: tuple[str, Leaking], cli) -> None:
    name, data = leaking
    sets = [
        word
        for one in (*TINY, *data.settings, "data.allow_leakage=true")
        for word in ("--set", one)
    ]
    code, _, err = cli(name, "check", data.app, *sets, "--page", "page.html")
    assert code == 0, err
    code, out, err = cli(name, "train", data.app, "--run-dir", "run", *sets)
    warned = [line for line in out.splitlines() if line.startswith("warning: ")]
    assert code == 0 and any(all(part in line for part in data.said) for line in warned), out
    assert cli(name, "eval", "run")[0] == 0
