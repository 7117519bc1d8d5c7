"""The name-map engine: both directions exact, and everything that doesn't fit named."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from isoform.core.errors import UserError
from isoform.core.pretrained import (
    ZERO,
    Layout,
    ignore,
    join,
    permute,
    regroup,
    rename,
    split,
    squeeze,
    state_dict_of,
    strip_prefix,
    transpose,
)

LAYOUT = Layout(
    "toy",
    (
        rename("patch.proj.weight", "patch.weight", permute(3, 2, 0, 1)),
        rename("cls", "class_token", squeeze(0)),
        join(
            ("layer.{i}.q.weight", "layer.{i}.k.weight", "layer.{i}.v.weight"),
            "blocks.{i}.qkv.weight",
            transpose,
        ),
        join(("layer.{i}.q.bias", ZERO, "layer.{i}.v.bias"), "blocks.{i}.qkv.bias"),
        split("layer.{i}.ada.{p}", ("blocks.{i}.a.{p}", "blocks.{i}.b.{p}")),
        regroup(
            ("layer.{i}.in.{p}", "layer.{i}.more.{p}"),
            ("blocks.{i}.c.{p}", "blocks.{i}.d.{p}"),
            sizes=(5, 8),
        ),
        ignore("decoder.{*}", "no decoder here"),
    ),
)


def foreign() -> dict[str, torch.Tensor]:
    state = {
        "patch.proj.weight": torch.randn(2, 3, 5, 7),
        "cls": torch.randn(1, 1, 7),
        "decoder.a.b": torch.ones(1),
    }
    for i in (0, 11):
        state |= {f"layer.{i}.{n}.weight": torch.randn(7, 3) for n in "qkv"}
        state |= {f"layer.{i}.{n}.bias": torch.randn(3) for n in "qv"}
        state |= {
            f"layer.{i}.ada.weight": torch.randn(10, 2),
            f"layer.{i}.ada.bias": torch.randn(10),
        }
        state |= {
            f"layer.{i}.in.weight": torch.randn(5, 2),
            f"layer.{i}.more.weight": torch.randn(8, 2),
        }
    return state


def own() -> dict[str, torch.Tensor]:
    state = {"patch.weight": torch.empty(7, 5, 2, 3), "class_token": torch.empty(1, 7)}
    for i in (0, 11):
        state |= {
            f"blocks.{i}.qkv.weight": torch.empty(9, 7),
            f"blocks.{i}.qkv.bias": torch.empty(9),
        }
        state |= {f"blocks.{i}.{n}.weight": torch.empty(5, 2) for n in "ab"}
        state |= {f"blocks.{i}.{n}.bias": torch.empty(5) for n in "ab"}
        state |= {
            f"blocks.{i}.c.weight": torch.empty(11, 2),
            f"blocks.{i}.d.weight": torch.empty(2, 2),
        }
    return state


def test_read_moves_every_number_to_its_place() -> None:
    source = foreign()
    loaded = LAYOUT.read(source, own())
    w = loaded.weights
    assert w.keys() == own().keys()
    assert torch.equal(w["patch.weight"], source["patch.proj.weight"].permute(3, 2, 0, 1))
    q, k, v = (source[f"layer.11.{n}.weight"].T for n in "qkv")
    assert torch.equal(w["blocks.11.qkv.weight"], torch.cat([q, k, v]))
    bias = w["blocks.0.qkv.bias"]
    assert torch.equal(bias[:3], source["layer.0.q.bias"]) and not bias[3:6].any()
    assert torch.equal(bias[6:], source["layer.0.v.bias"])
    assert torch.equal(w["blocks.0.b.bias"], source["layer.0.ada.bias"][5:])
    both = torch.cat([source["layer.0.in.weight"], source["layer.0.more.weight"]])
    assert torch.equal(w["blocks.0.d.weight"], both[11:])
    assert loaded.notes == ("1 tensor left out: no decoder here",)


def test_write_is_the_exact_inverse() -> None:
    source = foreign()
    loaded = LAYOUT.read(source, own())
    back = LAYOUT.write(loaded.weights, ignored=loaded.ignored)
    assert back.keys() == source.keys()
    assert all(torch.equal(back[name], source[name]) for name in source)
    assert "decoder.a.b" not in LAYOUT.write(loaded.weights)


@given(st.data())
def test_one_missing_or_foreign_name_is_named(data: st.DataObject) -> None:
    source = foreign()
    gone = data.draw(st.sampled_from(sorted(n for n in source if not n.startswith("decoder"))))
    with pytest.raises(UserError) as missing:
        LAYOUT.read({n: t for n, t in source.items() if n != gone}, own())
    related = {f"our {n}" for n in own()} | {gone}
    assert any(name in str(missing.value) for name in related)
    with pytest.raises(UserError, match=r"stray\.weight \[2\] is not known"):
        LAYOUT.read(source | {"stray.weight": torch.ones(2)}, own())


def test_shapes_are_named() -> None:
    with pytest.raises(UserError, match=r"cls has shape \[1, 8\], our class_token has \[1, 7\]"):
        LAYOUT.read(foreign() | {"cls": torch.ones(1, 1, 8)}, own())
    with pytest.raises(
        UserError, match=r"layer\.0\.ada\.weight \[9, 2\] can't become our blocks\.0\.a\.weight"
    ):
        LAYOUT.read(foreign() | {"layer.0.ada.weight": torch.ones(9, 2)}, own())


def test_fresh_parameters_may_stay_unset_and_only_those() -> None:
    wanted = own() | {"head.weight": torch.empty(3, 7), "head.bias": torch.empty(3)}
    assert "head.weight" not in LAYOUT.read(foreign(), wanted, fresh=["head.{p}"]).weights
    with pytest.raises(UserError, match=r"nothing sets our head\.bias \[3\]"):
        LAYOUT.read(foreign(), wanted, fresh=["head.weight"])


def test_a_block_that_the_model_lacks_is_named() -> None:
    short = {n: t for n, t in own().items() if ".11." not in n}
    with pytest.raises(UserError, match=r"layer\.11\.q\.weight .* which this model doesn't have"):
        LAYOUT.read(foreign(), short)


def test_a_value_that_the_layout_cannot_hold_is_refused() -> None:
    weights = LAYOUT.read(foreign(), own()).weights
    weights["blocks.0.qkv.bias"][4] = 1.0
    with pytest.raises(UserError, match="not zero"):
        LAYOUT.write(weights)
    assert torch.equal(
        LAYOUT.write(weights, check_zeros=False)["layer.0.v.bias"], weights["blocks.0.qkv.bias"][6:]
    )
    with pytest.raises(UserError, match="our extra has no name"):
        LAYOUT.write(weights | {"extra": torch.ones(1)})


def test_half_precision_is_widened_to_the_model() -> None:
    loaded = LAYOUT.read({n: t.half() for n, t in foreign().items()}, own())
    assert all(t.dtype == torch.float32 for t in loaded.weights.values())


def test_a_state_dict_is_found_inside_a_checkpoint() -> None:
    inner = {"module.a": torch.ones(2), "module.b": torch.zeros(3)}
    assert set(state_dict_of({"epoch": 3, "model": inner}, "base_model", "model")) == {"a", "b"}
    assert set(state_dict_of({"a": torch.ones(1), "step": 4}, "model")) == {"a"}
    assert set(strip_prefix({"module.a": torch.ones(1), "b": torch.ones(1)}, "module.")) == {
        "module.a",
        "b",
    }
    with pytest.raises(UserError, match="no tensors under model"):
        state_dict_of({"optimizer": {}}, "model")
