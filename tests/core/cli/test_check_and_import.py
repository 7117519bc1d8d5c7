"""`check` of data and `import` of weights."""

from __future__ import annotations

from pathlib import Path

from isoform.core import api, config

from .toys import TOYS, last, mistake


def test_check_says_what_is_there_and_stops_on_leakage(cli):
    Path("leaky").mkdir()
    Path("clean").mkdir()
    code, out, _ = cli("toys", "check", "clean", "--json")
    assert code == 0 and last(out) == {
        "train": 47,
        "leakage": False,
        "page": "runs/check-clean.html",
        "exit": 0,
    }
    assert Path("runs/check-clean.html").read_text() == "<html>page</html>"
    mistake(cli("toys", "check", "leaky", "--page", "p.html"), "a sample is in two splits")
    assert Path("p.html").exists()
    assert cli("toys", "check", "leaky", "--allow-leakage")[0] == 0
    assert cli("toys", "check", "mlp", "--set", "train.lr=1")[0] == 0
    assert (
        cli("toys", "check", "clean", "--set", "train.lr=1")[0] == 0
    )  # a path is an app of its own
    mistake(cli("toys", "check", "clean", "--set", "train.rate=1"), "train.rate: unknown key")
    mistake(cli("toys", "check", "mpl"), "did you mean mlp?")
    Path("empty").mkdir()
    code, out, err = cli("toys", "check", "empty")
    assert code == 2 and "47 points" in out and "there is nothing to learn" in err


def test_import_writes_a_run_folder_whole_or_not_at_all(cli, place):
    Path("weights.bin").touch()
    code, out, _ = cli(
        "toys",
        "import",
        "weights.bin",
        "--app",
        "mlp",
        "--set",
        "train.lr=3",
        "--out",
        "in/run",
        "--json",
    )
    found = last(out)
    assert (
        code == 0
        and found["layout"] == "guessed"
        and found["notes"] == ["a note"]
        and found["licence"] == "MIT"
    )
    assert config.load_run_config("in/run", TOYS).train.lr == 3.0
    assert cli("toys", "import", "weights.bin", "--app", "mlp", "--out", "plain")[0] == 0
    assert (
        config.load_run_config("plain", TOYS).status == "unverified"
    )  # mlp was measured, these weights weren't
    assert cli("toys", "predict", "in/run", "2")[0] == 0
    assert cli("toys", "embed", "in/run", "2", "--out", "e.npz")[0] == 0
    assert cli("toys", "train", "mlp", "--init", "in/run", "--run-dir", "tuned")[0] == 0
    assert "MIT" in Path("tuned/card.md").read_text()
    mistake(cli("toys", "import", "weights.bin", "--out", "in/run"), "exists already")
    before = sorted(place.rglob("*"))
    mistake(cli("toys", "import", "none.bin", "--out", "in/other"), "doesn't exist")
    mistake(
        cli("toys", "import", "weights.bin", "--app", "mpl", "--out", "in/other"),
        "did you mean mlp?",
    )
    mistake(cli("toys", "import", "weights.bin", "--out", "weights.bin/run"), "can't be written")
    assert sorted(place.rglob("*")) == before


def test_a_failing_import_leaves_nothing(cli, place, monkeypatch):
    Path("weights.bin").touch()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(api.checkpoints, "write", full)
    mistake(cli("toys", "import", "weights.bin", "--out", "run"), "No space left")
    assert [path.name for path in place.iterdir()] == ["weights.bin"]
