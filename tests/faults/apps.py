"""Two tiny apps that every fault meets: images, and molecules of unlike sizes. Each trains in about a second.

Both have what makes going on exactly hard: dropout, averaged weights, three micro-batches a step, a partial last batch,
a checkpoint in the middle of an epoch; the images are also augmented and mixed. A step is a line of metrics.jsonl.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from isoform.core.domain import Task
from isoform.core.engine.train import train
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder

DOMAINS = ("vision", "molecules")
TRAIN = {
    "epochs": 3, "batch": 4, "accumulate": 3, "lr": 3e-3, "ema": 0.9, "warmup": 0.5, "clip": 1.0,
    "log_every": 1, "checkpoint_every": 2,
}  # fmt: skip
COUNTS = {"train": 13, "val": 4, "test": 5}  # images of each of two classes
SMILES = (
    "C", "CC", "CCC", "CCCC", "CCCCC", "CCCCCC", "CO", "CCO", "CCCO", "CCCCO", "CN", "CCN", "CCCN", "CC=O", "CCC=O",
    "CC(=O)O", "CCC(=O)O", "c1ccccc1", "Cc1ccccc1", "CCc1ccccc1", "Oc1ccccc1", "Nc1ccccc1", "C1CC1", "C1CCC1",
    "C1CCCC1", "C1CCCCC1", "C1CCOC1", "C1CCNC1", "CC#N", "CCC#N", "C#C", "CC#C", "C=C", "CC=C", "CCC=C", "CCl", "CCCl",
    "CBr", "CCBr", "CF", "CCF",
)  # fmt: skip


def write_data(domain: str, folder: Path) -> Path:
    """The app's files."""
    folder.mkdir(parents=True)
    if domain == "vision":
        return _write_images(folder)
    lines = ["id,smiles,size"]
    lines += [
        f"m{k},{text},{0.1 * len(text) + 0.01 * (k % 7):.2f}" for k, text in enumerate(SMILES)
    ]
    path = folder / "molecules.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def _write_images(folder: Path) -> Path:
    rng = np.random.default_rng(7)
    for split, number in COUNTS.items():
        for level, name in ((40, "dark"), (160, "light")):
            place = folder / split / name
            place.mkdir(parents=True)
            for k in range(number):
                pixels = rng.integers(level, level + 60, (11, 13, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{k:02d}.png")
    return folder


def task(domain: str, data: Path, workers: int = 0, bad: str = "fail", **changes: Any) -> Task:
    """The app on its data; `changes` are of `train`."""
    table: dict[str, Any] = {"workers": workers, "bad_samples": bad}
    tables: dict[str, Any] = {
        "domain": domain, "app": "tiny", "train": {**TRAIN, **changes}, "eval": {"batch": 5, "baselines": ()},
        "backbone": {"dim": 12, "depth": 1, "heads": 3, "dropout": 0.1},
    }  # fmt: skip
    if domain == "vision":
        from isoform.vision.config import VisionApp
        from isoform.vision.prepare import prepare
        from isoform.vision.task import VisionTask

        tables["data"] = {"root": str(data), "cache": "none", "allow_leakage": True, **table}
        tables["tokeniser"] = {"image": 8, "patch": 4, "channels": 3}
        tables["augment"] = {"crop": "pad", "flip": 0.5, "mixup": 0.2}
        return _plain(VisionTask(prepare(VisionApp.model_validate(tables))))
    from isoform.molecules.config import MoleculesApp
    from isoform.molecules.prepare import prepare as prepare_molecules
    from isoform.molecules.task import MoleculesTask

    tables["data"] = {"path": str(data), "label": "id", "targets": ["size"], "cache": None, **table}
    tables["backbone"] |= {"mlp_dim": 16, "order": "pre", "eps": 1e-5}
    prepared = prepare_molecules(MoleculesApp.model_validate(tables))
    return _plain(MoleculesTask(prepared.config, prepared.data))


def _plain(task: Any) -> Any:
    task.figures = lambda model, outputs: []  # drawing takes longer than training here
    return task


def run(of: Task, folder: Path, resume: bool = False, say: Callable[[str], None] = lambda _: None):
    """Trains it; results.json."""
    return train(of, RunFolder(folder), resume=resume, progress=False, say=say)


def ends(folder: Path) -> tuple[list[dict[str, Any]], checkpoint.Checkpoint]:
    """The log without times, and the last checkpoint."""
    own = RunFolder(folder)
    timing = ("seconds", "samples_per_second")
    lines = [{k: v for k, v in line.items() if k not in timing} for line in own.metrics()]
    return lines, checkpoint.read(
        checkpoint.place(own.checkpoints, checkpoint.steps(own.checkpoints)[-1])
    )


def assert_same_end(ours: Path, theirs: Path) -> None:
    """Bit for bit: weights, averages, optimiser, place, log, metrics."""
    (mine, a), (other, b) = ends(ours), ends(theirs)
    assert mine == other
    for own, their in ((a.model, b.model), (a.ema or {}, b.ema or {}), (a.optimizer, b.optimizer)):
        assert own.keys() == their.keys() and own
        assert all(own[name].equal(their[name]) for name in own)
    free = ("seconds", "log_bytes")
    places = [{k: v for k, v in one.state["place"].items() if k not in free} for one in (a, b)]
    assert places[0] == places[1]
    results = [json.loads((folder / "results.json").read_text()) for folder in (ours, theirs)]
    assert results[0]["metrics"] == results[1]["metrics"] and results[0]["status"] == "finished"


@contextmanager
def at_event(number: int, act: Callable[[], Any]) -> Iterator[list[str]]:
    """Calls `act` at the `number`-th time that something on disk changes below; lists what changed.

    An event is in front of each folder made, each file written by safetensors or as text, each fsync, each rename and
    each folder removed: the phases of a save.
    """
    import shutil

    seen: list[str] = []
    places = [
        (Path, "mkdir"), (Path, "write_text"), (Path, "rename"), (Path, "replace"), (os, "fsync"), (shutil, "rmtree"),
        (checkpoint, "save_file"),
    ]  # fmt: skip
    kept = [(owner, name, getattr(owner, name)) for owner, name in places]

    def watched(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **settings: Any) -> Any:
            caller = sys._getframe(1).f_globals.get("__name__", "")
            if caller.startswith("isoform.core.runs"):
                seen.append(name)
                if len(seen) == number:
                    act()
            return original(*arguments, **settings)

        return call

    for owner, name, original in kept:
        setattr(owner, name, watched(name, original))
    try:
        yield seen
    finally:
        for owner, name, original in kept:
            setattr(owner, name, original)
