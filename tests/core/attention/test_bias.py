"""Bias values: their meaning against plain loops, their gradients, and that cutting commutes with `dense`."""

import itertools
import math

import pytest
import torch
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from isoform.core.attention.bias import (
    Dense,
    Distance,
    Gaussians,
    PathTable,
    RelativeGrid,
    Slope,
    Sum,
    Table,
    flat,
    kinds,
    materialise,
)
from isoform.core.attention.embedding_sum import sum_rows

B, H, N, M, V, P, F, K, C = 2, 3, 5, 7, 11, 3, 2, 4, 3


def values(dtype=torch.float64, n=N, m=M):
    g = torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(shape, generator=g, dtype=dtype, requires_grad=True)

    def ids(*shape, kind):
        return torch.randint(0, V, shape, generator=g).to(kind)

    table = Table(ids(B, n, m, kind=torch.uint8), normal(V, H))
    distance = torch.randint(0, P + 4, (B, n, m), generator=g).to(torch.int16)
    path = PathTable(
        ids(B, n, m, P, F, kind=torch.int16), distance, normal(V, H), normal(P + 2, H, H)
    )
    stds = (torch.rand(K, generator=g, dtype=dtype) + 0.5).requires_grad_()
    apart = Distance(normal(B, n, C), normal(B, m, C), Gaussians(normal(K), stds, normal(K, H)))
    slope = Distance(normal(B, n, C), normal(B, m, C), Slope(normal(H)))
    window = RelativeGrid.of(normal(7 * 19 + 3, H), (4, 10), prefix=2)
    grid = RelativeGrid(window.codes_q_N[:n], window.codes_kv_M[:m], window.table_VH)
    dense = Dense(normal(B, H, n, m))
    shared = Dense(normal(H, 1, m))
    return {
        "dense": dense,
        "shared": shared,
        "table": table,
        "path": path,
        "distance": apart,
        "slope": slope,
        "grid": grid,
        "sum": table + path + apart + shared,
    }


NAMES = list(values())


def test_table_looks_up():
    value = values()["table"]
    ids, table = value.ids_BNM.tolist(), value.table_VH
    for b, h, i, j in ((0, 0, 0, 0), (1, 2, 4, 6), (0, 1, 3, 5)):
        assert value.to_dense()[b, h, i, j] == table[ids[b][i][j], h]


def test_path_is_the_mean_over_features_mixed_by_hop_over_the_clamped_distance():
    value = values()["path"]
    expected = torch.zeros(B, H, N, M, dtype=torch.float64)
    for b in range(B):
        for i in range(N):
            for j in range(M):
                for p in range(P):
                    rows = value.table_VH[value.ids_BNMPF[b, i, j, p].long()]
                    expected[b, :, i, j] += rows.mean(0) @ value.mixing_PHH[p]
                expected[b, :, i, j] /= min(max(int(value.length_BNM[b, i, j]), 1), P)
    torch.testing.assert_close(value.to_dense(), expected, atol=1e-12, rtol=0)
    assert {0, 1, P + 1} <= set(value.length_BNM.flatten().tolist())


def test_slope_is_a_multiple_of_the_distance():
    value = values()["slope"]
    q, kv = value.coords_q_BNC[1, 3], value.coords_kv_BMC[1, 6]
    expected = (q - kv).square().sum().sqrt() * value.basis.slope_H[2]
    assert torch.allclose(value.to_dense()[1, 2, 3, 6], expected)


@pytest.mark.parametrize("grid", [(3, 5), (2, 3, 5), (7,)])
@pytest.mark.parametrize("prefix", [0, 2])
def test_grid_looks_displacements_up(grid, prefix):
    """Against the definition: a row for each displacement, then query outside, key outside, both."""
    sizes = [2 * size - 1 for size in grid]
    inner = math.prod(sizes)
    table = torch.arange(inner + (3 if prefix else 0)).double()[:, None]
    dense = RelativeGrid.of(table, grid, prefix).to_dense()[0, 0]
    places = [None] * prefix + list(itertools.product(*(range(size) for size in grid)))
    assert dense.shape == (len(places), len(places))
    for (i, a), (j, b) in itertools.product(enumerate(places), repeat=2):
        if a is None or b is None:
            row = inner + (0 if b is not None else 1 if a is not None else 2)
        else:
            row = 0
            for size, p, q in zip(grid, a, b, strict=True):
                row = row * (2 * size - 1) + p - q + size - 1
        assert dense[i, j] == row


def test_grid_refuses_a_table_of_another_size():
    with pytest.raises(ValueError, match=r"grid \(3, 5\) with 1 tokens .* 48 .* 45 rows"):
        RelativeGrid.of(torch.zeros(45, 2), (3, 5), prefix=1)


def test_parts_are_named_in_the_order_of_their_kinds():
    found = values()
    bias = found["table"] + (found["path"] + found["distance"]) + found["grid"]
    assert kinds(bias) == "distance+grid+path+table" and len(flat(bias)) == 4
    assert kinds(None) == "none" and kinds(torch.zeros(2, 3)) == "dense"
    assert kinds(found["slope"]) == "slope"


def test_distance_weighs_gaussians_of_the_distance():
    value = values()["distance"]
    means, stds, weights = (
        x.tolist() for x in (value.basis.means_K, value.basis.stds_K, value.basis.weights_KH)
    )
    for b, h, i, j in ((0, 0, 0, 0), (1, 2, 4, 6)):
        d = math.dist(value.coords_q_BNC[b, i].tolist(), value.coords_kv_BMC[b, j].tolist())
        expected = sum(
            weights[k][h] * math.exp(-(((d - means[k]) / stds[k]) ** 2) / 2) for k in range(K)
        )
        assert abs(value.to_dense()[b, h, i, j] - expected) < 1e-12


def test_distance_to_oneself_has_no_gradient_and_no_nan():
    x = torch.randn(1, N, C, dtype=torch.float64, requires_grad=True)
    basis = Gaussians(*(torch.rand(s, dtype=torch.float64) + 0.5 for s in ((K,), (K,), (K, H))))
    diagonal = Distance(x, x, basis).to_dense().diagonal(dim1=2, dim2=3)
    assert torch.autograd.grad(diagonal.sum(), x)[0].eq(0).all()


@pytest.mark.parametrize("name", NAMES)
def test_shape_is_what_dense_has(name):
    value = values()[name]
    assert value.shape == (1,) * (4 - value.to_dense().dim()) + tuple(value.to_dense().shape)
    assert value.to_dense().dtype == torch.float64 and value.width >= value.shape[1]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "rows", [slice(1, 3), slice(4, 9), torch.tensor([4, 0, 4])], ids=["inner", "last", "index"]
)
def test_a_cut_is_a_cut_of_the_dense_form(name, rows):
    value = values()[name]
    whole = value.to_dense().expand(B, H, N, M)
    some = value.slice(rows, slice(1, 2)).to_dense()
    torch.testing.assert_close(some.expand(1, H, -1, M)[:, :, : len(whole[0, 0, rows])].expand_as(whole[1:, :, rows]),
                               whole[1:, :, rows], atol=0, rtol=1e-15)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_gradients_of_first_and_second_order(name):
    value = values(n=2, m=3)[name]
    leaves, spec = tree_flatten(value)
    floats = [x for x in leaves if x.is_floating_point()]

    def dense(*given):
        rest = iter(given)
        return tree_unflatten(
            [next(rest) if x.is_floating_point() else x for x in leaves], spec
        ).to_dense()

    torch.autograd.gradcheck(dense, floats)
    torch.autograd.gradgradcheck(dense, floats, fast_mode=True)


def test_sums_of_rows_and_their_gradients():
    ids = torch.randint(0, V, (13, 5), dtype=torch.int32)
    table = torch.randn(
        V + 2, H, dtype=torch.float64, requires_grad=True
    )  # rows that are never named
    torch.testing.assert_close(sum_rows(ids, table), table[ids.long()].sum(1))
    weight = torch.randn(13, H, dtype=torch.float64)
    want = torch.autograd.grad((table[ids.long()].sum(1) * weight).sum(), table)[0]
    torch.testing.assert_close(
        torch.autograd.grad((sum_rows(ids, table) * weight).sum(), table)[0], want
    )
    torch.autograd.gradcheck(lambda t: sum_rows(ids, t), table)


@pytest.mark.parametrize("kind", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64])
def test_ids_of_every_integer_type(kind):
    value = values()["table"]
    assert torch.equal(Table(value.ids_BNM.to(kind), value.table_VH).to_dense(), value.to_dense())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", NAMES)
def test_dense_is_float32_for_smaller_types(name, dtype):
    value = tree_map(lambda x: x.to(dtype) if x.is_floating_point() else x, values()[name])
    with torch.autocast("cpu", torch.bfloat16):
        dense = value.to_dense()
    assert dense.dtype == torch.float32
    exact = tree_map(lambda x: x.double() if x.is_floating_point() else x, value).to_dense()
    torch.testing.assert_close(dense.double(), exact, atol=2e-5, rtol=1e-5)


def test_sums_add_up():
    parts = values()
    assert isinstance(parts["sum"], Sum)
    expected = (
        parts["table"].to_dense()
        + parts["path"].to_dense()
        + parts["distance"].to_dense()
        + parts["shared"].to_dense()
    )
    torch.testing.assert_close(parts["sum"].to_dense(), expected)


@pytest.mark.parametrize("name", NAMES)
def test_values_are_pytrees(name):
    value = values()[name]
    leaves, spec = tree_flatten(value)
    assert all(isinstance(x, torch.Tensor) for x in leaves)
    assert torch.equal(tree_unflatten(leaves, spec).to_dense(), value.to_dense())
    recomputed = torch.utils.checkpoint.checkpoint(
        lambda v: v.to_dense().square().sum(), value, use_reentrant=False
    )
    wanted = [x for x in tree_leaves(value) if x.requires_grad]
    for got, want in zip(
        torch.autograd.grad(recomputed, wanted),
        torch.autograd.grad(value.to_dense().square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["table", "sum"])
def test_materialise_keeps_to_its_limit(name):
    value = values()[name]
    need = 4 * B * value.width * N * M
    dense = materialise(value, need)
    assert (
        isinstance(dense, Dense)
        and torch.equal(dense.b, value.to_dense())
        and dense.b.is_contiguous()
    )
    assert materialise(value, need - 1) is value
    assert materialise(dense, 0) is dense and materialise(None) is None


def test_a_shared_dense_bias_serves_several_layers_with_one_graph():
    value = values()["path"]
    shared = materialise(value)
    wanted = [value.table_VH, value.mixing_PHH]
    once = torch.autograd.grad((shared.to_dense() + shared.to_dense().square()).sum(), wanted)
    twice = torch.autograd.grad((value.to_dense() + value.to_dense().square()).sum(), wanted)
    torch.testing.assert_close(once, twice)


def test_dense_refuses_a_fifth_axis():
    with pytest.raises(ValueError, match="5 axes"):
        Dense(torch.zeros(1, 1, 1, 1, 1))
