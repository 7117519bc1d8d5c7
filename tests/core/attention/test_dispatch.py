"""The tables of choices: every row is taken by some attention, as it was asked for, and nothing falls back."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import isoform.core.attention as package
from isoform.core.attention import (
    Request,
    Table,
    attention,
    dispatch,
    explain_choice,
    sdpa_path,
    select_impl,
    tuning,
    unsupported_reason,
)
from isoform.core.attention import bias as biases
from isoform.core.attention.dispatch import AUTO, LAYOUTS, SDPA_PATHS, tabulate
from isoform.core.attention.native_build import Native, native

B, H, N, M, D = 2, 6, 5, 7, 11
FULL = {"device": "cpu", "dtype": torch.float32, "head_dim": D, "keys": M}

DOUBLE = {"dtype": torch.float64}

# Of each row of SDPA_PATHS, in its order: one request that takes it.
REQUESTS = (
    Request(**FULL, dropout=True, backward=True),
    Request(**FULL, dropout=True),
    Request(**FULL, bias=True, bias_gradient=True, backward=True),
    Request(**FULL | DOUBLE, bias=True, bias_gradient=True, backward=True),
    Request(**FULL | {"keys": 13}, dropout=True),
    Request(**FULL | DOUBLE | {"keys": 65}, bias=True, bias_gradient=True, backward=True),
    Request(**FULL | {"keys": 13}, value_dim=3),
    Request(**FULL, mask_bytes=65 << 20),
    Request(**FULL | {"device": "cuda", "dtype": torch.float64}),
    Request(**FULL | {"dtype": torch.bfloat16}, backward=True),
    Request(**FULL),
)


@pytest.mark.usefixtures("with_native")
@pytest.mark.parametrize("number", range(len(SDPA_PATHS)))
def test_every_way_of_sdpa_is_taken(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BF16", True)
    assert len(REQUESTS) == len(SDPA_PATHS)
    assert dispatch.sdpa_path(REQUESTS[number]) is SDPA_PATHS[number]


@pytest.mark.usefixtures("with_native")
def test_every_implementation_and_layout_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "unsupported_reason", lambda *_: None)
    asked = [Request(device=device, bias=bias) for device in ("cpu", "cuda") for bias in (0, 1)]
    assert {id(select_impl(r)) for r in asked} == {id(rule) for rule in AUTO}
    asked.append(Request(dtype=torch.float64))
    assert {id(dispatch.layout_of(r)) for r in asked} == {id(rule) for rule in LAYOUTS}


LEARNT = Request(**FULL, bias=True, bias_gradient=True, backward=True, kinds="table")
AGAINST_NATIVE = (
    ({"device": "cuda"}, "a CPU alone"),
    ({"dtype": torch.bfloat16}, "float32 alone"),
    ({"traced": True}, "torch.compile and export"),
    ({"dropout": True}, "drops no probabilities"),
    ({"limited": True}, "neither causality nor windows"),
    ({"value_dim": 3}, "as wide as keys"),
    ({"kinds": "path", "bias_bytes": 65 << 20}, "too large to be built at once"),
)


@pytest.mark.usefixtures("with_native")
@pytest.mark.parametrize(("change", "why"), AGAINST_NATIVE, ids=str)
def test_compiled_attention_says_what_it_cannot_serve(change: dict[str, Any], why: str) -> None:
    assert dispatch.sdpa_path(LEARNT).name == "native"
    assert dispatch.sdpa_path(LEARNT._replace(bias_bytes=65 << 20)).name == "native"
    asked = LEARNT._replace(**change)
    assert dispatch.sdpa_path(asked).name != "native"
    assert why in str(dispatch.why_not_native(asked))
    packed = Request(packed=True)
    assert dispatch.layout_of(packed).name == "native"
    assert dispatch.layout_of(packed, "reference").name == "by size"
    if "kinds" not in change:
        assert dispatch.layout_of(packed._replace(**change)).name != "native"


@pytest.mark.usefixtures("without_native")
def test_explains_why_compiled_attention_is_away() -> None:
    lines = dispatch.explain_choice(LEARNT)
    assert lines[0].startswith("sdpa, stored: ")
    assert lines[1] == "sdpa, native: can't serve, it is away"
    lines = dispatch.explain_choice(Request(packed=True))
    assert lines[0].startswith("sdpa, fused: ") and lines[1].endswith("it is away")


@pytest.mark.usefixtures("with_native")
def test_explains_compiled_attention() -> None:
    assert dispatch.explain_choice(LEARNT)[0].startswith("sdpa, native: a bias that wants its")
    assert dispatch.explain_choice(Request(packed=True))[0].startswith("sdpa, native: samples")
    long = Request(packed=True, keys=257)
    assert dispatch.layout_of(long).name == "by size"


@pytest.mark.parametrize("impl", ["reference", "sdpa", "triton"])
def test_a_line_is_passed_over_where_its_implementation_cannot_serve(
    impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        dispatch, "unsupported_reason", lambda name, _: "no" if name == impl else None
    )
    taken = select_impl(Request(device="cuda", bias=True)) if impl != "sdpa" else None
    assert taken is None or taken.name == ("sdpa" if impl == "triton" else "triton")
    if impl == "sdpa":
        with pytest.raises(ValueError, match="attention can't serve this: no"):
            select_impl(Request())


CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "plain": ({}, "fused"),
    "causal": ({"causal": True}, "fused"),
    "padding": ({"valid_kv": True}, "fused"),
    "constant bias": ({"bias": False}, "fused"),
    "bias that learns": ({"bias": True, "compiled": True}, "native"),
    "bias that learns, no compiler": ({"bias": True}, "stored"),
    "bias that learns, many keys, no compiler": ({"bias": True, "keys": 67}, "chunked"),
    "bias that learns, half precision": ({"bias": True, "dtype": torch.bfloat16}, "chunked"),
    "dropout, few keys": ({"dropout": 0.1}, "stored"),
    "dropout, more keys than features": ({"dropout": 0.1, "keys": 17}, "chunked"),
    "dropout, no gradient": ({"dropout": 0.1, "frozen": True}, "eager"),
    "wider values": ({"wide": 13}, "eager"),
    "narrower values": ({"wide": 3}, "chunked"),
    "a large mask": ({"window": 3, "limit": 100}, "chunked"),
}


def inputs(call: dict[str, Any]) -> tuple[list[torch.Tensor], dict[str, Any]]:
    """q, k, v and the settings of a call."""
    settings, g = dict(call), torch.Generator().manual_seed(0)
    keys, wide = settings.pop("keys", M), settings.pop("wide", D)
    dtype, frozen = settings.pop("dtype", torch.float32), settings.pop("frozen", False)
    shapes = ((B, H, N, D), (B, H, keys, D), (B, H, keys, wide))
    qkv = [torch.randn(s, generator=g).to(dtype).requires_grad_(not frozen) for s in shapes]
    settings.pop("limit", None)
    settings.pop("compiled", None)
    if "bias" in settings:
        ids = torch.randint(0, 3, (B, N, keys), generator=g)
        settings["bias"] = Table(ids, torch.zeros(3, H, requires_grad=settings["bias"]))
    if "valid_kv" in settings:
        settings["valid_kv"] = torch.ones(B, keys, dtype=torch.bool)
    return qkv, settings


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("impl", ["auto", "sdpa"])
def test_tensors_take_the_row_that_the_table_says(
    name: str, impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, path = CALLS[name]
    monkeypatch.setattr(biases, "LIMIT_BYTES", call.get("limit", biases.LIMIT_BYTES))
    if not call.get("compiled"):
        monkeypatch.setattr(dispatch, "native", lambda: Native(None, "it is away"))
    elif native().why_not:
        pytest.skip(native().why_not)
    taken = []
    sdpa = package.attention_sdpa

    def spy(*qkv: torch.Tensor, path: str, **settings: Any) -> torch.Tensor:
        taken.append(path)
        return sdpa(*qkv, path=path, **settings)

    monkeypatch.setattr(package, "attention_sdpa", spy)
    qkv, settings = inputs(call)
    attention(*qkv, impl=impl, **settings)
    assert taken == [path]


@pytest.mark.parametrize("name", CALLS)
def test_the_reference_is_used_where_it_is_asked_for(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "attention_sdpa", None)
    qkv, settings = inputs(CALLS[name][0])
    attention(*qkv, impl="reference", **settings)


@pytest.mark.parametrize("impl", ["reference", "sdpa", "triton"])
def test_what_was_asked_for_and_cannot_serve_is_refused(
    impl: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(package, "unsupported_reason", lambda name, _: f"{name} is away")
    monkeypatch.setattr(package, "select_impl", None)
    qkv, _ = inputs({})
    with pytest.raises(ValueError, match=f"impl='{impl}' can't serve this: {impl} is away"):
        attention(*qkv, impl=impl)


@pytest.mark.usefixtures("with_native")
def test_the_table_that_is_printed() -> None:
    rows = tabulate(Request(bias=True, bias_gradient=True, keys=64, packed=True), "Table")
    assert len({(r["device"], r["precision"], r["for"]) for r in rows}) == len(rows) == 8
    for row in rows:
        assert row["bias"] == "Table" and row["keys"] == "64" and row["packed"] == "yes"
        assert (row["its gradient"] == "yes") == (row["for"] == "training")
        assert row["served by"].endswith(", padded") and "laid out" in row["because"]
    by = {(r["device"], r["precision"], r["for"]): r for r in rows}
    assert by["cpu", "float32", "inference"]["served by"] == "sdpa, fused, padded"
    plain = tabulate(Request(packed=True))[0]
    assert plain["served by"] == "sdpa, native" and plain["keys"] == "any"
    assert tabulate(Request(packed=True))[2]["served by"] == "sdpa, fused, by size"
    assert plain["bias"] == "none" and tabulate(Request())[0]["packed"] == "no"


def test_auto_goes_by_the_table():
    assert select_impl(Request()).name == "sdpa"
    assert select_impl(Request(bias=True, bias_gradient=True, dropout=True)).name == "sdpa"
    assert select_impl(Request(device="cuda")).name == "sdpa"
    assert select_impl(Request(device="cuda", bias=True, dtype=torch.float64)).name == "sdpa"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels' table lists a dense bias and Graphormer's, and tokens without one."""
    listed = ("none", "dense", "path+table")
    found = {key.name: {} for key in tuning.entries() if key.mode in listed}
    monkeypatch.setattr(tuning, "read", lambda: {"triton": "", "kernels": found})


@pytest.mark.usefixtures("listed")
def test_auto_takes_triton_on_a_gpu_for_what_its_table_lists():
    pytest.importorskip("triton")
    request = Request(device="cuda", bias=True, kinds="dense")
    assert select_impl(request).name == "triton"
    assert select_impl(request._replace(kinds="path+table", dropout=True)).name == "triton"
    assert select_impl(request._replace(kinds="dense+slope")).name == "sdpa"
    assert select_impl(Request(device="cuda", window=True)).name == "triton"
    assert select_impl(Request(device="cuda", packed=True)).name == "triton"


@pytest.mark.parametrize(
    ("request_", "path"),
    [
        (Request(), "fused"),
        (Request(bias=True), "fused"),
        (Request(bias=True, bias_gradient=True), "chunked"),
        (Request(bias=True, bias_gradient=True, backward=True, keys=64), "stored"),
        (Request(bias=True, bias_gradient=True, backward=True, keys=64, dropout=True), "stored"),
        (Request(bias=True, bias_gradient=True, backward=True, keys=65), "chunked"),
        (
            Request(bias=True, bias_gradient=True, backward=True, keys=7, score_bytes=65 << 20),
            "chunked",
        ),
        (
            Request(bias=True, bias_gradient=True, backward=True, keys=7, dtype=torch.bfloat16),
            "chunked",
        ),
        (Request(bias=True, bias_gradient=True, backward=True, keys=7, device="cuda"), "chunked"),
        (Request(bias=True, backward=True, keys=7), "fused"),
        (Request(dropout=True), "chunked"),
        (Request(value_dim=32), "chunked"),
        (Request(value_dim=32, keys=33), "chunked"),
        (Request(value_dim=32, keys=32), "eager"),
        (Request(dropout=True, keys=64), "eager"),
        (Request(dropout=True, backward=True, keys=17), "eager"),
        (Request(dropout=True, backward=True, keys=16), "stored"),
        (Request(dropout=True, keys=65), "chunked"),
        (Request(dropout=True, keys=7, bias=True), "chunked"),
        (Request(dropout=True, keys=7, dtype=torch.bfloat16), "chunked"),
        (Request(dropout=True, keys=7, device="cuda"), "chunked"),
        (Request(dropout=True, keys=7, mask_bytes=65 << 20), "chunked"),
        (Request(mask_bytes=65 << 20), "chunked"),
        (Request(device="cuda", dtype=torch.float64), "chunked"),
        (Request(device="cuda", dtype=torch.bfloat16, bias=True), "chunked"),
        (Request(dtype=torch.bfloat16, keys=197, backward=True), "chunked"),
        (Request(dtype=torch.bfloat16, keys=197), "fused"),
        (Request(dtype=torch.bfloat16, keys=1024, backward=True), "fused"),
        (Request(keys=197, backward=True), "fused"),
    ],
)
@pytest.mark.usefixtures("without_native")
def test_the_path_of_sdpa(request_, path, monkeypatch):
    monkeypatch.setattr(dispatch, "BF16", True)
    assert sdpa_path(request_).name == path


def test_explains_the_choice_and_the_refusals(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    lines = explain_choice(Request(dropout=True))
    assert lines[0].startswith("sdpa, chunked: PyTorch's fused kernels don't drop")
    assert lines[1] == "reference: can serve if asked for"
    assert lines[2].startswith("triton: can't serve, ")


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (Request(device="cuda", dtype=torch.float64), "float64"),
        (Request(device="cuda", head_dim=4096), "4096"),
        (Request(device="cuda", value_dim=33), "as wide as keys, and these have 33"),
        (Request(device="cuda", bias=True, coords_gradient=True), "not the coordinates"),
        (Request(device="cuda", bias=True, kinds="dense+slope"), "has no entry"),
    ],
)
@pytest.mark.usefixtures("listed")
def test_why_triton_cannot_serve(request_, reason):
    pytest.importorskip("triton")
    assert reason in unsupported_reason("triton", request_)
    assert unsupported_reason("triton", Request(device="cuda", bias=True)) is None
