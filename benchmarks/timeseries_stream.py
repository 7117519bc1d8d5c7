"""Training windows from a Zarr store larger than what streaming may hold: windows/s and the peak of memory.

The store is made on the fly in a temporary folder: float32 load curves with noise, which hardly compresses. A fresh
process then reads it as training does (`data.stream`), through the task and the loader, and reports VmHWM against its
own value after all imports. The page cache of the operating system is not part of it, and makes reading fast where the
store fits into memory.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
import harness

PACKAGES = ("torch", "xarray", "zarr", "numpy", "isoform")
CHUNK_BYTES = 4 * 2**20


def make_store(folder: Path, gib: float, variates: int) -> int:
    """Writes the store, a row a minute of `variates` meters, chunk by chunk; returns its rows."""
    import zarr

    rows = round(gib * 2**30 / (4 * variates))
    chunk = max(1, CHUNK_BYTES // (4 * variates))
    group = zarr.open_group(folder, mode="w")
    clock = group.create_array(
        "time", shape=(rows,), chunks=(2**20,), dtype="int64", dimension_names=["time"]
    )
    clock.attrs.update({"units": "minutes since 2000-01-01", "calendar": "proleptic_gregorian"})
    clock[:] = np.arange(rows)
    load = group.create_array(
        "load",
        shape=(rows, variates),
        chunks=(chunk, variates),
        dtype="float32",
        dimension_names=["time", "meter"],
    )
    load.attrs["units"] = "kW"
    rng = np.random.default_rng(0)
    size = 1 + rng.random(variates, np.float32)
    for start in range(0, rows, chunk):
        minutes = np.arange(start, min(start + chunk, rows), dtype=np.float32)[:, None]
        noise = rng.standard_normal((len(minutes), variates), np.float32)
        load[start : start + len(minutes)] = size * (
            2 + np.sin(minutes * np.float32(2 * math.pi / 1440)) + 0.3 * noise
        )
    return rows


def settings(store: Path, args: argparse.Namespace) -> dict[str, Any]:
    """The app: a small iTransformer on every meter."""
    return {
        "domain": "timeseries", "app": "stream",
        "data": {"path": str(store), "time": ["time"], "stream": args.stream, "workers": args.workers},
        "model": {"context": args.context, "horizon": args.horizon},
        "backbone": {"dim": 64, "depth": 1, "heads": 4, "mlp_dim": 64, "order": "post", "eps": 1e-5},
        "train": {"batch": args.batch, "lr": 1e-4, "weight_decay": 0.0},
    }  # fmt: skip


def measure(store: Path, args: argparse.Namespace) -> dict[str, float]:
    """Opening, streaming and training, in this process."""
    import torch

    from isoform.core.engine import loader
    from isoform.timeseries.config import TimeseriesApp
    from isoform.timeseries.data.read import read_panel
    from isoform.timeseries.data.rows import DiskRows
    from isoform.timeseries.prepare import prepare_panel
    from isoform.timeseries.task import TimeseriesTask

    torch.set_num_threads(1)
    before = harness.high_water()
    config = TimeseriesApp.model_validate(settings(store, args))
    started = time.perf_counter()
    panel = read_panel(config.data)
    opened = time.perf_counter()
    prepared = prepare_panel(config, panel)
    task = TimeseriesTask(prepared.config, prepared.data)
    fitted = time.perf_counter()
    rows = task.data.rows
    found = {
        "rows": float(panel.first.attrs["rows"]), "variates": float(len(panel.variates)),
        "training windows": float(task.sizes()["train"]), "seconds to open": opened - started,
        "seconds to fit the scale (one pass)": fitted - opened,
        "MiB after that": (harness.high_water() - before) / 2**20,
        "MiB set aside for rows": rows.slots * rows.block * rows.reader.row_bytes / 2**20
        if isinstance(rows, DiskRows) else 0.0,
    }  # fmt: skip

    def batches(seed: int, most: int) -> Iterator[Any]:
        keys = loader.epoch_batches(task, seed, 0)[:most]
        return loader.read_batches(task, "train", keys, seed=seed, workers=args.workers)

    started, cpu, count = time.perf_counter(), time.process_time(), 0
    for batch in batches(0, args.batches):
        count += len(batch["where"])
    found["windows streamed"] = float(count)
    found["windows/s, streamed alone"] = count / (time.perf_counter() - started)
    found["windows/s of processor time"] = count / max(1e-9, time.process_time() - cpu)
    found["MiB after that, streaming"] = (harness.high_water() - before) / 2**20
    if args.steps:
        model = task.build()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
        started, count = time.perf_counter(), 0
        for batch in batches(1, args.steps):
            optimizer.zero_grad(set_to_none=True)
            task.loss(model, batch)["loss"].backward()
            optimizer.step()
            count += len(batch["where"])
        found["training steps"] = float(min(args.steps, len(loader.epoch_batches(task, 1, 0))))
        found["windows/s, trained"] = count / (time.perf_counter() - started)
    found["MiB at the peak (VmHWM less imports)"] = (harness.high_water() - before) / 2**20
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Makes a store, measures in a fresh process and prints a table; see the module's text."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="isoform bench timeseries_stream", description=__doc__)
    parser.add_argument("--gib", type=float, default=4.0, help="size of the store (default 4)")
    parser.add_argument(
        "--variates", type=int, default=321, help="columns (default 321, as many as ECL)"
    )
    parser.add_argument("--context", type=int, default=96, help="rows of look-back (default 96)")
    parser.add_argument("--horizon", type=int, default=96, help="rows of horizon (default 96)")
    parser.add_argument("--batch", type=int, default=32, help="windows a batch (default 32)")
    parser.add_argument(
        "--batches",
        type=int,
        default=20_000,
        help="batches to stream, at most an epoch (default 20000)",
    )
    parser.add_argument(
        "--steps", type=int, default=300, help="training steps afterwards (default 300)"
    )
    parser.add_argument(
        "--workers", type=int, default=0, help="loader processes; their memory is not counted"
    )
    parser.add_argument(
        "--stream",
        choices=("disk", "memory"),
        default="disk",
        help="memory: the whole store in memory",
    )
    parser.add_argument(
        "--folder", help="where the store goes (default: the system's folder for temporary files)"
    )
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument(
        "--measure", metavar="STORE", help="only measure a store that is there, and print JSON"
    )
    args = parser.parse_args(given)
    if args.measure:
        print(json.dumps(measure(Path(args.measure), args)))
        return 0
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        store = Path(folder) / "stream.zarr"
        started = time.perf_counter()
        make_store(store, args.gib, args.variates)
        size = sum(path.stat().st_size for path in store.rglob("*") if path.is_file())
        print(
            f"{size / 2**30:.2f} GiB written in {time.perf_counter() - started:.0f} s", flush=True
        )
        command = [sys.executable, __file__, *given, "--measure", str(store)]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {"GiB of the store": size / 2**30, **json.loads(answer.splitlines()[-1])}
    width = max(map(len, found))
    for name, value in found.items():
        print(
            f"{name.ljust(width)}  {value:,.0f}"
            if value >= 100
            else f"{name.ljust(width)}  {value:,.2f}"
        )
    about = {
        "command": " ".join(["isoform bench timeseries_stream", *given]),
        **harness.environment(PACKAGES),
    }
    print("\n" + "\n".join(f"{key}: {value}" for key, value in about.items()))
    if args.json:
        Path(args.json).write_text(json.dumps({"found": found, "environment": about}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
