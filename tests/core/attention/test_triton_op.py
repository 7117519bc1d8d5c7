"""What holds of the Triton kernels without running them: refusals, the table of tiles, compilation ahead of time.

The kernels themselves are tested in tests/core/attention/triton.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch

from isoform.core.attention import aot, tuning
from isoform.core.attention.aot import Usage, Variant, breaches, compile_variant, variants
from isoform.core.attention.triton_op import attention_triton
from isoform.core.attention.tuning import Tiles


def call(
    q=(2, 6, 5, 16),
    k=(2, 3, 7, 16),
    v=None,
    bias=None,
    valid=None,
    dtype=torch.float32,
    bias_dtype=torch.float32,
):
    q, k, v = (torch.zeros(shape, dtype=dtype) for shape in (q, k, v or k))
    bias = None if bias is None else torch.zeros(bias, dtype=bias_dtype)
    valid = None if valid is None else torch.ones(valid, dtype=torch.bool)
    return attention_triton(q, k, v, bias, valid, False, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q": (6, 5, 16)}, r"q \[B,H,N,D\]"),
        ({"v": (2, 3, 7, 8)}, r"got .* \[2, 3, 7, 8\]"),
        ({"k": (3, 3, 7, 16)}, "samples and features agree"),
        ({"k": (2, 3, 7, 8)}, "samples and features agree"),
        ({"k": (2, 4, 7, 16)}, "G divides H"),
        ({"dtype": torch.float64}, "float64"),
        ({"q": (2, 3, 5, 136), "k": (2, 3, 7, 136)}, "1 to 128 features, got 136"),
        ({"bias": (2, 6, 7, 5)}, "does not broadcast"),
        ({"bias": (3, 1, 5, 7)}, "does not broadcast"),
        ({"bias": (1, 2, 6, 5, 7)}, "does not broadcast"),
        ({"bias": (5, 7), "bias_dtype": torch.float64}, "bias must be float32"),
        ({"valid": (2, 5)}, "valid_kv must be bool"),
    ],
)
def test_refuses_what_the_kernels_do_not_serve(arguments, message):
    with pytest.raises(ValueError, match=message):
        call(**arguments)


def test_refuses_types_that_differ():
    q, k = torch.zeros(1, 1, 5, 16), torch.zeros(1, 1, 7, 16, dtype=torch.float16)
    with pytest.raises(ValueError, match="all float32, float16 or bfloat16"):
        attention_triton(q, k, k, None, None, False, None)


def test_refuses_a_bias_beyond_32_bit_addresses():
    q = torch.empty(1, 1, 2**16, 16, device="meta")
    bias = torch.empty(1, device="meta")
    with pytest.raises(ValueError, match="65536 x 65536"):
        attention_triton(q, q, q, bias, None, False, None)


def test_refuses_a_mixture_of_devices():
    q = torch.zeros(1, 1, 5, 16)
    with pytest.raises(ValueError, match="one device"):
        attention_triton(q, q.to("meta"), q, None, None, False, None)


def test_names_the_missing_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ImportError, match="needs the package triton"):
        call()


def test_needs_a_gpu_unless_interpreted():
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("interpreted")
    with pytest.raises(ValueError, match="run on a GPU"):
        call()


def test_shapes_without_running():
    """Fake tensors pass through both operators, so that a model can be traced where there is no GPU."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        q, k = (
            torch.zeros(2, n, 5 * n, 16, dtype=torch.bfloat16, requires_grad=True) for n in (6, 3)
        )
        bias = torch.zeros(6, 30, 1, requires_grad=True)
        out = attention_triton(q, k, k, bias, None, True, None)
        out.sum().backward()
    assert (
        out.shape == q.shape and out.dtype == torch.bfloat16 and out.transpose(1, 2).is_contiguous()
    )
    assert q.grad.shape == q.shape and k.grad.shape == k.shape and bias.grad.shape == bias.shape


# Tiles ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "padded"), [(1, 16), (16, 16), (17, 32), (24, 32), (64, 64), (80, 128), (128, 128)]
)
def test_padded_dim(dim, padded):
    assert tuning.padded_dim(dim) == padded


def test_every_kernel_has_tiles():
    for variant in variants():
        itemsize = aot.ITEMSIZE[variant.dtype]
        cut = tuning.tiles(
            variant.kernel, variant.target, variant.dim, itemsize, variant.bias != "none"
        )
        assert {cut.n, cut.m} <= {16, 32, 64, 128} and cut.warps in (4, 8)


def test_tiles_go_by_the_padded_size():
    small, large = (tuning.tiles("query", "sm_80", dim, 2, True) for dim in (64, 65))
    assert small == tuning.SM80_16["query", True][1] and large == tuning.SM80_16["query", True][2]


CAPABILITIES = {
    (8, 0): "sm_80",
    (8, 9): "sm_80",
    (9, 0): "sm_90",
    (10, 0): "sm_90",
    (12, 0): "sm_80",
}


@pytest.mark.parametrize(("capability", "target"), CAPABILITIES.items())
def test_target_of_a_gpu(capability, target, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert tuning.target_of(torch.device("cuda", 0)) == target


# Ahead of time --------------------------------------------------------------------------------------------------------

GOOD = Variant("forward", "sm_80", 24, "bf16", "none")


def test_limits():
    assert not list(breaches(GOOD, Usage(255, 0, 99.0, 1)))
    found = list(breaches(GOOD, Usage(255, 4, 99.5, 0)))
    assert (
        len(found) == 3
        and "99.5 KiB" in found[0]
        and "4 bytes" in found[1]
        and "mma.sync" in found[2]
    )
    exact = Variant("forward", "sm_90", 24, "fp32", "none")
    assert not list(breaches(exact, Usage(255, 0, 227.0, 0))) and list(
        breaches(exact, Usage(255, 0, 1.0, 1))
    )


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter's kernels do not compile")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("compiler")
def test_compiles():
    usage = compile_variant(Variant("forward", "sm_90", 24, "bf16", "odd"))
    assert 0 < usage.registers <= 255 and usage.shared > 0 and usage.matrix > 0


@pytest.mark.usefixtures("compiler")
def test_finds_a_kernel_that_spills(monkeypatch):
    monkeypatch.setattr(aot, "tiles", lambda *_: Tiles(128, 64, 4))
    usage = compile_variant(Variant("forward", "sm_80", 64, "bf16", "aligned"))
    assert any("spilled" in breach for breach in breaches(GOOD, usage))
