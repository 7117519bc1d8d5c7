from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.ops.ragged import centred, mean_by_sample, samples_of


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
