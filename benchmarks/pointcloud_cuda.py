"""Point kernels beside plain torch on a GPU: `--device cuda`.

    isoform bench pointcloud --device cuda                      farthest points, neighbours, Chamfer; whether they agree
    isoform bench pointcloud --device cuda --only Chamfer --json FILE
    python benchmarks/pointcloud_cuda.py --sweep                the kernels' other tiles and warps, timed

Time is the GPU's own, between events, after a warm-up, contestants in turns. Before anything is timed every result is
compared: with the reference indices and distances must be equal, bit for bit, and gradients within 1e-5 of the largest.
What `torch.cdist` gives is rounded otherwise, and compared by distances within 1e-3. Without a GPU the command says so
and measures nothing. Importing this needs torch, numpy and triton alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from isoform.pointcloud.ops import chamfer_l2, knn_points, sample_farthest_points
from isoform.pointcloud.ops import triton_launch as launches
from isoform.pointcloud.ops.dispatch import Request, select

Step = Callable[[], dict[str, Tensor]]
TOLERANCE = {"index": 0.0, "distance": 0.0, "gradient": 1e-5, "loss": 1e-5}
ROUGH = 1e-3  # of cdist's distances: products of matrices, and TF32 off


def clouds(batch: int, points: int, dims: int = 3, seed: int = 1, grid: bool = False) -> Tensor:
    """Points [B, N, D] spread over a surface; or on a coarse grid, where most distances are tied."""
    g = torch.Generator("cuda").manual_seed(seed)
    if grid:
        drawn = torch.randint(0, 7, (batch, points, dims), generator=g, device="cuda")
        return drawn / 4
    x = torch.randn(batch, points, dims, generator=g, device="cuda")
    x = x / x.norm(dim=2, keepdim=True)
    return x * (1 + 0.3 * torch.sin(4 * x[..., :1]) * torch.cos(3 * x[..., 1:2]))


def lengths(batch: int, most: int) -> Tensor:
    """int64 [B] from 1 to `most`, the last of them empty."""
    g = torch.Generator("cuda").manual_seed(2)
    found = torch.randint(1, most + 1, (batch,), generator=g, device="cuda")
    found[-1] = 0
    return found


def farthest(impl: str, x: Tensor, count: int, **rules: object) -> dict[str, Tensor]:
    """Indices of farthest points."""
    return {"index": sample_farthest_points(x, K=count, impl=impl, **rules)[1]}


def nearest(impl: str, a: Tensor, b: Tensor, k: int, n=None, m=None) -> dict[str, Tensor]:
    """Indices and squared distances of neighbours."""
    if impl == "cdist, topk":
        found = torch.cdist(a, b).topk(k, dim=2, largest=False)
        return {"rough": found.values.square()}
    near = knn_points(a, b, n, m, K=k, impl=impl)
    return {"index": near.idx, "distance": near.dists, "rough": near.dists}


def nearest_gradients(impl: str, a: Tensor, b: Tensor, k: int) -> dict[str, Tensor]:
    """Gradients of a sum of squared distances in both clouds."""
    x, y = (cloud.clone().requires_grad_() for cloud in (a, b))
    dists = knn_points(x, y, K=k, impl=impl).dists
    d_x, d_y = torch.autograd.grad(dists.square().mean(), (x, y))
    return {"gradient of asking": d_x, "gradient of answering": d_y}


def chamfer(impl: str, a: Tensor, b: Tensor, backward: bool) -> dict[str, Tensor]:
    """The loss, and its gradients where a step is measured."""
    x, y = (cloud.detach().clone().requires_grad_(backward) for cloud in (a, b))
    if impl == "cdist, min":
        apart = torch.cdist(x, y)
        loss = apart.amin(2).square().mean() + apart.amin(1).square().mean()
        return {"rough": loss, **_gradients(loss, x, y, backward, "rough gradient")}
    loss = chamfer_l2(x, y, impl=impl)
    return {"loss": loss, "rough": loss, **_gradients(loss, x, y, backward, "gradient")}


def _gradients(loss: Tensor, x: Tensor, y: Tensor, backward: bool, name: str) -> dict[str, Tensor]:
    if not backward:
        return {}
    d_x, d_y = torch.autograd.grad(loss, (x, y))
    return {f"{name} of x": d_x, f"{name} of y": d_y}


@dataclass
class Row:
    """What was measured of one contestant."""

    case: str
    name: str
    milliseconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)  # its time over the kernels', round by round
    peak_mib: float = 0.0
    verdict: str = ""
    failed: bool = False  # differs too much, or didn't run


def timed_cases() -> dict[str, dict[str, Step]]:
    """By name, the contestants; the first is isoform's kernels, the second the reference."""
    many, few = clouds(32, 8192), clouds(128, 1024)
    a, b = clouds(32, 2048), clouds(32, 2048, seed=3)
    found: dict[str, dict[str, Step]] = {
        "farthest points 32 x 8192 -> 1024": _both(farthest, many, 1024),
        "farthest points 128 x 1024 -> 64": _both(farthest, few, 64),
        "32 nearest, 32 x 2048 x 2048": _both(nearest, a, b, 32),
        "Chamfer 32 x 2048, forward": _both(chamfer, a, b, False),
        "Chamfer 32 x 2048, forward and backward": _both(chamfer, a, b, True),
    }
    found["32 nearest, 32 x 2048 x 2048"]["cdist, topk"] = partial(nearest, "cdist, topk", a, b, 32)
    for name, backward in (("forward", False), ("forward and backward", True)):
        step = partial(chamfer, "cdist, min", a, b, backward)
        found[f"Chamfer 32 x 2048, {name}"]["cdist, min"] = step
    return found


def checked_cases() -> dict[str, dict[str, Step]]:
    """Compared alone: ties, ragged batches, rules, sizes above and below what a program holds."""
    tied, ragged = clouds(5, 1021, grid=True), clouds(7, 1021)
    n, wide = lengths(7, 1021), clouds(3, 523, dims=8)
    a, b = clouds(7, 257), clouds(7, 1021, seed=5)
    found = {
        "farthest, ties": _both(farthest, tied, 101),
        "farthest, the CUDA kernel's ties": _both(farthest, tied, 101, ties="cuda"),
        "farthest, origin rule": _both(farthest, tied, 101, origin_rule=0.3),
        "farthest, ragged": _both(farthest, ragged, 101, lengths=n),
        "farthest, 20,011 points": _both(farthest, clouds(3, 20011), 67),
        "farthest, 20,011 points, ties": _both(
            farthest, clouds(3, 20011, grid=True), 67, ties="cuda"
        ),
        "farthest, 8 coordinates": _both(farthest, wide, 67),
        "nearest, ties": _both(nearest, tied, tied, 17),
        "nearest, ragged": _both(nearest, a, b, 13, n.clamp(max=257), n),
        "nearest, 8 coordinates": _both(nearest, wide, wide, 64),
        "nearest, gradients": _both(nearest_gradients, a, b, 5),
        "nearest, gradients of one neighbour": _both(nearest_gradients, a, b, 1),
    }
    for points in (61, 127, 251, 509, 2039, 4093, 8191):
        found[f"farthest, {points} points"] = _both(farthest, clouds(3, points), 61)
    for k in (1, 2, 7, 11, 31, 63):
        found[f"nearest, K {k}"] = _both(nearest, a, b, k)
    return found


def _both(
    operation: Callable[..., dict[str, Tensor]], *given: object, **named: object
) -> dict[str, Step]:
    return {impl: partial(operation, impl, *given, **named) for impl in ("triton", "reference")}


def compared(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> tuple[str, bool]:
    """What the results that both have differ by, relative to the largest, and whether that is too much."""
    said, failed = [], False
    for name in found.keys() & wanted.keys():
        one, two = found[name].double(), wanted[name].double()
        most = next((v for key, v in TOLERANCE.items() if name.startswith(key)), ROUGH)
        differ = (one - two).abs().max().item() / max(two.abs().max().item(), 1e-30)
        bad = not differ <= most
        failed |= bad
        said.append(
            f"{name} {'equal' if differ == 0 else f'{differ:.0e}'}{' TOO MUCH' if bad else ''}"
        )
    return ", ".join(sorted(said)), failed


def measure(case: str, steps: dict[str, Step], rounds: int) -> list[Row]:
    """Compares, then times every contestant once a round, in turns. One that fails keeps its row, with the reason."""
    rows, ran, wanted = [], [], {}
    for name, step in steps.items():
        row = Row(case, name)
        rows.append(row)
        try:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            found = step()
            torch.cuda.synchronize()
            row.peak_mib = (torch.cuda.max_memory_allocated() - before) / 2**20
        except Exception as error:  # noqa: BLE001 - one contestant's failure shall not cost the others' figures
            row.verdict, row.failed = f"{type(error).__name__}: {error}".splitlines()[0], True
            continue
        if wanted:
            row.verdict, row.failed = compared(wanted, found)
        wanted = wanted or found
        ran.append(row)
    for number in range(rounds):
        for place in range(len(ran)):
            row = ran[(place + number) % len(ran)]
            row.milliseconds.append(elapsed(steps[row.name]))
    for row in ran:
        pairs = zip(row.milliseconds, ran[0].milliseconds, strict=False)
        row.ratios = [own / first for own, first in pairs]
    return rows


def elapsed(step: Step) -> float:
    """Milliseconds between events on the GPU."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    step()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def lines(rows: list[Row]) -> list[str]:
    """All rows as a Markdown table."""
    text = [
        "| case | contestant | ms | times the kernels' | peak MiB | against the kernels |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        ms = ratio = "-"
        if row.milliseconds:
            ms, ratio = (
                f"{statistics.median(row.milliseconds):.3f}",
                f"{statistics.median(row.ratios):.1f}",
            )
        text.append(
            f"| {row.case} | {row.name} | {ms} | {ratio} | {row.peak_mib:.0f} | {row.verdict or '-'} |"
        )
    return text


def one_graph() -> str:
    """Whether torch.compile takes all three as one graph, with the same result."""
    a, b = clouds(3, 131), clouds(3, 257, seed=3)
    n = torch.tensor([131, 57, 3], device="cuda")

    def step(x: Tensor, y: Tensor, n: Tensor) -> tuple[Tensor, ...]:
        middle, index = sample_farthest_points(x, n, K=17)
        near = knn_points(middle, y, K=5, return_nn=True)
        return index, near.idx, near.dists + 1, chamfer_l2(x, y)

    try:
        found = torch.compile(step, fullgraph=True, backend="aot_eager")(a, b, n)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return f"torch.compile(fullgraph=True): {type(error).__name__}: {error}".splitlines()[0]
    same = all(torch.equal(*both) for both in zip(found, step(a, b, n), strict=True))
    return f"torch.compile(fullgraph=True): {'the same results' if same else 'OTHER RESULTS'}"


def sweep() -> list[str]:
    """Times of other tiles and warps than those in triton_launch.py."""
    a, b = clouds(32, 2048), clouds(32, 2048, seed=3)
    text = []
    for k in (1, 8, 32, 64):
        for n, m, warps in (
            (8, 256, 4), (8, 128, 4), (16, 128, 4), (4, 256, 4), (4, 256, 1), (4, 256, 2), (2, 256, 1),
            (32, 64, 4), (32, 128, 8), (64, 32, 4),
        ):  # fmt: skip
            kept = next(size for size in launches.CUTS if k <= size)
            launches.CUTS[kept] = launches.Cut(n, m, warps)
            text.append(
                f"K {k}, {n} x {m}, {warps} warps: {_median(partial(nearest, 'triton', a, b, k))}"
            )
    for points, count in ((1024, 64), (8192, 1024)):
        x = clouds(32, points)
        for warps in (1, 2, 4, 8, 16, 32):
            if points // warps > 2048:
                continue
            step = partial(_farthest_by, x, count, warps)
            text.append(f"{points} -> {count}, {warps} warps: {_median(step)}")
    return text


def _farthest_by(x: Tensor, count: int, warps: int) -> dict[str, Tensor]:
    n = torch.full((len(x),), count, device=x.device)
    index = torch.empty(len(x), count, dtype=torch.int64, device=x.device)
    free = torch.full(x.shape[:2], torch.inf, device=x.device)
    launch = launches.farthest_launch(x, free, None, torch.zeros_like(n), n, index)
    launches.start(launch._replace(warps=warps), x)
    return {"index": index}


def _median(step: Step) -> str:
    try:
        step()
        return f"{statistics.median(elapsed(step) for _ in range(7)):.3f} ms"
    except Exception as error:  # noqa: BLE001 - tiles that don't compile are said
        return f"{type(error).__name__}: {error}".splitlines()[0]


def main(given: list[str] | None = None) -> int:
    """Measures and prints; the exit status."""
    parser = argparse.ArgumentParser(prog="isoform bench pointcloud", description=__doc__)
    parser.add_argument("--device", choices=("cuda",), default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--sweep", action="store_true", help="also time other tiles and warps")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    args = parser.parse_args(given)
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return 2
    torch.backends.cuda.matmul.allow_tf32 = False
    taken = select(Request("nearest", "cuda", "sm_90")).name
    print(f'{torch.cuda.get_device_name()}, torch {torch.__version__}, "auto" takes {taken}')
    rows: list[Row] = []
    for every, rounds in ((checked_cases(), 0), (timed_cases(), args.rounds)):
        for case, steps in every.items():
            if args.only in case:
                rows += measure(case, steps, rounds)
    print("\n".join(lines([row for row in rows if row.milliseconds])), flush=True)
    others = [row for row in rows if not row.milliseconds and (row.verdict or row.failed)]
    print("\n".join(f"{row.case}: {row.verdict}" for row in others), flush=True)
    print(one_graph(), flush=True)
    if args.sweep:
        print("\n".join(sweep()), flush=True)
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    wrong = [row for row in rows if row.failed]
    print(f"{len(wrong)} of {len(rows)} results differ or failed")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
