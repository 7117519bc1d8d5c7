"""Compile every Triton kernel for sm_80 and sm_90 without a GPU, and hold the result to limits.

    python -m isoform.core.attention.aot

prints a table (registers a thread, bytes spilled, shared memory, matrix instructions), the breaches, and exits 1 if
there is one. Variants are compiled as the launcher would: the tiles of `tuning`, pointers and strides divisible by 16
where they usually are. Nothing is run, and nothing is said about speed.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from multiprocessing import get_context

from isoform.core.attention.tuning import padded_dim, tiles

# Shared memory a program may take, KiB: for sm_80 what the family's smallest parts give (8.6, 8.9), not the A100's 163.
SHARED_LIMIT = {"sm_80": 99, "sm_90": 227}
SPILL_LIMIT = 0
ITEMSIZE = {"bf16": 2, "fp32": 4}
# The instructions of the matrix units, by target; float32 products stay out of them (they would be TF32).
MATRIX = {"sm_80": "mma.sync", "sm_90": "wgmma.mma_async.sync"}


@dataclass(frozen=True)
class Variant:
    """One way to compile a kernel: heads of `dim` features of type `dtype`, `masked` = causal with key padding.

    bias: "none", "aligned" (rows begin at multiples of 16) or "odd". one: sizes are 1, which Triton makes constants.
    """

    kernel: str
    target: str
    dim: int
    dtype: str
    bias: str
    masked: bool = True
    one: bool = False


@dataclass(frozen=True)
class Usage:
    """What a compiled kernel takes: registers and bytes of spill stores a thread, KiB shared, matrix instructions."""

    registers: int
    spilled: int
    shared: float
    matrix: int


def variants() -> Iterator[Variant]:
    """Every kernel, target and type at each padded head size, with the masks that cost most; and special paths."""
    for target in ("sm_80", "sm_90"):
        for kernel, bias in product(
            ("forward", "query", "key", "bias"), ("none", "aligned", "odd")
        ):
            if (kernel, bias) == ("bias", "none"):
                continue
            yield from (Variant(kernel, target, dim, "bf16", bias) for dim in (24, 64, 128))
            if bias != "odd":
                yield from (Variant(kernel, target, dim, "fp32", bias) for dim in (24, 64, 128))
            if bias == "none":
                yield Variant(kernel, target, 80, "bf16", bias)
                yield Variant(kernel, target, 64, "bf16", bias, masked=False)
            if bias == "odd":
                yield Variant(kernel, target, 16, "bf16", bias)
                yield Variant(kernel, target, 16, "bf16", bias, one=True)


def compile_variant(variant: Variant) -> Usage:
    """Compile one variant afresh, with Triton's own assembler and its options."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from isoform.core.attention import triton_backward, triton_forward

    module = triton_forward if variant.kernel == "forward" else triton_backward
    kernel = getattr(module, f"{variant.kernel}_kernel")
    cut = tiles(
        variant.kernel, variant.target, variant.dim, ITEMSIZE[variant.dtype], variant.bias != "none"
    )
    constants: dict[str, int | None] = {"D": variant.dim, "DIM": padded_dim(variant.dim)}
    constants |= {"TILE_N": cut.n, "TILE_M": cut.m, "CAUSAL": variant.masked, "ONE_ROW": False}
    if not variant.masked:
        constants["valid"] = None
    if variant.bias == "none":
        constants |= {"bias": None, "dbias": None}
    if variant.one:
        constants |= dict.fromkeys(
            ("H", "G", "N", "M", "bias_B", "bias_H", "share_H", "share_N", "shares"), 1
        )
    signature, divisible = {}, {}
    for place, name in enumerate(kernel.arg_names):
        signature[name] = "constexpr" if name in constants else _type_of(name, variant)
        if _is_divisible(name, signature[name], variant):
            divisible[place,] = [["tt.divisibility", 16]]
    source = ASTSource(
        kernel, signature, {k: v for k, v in constants.items() if k in signature}, divisible
    )
    triton.knobs.compilation.always_compile = True
    triton.knobs.nvidia.dump_ptxas_log = True
    with contextlib.redirect_stdout(io.StringIO()) as log:
        target = GPUTarget("cuda", int(variant.target[3:]), 32)
        built = triton.compile(source, target, {"num_warps": cut.warps, "num_stages": cut.stages})
    registers = re.search(r"Used (\d+) registers", log.getvalue())
    spilled = re.search(r"(\d+) bytes spill stores", log.getvalue())
    if registers is None or spilled is None:
        raise RuntimeError(
            f"ptxas said nothing of registers and spills for {variant}: {log.getvalue()!r}"
        )
    matrix = built.asm["ptx"].count(MATRIX[variant.target])
    return Usage(int(registers[1]), int(spilled[1]), built.metadata.shared / 1024, matrix)


def _type_of(name: str, variant: Variant) -> str:
    """Type of a kernel's argument, in Triton's words."""
    if name in ("lse", "delta") or (name, variant.kernel) == ("dbias", "bias"):
        return "*fp32"
    if name in ("q", "k", "v", "bias", "out", "do", "dq", "dk", "dv", "dbias"):
        return f"*{variant.dtype}"
    if name == "valid":
        return "*i1"
    return "fp32" if name == "scale" else "i32"


def _is_divisible(name: str, kind: str, variant: Variant) -> bool:
    """Whether the launcher would find the argument a multiple of 16: buffers, and strides of rows of whole heads."""
    owner, _, axis = name.rpartition("_")
    stride = kind == "i32" and axis in ("b", "h", "g", "n", "m") and owner != "valid"
    return (kind.startswith("*") and name != "valid") or (
        stride and (owner != "bias" or variant.bias == "aligned")
    )


def breaches(variant: Variant, usage: Usage) -> Iterator[str]:
    """What is wrong with a compiled kernel, a sentence each."""
    if usage.shared > SHARED_LIMIT[variant.target]:
        yield f"{usage.shared:.1f} KiB of shared memory, {variant.target} has {SHARED_LIMIT[variant.target]}"
    if usage.spilled > SPILL_LIMIT:
        yield f"{usage.spilled} bytes of registers spilled, {SPILL_LIMIT} are allowed"
    if variant.dtype != "fp32" and usage.matrix == 0:
        yield f"no {MATRIX[variant.target]} instruction: products do not reach the matrix unit"
    if variant.dtype == "fp32" and usage.matrix > 0:
        yield f"float32 products lose precision in {usage.matrix} {MATRIX[variant.target]} instructions"


def _report() -> Iterator[tuple[str, int]]:
    """Lines of the table, each with the number of limits that it breaks."""
    began, work = time.monotonic(), list(variants())
    yield (
        "kernel   target dim type bias    masks  tile       warps  registers  spilled  shared KiB  matrix",
        0,
    )
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        for v, u in zip(work, pool.map(compile_variant, work), strict=True):
            cut = tiles(v.kernel, v.target, v.dim, ITEMSIZE[v.dtype], v.bias != "none")
            masks = "one" if v.one else "all" if v.masked else "-"
            what = f"{v.kernel:8} {v.target} {v.dim:4} {v.dtype} {v.bias:7} {masks:6} {cut.n:3} x {cut.m:<4}"
            yield (
                f"{what} {cut.warps:5}  {u.registers:9}  {u.spilled:7}  {u.shared:10.1f}  {u.matrix:6}",
                0,
            )
            yield from ((f"  BREACH: {breach}", 1) for breach in breaches(v, u))
    yield f"{len(work)} kernels compiled in {time.monotonic() - began:.0f} s", 0


def main() -> int:
    """Compile, print, judge; the exit status."""
    if find_spec("triton") is None:
        sys.stdout.write("no Triton on this platform: nothing to compile\n")
        return 0
    broken = 0
    with (
        tempfile.TemporaryDirectory() as cache
    ):  # of this run alone, so that nothing is left behind
        os.environ["TRITON_CACHE_DIR"] = cache
        for line, breach in _report():
            broken += breach
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{broken} limits broken\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
