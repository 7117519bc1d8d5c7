"""A screen from the command line beside chemprop's: the same file of SMILES, predicted and embedded, start to end.

Whole commands, in turns that begin with another one each round: isoform's default model of its own data with RDKit's
descriptors, the same without them, its embedding, and `chemprop predict` with its plain D-MPNN. Models are trained for
an epoch or so on the same table first, since their weights have no say in the time. Wall time holds what processes of
one command do at once, and what neighbours on the machine take away; processor time (user and system, of a command and
all its processes) only the work. Ratios are of the same round. What starting takes is measured with a file of one row.
"""

from __future__ import annotations

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
import harness

PACKAGES = ("torch", "rdkit", "numpy", "isoform")


class Taken(NamedTuple):
    """Seconds of one command."""

    wall: float
    processor: float


def smiles_of(path: Path, rows: int) -> list[str]:
    """The SMILES of a file without header, blanks behind each ignored, and as many more in other spellings.

    Raises SystemExit for a file without any.
    """
    from rdkit import Chem

    texts = [line.split()[0] for line in path.read_text().splitlines() if line.strip()][:rows]
    if not texts:
        raise SystemExit(f"{path}: holds no SMILES")
    found = list(texts)
    for number in range(rows - len(texts)):
        mol = Chem.MolFromSmiles(texts[number % len(texts)])
        found += Chem.MolToRandomSmilesVect(mol, 1, randomSeed=number + 1)
    return found


def write(path: Path, smiles: Sequence[str]) -> Path:
    """A .csv with one column, "smiles"."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["smiles"], *([text] for text in smiles)])
    return path


def take(command: Sequence[str | Path]) -> Taken:
    """Runs a command to its end. Raises SystemExit with its last words where it fails."""
    before, start = os.times(), time.monotonic()
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    wall, after = time.monotonic() - start, os.times()
    if done.returncode:
        raise SystemExit(f"{command[0]} failed:\n{done.stderr[-2000:]}")
    user, system = (
        after.children_user - before.children_user,
        after.children_system - before.children_system,
    )
    return Taken(wall, user + system)


def trained(table: Path, targets: str, folder: Path, chemprop: str | None) -> dict[str, list[str]]:
    """Trains the models; gives each contestant's command, to which a file and an output are added."""
    isoform = [sys.executable, "-m", "isoform", "molecules"]
    columns = [
        "--set", f"data.path={table}", "--set", "data.smiles=smiles",
        "--set", f'data.targets=["{targets}"]',
    ]  # fmt: skip
    for name, on in (("with", "true"), ("without", "false")):
        more = ["--set", f"head.descriptors={on}", "--set", "train.epochs=1"]
        take([*isoform, "train", "graphormer-own", *columns, *more, "--run-dir", folder / name])
    commands = {
        "isoform, descriptors": [*isoform, "predict", str(folder / "with")],
        "isoform, no descriptors": [*isoform, "predict", str(folder / "without")],
        "isoform, embedding": [*isoform, "embed", str(folder / "with")],
    }
    if chemprop is not None:
        take([chemprop, "train", "-i", table, "-s", "smiles", "--target-columns", targets, "--epochs", "3",
              "-o", folder / "chemprop", "--accelerator", "cpu", "-q"])  # fmt: skip
        best = next((folder / "chemprop").rglob("best.pt"))
        commands["chemprop"] = [
            chemprop, "predict", "-s", "smiles", "--model-paths", str(best), "--accelerator", "cpu", "-q", "-i",
        ]  # fmt: skip
    return commands


def once(name: str, command: Sequence[str], file: Path, folder: Path) -> Taken:
    """One contestant on one file."""
    if name == "chemprop":
        return take([*command, file, "-o", folder / "out.csv"])
    return take(
        [*command, file, "--out", folder / f"out.{'npz' if 'embedding' in name else 'csv'}"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains, runs the rounds and prints a line for each contestant; see benchmarks/README.md."""
    parser = argparse.ArgumentParser(prog="molecules_screen.py", description=__doc__)
    parser.add_argument("smiles", type=Path, help="a file of drug-like molecules, a SMILES a line")
    parser.add_argument(
        "--table", type=Path, required=True, help='a .csv to train on, with "smiles"'
    )
    parser.add_argument("--target", required=True, help="its column of labels")
    parser.add_argument("--chemprop", help="the peer's command, such as VENV/bin/chemprop")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        commands = trained(args.table.resolve(), args.target, folder, args.chemprop)
        file = write(folder / "screen.csv", smiles_of(args.smiles, args.rows))
        one = write(folder / "one.csv", ["CCO"])
        starts = {name: once(name, command, one, folder) for name, command in commands.items()}
        taken: dict[str, list[Taken]] = {name: [] for name in commands}
        names = list(commands)
        for number in range(args.rounds):
            for i in range(len(names)):
                name = names[(i + number) % len(names)]
                taken[name].append(once(name, commands[name], file, folder))
                print(f"round {number + 1}: {name} {taken[name][-1]}", file=sys.stderr, flush=True)
    report(taken, starts, args.rows)
    return 0


def report(taken: dict[str, list[Taken]], starts: dict[str, Taken], rows: int) -> None:
    """A line for each contestant: seconds, molecules a second, and its share of the peer's time."""
    peer = taken.get("chemprop")
    for name, times in taken.items():
        wall, processor = ([one[k] for one in times] for k in (0, 1))
        speed = harness.spread([rows / one for one in wall], 0)
        line = (
            f"{name}: wall {harness.spread(wall, 1)} s, {speed} molecules/s; "
            f"processor {harness.spread(processor, 1)} s; starting {starts[name].processor:.1f} s of processor"
        )
        if peer is not None and name != "chemprop":
            for k, what in enumerate(Taken._fields):
                ratios = [one[k] / other[k] for one, other in zip(times, peer, strict=True)]
                line += f"; {what} {harness.spread(ratios)} x chemprop's"
        print(line)
    print(
        f"{len(os.sched_getaffinity(0))} processors, load {os.getloadavg()[0]:.1f}; "
        f"{harness.environment(PACKAGES)}"
    )


if __name__ == "__main__":
    sys.exit(main())
