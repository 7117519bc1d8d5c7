"""Fault 10: some mutations of every kind of file through its reader, and all that ever found something.

The long form is `make fuzz`. The children limit themselves in processor time and memory, see fuzz/drive.py.
"""

import random
import signal
import sys
from pathlib import Path

import pytest

import killed

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))  # for `fuzz`, which is a tool beside the package

from fuzz.drive import CORPUS, fuzz, mutation, read_one, seed_files  # noqa: E402
from fuzz.targets import TARGETS, Target  # noqa: E402

KEPT = sorted(path for path in CORPUS.glob("*/*") if path.is_file())


def readable(name):
    """Skips a kind whose library is an extra of its own."""
    for kind, module in {"dcm": "pydicom", "laz": "lazrs"}.items():
        if kind in name:
            pytest.importorskip(module)


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_read_or_refused(name):
    """200 changed files or 4 seconds: no crash, no hang, no other exception, no rise of memory."""
    readable(name)
    outcome = fuzz(name, 200, minutes=4 / 60)
    assert not outcome.findings, outcome.findings
    assert outcome.done and outcome.past_changes >= 0.3 * outcome.changes


@pytest.mark.parametrize("path", KEPT, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_found_something_once(path):
    readable(path.parent.name)
    assert read_one(TARGETS[path.parent.name], path.read_bytes()) is None


def bad(what):
    """A reader with a fault of its own."""

    def read(path):
        content = path.read_bytes()
        if content[-1:] != b"!":
            return
        if what == "crash":
            import ctypes

            ctypes.string_at(0)
        if what == "hang":
            while True:
                pass
        if what == "memory":
            return bytearray(b"x") * (700 << 20)
        if what == "gigabytes":
            bytes(64 << 30)
        raise KeyError("x")

    return read


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("crash", "crashes: SIGSEGV"),
        ("hang", "hangs: 5 s of the processor"),
        ("memory", "takes "),
        ("gigabytes", "MemoryError"),
        ("other", "KeyError: 'x'"),
    ],
)
def test_the_watch_finds(what, told):
    target = Target("own-x", lambda _: iter([b"x"]), bad(what))
    assert told in (read_one(target, b"now!") or "")
    assert read_one(target, b"now") is None


@pytest.mark.parametrize("name", TARGETS)
def test_a_mutation_is_known_by_its_number(name):
    readable(name)
    if name == "dcm":
        pytest.skip("pydicom writes the time of day")
    target = TARGETS[name]
    files = [b"abc 12 3.5\n" * 9] if name.startswith("cloud-h5") else seed_files(target)[:1]
    one = [mutation(target, files, 3, number)[0] for number in range(20)]
    random.random()
    assert one == [mutation(target, files, 3, number)[0] for number in range(20)]
    assert len(set(one)) > 10


def test_packed_points_are_read_in_a_fork_too(tmp_path):
    """As loader processes do, after the run itself has read some: threads of a library aren't there any more."""
    pytest.importorskip("lazrs")
    path = tmp_path / "one.laz"
    path.write_bytes(seed_files(TARGETS["cloud-laz"])[0])
    TARGETS["cloud-laz"].read(path)

    def read():
        signal.alarm(60)
        TARGETS["cloud-laz"].read(path)
        (tmp_path / "read").touch()

    assert killed.in_child(read) == 0 and (tmp_path / "read").exists()
