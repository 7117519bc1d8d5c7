"""The Triton kernels as PyTorch operators: its checks of schemas, fakes and gradients; whole-graph compilation."""

from __future__ import annotations

import pytest
import torch

from isoform.core.attention import attention, triton_op
from isoform.core.attention.triton_op import attention_backward, attention_forward
from kernel_cases import MODES, Case, call, inputs


def captured(case: Case, monkeypatch) -> tuple:
    """The arguments with which a case reaches the operator."""
    seen = []
    monkeypatch.setattr(
        triton_op, "attention_forward", lambda *a: seen.append(a) or (a[0], None, None)
    )
    call(case, inputs(case))
    monkeypatch.undo()
    return seen[0]


@pytest.mark.parametrize("mode", ["none", "dense", "path + table", "all"])
def test_operators_obey_pytorchs_rules(mode, monkeypatch):
    arguments = captured(Case(g=1, n=5, m=7, bias=MODES[mode], padded=True), monkeypatch)
    leaf = [x.detach() for x in arguments[3]]
    arguments = tuple(
        [x.requires_grad_() if x.is_floating_point() else x for x in leaf] if i == 3 else x
        for i, x in enumerate(arguments)
    )
    torch.library.opcheck(attention_forward, arguments, test_utils=RULES)
    detached = tuple(
        [y.detach() for y in x]
        if isinstance(x, list)
        else x.detach()
        if isinstance(x, torch.Tensor)
        else x
        for x in arguments
    )
    out, lse, rest = attention_forward(*detached)
    wants = [x.is_floating_point() for x in leaf]
    backward = (torch.randn_like(out), out, lse, rest, wants, False, *detached)
    torch.library.opcheck(
        attention_backward, backward, test_utils=("test_schema", "test_faketensor")
    )


RULES = ("test_schema", "test_autograd_registration", "test_faketensor")


@pytest.mark.parametrize(
    "case",
    [
        Case(g=1, n=5, m=7, bias=("path", "table"), padded=True, causal=True),
        Case(g=1, n=5, m=7, bias=("distance", "grid", "dense"), dropout=0.5, window=(3, 1)),
    ],
    ids=["path + table", "distance + grid + dense"],
)
def test_compiles_as_one_graph(case):
    x = inputs(case)

    def step(q, k, v, bias):
        return attention(
            2 * q,
            k,
            v,
            bias=bias,
            valid_kv=x.valid_kv,
            causal=case.causal,
            window=case.window,
            dropout=case.dropout,
            seed=3,
            impl="triton",
        ).flatten(2)

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    do = torch.randn(2, 2, 5 * 16)
    found = torch.autograd.grad(compiled(x.q, x.k, x.v, x.bias), x.learnt(), do)
    expected = torch.autograd.grad(step(x.q, x.k, x.v, x.bias), x.learnt(), do)
    assert all(a.allclose(b, atol=1e-6) for a, b in zip(found, expected, strict=True))


def test_gradient_only_where_asked():
    case = Case(b=1, g=1, n=5, m=7, bias=("dense",))
    x = inputs(case)
    attention(x.q, x.k.detach(), x.v.detach(), bias=x.bias, impl="triton").sum().backward()
    assert x.q.grad is not None and x.k.grad is None and x.bias.b.grad is not None


def test_second_derivatives_are_refused():
    x = inputs(Case(b=1, h=1, g=1, n=5, m=7))
    out = attention(x.q, x.k, x.v, impl="triton")
    (dq,) = torch.autograd.grad(out.sum(), x.q, create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(dq.sum(), x.q)
