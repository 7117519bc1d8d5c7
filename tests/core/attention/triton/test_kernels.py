"""The Triton kernels in Triton's interpreter, against the float64 meaning of every mode; tiles are 32 x 32."""

from __future__ import annotations

import math

import pytest
import torch

from isoform.core.attention import attention, triton_launch
from isoform.core.attention.bias import Dense
from kernel_cases import CASES, MODES, SCALE, Case, call, compare, deterministic, inputs, make


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("mode", MODES)
def test_every_mode_agrees_with_float64(mode):
    compare(Case(n=19, bias=MODES[mode], padded=True), 2e-6)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("name", CASES)
def test_agrees_with_float64(name):
    compare(CASES[name], 2e-6)


ROUGH = [(torch.float16, 1e-3), (torch.bfloat16, 1e-2)]


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(("dtype", "tolerance"), ROUGH)
@pytest.mark.parametrize("mode", ["none", "dense", "path + table", "distance"])
def test_agrees_in_16_bits(dtype, tolerance, mode):
    case = Case(b=1, g=1, n=37, m=19, d=24, bias=MODES[mode], padded=True, causal=True, dtype=dtype)
    found = compare(case, tolerance)
    assert all(t.dtype == dtype for t in found[:4])


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("mode", ["table", "path", "distance", "slope", "grid"])
def test_deterministic_sums_agree_with_float64(mode):
    compare(deterministic(Case(bias=MODES[mode])), 2e-6)


def test_deterministic_sums_do_not_depend_on_the_order_of_programs(monkeypatch):
    """Samples in reverse: the same addends meet in one cell in another order, and give the same bits."""
    monkeypatch.setattr(triton_launch, "MOST_COPIES", 1)
    x = inputs(Case(b=5, h=1, g=1, n=11, m=13, bias=("table",)))
    found = []
    torch.use_deterministic_algorithms(True)
    try:
        for turned in (False, True):
            q, k, v, ids = x.q, x.k, x.v, x.bias.ids_BNM
            if turned:
                q, k, v, ids = (t.flip(0) for t in (q, k, v, ids))
            table = x.bias.table_VH.detach().requires_grad_()
            out = attention(q, k, v, bias=type(x.bias)(ids, table), impl="triton")
            found.append(torch.autograd.grad(out.square().sum(), table)[0])
    finally:
        torch.use_deterministic_algorithms(False)
    assert found[0].equal(found[1]) and found[0].abs().max() > 0.1


@pytest.mark.usefixtures("guarded")
def test_float32_bias_with_16_bit_tokens():
    case = Case(m=17, padded=True, dtype=torch.float16)
    x = inputs(case)
    x.bias = Dense(make(2, 2, 13, 17))
    found = compare(case, 1e-3, x)
    assert found[4].dtype == torch.float32


@pytest.mark.usefixtures("guarded")
def test_partial_sums_of_a_shared_bias(monkeypatch):
    """With room for 4 programs, 7 shares are visited as 4 runs of 2, the last of them short."""
    monkeypatch.setattr(triton_launch, "VALUES_PROGRAMS", 4)
    compare(Case(b=7, h=1, g=1, n=11, m=13, bias=("dense",), shape=(11, 13)), 2e-6)


@pytest.mark.usefixtures("guarded")
def test_copies_of_a_tables_gradient(monkeypatch):
    """Programs of one head write to different copies; with a single copy they meet, and the sum is the same."""
    case = Case(b=3, h=1, g=1, n=11, m=13, bias=("table",))
    compare(case, 2e-6)
    monkeypatch.setattr(triton_launch, "MOST_COPIES", 1)
    compare(case, 2e-6)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("mode", ["dense", "table"])
def test_queries_without_keys_give_nothing(mode):
    case = Case(g=1, n=11, m=13, bias=MODES[mode], padded=True)
    x = inputs(case)
    x.valid_kv[0], x.valid_kv[1] = True, False
    for gradient in compare(case, 2e-6, x)[:4]:
        assert (gradient[1] == 0).all() and (gradient[0] != 0).any()


@pytest.mark.usefixtures("guarded")
def test_no_keys_at_all():
    x = inputs(Case(b=1, n=5, m=0))
    out = call(Case(), x)
    dq, dk, _ = torch.autograd.grad(out.sum(), x.learnt())
    assert (out == 0).all() and (dq == 0).all() and dk.shape == (1, 2, 0, 16)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("mode", ["dense", "table"])
def test_masks_written_as_bias(mode):
    """-inf hides a key, in a whole row all of them; the lowest float hides it only beside others that are higher."""
    case = Case(b=1, h=1, g=1, n=11, m=13, bias=MODES[mode])
    x = inputs(case)
    with torch.no_grad():
        if mode == "dense":
            hidden = x.bias.b
            hidden[:, :, :, 5:] = -math.inf
            hidden[:, :, 7, ::2] = torch.finfo(torch.float32).min
            hidden[:, :, 8] = torch.finfo(torch.float32).min
            hidden[:, :, 3] = -math.inf
        else:
            x.bias.table_VH[2] = -math.inf
            x.bias.ids_BNM[:, 3] = 2
            x.bias.ids_BNM[:, 8] = 1
            x.bias.table_VH[1] = torch.finfo(torch.float32).min
    out, dq, *_ = compare(case, 2e-6, x)
    assert (out[:, :, 3] == 0).all() and (dq[:, :, 3] == 0).all()
    assert out[0, 0, 8].allclose(x.v[0, 0].mean(0), atol=1e-6)


@pytest.mark.usefixtures("guarded")
def test_views_of_one_projection():
    """q, k, v as slices of [B, N, 3, H, D], as a joint projection leaves them; the gradient is one number expanded."""
    qkv = make(2, 13, 3, 2, 16)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    (found,) = torch.autograd.grad(attention(q, k, v, impl="triton").sum(), qkv)
    wide = qkv.detach().double().requires_grad_()
    out = attention(*wide.permute(2, 0, 3, 1, 4), impl="reference")
    assert found.allclose(torch.autograd.grad(out.sum(), wide)[0].float(), atol=1e-5)


def test_features_that_are_not_contiguous():
    q, k, v = (make(1, 2, 16, 13).mT for _ in range(3))
    bias = make(1, 2, 13, 13).mT
    found = attention(q, k, v, bias=bias, scale=SCALE, impl="triton")
    exact = attention(*(t.double() for t in (q, k, v)), bias=bias, scale=SCALE, impl="reference")
    assert found.allclose(exact.float(), atol=1e-5)


def test_joining_the_heads_is_a_view():
    case = Case(h=3, g=3, n=5, m=7)
    assert call(case, inputs(case)).transpose(1, 2).is_contiguous()


def test_dropout_draws_a_new_seed_from_torchs_generator():
    x = inputs(Case(b=1, n=5, m=7))
    torch.manual_seed(3)
    first, second = (attention(x.q, x.k, x.v, dropout=0.5, impl="triton") for _ in range(2))
    torch.manual_seed(3)
    assert first.equal(attention(x.q, x.k, x.v, dropout=0.5, impl="triton"))
    assert not first.equal(second)


def test_coordinates_that_want_a_gradient_are_refused():
    case = Case(bias=("slope",))
    x = inputs(case)
    x.bias.coords_q_BNC.requires_grad_()
    with pytest.raises(ValueError, match="not the coordinates of a distance"):
        call(case, x)
