"""Compiling Triton kernels ahead of time, for GPUs that aren't there, and the command that keeps a record of it.

Kernels are compiled from the very arguments that an operator would launch them with, bound by Triton, on tensors
without data. Nothing is run, and nothing is said about speed.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

# Shared memory a program may take, KiB: for sm_80 what the family's smallest parts give (8.6, 8.9), not the A100's 163.
SHARED_LIMIT = {"sm_80": 99, "sm_90": 227}


class Built(NamedTuple):
    """What a compiled kernel takes: registers and bytes of spill stores a thread, KiB shared; and its assembly."""

    registers: int
    spilled: int
    shared: float
    text: str


def build(kernel: Any, arguments: dict[str, Any], options: dict[str, Any], target: str) -> Built:
    """Compile a kernel afresh for "sm_80", "sm_90" or "gfx942", as a launch would, with Triton's own assembler.

    For gfx942 registers and spills aren't told, and are 0. Raises RuntimeError where the assembler says nothing.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, make_backend
    from triton.runtime.jit import create_function_from_signature

    part = GPUTarget("hip", "gfx942", 64)
    if target != "gfx942":
        part = GPUTarget("cuda", int(target[3:]), 32)
    backend = make_backend(part)
    keywords = options | {"debug": False, "instrumentation_mode": ""}
    bind = create_function_from_signature(kernel.signature, kernel.params, backend)
    bound, specialisation, given = bind(**arguments, **keywords)
    _, signature, constants, attributes = kernel._pack_args(
        backend, keywords, bound, specialisation, given
    )
    triton.knobs.compilation.always_compile = True
    triton.knobs.nvidia.dump_ptxas_log = True
    with contextlib.redirect_stdout(io.StringIO()) as log:
        source = ASTSource(kernel, signature, constants, attributes)
        built = triton.compile(source, part, options)
    shared = built.metadata.shared / 1024
    if target == "gfx942":
        return Built(0, 0, shared, built.asm["amdgcn"])
    registers = re.search(r"Used (\d+) registers", log.getvalue())
    spilled = re.search(r"(\d+) bytes spill stores", log.getvalue())
    if registers is None or spilled is None:
        raise RuntimeError(f"ptxas said nothing of registers and spills: {log.getvalue()!r}")
    return Built(int(registers[1]), int(spilled[1]), shared, built.asm["ptx"])


def over_limits(target: str, spilled: int, shared: float) -> Iterator[str]:
    """What is wrong with any compiled kernel that takes so much, a sentence each."""
    if shared > SHARED_LIMIT[target]:
        yield f"{shared:.1f} KiB of shared memory, {target} has {SHARED_LIMIT[target]}"
    if spilled > 0:
        yield f"{spilled} bytes of registers spilled"


def command(
    arguments: list[str],
    record_all: Callable[[], Iterator[str]],
    check: Callable[[], Iterator[tuple[str, bool]]],
    table: Callable[[], Iterator[str]],
) -> int:
    """What `python -m ...aot` does with a record: compile, print, judge; the exit status.

    `check` gives lines, each with whether it names a fault; with --all the record is made first; --table prints it.
    """
    if find_spec("triton") is None:
        sys.stdout.write("no Triton on this platform: nothing to compile\n")
        return 0
    if "--table" in arguments:
        sys.stdout.writelines(f"{line}\n" for line in table())
        return 0
    faults, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory() as cache:  # of this run alone: nothing is left behind
        os.environ["TRITON_CACHE_DIR"] = cache
        if "--all" in arguments:
            for line in record_all():
                sys.stdout.write(f"{line}\n")
                sys.stdout.flush()
        for line, fault in check():
            faults += fault
            sys.stdout.write(f"{'BREACH: ' if fault else ''}{line}\n")
            sys.stdout.flush()
    sys.stdout.write(f"{faults} faults, {time.monotonic() - began:.0f} s\n")
    return 1 if faults else 0
