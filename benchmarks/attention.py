"""Attention on a CPU beside PyTorch's: a bias looked up in a table that learns, and packed samples of many sizes.

A contestant is one training step of the operation alone: forward, and the gradients of queries, keys, values and bias.
Peaks of memory are beyond queries, keys, values, the result and their gradients, which every contestant holds.

B samples, H heads, N tokens (T in all samples), D features a head, V rows of the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

sys.path.insert(0, str(Path(__file__).parent))
import harness
from harness import Case, Contestant

from isoform.core.attention import Table, attention

PACKAGES = ("torch", "isoform")
GRAPHORMER = (
    256,
    32,
    64,
    24,
)  # its shape at 64 atoms a molecule, as the paper's base size has heads
ROWS = 40  # of the table; distances between the atoms of a molecule have fewer
ATOMS = (
    18.0,
    2.95,
    3,
    29,
)  # QM9's mean number of atoms, its standard deviation, least and greatest

Answers = Callable[[], dict[str, Tensor]]
Built = tuple[harness.Run, Answers]


# A bias that learns ---------------------------------------------------------------------------------------------------


def biased(side: str) -> Built:
    """A training step with one table's bias, as `side` has it."""
    n_batch, n_heads, n_tokens, _ = GRAPHORMER
    g = torch.Generator().manual_seed(0)
    q, k, v, d_out = (torch.randn(GRAPHORMER, generator=g) for _ in range(4))
    ids = torch.randint(0, ROWS, (n_batch, n_tokens, n_tokens), generator=g, dtype=torch.uint8)
    table = torch.randn(ROWS, n_heads, generator=g).requires_grad_()
    inputs = [x.requires_grad_() for x in (q, k, v)]
    if side in ("dense", "fused"):
        dense = table.detach()[ids.long()].permute(0, 3, 1, 2).contiguous()
        dense.requires_grad_(side == "dense")
        learnt = [dense] if side == "dense" else []
    else:
        learnt, long = [table], ids.long() if side == "gather" else ids

    def step() -> list[Tensor]:
        if side == "isoform":
            out = attention(*inputs, bias=Table(ids, table))
        elif side == "gather":
            out = F.scaled_dot_product_attention(*inputs, table[long].permute(0, 3, 1, 2))
        elif side == "dense":
            with sdpa_kernel(SDPBackend.MATH):
                out = F.scaled_dot_product_attention(*inputs, dense)
        else:
            out = F.scaled_dot_product_attention(*inputs, dense)
        return [out, *torch.autograd.grad(out, [*inputs, *learnt], d_out)]

    def answers() -> dict[str, Tensor]:
        out, dq, dk, dv, *_ = step()
        return {"out": out.detach(), "dq": dq, "dk": dk, "dv": dv}

    return step, answers


# Packed samples -------------------------------------------------------------------------------------------------------


def sizes(kind: str) -> Tensor:
    """[B] atoms of 256 molecules as QM9 has them, or of 64 such beside 64 structures of 2 to 200 atoms."""
    g = torch.Generator().manual_seed(0)
    mean, deviation, least, most = ATOMS
    n_batch = 256 if kind == "QM9" else 64
    drawn = (torch.randn(n_batch, generator=g) * deviation + mean).round().clamp(least, most).long()
    return drawn if kind == "QM9" else torch.cat([drawn, torch.randint(2, 201, (64,), generator=g)])


def packed(kind: str, heads: int, dims: int, dtype: torch.dtype, side: str) -> Built:
    """A training step on packed q, k and v, [T, 3, H, D] as a projection makes them."""
    lengths = sizes(kind)
    offsets = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
    g = torch.Generator().manual_seed(1)
    qkv = torch.randn(int(offsets[-1]), 3, heads, dims, generator=g).to(dtype).requires_grad_()
    d_out = torch.randn(len(qkv), heads, dims, generator=g).to(dtype)
    n_batch, longest = len(lengths), int(lengths.max())
    valid = torch.arange(longest) < lengths[:, None]
    place = valid.flatten().nonzero()[:, 0]

    def step() -> list[Tensor]:
        if side == "isoform":
            out = attention(*qkv.unbind(1), offsets_q=offsets)
        else:
            wide = qkv.new_zeros(n_batch * longest, 3, heads, dims).index_copy(0, place, qkv)
            q, k, v = wide.unflatten(0, (n_batch, longest)).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, valid[:, None, None, :])
            out = y.transpose(1, 2).flatten(0, 1).index_select(0, place)
        return [out, *torch.autograd.grad(out, qkv, d_out)]

    def answers() -> dict[str, Tensor]:
        out, d_qkv = step()
        return {"out": out.detach(), "gradient": d_qkv}

    return step, answers


# Cases ----------------------------------------------------------------------------------------------------------------


def cases() -> list[Case]:
    """Every case; the first contestant of each is the peer whose results the others are held to."""
    n_batch, heads, tokens, dims = GRAPHORMER
    sides = (
        ("gather", "PyTorch, table by gather and autograd", None),
        ("dense", "PyTorch, dense mask that learns (math)", None),
        ("fused", "PyTorch, fused, no gradient of the bias", None),
        ("isoform", "isoform, table", 1),
    )
    found = [
        Case(
            f"bias that learns, B{n_batch} H{heads} N{tokens} D{dims}",
            [
                Contestant(name, "fp32", "training", lambda side=side: biased(side), peer)
                for side, name, peer in sides
            ],
        )
    ]
    for kind, heads, dims, dtype in (
        ("QM9", 6, 64, torch.float32),
        ("QM9", 8, 16, torch.float32),
        ("QM9", 6, 64, torch.bfloat16),
        ("2 to 200 atoms", 6, 64, torch.float32),
    ):
        precision, tolerance = ("fp32", 1e-4) if dtype == torch.float32 else ("bf16", 3e-2)
        made = [
            Contestant(
                name,
                precision,
                "training",
                lambda side=side, k=kind, h=heads, d=dims, t=dtype: packed(k, h, d, t, side),
                peer,
                tolerance,
            )
            for side, name, peer in (
                ("padded", "PyTorch, padded to the batch's longest", None),
                ("isoform", "isoform, packed", 0),
            )
        ]
        found.append(Case(f"packed, {kind}, H{heads} D{dims} {precision}", made))
    return found


def held(case: Case) -> int:
    """Bytes of q, k, v, the result, and the gradients of all four; 0 of a case whose memory isn't measured."""
    if case.name.startswith("bias"):
        n_batch, heads, tokens, dims = GRAPHORMER
        return 8 * 4 * n_batch * heads * tokens * dims
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the cases and prints one table; see benchmarks/README.md."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if "--device" in given and "cuda" in given:
        import attention_cuda

        return attention_cuda.main(given)
    parser = argparse.ArgumentParser(prog="isoform bench attention", description=__doc__)
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="cuda: attention_cuda.py"
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, one process a peak")
    parser.add_argument("--rounds", type=int, help="turns of every contestant (default 9, quick 3)")
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--no-memory", action="store_true", help="leave out the peaks of memory")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    parser.add_argument(
        "--peak", nargs=2, metavar=("CASE", "INDEX"), help="print one contestant's peak, in bytes"
    )
    args = parser.parse_args(given)
    every = cases()
    if args.peak:
        case = next(case for case in every if case.name == args.peak[0])
        print(harness.own_peak(case.contestants[int(args.peak[1])]) - held(case))
        return 0
    chosen = [case for case in every if args.only in case.name]
    if not chosen:
        names = ", ".join(case.name for case in every)
        print(f"no case's name contains {args.only!r}; there are: {names}")
        return 2
    rounds = args.rounds or (3 if args.quick else 9)
    rows = [row for case in chosen for row in harness.race(case, rounds)]
    learnt = [case for case in chosen if held(case)]
    if learnt and not args.no_memory:
        timed = [row for case in learnt for row in rows if row.case == case.name]
        harness.measure_peaks(__file__, learnt, timed, repeats=1 if args.quick else 3)
    command, about = " ".join(["isoform bench attention", *given]), harness.environment(PACKAGES)
    print(harness.table(rows))
    print(
        "\n" + "\n".join(f"{key}: {value}" for key, value in {"command": command, **about}.items())
    )
    if args.json:
        Path(args.json).write_text(json.dumps(harness.as_json(rows, about, command), indent=1))
    return 0


if __name__ == "__main__":
    # Before a peak's first reading: what torch loads with the first backward pass.
    torch.nn.Linear(2, 2)(torch.ones(1, 2)).sum().backward()
    sys.exit(main())
