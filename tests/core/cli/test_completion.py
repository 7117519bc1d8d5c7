"""Scripts that complete words in a shell: made of the parser and apps.toml, run in bash."""

import shutil
import subprocess
import sys

import pytest

from commands import exit_code
from isoform.core.cli.completion import SHELLS


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """{shell: file of its script}."""
    folder, found = tmp_path_factory.mktemp("completion"), {}
    for shell in SHELLS:
        found[shell] = folder / f"isoform.{shell}"
        with pytest.MonkeyPatch.context() as patch, found[shell].open("w") as file:
            patch.setattr(sys, "stdout", file)
            assert exit_code("completion", shell) == 0
    return found


def offered(script, line):
    """What bash offers for the last word of a line."""
    words = line.split(" ")
    quoted = " ".join(f"'{word}'" for word in words)
    code = f'source "$1"; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _isoform; echo "${{COMPREPLY[@]}}"'
    done = subprocess.run(
        ["bash", "-c", code, "bash", script["bash"]], capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "some", "others"),
    [
        ("isoform ", ["apps", "completion", "vision", "molecules"], ["train", "--json"]),
        ("isoform tim", ["timeseries"], ["vision"]),
        ("isoform -", ["--version", "--json"], ["apps"]),
        ("isoform vision ", ["train", "predict", "export"], ["forecast", "vit-mnist"]),
        ("isoform timeseries fo", ["forecast"], ["train"]),
        ("isoform --json vision train vit-f", ["vit-folder"], ["vit-mnist", "itransformer-tiny"]),
        ("isoform molecules train ", ["graphormer-own"], ["vit-mnist", "train"]),
        ("isoform vision train vit-mnist --lo", ["--log"], ["--set"]),
        ("isoform vision train vit-mnist --log ", ["tensorboard", "mlflow", "wandb"], ["--set"]),
        ("isoform vision train vit-mnist --log mlflow --freeze ", ["trunk", "none"], ["wandb"]),
        ("isoform vision train vit-mnist --run-dir ", [], ["vit-mnist", "--set"]),
        ("isoform vision export runs/a --format saf", ["safetensors"], ["bundle"]),
        ("isoform explain itransformer-ett", ["itransformer-etth1-96"], ["vit-mnist"]),
        ("isoform apps ", ["vision", "timeseries"], ["vit-mnist"]),
        ("isoform pointcloud train pointmae-o", ["pointmae-own"], ["vit-mnist"]),
        ("isoform completion ", ["bash", "zsh", "fish"], ["vision"]),
    ],
)
def test_bash_offers_what_may_follow(script, line, some, others):
    found = offered(script, line)
    assert set(some) <= set(found) and not set(others) & set(found)
    last = line.split(" ")[-1]
    assert all(word.startswith(last) for word in found)
    assert some or not found


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_others_name_the_same_and_their_shell_reads_them(script, shell):
    text = script[shell].read_text()
    for word in (
        "/vision/train",
        "vit-folder",
        "graphormer-own",
        "forecast",
        "tensorboard",
        "allow-leakage",
    ):
        assert word in text
    if shutil.which(shell):
        done = subprocess.run([shell, "-n", script[shell]], capture_output=True, timeout=30)
        assert done.returncode == 0, done.stderr


def test_an_unknown_shell_is_refused(capsys):
    assert exit_code("completion", "tcsh") == 2
    assert "unknown 'tcsh'; choose from bash, zsh, fish" in capsys.readouterr().err
