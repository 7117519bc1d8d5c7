"""How contestants are compared: side by side in one process, in turns, on one thread; memory in a process of its own.

Not a benchmark itself. A contestant is built from the same seed as its peer, is given the same inputs and answers with
tensors that are compared with the first contestant's before anything is timed.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path

import torch
from torch import Tensor

Run = Callable[[], object]


@dataclass(frozen=True)
class Contestant:
    """Something to measure. `build` returns the work to time, and what gives the results to compare, by name."""

    name: str
    precision: str
    mode: str
    build: Callable[[], tuple[Run, Callable[[], dict[str, Tensor]]]]
    peer: int | None = (
        None  # the contestant of the same case that the first ratio is against; None: is a peer itself
    )
    tolerance: float = (
        1e-4  # largest difference from the case's first contestant, relative to its largest value
    )
    steps: int = 3  # runs under which the peak of memory is taken


@dataclass(frozen=True)
class Case:
    """Contestants on the same batch and inputs; the first is the reference of every comparison."""

    name: str
    contestants: Sequence[Contestant]


@dataclass
class Row:
    """What was measured of one contestant."""

    case: str
    name: str
    precision: str
    mode: str
    milliseconds: list[float] = field(default_factory=list)
    differences: dict[str, float] = field(default_factory=dict)
    tolerance: float = 0.0
    peer: str | None = None
    peer_precision: str | None = None
    ratios: list[float] = field(default_factory=list)  # peer's time over this one's, pair by pair
    ratios_first: list[float] = field(
        default_factory=list
    )  # the first contestant's time over this one's
    peak_mib: float | None = None
    peak_ratio: float | None = None  # this one's peak over the peer's
    peak_ratio_first: float | None = None


def compare(got: dict[str, Tensor], want: dict[str, Tensor]) -> dict[str, float]:
    """Largest difference of every result, relative to the largest value wanted. Raises ValueError for other names."""
    if got.keys() != want.keys():
        raise ValueError(f"results {sorted(got)} can't be compared with {sorted(want)}")
    return {
        name: (
            (got[name].float() - want[name].float()).abs().max() / want[name].float().abs().max()
        ).item()
        for name in want
    }


def race(case: Case, rounds: int) -> list[Row]:
    """Every contestant once a round, in turns that begin with another one each round, by CPU time of this process.

    Ratios are of neighbours in time: of the same round. Raises SystemExit where a result differs by more than its
    tolerance, since the times of unequal work say nothing.
    """
    torch.set_num_threads(1)
    rows, runs = [], []
    want: dict[str, Tensor] = {}
    for contestant in case.contestants:
        run, answers = contestant.build()
        results = answers()
        want = want or results
        row = Row(
            case.name,
            contestant.name,
            contestant.precision,
            contestant.mode,
            tolerance=contestant.tolerance,
        )
        row.differences = compare(results, want)
        worst = max(row.differences.values())
        if not worst <= contestant.tolerance:  # NaN as well
            raise SystemExit(
                f"{case.name}: {contestant.name} ({contestant.mode}) differs by {worst:.1e}, more than "
                f"{contestant.tolerance:.0e}: {row.differences}"
            )
        rows.append(row)
        runs.append(run)
    for run in runs:
        run()
    gc.collect()
    gc.disable()
    for number in range(rounds):
        for i in range(len(runs)):
            turn = (i + number) % len(runs)
            start = time.process_time()
            runs[turn]()
            rows[turn].milliseconds.append(1e3 * (time.process_time() - start))
    gc.enable()
    for contestant, row in zip(case.contestants, rows, strict=True):
        row.ratios_first = [
            a / b for a, b in zip(rows[0].milliseconds, row.milliseconds, strict=True)
        ]
        if contestant.peer is not None:
            peer = rows[contestant.peer]
            row.peer, row.peer_precision = f"{peer.name} ({peer.mode})", peer.precision
            row.ratios = [a / b for a, b in zip(peer.milliseconds, row.milliseconds, strict=True)]
    return rows


def high_water() -> int:
    """Bytes of this process's largest resident set so far (VmHWM; Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM: peaks of memory are measured on Linux")


def own_peak(contestant: Contestant) -> int:
    """Bytes by which building and running raised the high-water mark; for a fresh process that imported everything."""
    torch.set_num_threads(1)
    before = high_water()
    run, _ = contestant.build()
    gc.collect()
    # What building left behind, as the weights' first copies, goes back to the system (glibc).
    ctypes.CDLL(None).malloc_trim(0)
    for _ in range(contestant.steps):
        run()
    return high_water() - before


def measure_peaks(script: str, cases: Sequence[Case], rows: Sequence[Row], repeats: int) -> None:
    """Fills in the peaks: `script --peak CASE INDEX` in a fresh process each, the median of `repeats` of them."""
    at = iter(rows)
    for case in cases:
        mine = [next(at) for _ in case.contestants]
        for index, row in enumerate(mine):
            command = [sys.executable, script, "--peak", case.name, str(index)]
            peaks = [
                int(
                    subprocess.run(
                        command, check=True, capture_output=True, text=True
                    ).stdout.split()[-1]
                )
                for _ in range(repeats)
            ]
            row.peak_mib = statistics.median(peaks) / 2**20
        for contestant, row in zip(case.contestants, mine, strict=True):
            assert row.peak_mib is not None and mine[0].peak_mib is not None
            row.peak_ratio_first = row.peak_mib / mine[0].peak_mib
            if contestant.peer is not None:
                row.peak_ratio = row.peak_mib / (mine[contestant.peer].peak_mib or float("nan"))


def environment(packages: Sequence[str]) -> dict[str, str]:
    """Versions, processor and the instruction sets that decide what a precision is worth."""
    cpu, flags = platform.processor(), ""
    info = Path("/proc/cpuinfo")
    if info.exists():
        fields = dict(line.split(":", 1) for line in info.read_text().splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in fields.items()}
        wanted = (
            "avx2",
            "avx512f",
            "avx512_vnni",
            "avx512_bf16",
            "avx512_fp16",
            "amx_bf16",
            "amx_int8",
        )
        cpu = named.get("model name", cpu)
        cpu += f" (family {named.get('cpu family')}, model {named.get('model')})"
        flags = " ".join(flag for flag in wanted if flag in named.get("flags", "").split())
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "cpu": cpu,
        "flags": flags,
        "threads": "1",
        "python": platform.python_version(),
        **versions,
    }


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Median, least and greatest, as "1.20 (1.11-1.30)"."""
    if not values:
        return "-"
    least, greatest = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({least:.{digits}f}-{greatest:.{digits}f})"


HEADER = (
    "case", "contestant", "precision", "mode", "ms: median (min-max)", "against", "times faster",
    "than first", "differs by", "peak MiB", "of peer's", "of first's",
)  # fmt: skip


def cells(row: Row) -> list[str]:
    """A row of the table, as text."""
    slow = statistics.median(row.milliseconds) >= 100 if row.milliseconds else True
    worst = max(row.differences.values()) if row.differences else None
    return [
        row.case, row.name, row.precision, row.mode, spread(row.milliseconds, 0 if slow else 1),
        "-" if row.peer is None else f"{row.peer}, {row.peer_precision}", spread(row.ratios), spread(row.ratios_first),
        "-" if worst is None else f"{worst:.0e} < {row.tolerance:.0e}",
        *("-" if v is None else f"{v:.{d}f}" for v, d in
          ((row.peak_mib, 0), (row.peak_ratio, 2), (row.peak_ratio_first, 2))),
    ]  # fmt: skip


def table(rows: Sequence[Row]) -> str:
    """All rows as a Markdown table with aligned columns; columns that nothing filled are left out."""
    lines = [list(HEADER), *(cells(row) for row in rows)]
    kept = [c for c in range(len(HEADER)) if any(line[c] != "-" for line in lines[1:])]
    lines = [[line[c] for c in kept] for line in lines]
    widths = [max(len(line[c]) for line in lines) for c in range(len(kept))]
    text = [
        "| " + " | ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (w + 2) for w in widths) + "|"
    return "\n".join([text[0], rule, *text[1:]])


def as_json(rows: Sequence[Row], environment: dict[str, str], command: str) -> dict[str, object]:
    """Everything measured, for one JSON object."""
    return {"command": command, "environment": environment, "rows": [asdict(row) for row in rows]}
