"""Compiled attention on a CPU: the float64 meaning of each mode, threads, and what happens where it can't be built."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_map

import isoform.core.attention as package
from isoform.core.attention import Dense, Table, attention, native_build
from isoform.core.attention import native as operation
from isoform.core.attention.native_build import find_compiler, native
from kernel_cases import CASES, Case, call, compare, inputs, meaning

needed = pytest.mark.skipif(native().library is None, reason=native().why_not or "it is there")
PARTS = {
    "dense": Case(bias=("dense",)),
    "table": Case(bias=("table",)),
    "wide table": Case(b=3, bias=("wide table",)),
    "path and table": Case(bias=("path", "table")),
    "distance": Case(bias=("distance",)),
    "table, padded": Case(b=5, bias=("table",), padded=True),
    "dense, both padded": Case(b=3, bias=("dense",), uneven=True),
    "table, grouped": Case(h=6, g=2, bias=("table",)),
    "several tiles": Case(b=1, n=211, m=67, d=24, bias=("table",)),
    "several tiles of many keys": Case(b=1, h=1, g=1, n=29, m=401, d=8, bias=("dense",)),
    "7 features": Case(n=11, m=5, d=7, bias=("dense",)),
    "17 keys, 19 features": Case(b=3, n=23, m=17, d=19, bias=("table",)),
    "128 features": Case(b=1, m=19, d=128, bias=("table",)),
    "one query, one key": Case(n=1, m=1, bias=("table",)),
    "packed": Case(lengths=((17, 17), (37, 37), (3, 3))),
    "packed, keys of their own": Case(lengths=((5, 11), (0, 7), (13, 0), (3, 37)), h=6, g=3, d=11),
    "packed, table": Case(lengths=((5, 7), (13, 11)), bias=("table",)),
} | {name: case for name, case in CASES.items() if "bias shared" in name and not case.causal}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Of every call into C, whether it was a backward pass."""
    seen: list[bool] = []
    compute = operation._compute

    def spy(asked: operation._Call, back: bool) -> None:
        seen.append(back)
        compute(asked, back)

    monkeypatch.setattr(operation, "_compute", spy)
    yield seen


@needed
@pytest.mark.parametrize("name", PARTS)
def test_like_float64(name: str, taken: list[bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Inputs lie in buffers of NaN, so that a read out of bounds shows."""
    monkeypatch.setattr("kernel_cases.call", lambda case, x: call(case, x, "sdpa"))
    compare(PARTS[name], 2e-6)
    assert taken == [False, True]


def learnt(b: int = 5, h: int = 3, n: int = 13, m: int = 17, d: int = 8) -> list[torch.Tensor]:
    """q, k, v and a dense bias."""
    g = torch.Generator().manual_seed(0)
    sizes = ((b, h, n, d), (b, h, m, d), (b, h, m, d), (b, h, n, m))
    return [torch.randn(size, generator=g).requires_grad_() for size in sizes]


def run(leaves: list[torch.Tensor], impl: str = "auto", **settings: object) -> list[torch.Tensor]:
    """Output and every gradient."""
    q, k, v, bias = leaves
    out = attention(q, k, v, bias=bias, impl=impl, **settings)
    return [out, *torch.autograd.grad(out.sin().sum(), leaves)]


@needed
def test_keys_taken_away_and_rows_without_keys_are_exactly_0(taken: list[bool]) -> None:
    leaves = learnt()
    valid = torch.rand(5, 17, generator=torch.Generator().manual_seed(1)) < 0.6
    valid[2] = False
    with torch.no_grad():
        leaves[3][1, :, 4] = -torch.inf
        leaves[3][:, :, :, 3] = -torch.inf
        leaves[1][~valid[:, None].expand(-1, 3, -1)] = 1e30
    out, dq, dk, dv, d_bias = run(leaves, valid_kv=valid)
    for empty in (out[2], dq[2], dk[2], dv[2], d_bias[2], out[1, :, 4], dq[1, :, 4]):
        assert (empty == 0).all()
    hidden = ~valid[:, None].expand(-1, 3, -1)
    assert (dk[hidden] == 0).all() and (dv[hidden] == 0).all() and (dk[:, :, 3] == 0).all()
    assert (d_bias[:, :, :, 3] == 0).all() and taken == [False, True]
    assert all(x.isfinite().all() for x in (out, dq, dk, dv, d_bias))
    wanted = run([x.detach().double().requires_grad_() for x in leaves], valid_kv=valid)
    for got, want in zip((out, dv, d_bias), (wanted[0], *wanted[3:]), strict=True):
        torch.testing.assert_close(got.double(), want, atol=2e-6, rtol=0)


@needed
def test_nan_stays_in_its_row_and_scores_far_apart_are_right() -> None:
    leaves = learnt()
    with torch.no_grad():
        leaves[3][0, 0, 5] *= 1e4
        leaves[3][1, 1, 6] = torch.finfo(torch.float32).min
        leaves[0][2, 0, 7] = torch.nan
    out = run(leaves)[0]
    wanted = run([x.detach().double().requires_grad_() for x in leaves], "reference")[0]
    assert out[2, 0, 7].isnan().all()
    torch.testing.assert_close(out.double(), wanted, atol=2e-6, rtol=0, equal_nan=True)


@needed
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("kind", ["dense", "table"])
def test_the_same_bits_with_any_number_of_threads(
    kind: str, shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operation, "SMALL", 0)
    b, h, n, m = 7, 2, 13, 17
    q, k, v, bias = learnt(b, h, n, m)
    if kind == "table":
        ids = torch.randint(0, 11, (1 if shared else b, n, m), dtype=torch.int16)
        value, leaf = Table(ids, table := torch.randn(11, h, requires_grad=True)), table
    else:
        leaf = (bias[:1] if shared else bias).detach().requires_grad_()
        value = Dense(leaf)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        out = attention(q, k, v, bias=value)
        found.append([out, *torch.autograd.grad(out.sin().sum(), [q, k, v, leaf])])
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@needed
def test_rows_far_apart_in_memory_give_the_same(taken: list[bool]) -> None:
    """As a projection makes them: heads inside rows, queries, keys and values side by side."""
    qkv = torch.randn(3, 13, 3, 5, 16).requires_grad_()
    bias = torch.randn(5, 13, 13).requires_grad_()
    found = []
    for copied in (False, True):
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        if copied:
            q, k, v = q.contiguous(), k.contiguous(), v.contiguous()
        out = attention(q, k, v, bias=bias)
        assert out.transpose(1, 2).is_contiguous()
        found.append([out, *torch.autograd.grad(out.sin().sum(), [qkv, bias])])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    assert taken == [False, True] * 2


@needed
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.long])
def test_ids_of_every_type_and_none_outside_the_table(dtype: torch.dtype) -> None:
    q, k, v, _ = learnt(2, 3, 5, 7)
    table = torch.randn(11, 3, requires_grad=True)
    ids = torch.randint(0, 11, (2, 5, 7)).to(dtype)
    wanted = attention(q, k, v, bias=Table(ids, table), impl="reference")
    torch.testing.assert_close(attention(q, k, v, bias=Table(ids, table)), wanted)
    ids[1, 4, 6] = 11
    with pytest.raises(IndexError, match="no row of its table of 11 rows"):
        attention(q, k, v, bias=Table(ids, table))


@needed
def test_second_derivatives_are_refused() -> None:
    leaves = learnt()
    out = attention(*leaves[:3], bias=leaves[3])
    with pytest.raises(RuntimeError, match="no second derivatives: ask for impl='reference'"):
        torch.autograd.grad(out.sum(), leaves[0], create_graph=True)


@needed
def test_tracers_take_the_other_paths(taken: list[bool]) -> None:
    leaves = learnt()

    class Module(torch.nn.Module):
        def forward(self, *x: torch.Tensor) -> torch.Tensor:
            return attention(*x[:3], bias=x[3])

    module = Module()
    torch.compiler.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")(*leaves)
    grads = torch.autograd.grad(compiled.sin().sum(), leaves)
    exported = torch.export.export(module, tuple(leaves)).module()
    assert not taken
    wanted = run(leaves)
    assert taken
    for got, want in zip((compiled, *grads), wanted, strict=True):
        torch.testing.assert_close(got, want)
    torch.testing.assert_close(exported(*leaves), wanted[0])


# Building -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, and nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("ISOFORM_NATIVE", raising=False)
    native.cache_clear()
    yield tmp_path / "cache" / "isoform"
    native.cache_clear()


def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Optimised code takes seconds to compile."""
    monkeypatch.setattr(native_build, "FLAGS", ("-O0", "-std=gnu11", "-fPIC", "-shared"))


@pytest.mark.parametrize("off", ["none", "switch", "broken"])
def test_without_a_compiler_others_serve(
    off: str, fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if off == "switch":
        monkeypatch.setenv("ISOFORM_NATIVE", "0")
    if off == "none":
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setenv("PATH", str(fresh))
    if off == "broken":
        monkeypatch.setenv("CC", "false")
    told = {"none": "no C compiler", "switch": "ISOFORM_NATIVE=0", "broken": "can't be compiled"}
    leaves = learnt()
    found = run(leaves)
    assert told[off] in native().why_not and native() is native()
    monkeypatch.setattr(package, "attention_sdpa", None)
    for got, want in zip(found, run(leaves, "reference"), strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@needed
def test_built_once_for_its_user_alone_and_again_if_broken(
    fresh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick(monkeypatch)
    compiler = find_compiler()
    assert compiler is not None
    path = native_build.library_path(compiler)
    path.write_bytes(b"cut off")
    assert native().library is not None and path.stat().st_size > 1000
    assert list(fresh.iterdir()) == [path]
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    built = path.stat().st_mtime_ns
    native.cache_clear()
    assert native().library is not None and path.stat().st_mtime_ns == built
    monkeypatch.setattr(native_build, "FLAGS", (*native_build.FLAGS, "-g0"))
    assert native_build.library_path(compiler) != path


@needed
def test_anothers_folder_is_refused(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = os.getuid()
    fresh.mkdir(parents=True, mode=0o755)
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert "isn't a folder of this user's own" in native().why_not
    assert not list(fresh.iterdir())
    monkeypatch.setattr(os, "getuid", lambda: owner)
    fresh.rename(fresh.with_name("elsewhere"))
    fresh.symlink_to(fresh.with_name("elsewhere"))
    native.cache_clear()
    assert "isn't a folder of this user's own" in native().why_not


def test_the_record_is_as_c_has_it() -> None:
    """Fields by name and in order."""
    source = native_build.SOURCE.read_text()
    body = source[source.index("/* native.py fills in the same. */") :]
    body = body[body.index("{") + 1 : body.index("} Call;")]
    lines = [line.split("/*")[0] for line in body.splitlines()]
    words = " ".join(lines).replace("*", " ").replace(";", " , ").split()
    types = {"int64_t", "const", "float", "Rows", "uint8_t", "void", ","}
    names = [word.strip(",") for word in words if word.strip(",") and word not in types]
    assert names == [name for name, _ in operation._Call._fields_]


def test_the_meaning_is_the_references() -> None:
    """What the cases above are held to."""
    case = PARTS["table, grouped"]
    x = inputs(case)
    exact = tree_map(lambda t: t, x.double())
    torch.testing.assert_close(call(case, exact, "reference"), meaning(case, exact))
