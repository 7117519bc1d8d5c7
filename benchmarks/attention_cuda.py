"""Attention with a structured score bias beside PyTorch's and others' kernels: `--device cuda`.

    isoform bench attention --device cuda                       training steps and forward passes, every mode
    isoform bench attention --device cuda --only "N 256" --json FILE

On a GPU time is the GPU's own, between events, after a warm-up, contestants in turns; every result is compared with
the first contestant's before anything is timed, and the peak of memory is torch's own count. Needs a GPU of compute
capability 8.0 or newer. Without one the command says so and measures nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.attention import Bias, attention
from isoform.core.attention.bias import Distance, PathTable, Slope, Table

Step = Callable[[], list[Tensor]]
ROWS, HOPS = 41, 5
TOLERANCE = 2e-2  # of bfloat16 results, relative to the largest


@dataclass
class Inputs:
    """One layer's tokens and what the biases are made of, on the GPU: bfloat16 tokens, float32 tables."""

    n: int
    batch: int = 256
    heads: int = 32
    dim: int = 24
    made: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        g = torch.Generator("cuda").manual_seed(0)
        on = {"device": "cuda", "generator": g}
        b, h, n = self.batch, self.heads, self.n
        rows = {"dtype": torch.bfloat16, **on}
        for name in ("q", "k", "v", "do"):
            self.made[name] = torch.randn(b, n, h, self.dim, **rows).transpose(1, 2)
        self.made["ids"] = torch.randint(ROWS, (b, n, n), dtype=torch.uint8, **on)
        self.made["path"] = torch.randint(ROWS, (b, n, n, HOPS, 1), dtype=torch.uint8, **on)
        self.made["table"] = torch.randn(ROWS, h, **on)
        self.made["edges"] = torch.randn(ROWS, h, **on)
        self.made["mixing"] = torch.randn(HOPS, h, h, **on) / h**0.5
        self.made["coords"] = torch.randn(b, n, 3, **on)
        self.made["slope"] = torch.randn(h, **on)
        for name in ("q", "k", "v", "table", "edges", "mixing", "slope"):
            self.made[name].requires_grad_()

    def bias(self, mode: str) -> Bias:
        """The bias value of a mode."""
        m = self.made
        if mode == "slope":
            return Distance(m["coords"], m["coords"], Slope(m["slope"]))
        table = Table(m["ids"], m["table"])
        if mode == "table":
            return table
        return table + PathTable(m["path"], m["ids"], m["edges"], m["mixing"])

    def learnt(self, mode: str) -> list[Tensor]:
        """What wants a gradient."""
        names = {
            "table": ("table",),
            "slope": ("slope",),
            "path+table": ("table", "edges", "mixing"),
        }
        return [self.made[name] for name in ("q", "k", "v", *names[mode])]


def finished(x: Inputs | Packed, mode: str, out: Tensor, backward: bool) -> list[Tensor]:
    """The result, and the gradients where a step is measured."""
    if not backward:
        return [out]
    return [out, *torch.autograd.grad(out, x.learnt(mode), x.made["do"])]


def isoform(x: Inputs, mode: str, backward: bool) -> list[Tensor]:
    """isoform's kernels, the bias computed inside."""
    out = attention(x.made["q"], x.made["k"], x.made["v"], bias=x.bias(mode), impl="triton")
    return finished(x, mode, out, backward)


def dense_sdpa(x: Inputs, mode: str, backward: bool) -> list[Tensor]:
    """PyTorch's memory-efficient kernel with the bias built dense, and its gradient scattered into the tables."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    mask = x.bias(mode).to_dense().to(torch.bfloat16).contiguous()
    # The kernel wants rows that begin at multiples of 16 bytes.
    spare = -x.n % 8
    mask = F.pad(mask, (0, spare))[..., : x.n]
    with sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION):
        out = F.scaled_dot_product_attention(x.made["q"], x.made["k"], x.made["v"], attn_mask=mask)
    return finished(x, mode, out, backward)


@dataclass
class Packed:
    """Tokens of molecules of QM9's sizes one behind the other, as one projection leaves them: bfloat16 [T, 3, H, D]."""

    batch: int = 1024
    heads: int = 8
    dim: int = 64
    made: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        g = torch.Generator().manual_seed(0)
        atoms = (torch.randn(self.batch, generator=g) * 2.95 + 18).round().clamp(3, 29).long()
        offsets = torch.cat([atoms.new_zeros(1), atoms.cumsum(0)])
        rows, on = {"dtype": torch.bfloat16, "device": "cuda"}, {"device": "cuda"}
        self.made["qkv"] = torch.randn(int(offsets[-1]), 3, self.heads, self.dim, **rows)
        self.made["do"] = torch.randn(int(offsets[-1]), self.heads, self.dim, **rows)
        self.made["offsets"] = offsets.to(**on)
        self.made["valid"] = torch.arange(int(atoms.max()), **on) < atoms.to(**on)[:, None]
        self.made["place"] = self.made["valid"].flatten().nonzero()[:, 0]
        self.made["qkv"].requires_grad_()

    def learnt(self, mode: str) -> list[Tensor]:
        """What wants a gradient."""
        return [self.made["qkv"]]


def packed(x: Packed, mode: str, backward: bool) -> list[Tensor]:
    """isoform's kernels on the packed tokens."""
    q, k, v = x.made["qkv"].unbind(1)
    out = attention(q, k, v, offsets_q=x.made["offsets"], impl="triton")
    return finished(x, mode, out, backward)


def padded_sdpa(x: Packed, mode: str, backward: bool) -> list[Tensor]:
    """PyTorch's kernels on tokens padded to the longest molecule, with a mask of the real ones."""
    qkv, valid, place = x.made["qkv"], x.made["valid"], x.made["place"]
    wide = qkv.new_zeros(valid.numel(), *qkv.shape[1:]).index_copy(0, place, qkv)
    q, k, v = wide.unflatten(0, valid.shape).permute(2, 0, 3, 1, 4)
    y = F.scaled_dot_product_attention(q, k, v, valid[:, None, None, :])
    out = y.transpose(1, 2).flatten(0, 1).index_select(0, place)
    return finished(x, mode, out, backward)


def flex(
    x: Inputs, mode: str, backward: bool, compiled: dict[str, Callable[..., Tensor]]
) -> list[Tensor]:
    """flex_attention with the bias in its score_mod: table gradients by atomics."""
    from torch.nn.attention.flex_attention import flex_attention

    m = x.made
    if mode == "slope":
        coords, slope = m["coords"], m["slope"]

        def score_mod(score, b, h, i, j):
            apart = [coords[b, i, c] - coords[b, j, c] for c in range(3)]
            square = apart[0] * apart[0] + apart[1] * apart[1] + apart[2] * apart[2]
            return score + slope[h] * square.sqrt()
    else:
        ids, table = m["ids"], m["table"]

        def score_mod(score, b, h, i, j):
            return score + table[ids[b, i, j].int(), h]

    if mode not in compiled:
        compiled[mode] = torch.compile(flex_attention)
    out = compiled[mode](m["q"], m["k"], m["v"], score_mod=score_mod)
    return finished(x, mode, out, backward)


def flash4(x: Inputs, mode: str, backward: bool) -> list[Tensor]:
    """FlashAttention-4 with a score_mod that reads the ids and the table: forward alone, tables get no gradient."""
    import cutlass.cute as cute
    from flash_attn.cute import flash_attn_func

    @cute.jit
    def score_mod(score, b, h, i, j, seqlen, tensors):
        ids, table = tensors
        return score + table[ids[b[0], i[0], j[0]], h[0]]

    m = x.made
    q, k, v = (m[name].transpose(1, 2) for name in "qkv")
    given = [m["ids"].int(), m["table"].detach()]
    out, *_ = flash_attn_func(q, k, v, score_mod=score_mod, aux_tensors=given)
    return [out.transpose(1, 2)]


@dataclass
class Row:
    """What was measured of one contestant."""

    case: str
    name: str
    milliseconds: list[float] = field(default_factory=list)
    ratios: list[float] = field(
        default_factory=list
    )  # the peer's time over isoform's, round by round
    peak_mib: float = 0.0
    differs_by: float = 0.0
    failed: str = ""


def contestants(mode: str, backward: bool) -> dict[str, Callable[[Any, str, bool], list[Tensor]]]:
    """Who can serve a case."""
    if mode == "packed":
        return {"isoform": packed, "SDPA, padded": padded_sdpa}
    found: dict[str, Callable[[Any, str, bool], list[Tensor]]] = {
        "isoform": isoform,
        "SDPA, memory-efficient": dense_sdpa,
    }
    if mode in ("table", "slope"):
        found["flex_attention"] = partial(flex, compiled={})
    if mode == "table" and not backward and find_spec("flash_attn") is not None:
        found["FlashAttention-4"] = flash4
    return found


def measure(case: str, x: Inputs | Packed, mode: str, backward: bool, rounds: int) -> list[Row]:
    """Every contestant once a round, in turns. One that fails keeps its row, with the reason."""
    rows, steps = [], []
    want: list[Tensor] = []
    for name, run in contestants(mode, backward).items():
        row = Row(case, name)
        rows.append(row)
        step = partial(run, x, mode, backward)
        try:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            found = step()
            torch.cuda.synchronize()
            row.peak_mib = (torch.cuda.max_memory_allocated() - before) / 2**20
        except (RuntimeError, ValueError, TypeError, ImportError) as error:
            row.failed = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            steps.append(None)
            continue
        want = want or found
        row.differs_by = max(
            ((a.float() - b.float()).abs().max() / b.float().abs().max()).item()
            for a, b in zip(found, want, strict=True)
        )
        if not row.differs_by <= TOLERANCE:
            row.failed = f"differs by {row.differs_by:.1e}"
        steps.append(None if row.failed else step)
    race(rows, steps, rounds)
    return rows


def race(rows: Sequence[Row], steps: Sequence[Step | None], rounds: int) -> None:
    """Fills in times, between events on the GPU, and ratios to isoform's of the same round."""
    for number in range(rounds):
        for place in range(len(rows)):
            at = (place + number) % len(rows)
            step = steps[at]
            if step is None:
                continue
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            step()
            end.record()
            end.synchronize()
            rows[at].milliseconds.append(begin.elapsed_time(end))
    for row in rows:
        pairs = zip(row.milliseconds, rows[0].milliseconds, strict=False)
        row.ratios = [own / first for own, first in pairs]


def lines(rows: Sequence[Row]) -> list[str]:
    """All rows as a Markdown table."""
    text = [
        "| case | contestant | ms | times isoform's | peak MiB | differs by |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.failed:
            text.append(f"| {row.case} | {row.name} | {row.failed} | - | - | - |")
            continue
        ms, ratio = statistics.median(row.milliseconds), statistics.median(row.ratios)
        text.append(
            f"| {row.case} | {row.name} | {ms:.2f} | {ratio:.2f} | {row.peak_mib:.0f} | {row.differs_by:.0e} |"
        )
    return text


def main(given: list[str] | None = None) -> int:
    """Measures and prints; the exit status."""
    parser = argparse.ArgumentParser(prog="isoform bench attention", description=__doc__)
    parser.add_argument("--device", choices=("cuda",), default="cuda")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this in their name")
    parser.add_argument("--json", metavar="FILE", help="also write everything measured there")
    args = parser.parse_args(given)
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return 2
    rows: list[Row] = []
    for n in (64, 256):
        for mode in ("table", "path+table", "slope"):
            for backward in (False, True):
                case = f"N {n}, {mode}, {'step' if backward else 'forward'}"
                if args.only in case:
                    rows += measure(case, Inputs(n), mode, backward, args.rounds)
    for backward in (False, True):
        case = f"packed, QM9's sizes, {'step' if backward else 'forward'}"
        if args.only in case:
            rows += measure(case, Packed(), "packed", backward, args.rounds)
    print("\n".join([*lines(rows), "", torch.cuda.get_device_name(), f"torch {torch.__version__}"]))
    if args.json:
        Path(args.json).write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 1 if any(row.failed and row.name == "isoform" for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
