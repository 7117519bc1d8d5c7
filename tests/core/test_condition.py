from __future__ import annotations

import math
from dataclasses import replace

import torch

from isoform.core.condition import Condition, ModulatedHead, time_features
from isoform.core.tokens import Tokens


def test_a_time_is_256_cosines_then_sines() -> None:
    features = time_features(torch.tensor([0.0, 0.7], dtype=torch.float64))
    assert features.shape == (2, 256)
    assert features[0].tolist() == [1.0] * 128 + [0.0] * 128
    phase = 0.7 * 10000 ** (-5 / 128)
    assert abs(features[1, 5].item() - math.cos(phase)) < 1e-6
    assert abs(features[1, 133].item() - math.sin(phase)) < 1e-6


def test_labels_are_added_and_0_is_what_no_labels_are() -> None:
    condition = Condition(7, (3, 11))
    t_B = torch.tensor([0.1, 0.9])
    untold = condition(t_B)
    assert torch.equal(condition(t_B, torch.zeros(2, 2, dtype=torch.long)), untold)
    told = condition(t_B, torch.tensor([[3, 0], [0, 11]]))
    kind, group = (table.weight for table in condition.labels)
    want = torch.stack([kind[3] - kind[0], group[11] - group[0]])
    torch.testing.assert_close(told - untold, want)


def test_the_head_starts_as_0_and_reads_each_samples_condition() -> None:
    head = ModulatedHead(6, 5)
    valid = torch.tensor([[True] * 3, [True, False, False]])
    padded = Tokens(torch.randn(2, 3, 6), valid, cond=torch.randn(2, 6))
    assert not head(padded).any()
    for parameter in head.parameters():
        torch.nn.init.normal_(parameter)
    packed = padded.pack()
    torch.testing.assert_close(head(packed), head(padded)[valid])
    other = replace(packed, cond=packed.cond + torch.tensor([[0.0], [1.0]]))
    changed = (head(other) - head(packed)).abs().amax(1) > 1e-4
    assert changed.tolist() == [False, False, False, True]
