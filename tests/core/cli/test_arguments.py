"""What is typed and how it is answered: help, mistakes, JSON, exit codes, warnings."""

from __future__ import annotations

import json
import warnings

import pytest

import isoform
from isoform.core import api
from isoform.core.domain import CheckReport
from isoform.core.errors import Preempted, RunError

from .toys import Toys, last, mistake


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (["toyz"], "unknown 'toyz'; did you mean toys?"),
        (["ghosts"], "ghosts: not part of this release yet"),
        (["ghosts", "train", "x"], "ghosts: not part of this release yet"),
        (["apps", "ghosts"], "ghosts: not part of this release yet"),
        (["apps", "toyz"], "toyz: unknown domain; did you mean toys?"),
        ([], "name a COMMAND"),
        (["toys"], "required: VERB"),
        (["toys", "trane", "mlp"], "unknown 'trane'; did you mean train?"),
        (["toys", "train"], "required: APP"),
        (["toys", "train", "mpl"], "mpl: unknown toys app; did you mean mlp?"),
        (["toys", "train", "mlp", "--epoch", "3"], "--epoch"),  # no abbreviations
        (["toys", "train", "mlp", "--seed", "1", "--seeds", "2"], "not allowed with"),
        (["toys", "train", "mlp", "--seeds", "0"], "--seeds 0"),
        (["toys", "eval", "nowhere"], "nowhere: doesn't exist"),
        (["toys", "predict", "nowhere", "1"], "nowhere: doesn't exist"),
        (["toys", "predict", "nowhere", "1", "--out", "a.xls"], ".csv, .jsonl, .parquet"),
        (["toys", "embed", "nowhere", "1", "--out", "a.csv"], ".npz, .parquet"),
        (
            ["toys", "export", "nowhere", "--format", "tex", "--out", "x"],
            "unknown 'tex'; did you mean text?",
        ),
        (["report", "nowhere"], "nowhere: doesn't exist"),
        (["explain", "mpl"], "mpl: unknown app; did you mean mlp?"),
        (["explain", "toyz/mlp"], "unknown domain toyz; did you mean toys?"),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(cli, place, argv, part):
    assert len(mistake(cli(*argv), part)) == 1
    assert list(place.iterdir()) == []


def test_help_lists_verbs_and_exits_0(cli):
    code, out, _ = cli("--help")
    assert (
        code == 0
        and "points in space" in out
        and "not part of this release yet" in out
        and "75" in out
    )
    code, out, _ = cli("toys", "--help")
    assert code == 0 and all(verb in out for verb in ("check", "train", "export", "count"))


def test_version(cli):
    assert cli("--version")[1] == f"isoform {isoform.__version__}\n"
    assert last(cli("--version", "--json")[1]) == {"version": isoform.__version__, "exit": 0}


def test_a_domains_own_verb(cli):
    assert cli("toys", "count", "-n", "7")[:2] == (0, "7\n")
    _, out, err = cli("toys", "count", "-n", "11", "--json")
    assert (json.loads(out), err) == ({"n": 11, "exit": 0}, "11\n")


def test_what_is_unforeseen_is_a_line_and_with_debug_a_traceback(cli):
    code, _, err = cli("toys", "count", "-n", "3")
    assert code == 1 and err == "unexpected ValueError: three; add --debug to see where\n"
    code, out, err = cli("toys", "count", "-n", "3", "--debug", "--json")
    assert (
        code == 1
        and "Traceback" in err
        and last(out) == {"error": "unexpected ValueError: three", "exit": 1}
    )


def test_json_carries_the_error_and_the_exit_code(cli):
    code, out, err = cli("--json", "toys", "eval", "nowhere")
    assert code == last(out)["exit"] == 2
    assert last(out)["error"] in err and len(out.splitlines()) == 1


@pytest.mark.parametrize(
    ("raised", "code"),
    [
        (Preempted("stopped at step 3"), 75),
        (KeyboardInterrupt(), 75),
        (RunError("the loss is NaN"), 1),
    ],
)
def test_exit_codes_of_a_training_that_stops(cli, monkeypatch, raised, code):
    def stop(*_, **__):
        raise raised

    monkeypatch.setattr(api, "train_task", stop)
    assert cli("toys", "train", "mlp")[0] == code


@pytest.mark.parametrize(
    ("category", "module", "line"),
    [
        (UserWarning, "isoform.toys.data", "left out: point 3\n"),
        (UserWarning, "pandas.core", ""),
        (FutureWarning, "isoform.toys.data", ""),
        (RuntimeWarning, "numpy", ""),
        (UserWarning, "isoformlike", ""),
    ],
)
def test_warnings_are_lines_and_those_of_libraries_none(cli, monkeypatch, category, module, line):
    def warn(self, config):
        warnings.warn_explicit("left out: point 3", category, "data.py", 7, module=module)
        return CheckReport(["47 points"], {})

    monkeypatch.setattr(Toys, "check", warn)
    code, out, err = cli("toys", "check", "mlp")
    assert (code, out, err) == (0, "47 points\n", line)


def test_a_run_that_names_no_domain(cli, trained, tmp_path):
    (tmp_path / "run").mkdir()
    text = (trained / "config.toml").read_text().replace('domain = "toys"', "")
    (tmp_path / "run" / "config.toml").write_text(text)
    _, _, err = cli("toys", "eval", tmp_path / "run")
    assert "names no domain" in err and "None" not in err
