"""What checkpoints cost a training: `python benchmarks/saves.py`, the figures of docs/reliability.md.

Trains an app and adds up what its checkpoints take: the seconds that the loop waits for them, and the processor's
seconds of the thread that hashes and writes them while the loop goes on, which are a loop's own on a machine without an
idle core. The share is of an epoch's seconds, or of so many steps' where a checkpoint comes every so many.

    python benchmarks/saves.py                       the vision demo, its three first epochs
    python benchmarks/saves.py --vit-s --every 50    ViT-S at 224 pixels, batch 8: ten steps, a checkpoint each fifth
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import isoform
from isoform.core.engine.saving import Saving
from isoform.core.engine.train import Loop
from isoform.core.runs import checkpoint
from isoform.core.runs.folder import RunFolder

DEMO: dict[str, Any] = {"eval.baselines": [], "train.log_every": 10}
VIT_S: dict[str, Any] = {
    **DEMO, "tokeniser.image": 224, "tokeniser.patch": 16, "tokeniser.class_token": True, "head.pool": "class",
    "backbone.dim": 384, "backbone.depth": 12, "backbone.heads": 6, "train.batch": 8,
}  # fmt: skip
STEPS, BETWEEN = 10, 5  # of ViT-S: steps in all, and between two checkpoints


class Enough(Exception):
    """As many epochs or steps as were asked for."""


@contextmanager
def watched(
    owner: Any, name: str, spent: dict[str, list[float]], clock: Callable[[], float], most: int = 0
) -> Iterator[None]:
    """Notes the seconds of every call; raises Enough behind the call number `most`."""
    original = getattr(owner, name)

    def call(*arguments: Any, **settings: Any) -> Any:
        began = clock()
        try:
            return original(*arguments, **settings)
        finally:
            spent[name].append(clock() - began)
            if most and len(spent[name]) == most:
                raise Enough

    setattr(owner, name, call)
    try:
        yield
    finally:
        setattr(owner, name, original)


def measure(app: str, settings: dict[str, Any], most: tuple[str, int]) -> dict[str, list[float]]:
    """Seconds of each epoch, step, save and hash of a training that ends behind so many epochs or steps."""
    spent: dict[str, list[float]] = defaultdict(list)
    unit, count = most
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "run"
        with (
            suppress(Enough),
            watched(Loop, unit, spent, time.perf_counter, count),
            watched(Loop, "save", spent, time.perf_counter),
            watched(Saving, "_catching", spent, time.thread_time),
            watched(checkpoint, "_fingerprint", spent, time.thread_time),
        ):
            isoform.train(app, settings, run_dir=folder, progress=False)
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
        place = RunFolder(folder).checkpoints
        files = checkpoint.place(place, checkpoint.steps(place)[-1]).iterdir()
        spent["bytes"].append(sum(file.stat().st_size for file in files))
    return spent


def main() -> int:
    """Prints one line for writing at once and one for writing in the background."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vit-s", action="store_true")
    parser.add_argument(
        "--every", type=int, default=50, help="steps between two checkpoints of ViT-S"
    )
    told = parser.parse_args()
    for background in (False, True):
        more = {"train.save_in_background": background}
        if told.vit_s:
            more |= {"train.checkpoint_every": BETWEEN}
            spent = measure("vision/vit-mnist", {**VIT_S, **more}, ("_step", STEPS + 1))
            work = told.every * sorted(spent["_step"])[len(spent["_step"]) // 2]
            unit = f"{told.every} steps"
        else:
            spent = measure("vision/vit-mnist-demo", {**DEMO, **more}, ("_epoch", 3))
            work = sum(spent["_epoch"]) / len(spent["_epoch"])
            unit = "an epoch"
        saves = len(spent["save"])
        waits, hashes, behind = (
            sum(spent[name]) / saves for name in ("save", "_fingerprint", "_catching")
        )
        print(
            f"{'in the background' if background else 'at once':18} {unit} {work:.2f} s, a checkpoint of "
            f"{spent['bytes'][0] / 1e6:.1f} MB: the loop waits {1e3 * waits:.0f} ms, its thread works "
            f"{1e3 * behind:.0f} ms, hashing is {1e3 * hashes:.0f} ms of it: {(waits + behind) / work:.2%}, "
            f"with an idle core {waits / work:.2%}",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
