"""Faults 4 and 14: checkpoints that are damaged, gone, of an earlier or of a later version."""

import json
import shutil
from pathlib import Path

import apps
import pytest
import toy

from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder

FORMATS = Path(__file__).parent / "formats"


def flip(file):
    data = bytearray(file.read_bytes())
    data[2 * len(data) // 3] ^= 4
    file.write_bytes(bytes(data))


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


DAMAGE = {
    "a flipped bit": flip,
    "cut": cut,
    "gone": Path.unlink,
    "empty": lambda file: file.write_bytes(b""),
}


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("model.safetensors", "a flipped bit"),
        ("state.safetensors", "cut"),
        ("ema.safetensors", "gone"),
        ("manifest.json", "empty"),
        ("state.json", "a flipped bit"),
    ],
)
def test_damage_is_named_and_the_one_before_serves(whole, halfway, file, kind):
    place = halfway / "checkpoints"
    newest = checkpoint.steps(place)[-1]
    DAMAGE[kind](checkpoint.place(place, newest) / file)
    said = []
    apps.run(whole.task(), halfway, resume=True, say=said.append)
    assert any(f"step-{newest:07d} is damaged" in line and file in line for line in said)
    assert any(f"from step {newest - 1}" in line for line in said)
    apps.assert_same_end(halfway, whole.run)


def test_none_whole_ends_with_2(whole, halfway, capsys):
    """Never a silent start from scratch, and what is left stays as it is, for who can mend it."""
    place = halfway / "checkpoints"
    for step in checkpoint.steps(place):
        flip(checkpoint.place(place, step) / "model.safetensors")
    before = sorted(file.relative_to(halfway) for file in halfway.rglob("*") if file.is_file())
    with pytest.raises(UserError, match=r"none of the \d checkpoints"):
        apps.run(whole.task(), halfway, resume=True)
    after = sorted(file.relative_to(halfway) for file in halfway.rglob("*") if file.is_file())
    assert before == [name for name in after if name.name != ".lock"] or before == after


@pytest.mark.parametrize("version", sorted(path.name for path in FORMATS.iterdir()))
def test_a_run_of_each_format_goes_on(version, tmp_path):
    """Kept as it was written by the first isoform of that format: stopped at step 10 of 16."""
    shutil.copytree(FORMATS / version, tmp_path / "run")
    said = []
    task = toy.task(ema=0.9, checkpoint_every=4, log_every=1)
    results = train(task, RunFolder(tmp_path / "run"), resume=True, progress=False, say=said.append)
    assert any("from step 10" in line for line in said) and results["status"] == "finished"
    lines = [
        line["step"] for line in RunFolder(tmp_path / "run").metrics() if line["split"] == "train"
    ]
    assert lines == list(range(1, 17))


def test_the_present_format_is_kept_too():
    assert str(checkpoint.FORMAT) in {path.name for path in FORMATS.iterdir()}


def test_a_later_format_is_refused_as_such(tmp_path):
    """Not taken for damage: the one before would be gone on from, and this one lost."""
    shutil.copytree(FORMATS / str(checkpoint.FORMAT), tmp_path / "run")
    place = checkpoint.place(tmp_path / "run" / "checkpoints", 10)
    told = json.loads((place / "manifest.json").read_text())
    (place / "manifest.json").write_text(json.dumps({**told, "format": checkpoint.FORMAT + 1}))
    with pytest.raises(UserError, match="use a later version"):
        checkpoint.newest(tmp_path / "run" / "checkpoints", print)
    assert checkpoint.steps(tmp_path / "run" / "checkpoints")[-1] == 10


def test_a_key_that_the_runs_version_did_not_know_is_no_change(whole, halfway):
    """config.toml without train.nonfinite, as runs before it have; another value of it is refused."""
    config = halfway / "config.toml"
    lines = config.read_text().splitlines(keepends=True)
    config.write_text(
        "".join(line for line in lines if not line.startswith(("nonfinite", "bad_samples")))
    )
    assert config.read_text().count("\n") == len(lines) - 2
    with pytest.raises(UserError, match=r"train\.nonfinite: 'stop' -> 'skip'"):
        apps.run(whole.task(nonfinite="skip"), halfway, resume=True)
    apps.run(whole.task(), halfway, resume=True)
    apps.assert_same_end(halfway, whole.run)
