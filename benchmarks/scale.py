"""What 8 and 1,000 GPUs would do, on paper: the table of docs/scale.md, `python benchmarks/scale.py`.

Nothing is measured. Parameters are counted in the models' own trunks; the attention's bytes come from the model of
core/attention/traffic.py; the rest is arithmetic on the assumptions below.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property

import torch

from isoform.core.attention.traffic import Sizes, dram
from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig

RATE = 400e12  # operations a second: 40 % of an H100's 989 in bfloat16
MEMORY = 3.35e12  # bytes a second of its memory
INSIDE, BETWEEN = (
    360e9,
    40e9,
)  # bytes a second a GPU in a ring, inside a machine and between machines
MACHINE = 8  # GPUs
GRADIENT = 4  # bytes a parameter: float32
STATE = 16  # bytes a parameter: weight, gradient and Adam's two averages
QUESTIONS = (
    3  # small words of a step that all processes wait for: failed? which gradients? a signal?
)
HOP = 20e-6  # seconds of one word from a process to the next
COUNTS = (8, 1000)


@dataclass(frozen=True)
class Trunk:
    """A trunk at work: samples a GPU of so many tokens, and the bias of its attention as kernels read it."""

    name: str
    config: BackboneConfig
    samples: int
    tokens: int
    bias: str = "none"

    @cached_property
    def _counts(self) -> tuple[int, int]:
        with torch.device("meta"):
            named = list(Backbone(self.config, ordered=False).named_parameters())
        conditioned = sum(p.numel() for name, p in named if "modulation" in name)
        return sum(p.numel() for _, p in named), conditioned

    @property
    def parameters(self) -> int:
        """All of them."""
        return self._counts[0]

    @property
    def work(self) -> float:
        """Operations of a step: 6 a parameter and token, a sample's condition once; and the attention's products."""
        c, (every, once) = self.config, self._counts
        products = 12 * c.depth * c.dim * self.tokens**2
        return self.samples * (6 * ((every - once) * self.tokens + once) + products)

    @property
    def compute(self) -> float:
        """Seconds of a step's work."""
        return self.work / RATE

    def attention(self, bias: str) -> float:
        """Bytes that the memory delivers for a step's attention in all layers."""
        c = self.config
        sizes = Sizes(self.samples, c.heads, self.tokens, self.tokens, c.dim // c.heads)
        return c.depth * sum(dram(sizes, bias).values())

    def summed(self, processes: int) -> float:
        """Seconds that a ring takes for the gradients, each way."""
        moved = 2 * (processes - 1) / processes * GRADIENT * self.parameters
        return moved / (INSIDE if processes <= MACHINE else BETWEEN)


def asked(processes: int) -> float:
    """Seconds of a step's small questions, each twice around the ring."""
    return QUESTIONS * 2 * (processes - 1) * HOP


TRUNKS = (
    Trunk("ViT-L, 224 px", BackboneConfig(dim=1024, depth=24, heads=16), 128, 197),
    Trunk(
        "ADiT-L denoiser, 18 atoms",
        BackboneConfig(dim=1024, depth=24, heads=16, condition="adaln_zero"),
        256,
        18,
    ),
    Trunk(
        "Graphormer, 18 atoms",
        BackboneConfig(dim=768, depth=12, heads=32, mlp_dim=768),
        256,
        19,
        "path+table",
    ),
)


def table() -> list[str]:
    """Rows of two Markdown tables: a step's work beside the sums of gradients, and the attention's bytes."""
    head = "| trunk | parameters | samples a GPU | tokens | work a step | compute |"
    for count in COUNTS:
        head += f" sum over {count:,} | busy | with questions |"
    lines = [head, "|---" * (6 + 3 * len(COUNTS)) + "|"]
    for one in TRUNKS:
        row = (
            f"| {one.name} | {one.parameters / 1e6:.0f} M | {one.samples} | {one.tokens} "
            f"| {one.work / 1e12:.3g} Tflop | {_ms(one.compute)} |"
        )
        for count in COUNTS:
            sums, words = one.summed(count), asked(count)
            row += f" {_ms(sums)} | {_share(one.compute, sums)} | {_share(one.compute, sums + words)} |"
        lines.append(row)
    lines += [
        "",
        "| trunk | attention moves | which takes | with a dense bias | memory a GPU |",
        "|---" * 5 + "|",
    ]
    for one in TRUNKS:
        compact, dense = one.attention(one.bias), one.attention("dense")
        other = "none needed" if one.bias == "none" else f"{_gb(dense)}, {_ms(dense / MEMORY)}"
        lines.append(
            f"| {one.name} | {_gb(compact)} | {_ms(compact / MEMORY)} | {other} | {_gb(STATE * one.parameters)} |"
        )
    return lines


def _ms(seconds: float) -> str:
    return f"{1e3 * seconds:.2g} ms" if seconds < 0.1 else f"{1e3 * seconds:.0f} ms"


def _gb(size: float) -> str:
    return f"{size / 1e9:.2g} GB"


def _share(work: float, beside: float) -> str:
    return f"{work / (work + beside):.0%}".replace("%", " %")


if __name__ == "__main__":
    sys.stdout.write("\n".join(table()) + "\n")
