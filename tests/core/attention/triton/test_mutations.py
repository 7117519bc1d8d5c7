"""The suite sees what it is there to see: kernels with one planted fault each are caught, whole ones pass.

docs/kernels.md shows the same table.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from interpreter import planted_copies
from isoform.core.attention import triton_launch
from kernel_cases import Case, compare


class Fault(NamedTuple):
    """In `file`, every `right` is replaced by `wrong`; `case` shows it."""

    file: str
    right: str
    wrong: str
    case: Case


GROUPED = Case(b=1, h=2, g=1, n=11, m=13)
HALVED = Case(b=1, h=4, g=2, n=11, m=13)
PADDED = Case(b=2, h=2, g=1, n=11, m=13, padded=True)
TABLE = Case(b=1, h=2, g=1, n=11, m=13, bias=("table",))
DENSE = Case(b=1, h=2, g=2, n=11, m=13, bias=("dense",))
SHARED = Case(b=2, h=1, g=1, n=11, m=13, bias=("dense",), shape=(11, 13))

FAULTS = {
    "swapped index: a query head's number for its keys'": Fault(
        "forward", "k_head = head_of(k, b, g,", "k_head = head_of(k, b, h,", HALVED
    ),
    "swapped index: sample and head of a bias": Fault(
        "bias", "b * part.b + h * part.h", "b * part.h + h * part.b", DENSE
    ),
    "swapped index: rows and columns of ids": Fault(
        "bias", "n * part.n + m * part.m", "m * part.n + n * part.m", TABLE
    ),
    "swapped index: head of a table's gradient": Fault(
        "bias", "grad.copy + h * grad.h", "grad.copy + b * grad.h", TABLE
    ),
    "missing mask: keys beyond the last": Fault(
        "score", "visible = m < n_kv", "visible = m >= 0", GROUPED
    ),
    "missing mask: padding": Fault("score", "other=0) != 0)", "other=0) >= 0)", PADDED),
    "missing mask: later keys": Fault(
        "score",
        "ahead <= seen.right",
        "ahead <= n_kv",
        Case(b=1, h=1, g=1, n=11, m=13, causal=True),
    ),
    "missing mask: rows of the next sample": Fault(
        "forward", "out.n, n, n_q, dim", "out.n, n, n_q + 1, dim", GROUPED
    ),
    "missing scale: dq": Fault("backward", "sums * scale)", "sums)", GROUPED),
    "missing scale: dk": Fault("backward", "dk_sums * scale)", "dk_sums)", GROUPED),
    "missing scale: what dropout keeps": Fault(
        "score", "tile * drop.factor", "tile", Case(b=1, h=2, g=1, n=11, m=13, dropout=0.3)
    ),
    "missing scale: the length of a path": Fault(
        "bias",
        "dscores = dscores / hops_between(part, at, inside)",
        "dscores = dscores",
        Case(b=1, h=1, g=1, n=11, m=13, bias=("path",)),
    ),
    "unwritten row: out": Fault("forward", "out.n, n, n_q, dim", "out.n, n, n_q - 1, dim", GROUPED),
    "unwritten row: dv": Fault("backward", "dv.n, m, n_kv, dim", "dv.n, m, n_kv - 1, dim", GROUPED),
    "unwritten row: delta": Fault(
        "backward", "delta_n, mask=n < n_q)", "delta_n, mask=n < n_q - 1)", GROUPED
    ),
    "unwritten row: gradient of a shared bias": Fault(
        "backward", "(own_n[:, None] < own_N)", "(own_n[:, None] < own_N - 1)", SHARED
    ),
    "unwritten row: gradient of a dense bias": Fault(
        "bias",
        "dscores.to(grad.at.dtype.element_ty), mask=inside",
        "dscores, mask=inside & (m > 0)",
        DENSE,
    ),
}

FILES = [
    f"isoform.core.attention.triton_{name}" for name in ("bias", "score", "forward", "backward")
]


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Plants a fault: copies of the kernels' files, one of them changed, take the kernels' place."""
    with planted_copies(FILES, tmp_path) as plant:

        def plant_here(fault: Fault | None) -> None:
            modules = plant(fault)

            def kernel_of(name: str):
                return getattr(
                    modules["forward" if name == "forward" else "backward"], f"{name}_kernel"
                )

            monkeypatch.setattr(triton_launch, "kernel_of", kernel_of)

        yield plant_here


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name, planted):
    from triton.runtime.errors import InterpreterError

    planted(FAULTS[name])
    with pytest.raises((AssertionError, InterpreterError), match=r"out, dq, dk, dv|out of bounds"):
        compare(FAULTS[name].case, 2e-6)


@pytest.mark.usefixtures("guarded")
def test_without_a_fault_the_copies_pass(planted):
    planted(None)
    compare(GROUPED, 2e-6)
