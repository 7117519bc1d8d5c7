"""The fused path and the chunked one: equal to the float64 reference, fused where they say so, within their bound."""

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from isoform.core.attention import (
    Dense,
    Distance,
    Gaussians,
    PathTable,
    Table,
    attention,
    bias,
    chunked,
    materialise,
)
from isoform.core.attention import dispatch as choices

pytestmark = pytest.mark.usefixtures("without_native")  # the operators that serve where it can't
FLASH = "aten::_scaled_dot_product_flash_attention_for_cpu"
MATH = "aten::_scaled_dot_product_attention_math"


def draw(sizes, name, dtype=torch.float32):
    """q, k, v, settings; all floating-point tensors require gradients."""
    b, h, g, n, m, d, *wide = sizes
    gen = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=gen, dtype=dtype, requires_grad=True)

    def ids(*shape):
        return torch.randint(0, 13, shape, generator=gen)

    def chance(*shape):
        return torch.rand(shape, generator=gen) < 0.7

    q, k, v = normal(b, h, n, d), normal(b, g, m, d), normal(b, g, m, *(wide or [d]))
    valid_kv = chance(b, m)
    valid_kv[0] = False  # a sample whose rows are all empty
    holes = torch.randn(b, h, n, m, generator=gen, dtype=dtype)
    holes[-1, 0, 1] = holes[:, :, :, 0] = -torch.inf
    values = {
        "dense": lambda: Dense(holes.requires_grad_()),
        "head": lambda: Dense(normal(h, n, m)),
        "row": lambda: Dense(normal(b, 1, 1, m)),
        "column": lambda: Dense(normal(1, h, n, 1)),
        "table": lambda: Table(ids(b, n, m).to(torch.uint8), normal(13, h)),
        "relative": lambda: Table(ids(1, n, m), normal(13, h)),
        "path": lambda: PathTable(
            ids(b, n, m, 3, 2).short(), ids(b, n, m), normal(13, h), normal(5, h, h)
        ),
        "distance": lambda: Distance(
            normal(b, n, 3),
            normal(b, m, 3),
            Gaussians(normal(3), (normal(3).detach().abs() + 1), normal(3, h)),
        ),
    }
    values["sum"] = lambda: values["table"]() + values["distance"]() + values["head"]()
    settings = {
        "plain": {},
        "causal": {"causal": True},
        "window": {"window": (2, 1)},
        "padding": {"valid_kv": valid_kv},
        "uneven": {"valid_kv": valid_kv, "valid_q": chance(b, n), "causal": True, "window": (5, 0)},
        "dropout": {"dropout": 0.3, "seed": 7, "valid_kv": valid_kv},
    }
    if name in settings:
        return q, k, v, settings[name]
    made = values[name]()
    more = (
        {"causal": True, "valid_kv": valid_kv, "dropout": 0.2, "seed": 1} if name == "sum" else {}
    )
    return q, k, v, {"bias": made} | more


def run(q, k, v, settings, impl):
    """Output and every gradient."""
    inputs = tree_map(
        lambda x: (
            x.detach().requires_grad_(x.is_floating_point()) if isinstance(x, torch.Tensor) else x
        ),
        (q, k, v, settings),
    )
    q, k, v, settings = inputs
    out = attention(q, k, v, impl=impl, **settings)
    weight = torch.randn(
        out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).to(out.dtype)
    leaves = [x for x in tree_flatten(inputs)[0] if isinstance(x, torch.Tensor) and x.requires_grad]
    return [out, *torch.autograd.grad((out * weight).sum(), leaves)]


def to(value, dtype):
    return tree_map(
        lambda x: x.to(dtype) if isinstance(x, torch.Tensor) and x.is_floating_point() else x, value
    )


# Samples, heads, key heads, queries, keys, features, and those of a value where they differ.
SIZES = [
    (2, 3, 3, 5, 7, 11),
    (3, 6, 2, 13, 5, 7),
    (2, 5, 1, 17, 17, 3),
    (2, 6, 3, 5, 7, 2, 13),
    (2, 3, 1, 7, 11, 5, 3),
]
NAMES = ["plain", "causal", "window", "padding", "uneven", "dropout"]
BIASES = ["dense", "head", "row", "column", "table", "relative", "path", "distance", "sum"]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES + BIASES)
@pytest.mark.parametrize(
    "limit", [None, 1 << 26, 900, 1], ids=["stored", "whole", "rows", "one-row"]
)
def test_equals_the_float64_reference(monkeypatch, sizes, name, limit):
    """Float32 against float64, forward and every gradient, at once and in chunks of some rows or of one."""
    drawn = draw(sizes, name)
    exact = run(*to(drawn, torch.float64), "reference")
    if limit:
        monkeypatch.setattr(bias, "LIMIT_BYTES", limit)
        monkeypatch.setattr(choices, "KEPT_KEYS", 0)
    for got, want in zip(run(*drawn, "sdpa"), exact, strict=True):
        torch.testing.assert_close(got.double(), want, atol=3e-5, rtol=3e-5)


@pytest.mark.parametrize("sizes", [SIZES[1], SIZES[3]], ids=str)
@pytest.mark.parametrize("name", ["padding", "table", "sum"])
def test_float64_is_served_in_float64(name, sizes):
    drawn = draw(sizes, name, torch.float64)
    for got, want in zip(run(*drawn, "sdpa"), run(*drawn, "reference"), strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["plain", "table", "dropout"])
@pytest.mark.parametrize("sizes", [SIZES[1], SIZES[3]], ids=str)
def test_small_types_are_as_close_as_their_rounding(dtype, name, sizes):
    drawn = to(draw(sizes, name), dtype)
    exact = run(*to(drawn, torch.float64), "reference")
    eager = run(*drawn, "reference")
    for got, coarse, want in zip(run(*drawn, "sdpa"), eager, exact, strict=True):
        bound = (
            3 * (coarse.double() - want).abs().max() + 4 * torch.finfo(dtype).eps * want.abs().max()
        )
        assert got.dtype == coarse.dtype and (got.double() - want).abs().max() <= bound


def test_rows_masked_by_the_lowest_number_keep_their_gradients():
    """Their log-sum-exp is the lowest number too, and says nothing of how many keys share the row."""
    q, k, v, _ = draw(SIZES[0], "plain")
    lowest = torch.zeros(2, 3, 5, 7)
    lowest[0, :, 2:] = torch.finfo(torch.float32).min
    settings = {"bias": Dense(lowest.requires_grad_())}
    for got, want in zip(
        *(run(q, k, v, settings, impl) for impl in ("sdpa", "reference")), strict=True
    ):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


def test_two_chunks_of_samples_and_of_rows_are_planned(monkeypatch):
    q = torch.zeros(5, 2, 7, 3)
    monkeypatch.setattr(bias, "LIMIT_BYTES", 4 * 2 * 7 * 11 * 2)
    assert list(chunked.plan(q, 11, None)) == [(slice(b, b + 2), [slice(0, 7)]) for b in (0, 2, 4)]
    monkeypatch.setattr(bias, "LIMIT_BYTES", 4 * 2 * 11 * 3)
    rows = [slice(0, 3), slice(3, 6), slice(6, 9)]
    assert list(chunked.plan(q, 11, None)) == [(slice(b, b + 1), rows) for b in range(5)]


@pytest.mark.parametrize("name", [*BIASES, "dropout", "uneven"])
def test_no_bias_or_mask_is_built_beyond_the_limit(monkeypatch, name):
    limit = 1500
    monkeypatch.setattr(bias, "LIMIT_BYTES", limit)
    built = []
    whole = {kind: kind.to_dense for kind in (Table, PathTable, Distance)}

    def watch(kind):
        def spy(self):
            dense = whole[kind](self)
            built.append(dense.numel() * dense.element_size())
            return dense

        monkeypatch.setattr(kind, "to_dense", spy)

    for kind in whole:
        watch(kind)
    masks = chunked.mask_of

    def mask_of(*args):
        made = masks(*args)
        built.append(0 if made is None else made.numel() * made.element_size())
        return made

    monkeypatch.setattr(chunked, "mask_of", mask_of)
    sizes = (2, 6, 2, 13, 17, 5)
    run(*draw(sizes, name), "sdpa")
    assert built and max(built) <= limit
    if name in ("table", "path", "distance", "sum", "dense"):
        assert (
            sum(built) >= 2 * 4 * 2 * 6 * 13 * 17 > limit
        )  # all of it was built, forward and backward


def ops(function):
    with torch.profiler.profile() as trace:
        function()
    return {event.key for event in trace.key_averages()}


FUSED = {
    "plain": {},
    "causal": {"causal": True},
    "window": {"window": 2},
    "padding": {"valid_kv": torch.tensor([[True] * 9 + [False] * 2] * 2)},
    "parameter": {"bias": torch.nn.Parameter(torch.zeros(2, 7, 11))},
    "three-axes": {"bias": torch.zeros(2, 7, 11)},
    "table": {
        "bias": Table(
            torch.zeros(2, 7, 11, dtype=torch.uint8), torch.nn.Parameter(torch.zeros(3, 2))
        )
    },
}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("layout", ["adjacent", "transposed", "grouped", "bfloat16", "float64"])
def test_inference_runs_pytorchs_fused_kernel(name, layout):
    q, k, v = torch.zeros(2, 2, 7, 5), torch.zeros(2, 2, 11, 5), torch.zeros(2, 2, 11, 5)
    if layout == "transposed":
        q, k, v = (x.mT.contiguous().mT for x in (q, k, v))
    if layout == "grouped":
        k, v = k[:, :1], v[:, :1]
    if layout in ("bfloat16", "float64"):
        q, k, v = (x.to(getattr(torch, layout)) for x in (q, k, v))
    with torch.no_grad():
        ran = ops(lambda: attention(q, k, v, **FUSED[name]))
    assert FLASH in ran and MATH not in ran


@pytest.mark.parametrize("name", [*FUSED, "dropout"])
@pytest.mark.parametrize("kept", [True, False])
def test_training_never_runs_pytorchs_eager_path(monkeypatch, name, kept):
    """A bias that wants a gradient keeps its probabilities where there are few of them, else chunks serve it."""
    if not kept:
        monkeypatch.setattr(choices, "KEPT_KEYS", 10)
    settings = {"dropout": 0.1} if name == "dropout" else FUSED[name]
    q, k, v = (torch.zeros(2, 2, n, 5, requires_grad=True) for n in (7, 11, 11))
    ran = ops(lambda: attention(q, k, v, **settings).sum().backward())
    keeps = kept and name in ("parameter", "table")
    assert MATH not in ran and "aten::_safe_softmax" not in ran  # what that path calls
    assert (FLASH in ran) == (name != "dropout" and not keeps)


def test_pytorchs_eager_path_would_be_seen():
    q = torch.zeros(1, 1, 3, 5)
    ran = ops(lambda: torch.nn.functional.scaled_dot_product_attention(q, q, q, dropout_p=0.1))
    assert MATH in ran


def test_without_bias_or_padding_nothing_is_copied():
    x = torch.randn(2, 7, 3, 2, 5).permute(2, 0, 3, 1, 4)
    with torch.no_grad():
        ran = ops(lambda: attention(*x))
    assert not {"aten::copy_", "aten::clone", "aten::mul", "aten::contiguous"} & ran


def test_the_result_joins_its_heads_without_a_copy():
    q, k, v, settings = draw(SIZES[0], "table")
    q = q.detach().transpose(1, 2).contiguous().transpose(1, 2)  # as a projection makes it
    for out in (attention(q, k, v), attention(q, k, v, **settings)):
        assert out.transpose(1, 2).is_contiguous()


def plain(q, k, v, valid, value):
    return attention(q, k, v)


def padded(q, k, v, valid, value):
    return attention(q, k, v, valid_kv=valid, causal=True)


def biased(q, k, v, valid, value):
    return attention(q, k, v, bias=value, valid_kv=valid)


def biased_once(q, k, v, valid, value):
    return attention(q, k, v, bias=materialise(value))


def program_inputs():
    q, k, v, settings = draw((2, 6, 2, 7, 11, 5), "path")
    valid = torch.ones(2, 11, dtype=torch.bool)
    valid[0, 8:] = False
    return q, k, v, valid, settings["bias"]


PROGRAMS = [plain, padded, biased, biased_once]


@pytest.mark.parametrize("program", PROGRAMS)
def test_compiles_without_graph_breaks(program):
    inputs = program_inputs()
    leaves = [x for x in tree_flatten(inputs)[0] if x.requires_grad]
    torch.compiler.reset()
    compiled = torch.compile(program, fullgraph=True, backend="aot_eager")
    got, want = compiled(*inputs), program(*inputs)
    torch.testing.assert_close(got, want)
    for a, b in zip(
        *(torch.autograd.grad(o.square().sum(), leaves, allow_unused=True) for o in (got, want)),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("program", PROGRAMS)
def test_exports(program):
    class Module(torch.nn.Module):
        def forward(self, *inputs):
            return program(*inputs)

    inputs = tree_map(torch.Tensor.detach, program_inputs())
    exported = torch.export.export(Module(), inputs).module()
    torch.testing.assert_close(exported(*inputs), program(*inputs))


def test_checkpointing_repeats_dropout():
    q, k, v, _ = draw(SIZES[0], "plain")

    def layer(q, k, v):
        return attention(q, k, v, dropout=0.5)

    grads = []
    for wrap in (
        layer,
        lambda *x: torch.utils.checkpoint.checkpoint(layer, *x, use_reentrant=False),
    ):
        torch.manual_seed(3)
        grads.append(torch.autograd.grad(wrap(q, k, v).square().sum(), [q, k, v]))
    torch.testing.assert_close(*grads, atol=0, rtol=0)


def test_second_derivatives_are_refused_and_not_wrong(monkeypatch):
    q, k, v, settings = draw(SIZES[0], "table")
    for most in (choices.KEPT_KEYS, 0):
        monkeypatch.setattr(choices, "KEPT_KEYS", most)
        with pytest.raises(RuntimeError, match="no second derivatives: ask for impl='reference'"):
            torch.autograd.grad(attention(q, k, v, **settings).sum(), q, create_graph=True)
    (dq,) = torch.autograd.grad(attention(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="is not implemented"):
        torch.autograd.grad(dq.sum(), q)


def test_a_value_made_of_one_leaf_used_twice_gets_both_gradients():
    q, k, v, settings = draw(SIZES[0], "table")
    value = settings["bias"]
    twice = value + value
    leaf = value.table_VH
    got = torch.autograd.grad(attention(q, k, v, bias=twice).square().sum(), leaf)[0]
    want = torch.autograd.grad(
        attention(q, k, v, bias=twice, impl="reference").square().sum(), leaf
    )[0]
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    leaves, spec = tree_flatten(twice)
    assert len(leaves) == 4 and torch.equal(
        tree_unflatten(leaves, spec).to_dense(), twice.to_dense()
    )
