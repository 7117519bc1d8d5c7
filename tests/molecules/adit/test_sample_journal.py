"""Sampling killed and taken up again, and files that are another's."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from isoform.core.errors import UserError
from isoform.molecules.adit.sampling import command, items
from isoform.molecules.adit.sampling.command import sample_into
from isoform.molecules.adit.sampling.journal import Journal, part_of

from .sampled import RUN, SIZES, asked, contents, rows_of, table_of, tiny


def test_a_fault_at_any_moment_leaves_what_an_undisturbed_call_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.sdf", tmp_path / "broken.sdf"
    request = asked(37, batch=3)  # four windows
    assert sample_into(whole, RUN, request, SIZES) == 0
    write, place = Journal._write, Journal._put_in_place
    befores = []
    for fatal in (
        2,
        3,
        0,
    ):  # which writing of the journal, of each call, fails: texts are on the disk, it isn't
        calls = iter(range(1, 99))

        def dying(self: Journal, fatal: int = fatal, calls: Any = calls) -> None:
            if next(calls) == fatal:
                raise KeyboardInterrupt
            write(self)

        monkeypatch.setattr(Journal, "_write", dying)
        if fatal:
            with pytest.raises(KeyboardInterrupt):
                befores.append(sample_into(out, RUN, request, SIZES))
            assert part_of(out).exists() and not out.exists()
            continue

        def half(self: Journal) -> None:
            part_of(self.files[1]).replace(self.files[1])
            raise KeyboardInterrupt

        monkeypatch.setattr(Journal, "_put_in_place", half)
        with pytest.raises(KeyboardInterrupt):
            sample_into(out, RUN, request, SIZES)
        monkeypatch.setattr(Journal, "_put_in_place", place)
    told = []
    assert sample_into(out, RUN, request, SIZES, say=told.append) == 37 and not told
    assert contents(out) == contents(whole)


def test_what_a_killed_process_wrote_behind_its_journal_is_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "a.xyz", tmp_path / "whole.xyz"
    sample_into(whole, RUN, asked(30), SIZES)
    drawn = items.windows(RUN, asked(30), SIZES)
    journal = items.WINDOW

    class Enough(Exception):
        pass

    def track(parts: Any, doing: str) -> Any:
        for k, part in enumerate(parts):
            if k == journal + 2:
                raise Enough
            yield part

    def nothing(parts: Any, doing: str) -> Any:
        raise Enough

    with pytest.raises(Enough):
        sample_into(out, RUN, asked(30), SIZES, track=track)
    assert len(next(iter(drawn))) == 12
    with part_of(out).open("ab") as stream:
        stream.write(b"5\nhalf a record\nC 0 0")
    told: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(command, "_computer", lambda: "an abacus")
        with pytest.raises(Enough):
            sample_into(out, RUN, asked(30), SIZES, say=told.append, track=nothing)
    assert told == [
        f"{out}: goes on behind 12 of 30 records",
        f"{out}: was begun by {command._computer()}, now it is an abacus: the last digits may differ",
    ]
    assert sample_into(out, RUN, asked(30), SIZES, say=told.append) == 12 and len(told) == 3
    assert contents(out) == contents(whole)


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from isoform.core.domain import TrainedModel
from isoform.molecules.adit.config import SamplingConfig, app_of_size
from isoform.molecules.adit.model import build_model
from isoform.molecules.adit.sampler import SizeCounts
from isoform.molecules.adit.sampling.command import sample_into
from isoform.molecules.adit.sampling.request import Request
from isoform.molecules.state import MoleculesState
few = SamplingConfig(steps=3)
config = app_of_size("tiny", "tiny", sampling=few)
torch.manual_seed(5)
run = TrainedModel(config, MoleculesState(), build_model(config).eval(), Path("run"), 7)
request = Request(count=403, kind="molecule", sampling=few, seed=3, batch=5)
def main(out):
    return sample_into(Path(out), run, request, SizeCounts({{"molecule": {{2: 1, 5: 3, 7: 2}}}}))
"""


def test_kill_9_and_the_same_command_give_the_same_bytes(tmp_path: Path) -> None:
    script = SCRIPT.format(tests=str(Path(__file__).resolve().parents[2]))
    killed, whole = tmp_path / "killed.sdf", tmp_path / "whole.sdf"
    process = subprocess.Popen(
        [sys.executable, "-c", f"{script}\nmain({str(killed)!r})"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
    )
    journal = tmp_path / "killed.sampling.json"
    while process.poll() is None:
        if journal.exists() and json.loads(journal.read_text())["done"] > 50:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.005)
    _, error = process.communicate()
    assert process.returncode == -signal.SIGKILL, error.decode()
    assert not killed.exists() and part_of(killed).exists()
    there: dict[str, Any] = {}
    exec(script, there)
    assert 50 < there["main"](killed) < 403
    assert there["main"](whole) == 0
    assert contents(killed) == contents(whole)
    assert len(rows_of(whole)) == 403


def test_other_arguments_another_run_and_files_in_the_way_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.sdf"
    sample_into(out, RUN, asked(7), SIZES)
    before = contents(out)
    assert sample_into(out, RUN, asked(7), SIZES) == 7  # again: nothing is drawn
    for request, run, said in (
        (asked(7, seed=4), RUN, r"tells of 7 records of another sampling \(seed 3, now 4\)"),
        (asked(7), tiny(6), r"another sampling \(model \w+, now \w+\)"),
        (asked(8, atoms=(3, 4)), RUN, r"n 7, now 8; atoms None, now \[3, 4\]"),
    ):
        with pytest.raises(UserError, match=said):
            sample_into(out, run, request, SIZES)
    with pytest.raises(UserError, match=r"another sampling \(file a.sdf, now a.xyz\)"):
        sample_into(tmp_path / "a.xyz", RUN, asked(7), SIZES)
    assert contents(out) == before
    assert sample_into(out, RUN, asked(7, seed=4), SIZES, overwrite=True) == 0
    assert contents(out) != before
    with out.open("a") as stream:
        stream.write("mine")
    with pytest.raises(UserError, match=r"a.sdf: was changed since"):
        sample_into(out, RUN, asked(7, seed=4), SIZES)
    out.unlink(), table_of(out).unlink()
    assert sample_into(out, RUN, asked(7, seed=4), SIZES) == 0  # taken away: made again
    foreign = tmp_path / "b.sdf"
    foreign.write_text("mine")
    with pytest.raises(UserError, match=r"b.sdf: exists already"):
        sample_into(foreign, RUN, asked(7), SIZES)
    assert foreign.read_text() == "mine" and not part_of(foreign).exists()


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    out = tmp_path / "a.sdf"

    def track(parts: Any, doing: str) -> Any:
        with pytest.raises(UserError, match="another process is sampling into it"):
            sample_into(out, RUN, asked(7), SIZES)
        sample_into(tmp_path / "b.sdf", RUN, asked(2), SIZES)
        yield from parts

    sample_into(out, RUN, asked(7), SIZES, track=track)
    assert len(rows_of(out)) == 7
    assert {one.name for one in tmp_path.iterdir()} == {
        f"{stem}.{end}" for stem in "ab" for end in ("sdf", "records.csv", "sampling.json")
    }
