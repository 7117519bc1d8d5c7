"""See soak/__init__.py."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder
from soak.faults import DAMAGES, FAULTS, Struck, kill
from soak.trial import App, Trial

QUIET = {"eval.baselines": [], "train.log_every": 1, "train.checkpoint_every": 3}
ALONE = {**QUIET, "data.workers": 2}
VISION, MOLECULES = "vision/vit-mnist-tiny", "molecules/graphormer-tiny"
APPS = (
    App(VISION, {**ALONE, "train.epochs": 1}),
    App("timeseries/itransformer-tiny", ALONE),
    App(MOLECULES, ALONE),
    App("molecules/adit-tiny-vae", {k: v for k, v in ALONE.items() if k != "eval.baselines"}),
    App("pointcloud/pointmae-tiny", {**ALONE, "train.epochs": 1}),
    App(VISION, {**QUIET, "train.epochs": 1}, ranks=2),
    App(MOLECULES, QUIET, ranks=2),
)
MOST_FAULTS = 5  # in one run
MOST_TRIES = 6  # to finish a run without further faults


def main() -> int:
    """Prints the table; 1 where a run wasn't survived or ended otherwise."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--app", action="append", help="one of them, as vision/vit-mnist-tiny; all if left out"
    )
    parser.add_argument(
        "--points", type=int, default=0, help="instead: kill -9 at so many random places, one a run"
    )
    told = parser.parse_args()
    apps = [app for app in APPS if not told.app or app.name in told.app]
    if not apps:
        parser.error(f"no such app; there are {', '.join(sorted({app.name for app in APPS}))}")
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        root = Path(made)
        if told.points:
            return kill_at_points(undisturbed(apps[0], root), root, told.points, told.seed)
        return soak(apps, root, told.minutes, told.seed)


def undisturbed(app: App, root: Path) -> Trial:
    """The app, trained without a fault; it knows its steps from now on."""
    trial = Trial(app, root / str(app).replace("/", "-").replace(" ", ""))
    began = time.monotonic()
    if trial.start().end():
        raise SystemExit(trial.said())
    print(f"{app}: {trial.step} steps in {time.monotonic() - began:.0f} s, undisturbed", flush=True)
    return Trial(replace(app, steps=trial.step), trial.folder)


def soak(apps: list[App], root: Path, minutes: float, seed: int) -> int:
    """Runs with faults, one app after the other, until the time is over."""
    rng = random.Random(seed)
    rows: dict[str, list[Struck]] = {name: [] for name in FAULTS}
    ends: list[bool] = []
    known = [undisturbed(app, root) for app in apps]
    alone = [one for one in known if one.app.ranks == 1]
    launched = [one for one in known if one.app.ranks > 1]
    began = time.monotonic()
    end = began + 60 * minutes
    while time.monotonic() < end:
        group = launched if launched and _launches(rows) else alone
        whole = group.pop(0)
        group.append(whole)
        trial = Trial(whole.app, root / f"run-{len(ends) + 1}")
        struck: list[Struck] = []
        for _ in range(rng.randint(2, MOST_FAULTS)):
            if time.monotonic() > end or trial.status == "finished":
                break
            name = _next(trial.app, rows, struck, rng)
            one = FAULTS[name](trial, rng)
            for before in struck:
                if before.words == one.words:  # no process said anything in between
                    before.place = one.place
                    if one.most is not None:  # what has to be trained again is the other's doing
                        one.again = 0
            struck.append(one)
            rows[name].append(one)
        same = finished_alike(trial, whole)
        ends.append(same)
        for one in struck:
            one.judge(trial)
        told = [
            one.kind + ("" if one.survived else " (NOT SURVIVED)") for one in struck if one.happened
        ]
        equal = "equal" if same else "UNEQUAL"
        print(f"{trial.app} run {len(ends)}: {', '.join(told) or 'none'}: {equal}", flush=True)
        if same and all(one.survived for one in struck if one.happened):
            shutil.rmtree(trial.folder, ignore_errors=True)
        else:
            print(trial.said())
    return report(rows, ends, time.monotonic() - began, seed)


def _launches(rows: dict[str, list[Struck]]) -> bool:
    """Whether it is the turn of several processes: where their one fault came least."""
    met = {name: sum(one.happened for one in struck) for name, struck in rows.items()}
    return met.pop("dead rank") < min(met.values())


def _next(app: App, rows: dict[str, list[Struck]], struck: list[Struck], rng: random.Random) -> str:
    """A fault that can meet the run, every other time one of those that came least; two damages don't come in a row."""
    names = [name for name in FAULTS if (name == "dead rank") == (app.ranks > 1)]
    if struck and struck[-1].kind in DAMAGES:
        names = [name for name in names if name not in DAMAGES]
    met = {name: sum(one.happened for one in rows[name]) for name in names}
    least = [name for name in names if met[name] == min(met.values())]
    return rng.choice(least if rng.random() < 0.5 else names)


def finished_alike(trial: Trial, whole: Trial) -> bool:
    """Takes the run up until it is finished; whether it then equals the undisturbed one, bit for bit."""
    for _ in range(MOST_TRIES):
        if trial.status == "finished":
            break
        trial.start().end()
    return end_of(trial.folder) == end_of(whole.folder)


def end_of(folder: Path) -> Any:
    """Weights, averages and optimiser of the last checkpoint, the log without times, and the metrics."""
    own = RunFolder(folder)
    steps = checkpoint.steps(own.checkpoints)
    if not steps:
        return folder  # equal to nothing
    files = checkpoint.manifest(checkpoint.place(own.checkpoints, steps[-1]))
    tensors = {name: told for name, told in files.items() if name.endswith(".safetensors")}
    timing = ("seconds", "samples_per_second")
    log = [{k: v for k, v in line.items() if k not in timing} for line in own.metrics()]
    return steps[-1], tensors, log, own.results().get("status"), own.results().get("metrics")


def report(rows: dict[str, list[Struck]], ends: list[bool], seconds: float, seed: int) -> int:
    """The table."""
    print("\n| fault | injected | survived | steps trained again | bytes lost | slowest to end |")
    print("|---|---|---|---|---|---|")
    injected = survived = 0
    for name, struck in rows.items():
        met = [one for one in struck if one.happened]
        good, lost = sum(one.survived for one in met), sum(one.lost for one in met)
        again = sum(one.again for one in met)
        slowest = max((one.seconds for one in met), default=0.0)
        told = f"{slowest:.1f} s" if slowest else ""
        print(f"| {name} | {len(met)} | {good} | {again} | {lost:,} | {told} |")
        injected += len(met)
        survived += good
    print(f"| all | {injected} | {survived} | | | |")
    print(
        f"\n{sum(ends)} of {len(ends)} runs ended as the undisturbed one, bit for bit (seed {seed}, {seconds:.0f} s)"
    )
    return int(survived < injected or not all(ends))


def kill_at_points(whole: Trial, root: Path, points: int, seed: int) -> int:
    """A run for each point, killed there once and taken up: how many end alike. One that ended first is drawn again."""
    rng, alike, number = random.Random(seed), 0, 0
    while number < points:
        trial = Trial(whole.app, root / "point")
        struck = kill(trial, rng)
        if struck.happened:
            number += 1
            same = finished_alike(trial, whole)
            struck.judge(trial)
            alike += same and struck.survived
            told = "equal" if same else "UNEQUAL"
            told += "" if struck.survived else f", NOT SURVIVED\n{trial.said()}"
            print(
                f"point {number}: killed {struck.again} steps behind {struck.place}: {told}",
                flush=True,
            )
        shutil.rmtree(trial.folder, ignore_errors=True)
        trial.log.unlink()
    print(f"{alike} of {points} resumed bitwise ({whole.app}, seed {seed})")
    return int(alike < points)


if __name__ == "__main__":
    sys.exit(main())
