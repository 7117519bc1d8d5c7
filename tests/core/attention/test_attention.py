"""The operation's contract: what it means (against a double loop), padding, packed samples, dropout, number types."""

import math

import pytest
import torch

from isoform.core.attention import (
    Dense,
    Table,
    attention,
    attention_rows,
)

from .small_inputs import B, D, G, H, M, N, inputs


def mask(n, seed, keep=0.6):
    return torch.rand(B, n, generator=torch.Generator().manual_seed(seed)) < keep


def by_hand(q, k, v, sees, bias=0.0, scale=None):
    """The definition, one query at a time; sees(b, i, j) says whether query i sees key j."""
    n_batch, n_heads, n_q, n_dims = q.shape
    scale = 1 / math.sqrt(n_dims) if scale is None else scale
    bias = torch.as_tensor(bias, dtype=q.dtype).expand(n_batch, n_heads, n_q, k.shape[2])
    out = torch.zeros_like(q)
    for b in range(n_batch):
        for h in range(n_heads):
            g = h // (n_heads // k.shape[1])
            for i in range(n_q):
                keys = [
                    j for j in range(k.shape[2]) if sees(b, i, j) and bias[b, h, i, j] > -math.inf
                ]
                if keys:
                    weights = torch.stack(
                        [(q[b, h, i] @ k[b, g, j]) * scale + bias[b, h, i, j] for j in keys]
                    ).softmax(0)
                    out[b, h, i] = sum(w * v[b, g, j] for w, j in zip(weights, keys, strict=True))
    return out


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
@pytest.mark.parametrize(
    ("settings", "sees"),
    [
        ({}, lambda b, i, j: True),
        ({"scale": 0.3}, lambda b, i, j: True),
        ({"causal": True}, lambda b, i, j: j <= i + M - N),
        ({"window": 2}, lambda b, i, j: abs(j - (i + M - N)) <= 2),
        ({"window": (3, None)}, lambda b, i, j: j >= i + M - N - 3),
        ({"window": (3, 1), "causal": True}, lambda b, i, j: -3 <= j - (i + M - N) <= 0),
        ({"valid_kv": mask(M, 1)}, lambda b, i, j: bool(mask(M, 1)[b, j])),
        (
            {"valid_kv": mask(M, 1), "causal": True},
            lambda b, i, j: bool(mask(M, 1)[b, j]) and j <= i + M - N,
        ),
    ],
    ids=["all", "scale", "causal", "window", "left", "causal-window", "padding", "padding-causal"],
)
def test_means_what_the_definition_says(impl, settings, sees):
    q, k, v = inputs()
    expected = by_hand(q, k, v, sees, scale=settings.get("scale"))
    torch.testing.assert_close(
        attention(q, k, v, impl=impl, **settings), expected, atol=1e-12, rtol=0
    )


def test_more_queries_than_keys_leave_the_first_without_any_under_causality():
    q, k, v = inputs(n=7, m=3)
    out = attention(q, k, v, causal=True)
    assert out[:, :, :4].eq(0).all()
    torch.testing.assert_close(
        out, by_hand(q, k, v, lambda b, i, j: j <= i - 4), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_and_second_derivatives_of_the_reference(dropout):
    q, k, v = (x[:1, :, :3].detach().requires_grad_() for x in inputs(3, 3, grad=True))
    bias = torch.randn(1, 6, 3, 3, dtype=torch.float64)
    bias[0, :, 1] = -math.inf
    bias.requires_grad_()
    valid = torch.tensor([[True, False, True]])

    def run(q, k, v, bias):
        out = attention(
            q, k, v, bias=bias, valid_kv=valid, dropout=dropout, seed=5, impl="reference"
        )
        return out

    # At -inf a finite difference says nothing: the bias is perturbed only where it is finite.
    def shifted(q, k, v, shift):
        return run(q, k, v, bias.detach() + shift)

    shift = torch.zeros_like(bias).detach().requires_grad_()
    torch.autograd.gradcheck(shifted, (q, k, v, shift))
    torch.autograd.gradgradcheck(shifted, (q, k, v, shift), fast_mode=True)


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
def test_a_row_without_keys_is_zero_and_sends_no_gradient(impl):
    q, k, v = inputs(grad=True)
    bias = torch.zeros(B, H, N, M, dtype=torch.float64)
    bias[1, 2, 3] = -math.inf
    bias.requires_grad_()
    valid = torch.ones(B, M, dtype=torch.bool)
    valid[0] = False
    out = attention(q, k, v, bias=bias, valid_kv=valid, impl=impl)
    assert out[0].eq(0).all() and out[1, 2, 3].eq(0).all() and out[1, 2, 4].ne(0).all()
    dq, dk, dv, dbias = torch.autograd.grad(out.sum() + out.square().sum(), [q, k, v, bias])
    for grad in (dq[0], dk[0], dv[0], dbias[0], dq[1, 2, 3], dbias[1, 2, 3]):
        assert grad.eq(0).all()
    assert all(g.isfinite().all() for g in (dq, dk, dv, dbias)) and dq[1, 2, 4].ne(0).any()


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
def test_queries_that_are_not_real_give_zero_and_send_no_gradient(impl):
    q, k, v = inputs(grad=True)
    valid_q = mask(N, 4)
    out = attention(q, k, v, valid_q=valid_q, impl=impl)
    real = attention(q, k, v, impl=impl)
    hidden = ~valid_q[:, None, :, None].expand_as(out)
    assert out[hidden].eq(0).all()
    torch.testing.assert_close(out[~hidden], real[~hidden])
    dq, dk = torch.autograd.grad(out.sum(), [q, k])
    assert dq[hidden].eq(0).all()
    torch.testing.assert_close(dk, torch.autograd.grad(real[~hidden].sum(), k)[0])


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
@pytest.mark.parametrize(
    "settings", [{}, {"causal": True}, {"window": (2, 1)}, {"bias": True}], ids=str
)
def test_what_padding_holds_and_how_much_there_is_changes_nothing(impl, settings):
    """Real tokens stand at the front, at the back and scattered; padding holds huge values."""
    q, k, v = inputs()
    settings = dict(settings)
    where_q, where_kv = (
        torch.tensor([0, 1, 2, 4, 7, 9, 12]),
        torch.tensor([1, 2, 3, 4, 6, 7, 8, 11, 12, 13, 16]),
    )
    if settings.pop("bias", None):
        small = torch.randn(B, H, N, M, dtype=torch.float64)
        large = torch.randn(B, H, 13, 17, dtype=torch.float64)
        large[:, :, where_q[:, None], where_kv] = small
        tight, loose = settings | {"bias": small}, settings | {"bias": large}
    else:
        tight = loose = settings

    def spread(x, where, n):
        wide = torch.full((*x.shape[:2], n, D), 1e9, dtype=x.dtype)
        wide[:, :, where] = x
        return wide

    valid_q, valid_kv = torch.zeros(B, 13, dtype=torch.bool), torch.zeros(B, 17, dtype=torch.bool)
    valid_q[:, where_q], valid_kv[:, where_kv] = True, True
    wide = [spread(q, where_q, 13), spread(k, where_kv, 17), spread(v, where_kv, 17)]
    out = attention(*wide, valid_q=valid_q, valid_kv=valid_kv, impl=impl, **loose)
    torch.testing.assert_close(
        out[:, :, where_q], attention(q, k, v, impl=impl, **tight), atol=1e-12, rtol=0
    )


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
@pytest.mark.parametrize("settings", [{}, {"causal": True}, {"window": (2, 1)}], ids=str)
@pytest.mark.parametrize("cross", [False, True], ids=["self", "cross"])
def test_packed_is_padded_without_the_padding(impl, settings, cross):
    lengths_q, lengths_kv = [5, 0, 3, 7], [2, 4, 0, 11]
    lengths_kv = lengths_kv if cross else lengths_q
    g = torch.Generator().manual_seed(0)
    q = torch.randn(sum(lengths_q), H, D, generator=g, dtype=torch.float64, requires_grad=True)
    k, v = (
        torch.randn(sum(lengths_kv), G, D, generator=g, dtype=torch.float64, requires_grad=True)
        for _ in "kv"
    )
    offsets = [torch.tensor([0, *lengths]).cumsum(0) for lengths in (lengths_q, lengths_kv)]
    given = {"offsets_q": offsets[0]} | ({"offsets_kv": offsets[1]} if cross else {})
    out = attention(q, k, v, impl=impl, **given, **settings)
    parts = [
        attention(*(x[None].transpose(1, 2) for x in sample), impl="reference", **settings)[
            0
        ].transpose(0, 1)
        for sample in zip(q.split(lengths_q), k.split(lengths_kv), v.split(lengths_kv), strict=True)
    ]
    expected = torch.cat(parts)
    torch.testing.assert_close(out, expected, atol=1e-12, rtol=0)
    weight = torch.randn(out.shape, generator=g, dtype=torch.float64)
    for got, want in zip(
        *(torch.autograd.grad((x * weight).sum(), [q, k, v]) for x in (out, expected)), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("impl", ["reference", "sdpa", "auto"])
@pytest.mark.parametrize("wide", [1, 13])
@pytest.mark.parametrize("settings", [{}, {"causal": True}, {"dropout": 0.3, "seed": 5}], ids=str)
def test_values_of_another_width_are_mixed_by_the_same_probabilities(impl, wide, settings):
    """Feature by feature: what each of the value's features gets doesn't depend on how many others there are."""
    q, k, _ = inputs()
    v = torch.randn(B, G, M, wide, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    out = attention(q, k, v, impl=impl, **settings)
    assert out.shape == (B, H, N, wide)
    for feature in {0, wide - 1}:
        alone = v[..., [feature]].expand(-1, -1, -1, D).contiguous()
        expected = attention(q, k, alone, impl="reference", **settings)[..., 0]
        torch.testing.assert_close(out[..., feature], expected, atol=1e-12, rtol=0)


def test_packed_values_of_another_width():
    lengths, wide = [5, 0, 3, 7], 11
    g = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(15, n, d, generator=g, dtype=torch.float64)
        for n, d in ((H, D), (G, D), (G, wide))
    )
    offsets = torch.tensor([0, *lengths]).cumsum(0)
    out = attention(q, k, v, offsets_q=offsets)
    parts = [
        attention(*(x[None].transpose(1, 2) for x in sample), impl="reference")[0].transpose(0, 1)
        for sample in zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
    ]
    torch.testing.assert_close(out, torch.cat(parts), atol=1e-12, rtol=0)
    nothing = attention(
        q[:0], k, v, offsets_q=torch.tensor([0, 0]), offsets_kv=torch.tensor([0, 15])
    )
    assert nothing.shape == (0, H, wide)
    keyless = attention(
        q, k[:0], v[:0], offsets_q=torch.tensor([0, 15]), offsets_kv=torch.tensor([0, 0])
    )
    assert keyless.shape == (15, H, wide) and keyless.eq(0).all()


def test_packed_samples_of_one_length_are_not_masked():
    q, k, v = inputs(n=M)
    packed = [x.transpose(1, 2).flatten(0, 1) for x in (q, k, v)]
    out = attention(*packed, offsets_q=torch.tensor([0, M, 2 * M]))
    torch.testing.assert_close(
        out.unflatten(0, (B, M)).transpose(1, 2), attention(q, k, v), atol=1e-14, rtol=0
    )


@pytest.mark.parametrize(
    "settings",
    [{}, {"causal": True}, {"window": 1}, {"valid_kv": mask(M, 3)}],
    ids=lambda s: str([*s]),
)
@pytest.mark.parametrize("rows", [[0], [2, -1], slice(1, 4), torch.tensor([6, 0, 6])], ids=str)
def test_chosen_rows_are_rows_of_the_whole(settings, rows):
    q, k, _ = inputs(grad=True)
    table = torch.randn(13, H, dtype=torch.float64)
    bias = Table(torch.randint(0, 13, (B, N, M), dtype=torch.uint8), table)
    # With the identity for values, attention gives its probabilities.
    eye = torch.eye(M, dtype=torch.float64).expand(B, G, M, M)
    wide_q, wide_k = (torch.nn.functional.pad(x, (0, M - D)) for x in (q, k))
    valid_q = torch.tensor([[True] * N, [True, False, False, True, True, False, False]])
    whole = attention(
        wide_q, wide_k, eye, bias=bias, valid_q=valid_q, scale=0.7, impl="reference", **settings
    )
    some = attention_rows(q, k, rows, bias=bias, valid_q=valid_q, scale=0.7, **settings)
    torch.testing.assert_close(some, whole[:, :, rows], atol=1e-12, rtol=0)
    assert torch.autograd.grad(some.square().sum(), k)[0].ne(0).any()


def test_dropout_is_the_seeds_in_every_implementation():
    q, k, v = inputs(grad=True)
    runs = [
        attention(q, k, v, dropout=0.4, seed=3, impl=impl) for impl in ("reference", "sdpa", "auto")
    ]
    grads = [torch.autograd.grad(out.square().sum(), [q, k, v]) for out in runs]
    for out, grad in zip(runs[1:], grads[1:], strict=True):
        torch.testing.assert_close(out, runs[0], atol=1e-12, rtol=0)
        torch.testing.assert_close(grad, grads[0], atol=1e-11, rtol=0)
    assert not torch.allclose(runs[0], attention(q, k, v, dropout=0.4, seed=4))


def test_dropout_without_a_seed_follows_torchs_global_generator():
    q, k, v = inputs()
    torch.manual_seed(1)
    first, second = attention(q, k, v, dropout=0.4), attention(q, k, v, dropout=0.4)
    torch.manual_seed(1)
    again = attention(q, k, v, dropout=0.4)
    assert torch.equal(first, again) and not torch.equal(first, second)


def test_dropout_drops_its_share_and_keeps_the_mean():
    ones = torch.ones(1, 2, 64, 64)
    eye = torch.eye(64).expand(1, 2, 64, 64)
    p = attention(ones, ones, eye, dropout=0.25, seed=0) * 64
    assert abs((p == 0).float().mean() - 0.25) < 0.02 and abs(p.mean() - 1) < 0.02
    assert p[p > 0].sub(1 / 0.75).abs().max() < 1e-5


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
@pytest.mark.parametrize(("n", "m"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_attend_from_or_to(impl, n, m):
    q, k, v = inputs(n, m, grad=True)
    out = attention(q, k, v, impl=impl, causal=True)
    assert out.shape == (B, H, n, D) and out.eq(0).all()
    assert torch.autograd.grad(out.sum(), q)[0].eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("impl", ["reference", "sdpa"])
def test_scores_bias_and_softmax_are_float32(dtype, impl):
    """A bias of 256 +- 0.5 is flat in bfloat16; it has to tell."""
    q, k, v = inputs(dtype=dtype)
    bias = 256 + torch.rand(B, H, N, M) - 0.5
    out = attention(q, k, v, bias=bias, impl=impl)
    expected = attention(q.double(), k.double(), v.double(), bias=bias.double(), impl="reference")
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.double(), expected, atol=2e-2 if dtype == torch.bfloat16 else 2e-3, rtol=0
    )


@pytest.mark.parametrize("impl", ["reference", "sdpa"])
def test_autocast_rounds_the_inputs_and_not_the_bias(impl):
    q, k, v = inputs(dtype=torch.float32)
    bias = 256 + torch.rand(B, H, N, M) - 0.5
    with torch.autocast("cpu", torch.bfloat16):
        out = attention(q, k, v, bias=bias, impl=impl)
    assert torch.equal(
        out, attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), bias=bias, impl=impl)
    )


def test_a_tensor_is_a_dense_bias():
    q, k, v = inputs()
    bias = torch.randn(N, M, dtype=torch.float64)
    assert torch.equal(attention(q, k, v, bias=bias), attention(q, k, v, bias=Dense(bias)))
