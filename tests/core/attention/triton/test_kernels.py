"""The Triton kernels in Triton's interpreter, against the float64 reference.

B samples, H query heads, G key heads, N queries, M keys, D features; the interpreter's tiles are 32 x 32.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from isoform.core.attention import attention, triton_op
from isoform.core.attention.triton_op import attention_triton

SCALE = 0.3


def bordered(values: Tensor) -> Tensor:
    """The same values inside a buffer of NaN (or True), so that a read out of bounds shows in the result."""
    fill = math.nan if values.is_floating_point() else True
    buffer = torch.full((values.numel() + 1024,), fill, dtype=values.dtype)
    buffer[512:-512] = values.flatten()
    return buffer[512:-512].view(values.shape)


def make(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return bordered(torch.randn(shape).to(dtype)).requires_grad_()


def inputs(b, h, g, n, m, d, bias=None, padded=False, dtype=torch.float32):
    q, k, v = (
        make(b, h, n, d, dtype=dtype),
        make(b, g, m, d, dtype=dtype),
        make(b, g, m, d, dtype=dtype),
    )
    valid = bordered(torch.rand(b, m) < 0.6) if padded else None
    return q, k, v, None if bias is None else make(*bias, dtype=dtype), valid


def reference(q, k, v, bias, valid, causal, scale=SCALE):
    q, k, v, bias = (None if t is None else t.double() for t in (q, k, v, bias))
    return attention(
        q, k, v, bias=bias, valid_kv=valid, causal=causal, scale=scale, impl="reference"
    )


def compare(q, k, v, bias, valid, causal, tolerance) -> list[Tensor]:
    """Output and all gradients agree with the float64 reference within `tolerance` times the largest element or 1."""
    tensors = [t for t in (q, k, v, bias) if t is not None]
    out = attention_triton(q, k, v, bias, valid, causal, SCALE)
    do = torch.randn(out.shape).to(out.dtype)
    found = [out, *torch.autograd.grad(out, tensors, do)]
    expected_out = reference(q, k, v, bias, valid, causal)
    expected = [expected_out, *torch.autograd.grad(expected_out, tensors, do.double())]
    for name, a, b in zip(("out", "dq", "dk", "dv", "dbias"), found, expected, strict=False):
        assert a.shape == b.shape
        error = (a.double() - b.double()).abs().max() / b.double().abs().max().clamp(min=1)
        assert error <= tolerance, f"{name}: {error:.1e}"
    return found


CASES = {
    # B, H, G, N, M, D, bias, padded, causal
    "plain": (2, 3, 3, 17, 23, 16, None, False, False),
    "ragged tiles": (1, 2, 2, 37, 67, 24, None, False, False),
    "one query, one key": (1, 1, 1, 1, 1, 16, None, False, False),
    "odd features": (1, 1, 1, 13, 11, 7, None, False, False),
    "80 features": (1, 2, 1, 13, 19, 80, (1, 2, 13, 19), False, False),
    "128 features": (1, 1, 1, 13, 19, 128, None, False, True),
    "padding": (2, 2, 2, 13, 37, 16, None, True, False),
    "causal": (1, 2, 2, 41, 41, 16, None, False, True),
    "causal, fewer queries": (1, 1, 1, 11, 47, 16, None, False, True),
    "causal, queries without keys": (1, 1, 1, 71, 29, 16, None, False, True),
    "grouped queries": (2, 6, 2, 11, 13, 16, None, False, False),
    "multi-query": (1, 5, 1, 11, 13, 16, None, False, True),
    "dense bias": (2, 2, 2, 13, 37, 16, (2, 2, 13, 37), False, False),
    "everything": (2, 4, 2, 43, 37, 24, (2, 4, 43, 37), True, True),
    "causal dense bias, queries without keys": (1, 1, 1, 43, 17, 16, (1, 1, 43, 17), False, True),
    "bias shared by samples": (3, 2, 2, 13, 37, 16, (1, 2, 13, 37), True, False),
    "bias shared by heads": (2, 3, 1, 13, 17, 16, (2, 1, 13, 17), False, True),
    "bias shared by queries": (2, 2, 2, 37, 17, 16, (2, 2, 1, 17), False, False),
    "bias shared by samples and heads": (2, 3, 3, 37, 13, 16, (37, 13), False, False),
    "bias shared by all": (2, 2, 1, 37, 13, 16, (13,), True, True),
    "bias shared by keys": (1, 2, 2, 13, 17, 16, (2, 13, 1), False, False),
}


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize("case", CASES)
def test_agrees_with_float64(case):
    b, h, g, n, m, d, bias, padded, causal = CASES[case]
    compare(*inputs(b, h, g, n, m, d, bias, padded), causal, tolerance=2e-6)


@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 1.5e-2)])
@pytest.mark.parametrize(
    "bias", [None, (1, 2, 37, 19), (1, 1, 37, 19)], ids=["no bias", "dense", "shared"]
)
def test_agrees_in_16_bits(dtype, tolerance, bias):
    found = compare(*inputs(1, 2, 1, 37, 19, 24, bias, True, dtype), True, tolerance)
    assert all(t.dtype == dtype for t in found)


@pytest.mark.usefixtures("guarded")
def test_float32_bias_with_16_bit_tokens():
    q, k, v, _, valid = inputs(1, 2, 2, 13, 17, 16, None, True, torch.float16)
    found = compare(q, k, v, make(1, 2, 13, 17), valid, False, 2e-3)
    assert found[4].dtype == torch.float32


@pytest.mark.usefixtures("guarded")
def test_partial_sums_of_a_shared_bias(monkeypatch):
    """With room for 4 programs, 7 shares are visited as 4 runs of 2, the last of them short."""
    monkeypatch.setattr(triton_op, "BIAS_PROGRAMS", 4)
    compare(*inputs(7, 1, 1, 11, 13, 16, (1, 1, 11, 13)), False, 2e-6)


@pytest.mark.usefixtures("guarded")
def test_queries_without_keys_give_nothing():
    q, k, v, bias, _ = inputs(2, 2, 1, 11, 13, 16, (2, 2, 11, 13))
    valid = torch.ones(2, 13, dtype=torch.bool)
    valid[1] = False
    out, dq, dk, dv, dbias = compare(q, k, v, bias, valid, False, 2e-6)
    for gradient in (out, dq, dk, dv, dbias):
        assert (gradient[1] == 0).all() and (gradient[0] != 0).any()


@pytest.mark.usefixtures("guarded")
def test_no_keys_at_all():
    q, k, v, _, _ = inputs(1, 2, 2, 5, 0, 16)
    out = attention_triton(q, k, v, None, None, False, None)
    dq, dk, _ = torch.autograd.grad(out.sum(), (q, k, v))
    assert (out == 0).all() and (dq == 0).all() and dk.shape == (1, 2, 0, 16)


@pytest.mark.usefixtures("guarded")
def test_masks_written_as_bias():
    """-inf hides a key, in a whole row all of them; the lowest float hides it only beside others that are higher."""
    q, k, v, bias, _ = inputs(1, 1, 1, 11, 13, 16, (1, 1, 11, 13))
    with torch.no_grad():
        bias[:, :, :, 5:] = -math.inf
        bias[:, :, 3] = -math.inf
        bias[:, :, 7, ::2] = torch.finfo(torch.float32).min
        bias[:, :, 8] = torch.finfo(torch.float32).min
    out, dq, *_, dbias = compare(q, k, v, bias, None, False, 2e-6)
    assert (
        (out[:, :, 3] == 0).all()
        and (dq[:, :, 3] == 0).all()
        and (dbias[:, :, :, 5:][:, :, :7] == 0).all()
    )
    assert out[0, 0, 8].allclose(v[0, 0].mean(0), atol=1e-6)


@pytest.mark.usefixtures("guarded")
def test_views_of_one_projection():
    """q, k, v as slices of [B, N, 3, H, D], as a joint projection leaves them; the gradient is one number expanded."""
    qkv = make(2, 13, 3, 2, 16)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    (found,) = torch.autograd.grad(attention_triton(q, k, v, None, None, False, SCALE).sum(), qkv)
    (expected,) = torch.autograd.grad(reference(q, k, v, None, None, False).sum(), qkv)
    assert found.allclose(expected.to(found.dtype), atol=1e-5)


def test_features_that_are_not_contiguous():
    q, k, v = (make(1, 2, 16, 13).mT for _ in range(3))
    bias = make(1, 2, 13, 13).mT
    found = attention_triton(q, k, v, bias, None, False, SCALE)
    assert found.allclose(reference(q, k, v, bias, None, False).float(), atol=1e-5)


def test_joining_the_heads_is_a_view():
    out = attention_triton(*inputs(2, 3, 3, 5, 7, 16), False, None)
    assert out.transpose(1, 2).is_contiguous()


def test_default_scale():
    q, k, v, _, _ = inputs(1, 1, 1, 5, 7, 20)
    found = attention_triton(q, k, v, None, None, False, None)
    assert found.allclose(reference(q, k, v, None, None, False, 20**-0.5).float(), atol=1e-6)


@pytest.mark.parametrize("bias", [None, (2, 2, 5, 7)], ids=["no bias", "bias"])
def test_operators_obey_pytorchs_rules(bias):
    q, k, v, bias, valid = inputs(2, 2, 1, 5, 7, 16, bias, True)
    torch.library.opcheck(triton_op.attention_forward, (q, k, v, bias, valid, True, SCALE))
    q, k, v, bias = (None if t is None else t.detach() for t in (q, k, v, bias))
    out, lse = triton_op.attention_forward(q, k, v, bias, valid, True, SCALE)
    arguments = (
        torch.randn_like(out),
        q,
        k,
        v,
        bias,
        valid,
        out,
        lse,
        True,
        SCALE,
        bias is not None,
    )
    torch.library.opcheck(
        triton_op.attention_backward, arguments, test_utils=("test_schema", "test_faketensor")
    )


def test_compiles_as_one_graph():
    q, k, v, bias, valid = inputs(1, 2, 1, 5, 7, 16, (1, 2, 5, 7), True)

    def step(q, k, v, bias):
        return attention_triton(2 * q, k, v, bias, valid, True, SCALE).transpose(1, 2).flatten(2)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    do = torch.randn(1, 5, 32)
    found = torch.autograd.grad(compiled(q, k, v, bias), (q, k, v, bias), do)
    expected = torch.autograd.grad(step(q, k, v, bias), (q, k, v, bias), do)
    assert all(a.equal(b) for a, b in zip(found, expected, strict=True))


def test_gradient_only_where_asked():
    q, k, v, bias, _ = inputs(1, 2, 1, 5, 7, 16, (1, 2, 5, 7))
    attention_triton(q, k.detach(), v.detach(), bias.detach(), None, False, None).sum().backward()
    assert q.grad is not None and k.grad is None and bias.grad is None


def test_second_derivatives_are_refused():
    q, k, v, _, _ = inputs(1, 1, 1, 5, 7, 16)
    (dq,) = torch.autograd.grad(
        attention_triton(q, k, v, None, None, False, None).sum(), q, create_graph=True
    )
    with pytest.raises(RuntimeError):
        torch.autograd.grad(dq.sum(), q)
