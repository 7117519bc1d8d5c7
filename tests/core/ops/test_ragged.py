from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from isoform.core.backbone import Backbone
from isoform.core.config.schema import BackboneConfig
from isoform.core.ops.ragged import (
    centred,
    ends_of,
    fact_of,
    mean_by_sample,
    places_of,
    samples_of,
)
from isoform.core.tokens import Tokens


@given(st.lists(st.integers(0, 5), min_size=1, max_size=7))
def test_means_are_of_each_sample_by_itself(lengths: list[int]) -> None:
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    rows = torch.randn(sum(lengths), 3, 2, dtype=torch.float64)
    parts = rows.split(lengths)
    means = torch.stack(
        [part.mean(0) if len(part) else torch.zeros(3, 2, dtype=rows.dtype) for part in parts]
    )
    torch.testing.assert_close(mean_by_sample(rows, offsets), means)
    torch.testing.assert_close(
        centred(rows, offsets),
        torch.cat([part - part.mean(0) for part in parts]),
    )
    assert samples_of(offsets).tolist() == [b for b, n in enumerate(lengths) for _ in range(n)]


def test_a_fact_is_worked_out_once_until_the_offsets_change():
    asked = []

    def total(offsets):
        asked.append(offsets)
        return int(offsets[-1])

    offsets = torch.tensor([0, 2, 5, 5])
    assert [fact_of(offsets, total), fact_of(offsets, total)] == [5, 5] and len(asked) == 1
    assert places_of(offsets).tolist() == [0, 1, 0, 1, 2]
    offsets[1] = 3
    assert fact_of(offsets, total) == 5 and len(asked) == 2
    assert places_of(offsets).tolist() == [0, 1, 2, 0, 1] and ends_of(offsets) == [0, 3, 5, 5]
    with torch.inference_mode():
        unwatched = torch.tensor([0, 1])
    assert fact_of(unwatched, total) == fact_of(unwatched, total) == 1 and len(asked) == 4


def test_deeper_models_ask_no_more_of_packed_offsets():
    """Every answer that the CPU reads would be a wait for the GPU, in every layer."""
    offsets = torch.tensor([0, 3, 8, 10])

    def reads(depth):
        trunk = Backbone(BackboneConfig(dim=12, depth=depth, heads=3), ordered=False)
        tokens = Tokens(torch.randn(10, 12), offsets=offsets.clone())
        with Counted() as counted:
            trunk(tokens)
        return counted.reads

    assert reads(5) == reads(2)


class Counted(TorchDispatchMode):
    """Counts operators whose result the CPU has to wait for."""

    WAITS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::repeat_interleave")

    def __init__(self):
        super().__init__()
        self.reads = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.reads += func.name().split(".")[0] in self.WAITS
        return func(*args, **(kwargs or {}))
