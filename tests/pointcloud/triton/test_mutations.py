"""The suite sees what it is there to see: point kernels with one planted fault each are caught, whole ones pass.

docs/kernels.md shows the same table.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import pytest

from interpreter import planted_copies
from isoform.pointcloud.ops import triton_launch
from point_cases import FARTHEST, NEAREST, compare_farthest, compare_gradients, compare_nearest

FILES = [f"isoform.pointcloud.ops.triton_{name}" for name in ("farthest", "nearest")]


class Fault(NamedTuple):
    """In `file`, every `right` is replaced by `wrong`; `show` shows it."""

    file: str
    right: str
    wrong: str
    show: Callable[[], None]


def farthest(name: str) -> Callable[[], None]:
    return partial(compare_farthest, **FARTHEST[name])


def nearest(name: str) -> Callable[[], None]:
    return partial(compare_nearest, **NEAREST[name])


def gradients(name: str) -> Callable[[], None]:
    return partial(compare_gradients, **NEAREST[name])


FAULTS = {
    "swapped index: y of the last point for z": Fault(
        "farthest", "cloud + last * D + 2)", "cloud + last * D + 1)", farthest("plain")
    ),
    "swapped index: points of the first cloud": Fault(
        "farthest", "points + b * N * D", "points", farthest("plain")
    ),
    "swapped index: coordinates of the cloud that asks": Fault(
        "nearest", "answering + b * M * D", "answering + b * N * D", nearest("one neighbour")
    ),
    "swapped index: partner of an entry": Fault(
        "nearest", "partner = entry // K", "partner = entry % K", gradients("fewer than K")
    ),
    "missing mask: points beyond the last": Fault(
        "farthest", "other=-1.0)", "other=float('inf'))", farthest("all of them")
    ),
    "missing mask: padding that answers": Fault(
        "nearest", "tl.load(n_answering + b)", "M", nearest("ragged")
    ),
    "missing mask: padding that asks": Fault(
        "nearest", "(k < end) & (n < n_real)", "(k < end) & (n < N)", nearest("ragged")
    ),
    "missing mask: neighbours that aren't there": Fault(
        "nearest", "used & (partner >= 0)", "used", gradients("fewer than K")
    ),
    "missing term: the last coordinate": Fault(
        "farthest", "if D > 2:", "if D > 3:", farthest("plain")
    ),
    "missing scale: the square's two": Fault(
        "nearest", "weight[:, None] * 2 *", "weight[:, None] *", gradients("one neighbour")
    ),
    "ties: the last index": Fault("farthest", "(LAST - order)", "order", farthest("ties")),
    "ties: the last neighbour": Fault(
        "nearest", "(bits.to(tl.int64) << 32) + m", "(bits.to(tl.int64) << 32) + (255 - m)", nearest("ties"),
    ),
    "unwritten row: the last neighbour": Fault(
        "nearest", "for k in range(0, K):", "for k in range(0, K - 1):", nearest("64 neighbours")
    ),
    "unwritten row: places that nothing fills": Fault(
        "farthest", "for step in range(first, most):", "for step in range(first, most - 1):", farthest("all of them"),
    ),
    "unwritten row: gradient of the last point": Fault(
        "nearest", "total, mask=inside)", "total, mask=inside & (n < N - 1)[:, None])", gradients("one neighbour"),
    ),
    "beyond the end: a neighbour of the next row": Fault(
        "nearest", "for k in range(0, K):", "for k in range(0, K + 1):", nearest("equal")
    ),
}  # fmt: skip


@pytest.fixture
def planted(tmp_path, monkeypatch):
    """Plants a fault: copies of the kernels' files, one of them changed, take the kernels' place."""
    with planted_copies(FILES, tmp_path) as plant:

        def plant_here(fault: Fault | None) -> None:
            modules = plant(fault)

            def kernel_of(name: str):
                where = "farthest" if name.startswith("farthest") else "nearest"
                return getattr(modules[where], f"{name}_kernel")

            monkeypatch.setattr(triton_launch, "kernel_of", kernel_of)

        yield plant_here


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name, planted):
    from triton.runtime.errors import InterpreterError

    planted(FAULTS[name])
    with pytest.raises(
        (AssertionError, InterpreterError), match=r"farthest|nearest|gradient|out of bounds"
    ):
        FAULTS[name].show()


@pytest.mark.usefixtures("guarded")
def test_without_a_fault_the_copies_pass(planted):
    planted(None)
    farthest("plain")()
    nearest("ragged")()
    gradients("one neighbour")()
