"""What attention does not take, and the sentence that says why."""

import pytest
import torch

from isoform.core.attention import (
    attention,
)

from .small_inputs import B, D, G, H, M, N, inputs


def call(**changes):
    q, k, v = inputs()
    arguments = {"q_BHND": q, "k_BGMD": k, "v_BGME": v} | changes
    return attention(
        arguments.pop("q_BHND"), arguments.pop("k_BGMD"), arguments.pop("v_BGME"), **arguments
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"q_BHND": torch.zeros(B, N, D)}, "takes q .B, H, N, D."),
        ({"v_BGME": torch.zeros(B, G, M + 2, D)}, "takes q .B, H, N, D."),
        ({"v_BGME": torch.zeros(B, G, M)}, "takes q .B, H, N, D."),
        (
            {"impl": "triton", "v_BGME": torch.zeros(B, G, M, D + 2, dtype=torch.float64)},
            "can't serve this",
        ),
        ({"q_BHND": torch.zeros(B + 1, H, N, D)}, "samples or features"),
        ({"q_BHND": torch.zeros(B, 5, N, D)}, "3 key heads must divide the 5 query heads"),
        ({"q_BHND": torch.zeros(B, H, N, D)}, "one type"),
        ({"dropout": 1.0}, "dropout"),
        ({"window": (1, -1)}, "window"),
        (
            {"valid_kv": torch.ones(B, N, dtype=torch.bool)},
            "valid_kv is bool .2, 11., got torch.bool .2, 7.",
        ),
        ({"valid_q": torch.ones(B, N)}, "valid_q is bool .2, 7., got torch.float32"),
        ({"bias": torch.zeros(B, H, N, M + 2)}, "does not broadcast"),
        ({"bias": torch.zeros(1, 1, 1, 1, 1)}, "5 axes"),
        ({"impl": "flash"}, "'flash' is unknown: choose auto, reference, sdpa or triton"),
        ({"offsets_q": torch.tensor([0, 3])}, "packed attention takes q .T, H, D."),
        (
            {"offsets_q": torch.tensor([0, 3]), "valid_q": torch.ones(B, N, dtype=torch.bool)},
            "not both",
        ),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("offsets_q", "offsets_kv", "message"),
    [
        ([0, 4], None, "offsets_q must rise from 0 to the 7 packed tokens"),
        ([0, 5, 3, 7], None, "offsets_q must rise"),
        ([0, 3, 7], None, "11 packed keys beside 7 queries need their own offsets_kv"),
        ([0, 3, 7], [0, 11], "offsets_q is of 2 samples and offsets_kv of 1"),
        (None, [0, 11], "needs offsets_q"),
    ],
)
def test_refuses_offsets_that_do_not_fit(offsets_q, offsets_kv, message):
    q, k = torch.zeros(7, H, D), torch.zeros(11, G, D)
    given = {
        n: torch.tensor(o)
        for n, o in (("offsets_q", offsets_q), ("offsets_kv", offsets_kv))
        if o is not None
    }
    with pytest.raises(ValueError, match=message):
        attention(q, k, k, **given)


def test_triton_is_refused_where_it_cannot_serve(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(
        ValueError, match=r"impl=.triton. can.t serve this: .*(isn't installed|run on a GPU)"
    ):
        call(impl="triton")


def test_integers_are_refused():
    with pytest.raises(ValueError, match=r"floating-point inputs, got torch\.int64"):
        attention(*(torch.ones(1, 1, 2, 3, dtype=torch.long) for _ in "qkv"))
