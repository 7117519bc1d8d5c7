"""Names that aren't UTF-8, run folders that can't be written, narrow terminals, huge seeds: in every domain."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from commands import exit_code
from test_commands_of_domains import OWN, TINY, Own

BAD = os.fsdecode(b"caf\xe9")  # Latin-1: as the system sees it, no text at all
SHOWN = r"caf\xe9"
ENDING = {"vision": ".png", "molecules": ".smi", "timeseries": ".csv"}


@pytest.fixture(scope="module", params=list(OWN))
def trained(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Own, Path]:
    """(domain, what it does with its file, a folder with the file and a "run" on it)."""
    name: str = request.param
    file, place = OWN[name], tmp_path_factory.mktemp(name)
    file.make(place / file.name)
    sets = (f"{file.key}={place / file.name}", *TINY, *file.settings)
    words = [word for one in sets for word in ("--set", one)]
    words = [name, "train", file.app, "--run-dir", str(place / "run"), *words]
    assert exit_code(*words) == 0
    return name, file, place


@pytest.fixture
def here(
    trained: tuple[str, Own, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, Own]:
    """The domain, in a copy of its folder."""
    name, file, place = trained
    shutil.copytree(place, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    return name, file


def badly_named(name: str, file: Own) -> str:
    """A file that the domain predicts on, under a name that is no text."""
    made = BAD + ENDING[name]
    if name == "molecules":
        Path(made).write_text("CCO\nCCCO\n")
    else:
        source = Path(file.name)
        shutil.copy(source / "dark" / "00.png" if source.is_dir() else source, made)
    return made


def rows_of(path: Path) -> list[str]:
    """What stands in a table that was written, as one text a row."""
    match path.suffix:
        case ".parquet":
            return (
                pd.read_parquet(io.BytesIO(path.read_bytes()))
                .astype(str)
                .agg(" ".join, axis=1)
                .tolist()
            )
        case ".npz":
            return np.load(path, allow_pickle=False)["inputs"].tolist()
        case ".jsonl":
            return [str(json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    return path.read_text("utf-8").splitlines()[1:]


def test_a_name_that_is_no_text_is_written_everywhere(here: tuple[str, Own], cli) -> None:
    name, file = here
    made = badly_named(name, file)
    verb = "forecast" if name == "timeseries" else "predict"
    for ending in ("csv", "parquet", "jsonl") if verb == "predict" else ("csv", "parquet"):
        out = f"out-{BAD}.{ending}"
        code, said, err = cli(name, verb, "run", made, "--out", out)
        assert code == 0, (ending, err)
        assert len(rows_of(Path(out))) > 0
        if verb == "predict":
            assert all(SHOWN in row.replace("\\\\", "\\") for row in rows_of(Path(out))), ending
    code, said, err = cli(name, verb, "run", made)
    assert code == 0 and (SHOWN in said or verb == "forecast"), err
    code, said, err = cli(name, verb, "run", made, "--json")
    assert code == 0 and json.loads(said.splitlines()[-1])["exit"] == 0, err
    code, said, err = cli(name, "embed", "run", made, "--out", "features.npz")
    assert code == 0 and (SHOWN in rows_of(Path("features.npz"))[0] or verb == "forecast"), err
    code, said, err = cli(name, verb, "run", f"absent-{made}")
    assert code == 2 and SHOWN in err, "no such file, said as text"


def test_check_and_training_on_a_name_that_is_no_text(here: tuple[str, Own], cli) -> None:
    """A file inside the folder is read and named; a path of the data themselves can stand in no config.toml."""
    name, file = here
    if name == "vision":
        made = Path(file.name, "dark", f"{BAD}.png")
        shutil.copy(Path(file.name, "dark", "00.png"), made)
        words = ["--set", 'data.on_error="skip"']
        code, said, err = cli(name, "check", file.name, *words, "--page", "page.html")
        assert code in (0, 2) and SHOWN in said and SHOWN in Path("page.html").read_text("utf-8")
        assert "unexpected" not in err
        sets = [*file.sets(), "--set", "data.val_fraction=0.6", "--set", "data.allow_leakage=true"]
        assert cli(name, "train", file.app, *sets, "--run-dir", "second")[0] == 0
    os.rename(file.name, BAD)
    sets = [one.replace(file.name, BAD) for one in file.sets()]
    code, said, err = cli(name, "train", file.app, *sets, "--run-dir", "third")
    assert code == 2 and "isn't UTF-8" in err and file.key in err and SHOWN in err, err
    assert not Path("third").exists()
    assert cli(name, "check", BAD)[0] == 2


def test_a_run_folder_that_cannot_be_written(here: tuple[str, Own], cli, monkeypatch) -> None:
    """As of a colleague's: eval and report say what they found, and where the files could go."""
    name, _ = here
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    forbid_writing(Path("run").resolve(), monkeypatch)
    code, said, err = cli(name, "eval", "run")
    assert code == 0 and "metric" in said, err
    assert "predictions are not kept, as run" in err and "--out" in err
    code, said, err = cli("report", "run")
    assert code == 0 and "finished" in said and "--out FILE.html" in err, err
    assert before == {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}

    code, said, err = cli(name, "eval", "run", "--out", "elsewhere")
    assert code == 0 and "not kept" not in err, err
    (made,) = Path("elsewhere").iterdir()
    assert made.name.startswith("predictions.") and made.stat().st_size
    code, said, err = cli("report", "run", "--out", "elsewhere/page.html")
    assert code == 0 and said.endswith("elsewhere/page.html\n") and not err, err
    for verb in ([name, "eval"], ["report"]):
        code, said, err = cli(*verb, "run", "--out", "run/inside")
        assert code == 2 and "can't be written" in err and "--out" in err, err


def forbid_writing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a file system that is mounted to be read: an administrator, too, can't write there."""
    import builtins
    import tempfile

    def guarded(function: Callable, place_of: Callable) -> Callable:
        def call(*args, **options):
            place = place_of(*args, **options)
            if place is not None and Path(place).resolve().is_relative_to(folder):
                raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(place))
            return function(*args, **options)

        return call

    def opened(path, mode="r", *_, **__):
        writes = isinstance(path, str | os.PathLike) and set(mode) & set("wax+")
        return path if writes else None

    monkeypatch.setattr(io, "open", guarded(io.open, opened))
    monkeypatch.setattr(builtins, "open", guarded(open, opened))
    monkeypatch.setattr(os, "mkdir", guarded(os.mkdir, lambda path, *_, **__: path))
    monkeypatch.setattr(tempfile, "mkstemp", guarded(tempfile.mkstemp, lambda dir, **_: dir))
    from isoform.timeseries import predictions

    monkeypatch.setattr(predictions, "write", guarded(predictions.write, lambda path, *_: path))


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_any_name_on_any_terminal(here: tuple[str, Own], encoding: str, monkeypatch) -> None:
    name, _ = here
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])
    assert exit_code(name, "predict", "run", f"é{BAD}.none") == 2
    said = [stream.buffer.getvalue().decode(encoding) for stream in streams]  # type: ignore[attr-defined]
    letter = r"\xe9" if encoding == "ascii" else "é"
    assert f"{letter}{SHOWN}.none" in said[1] and "unexpected" not in said[1]


@pytest.mark.parametrize("seed", [2**63, 2**64 + 1, -1])
def test_a_seed_that_no_generator_takes_is_refused_at_once(
    here: tuple[str, Own], seed: int, cli
) -> None:
    name, file = here
    shutil.rmtree(file.name) if name == "vision" else Path(file.name).unlink()
    sets = file.sets()
    code, _, err = cli(name, "train", file.app, *sets, "--seed", str(seed), "--run-dir", "new")
    assert code == 2 and "train.seed" in err and str(seed) in err and not Path("new").exists()
    if name != "timeseries":
        sets += ["--set", f"data.split_seed={seed}"]
        code, _, err = cli(name, "train", file.app, *sets, "--run-dir", "new")
        assert code == 2 and "data.split_seed" in err, err


def test_the_largest_seed_trains(here: tuple[str, Own], cli) -> None:
    name, file = here
    words = [*file.sets(), "--seed", str(2**63 - 1), "--run-dir", "new"]
    code, _, err = cli(name, "train", file.app, *words)
    assert code == 0, err
    assert f"seed = {2**63 - 1}" in Path("new", "config.toml").read_text()
    assert cli(name, "eval", "new")[0] == 0
