"""What holds of the Triton kernels without running them: refusals, fakes, the table of tiles, its record.

The kernels themselves are tested in tests/core/attention/triton.
"""

from __future__ import annotations

import os
import sys

import pytest
import torch

from isoform.core.attention import aot, tuning
from isoform.core.attention.aot import Usage, Variant, breaches, compile_variant, variants
from isoform.core.attention.bias import Dense, Distance, PathTable, RelativeGrid, Slope, Table
from isoform.core.attention.mask import Visible
from isoform.core.attention.triton_op import attention_triton
from isoform.core.attention.tuning import Key, Tiles


def call(q=(2, 6, 5, 16), k=(2, 3, 7, 16), v=None, bias=None, valid=None, dtype=torch.float32):
    q, k, v = (torch.zeros(shape, dtype=dtype) for shape in (q, k, v or k))
    valid = None if valid is None else torch.ones(valid, dtype=torch.bool)
    visible = Visible(q.shape[2], k.shape[2], valid)
    return attention_triton(q, k, v, bias=bias, visible=visible, scale=0.25)


def zeros(*shape: int) -> torch.Tensor:
    return torch.zeros(shape)


IDS = torch.zeros(2, 5, 7, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"q": (6, 5, 5, 16)}, "samples and features agree"),
        ({"v": (2, 3, 7, 8)}, r"got .* \[2, 3, 7, 8\]"),
        ({"k": (2, 3, 7, 8)}, "samples and features agree"),
        ({"k": (2, 4, 7, 16)}, "G divides H"),
        ({"dtype": torch.float64}, "float64"),
        ({"q": (2, 3, 5, 136), "k": (2, 3, 7, 136)}, "1 to 128 features, got 136"),
        ({"bias": Dense(zeros(2, 6, 7, 5))}, "dense bias .* does not broadcast"),
        ({"bias": Table(IDS, zeros(4, 5))}, "table bias .* does not broadcast"),
        ({"bias": Table(IDS.mT, zeros(4, 6))}, "table bias .* does not broadcast"),
        (
            {"bias": PathTable(IDS[..., None, None].mT, IDS, zeros(4, 5), zeros(3, 5, 5))},
            "path bias .* does not broadcast",
        ),
        ({"bias": RelativeGrid.of(zeros(13, 6), (7,))}, "grid bias .* does not broadcast"),
        (
            {"bias": Distance(zeros(2, 5, 3), zeros(2, 5, 3), Slope(zeros(6)))},
            "coordinates .* do not fit",
        ),
        ({"valid": (2, 5)}, "valid_kv must be bool"),
    ],
)
def test_refuses_what_the_kernels_do_not_serve(arguments, message):
    with pytest.raises(ValueError, match=message):
        call(**arguments)


def test_refuses_a_bias_beyond_32_bit_addresses():
    q = torch.empty(1, 1, 2**16, 16, device="meta")
    bias = Dense(torch.empty(1, device="meta"))
    with pytest.raises(ValueError, match="65536 x 65536"):
        attention_triton(q, q, q, bias=bias, visible=Visible(2**16, 2**16), scale=1.0)


def test_refuses_a_mixture_of_devices():
    q = torch.zeros(1, 1, 5, 16)
    with pytest.raises(ValueError, match="one device"):
        attention_triton(q, q.to("meta"), q, bias=None, visible=Visible(5, 5), scale=1.0)


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
        dense = torch.zeros(6, 30, 1, requires_grad=True)
        table = torch.zeros(9, 6, requires_grad=True)
        bias = Dense(dense) + Table(torch.zeros(2, 30, 15, dtype=torch.int16), table)
        visible = Visible(30, 15, None, None, 0)
        out = attention_triton(q, k, k, bias=bias, visible=visible, scale=0.25)
        out.sum().backward()
    assert out.shape == q.shape and out.dtype == torch.bfloat16
    assert out.transpose(1, 2).is_contiguous()
    assert all(x.grad.shape == x.shape for x in (q, k, dense, table))


# Tiles ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "padded"), [(1, 32), (24, 32), (32, 32), (33, 64), (64, 64), (80, 128), (128, 128)]
)
def test_padded_dim(dim, padded):
    assert tuning.padded_dim(dim) == padded


def test_candidates_are_tiles_that_the_kernels_take():
    for key in tuning.entries():
        for cut in tuning.candidates(key):
            assert {cut.n, cut.m} <= {16, 32, 64} and cut.warps in (4, 8)
            if key.dtype == "bf16" and key.dim < 128:
                assert cut.n * cut.m >= 64 * 32


@pytest.fixture
def listed(monkeypatch):
    """A table of two modes: whatever was recorded, tests of how it is used see these."""
    entries = {}
    for key in tuning.entries():
        if key.mode == "dense" or (key.mode, key.dim) == ("path+table", 32):
            entries[key.name] = {"tiles": [64, 32, 8, 2]}
    monkeypatch.setattr(tuning, "read", lambda: {"triton": "", "kernels": entries})


@pytest.mark.usefixtures("listed")
def test_what_is_not_in_the_table_is_refused():
    assert tuning.tiles("query", "sm_90", 24, 2, "path+table") == Tiles(64, 32, 8)
    assert tuning.tiles("values", "sm_80", 64, 4, "dense+table") == Tiles(64, 32, 8)
    for dim, itemsize, mode in ((64, 2, "path+table"), (24, 2, "table"), (24, 4, "dense+slope")):
        with pytest.raises(ValueError, match=r"has no entry 'query sm_90 .*choose impl='sdpa'"):
            tuning.tiles("query", "sm_90", dim, itemsize, mode)
        assert "has no entry" in tuning.why_missing(mode, dim, itemsize)
    assert tuning.why_missing("dense", 128, 2) is None
    assert tuning.tiles("forward", "interpreter", 64, 4, "dense+slope") == tuning.INTERPRETED


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


def test_older_parts_and_other_makers_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    with pytest.raises(ValueError, match=r"no entry for this GPU \(capability 7\.5\)"):
        tuning.target_of(torch.device("cuda", 0))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 4))
    monkeypatch.setattr(torch.version, "hip", "6.4")
    with pytest.raises(ValueError, match="no entry for this GPU"):
        tuning.target_of(torch.device("cuda", 0))


# Ahead of time --------------------------------------------------------------------------------------------------------

GOOD = Key("forward", "sm_80", "none", 64, "bf16")


def test_limits():
    assert not list(breaches(GOOD, Usage(255, 0, 99.0, 1)))
    found = list(breaches(GOOD, Usage(255, 4, 99.5, 0)))
    assert len(found) == 3
    assert "99.5 KiB" in found[0] and "4 bytes" in found[1] and "mma.sync" in found[2]
    exact = Key("forward", "sm_90", "none", 32, "fp32")
    assert not list(breaches(exact, Usage(255, 0, 227.0, 0)))
    assert list(breaches(exact, Usage(255, 0, 1.0, 1)))


@pytest.fixture
def compiler(tmp_path, monkeypatch):
    pytest.importorskip("triton")
    if os.environ.get("TRITON_INTERPRET") == "1":
        pytest.skip("the interpreter's kernels do not compile")
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


@pytest.mark.usefixtures("compiler")
def test_compiles():
    key = Key("forward", "sm_90", "path+table", 32, "bf16")
    usage = compile_variant(key, Variant(24), Tiles(64, 32, 4))
    assert 0 < usage.registers <= 255 and usage.shared > 0 and usage.matrix > 0


@pytest.mark.usefixtures("compiler")
def test_finds_a_kernel_that_spills():
    key = Key("forward", "sm_80", "dense", 64, "bf16")
    usage = compile_variant(key, Variant(64, "aligned"), Tiles(128, 64, 4))
    assert any("spilled" in breach for breach in breaches(key, usage))


def test_the_first_tiles_that_keep_to_the_limits_are_chosen(monkeypatch):
    """In every variant: here the second of them spills with the largest tiles."""
    key = Key("key", "sm_90", "table", 128, "bf16")
    tried = []

    def compiled(key, variant, cut):
        tried.append((variant.dim, cut))
        return Usage(255, 8 * (variant.dim == 80 and cut.n * cut.m > 2048), 50.0, 4)

    monkeypatch.setattr(aot, "compile_variant", compiled)
    found = aot.chosen(key)
    assert found["tiles"] == Tiles(32, 64, 4)
    assert found["figures"] == {"128": (255, 0, 50.0, 4), "80": (255, 0, 50.0, 4)}
    assert [dim for dim, _ in tried] == [128, 80, 128, 80]
    monkeypatch.setattr(aot, "compile_variant", lambda *_: Usage(255, 4, 50.0, 4))
    assert aot.chosen(key) is None  # of candidates that all spill


def test_an_entry_is_current_until_the_code_changes(monkeypatch):
    before = aot.digest(GOOD)
    assert aot.digest(GOOD) == before
    assert aot.digest(GOOD._replace(kernel="query")) != before
    code = aot.code_of
    monkeypatch.setattr(
        aot, "code_of", lambda path: code(path) + "pass" * (path.stem == "triton_score")
    )
    assert aot.digest(GOOD) != before


def test_comments_and_docstrings_are_not_code(tmp_path):
    texts = [
        '"""One."""\ndef f(x):\n    """Two."""\n    return x  # three\n',
        "def f(x): return x\n",
    ]
    found = []
    for text in [*texts, "def f(x): return -x\n"]:
        (tmp_path / "kernel.py").write_text(text)
        found.append(aot.code_of.__wrapped__(tmp_path / "kernel.py"))
    assert found[0] == found[1] != found[2]


def test_what_is_recorded_keeps_to_the_limits():
    assert not list(aot.recorded_breaches())


def test_the_table_covers_what_was_asked_for():
    """Every mode at 32, 64 and 128 features on both parts; 24 and 80; causal and packed without a bias and with one."""
    found = {
        (key.kernel, key.target, key.mode, v.dim, v.also)
        for key in tuning.entries()
        for v in variants(key)
    }
    for kernel in ("forward", "query", "key"):
        for target in ("sm_80", "sm_90"):
            asked = {(mode, dim, "") for mode in tuning.MODES for dim in (32, 64, 128)}
            asked |= {(mode, dim, "") for mode in ("table", "path") for dim in (24, 80)}
            asked |= {(m, 64, also) for m in ("none", "dense") for also in ("causal", "varlen")}
            assert {(kernel, target, *each) for each in asked} <= found
