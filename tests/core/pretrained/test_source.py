"""A file, a folder or a name as one Source, and the family that reads it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from isoform.core.errors import UserError
from isoform.core.pretrained.source import (
    Source,
    choose_family,
    choose_layout,
    layouts_of,
    read_source,
)

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3)}


def family(prefix: str, *layouts: str) -> Any:
    def recognise(source: Source) -> str | None:
        return layouts[0] if any(name.startswith(prefix) for name in source.state) else None

    return SimpleNamespace(LAYOUTS=layouts, recognise=recognise)


A, B = family("a.", "first", "second"), family("b.", "third")


def test_a_file_with_its_state_dict_below_a_key(tmp_path: Path) -> None:
    averaged = {"module.a.weight": STATE["a.weight"] + 1}
    torch.save({"model": STATE, "model_ema": averaged, "epoch": 3}, tmp_path / "a.pth")
    source = read_source(tmp_path / "a.pth")
    assert (
        source.name == "a.pth"
        and source.keys == {"model", "model_ema", "epoch"}
        and source.folder is None
    )
    assert (
        source.state.keys() == {"a.weight"} and source.state["a.weight"][0, 0] == 1
    )  # averaged weights come first
    assert read_source(source) is source


def test_a_folder_and_a_name(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.safetensors")
    with pytest.raises(UserError, match=r"config.json can't be read"):
        read_source(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "x"}))
    (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n")
    source = read_source(tmp_path)
    assert (source.config, source.folder, source.licence) == ({"model_type": "x"}, tmp_path, "mit")
    assert source.name == tmp_path.name and torch.equal(source.state["a.weight"], STATE["a.weight"])
    named = read_source("library:some_model")
    assert named.name == "library:some_model" and not named.state
    with pytest.raises(UserError, match="no such file"):
        read_source(tmp_path / "none.pth")
    with pytest.raises(UserError, match="write hf:OWNER/NAME"):
        read_source("hf:nobody")


def test_the_family_and_the_layout_are_chosen() -> None:
    source = Source("dir/a.pth", STATE)
    assert layouts_of([A, B]) == ("first", "second", "third")
    assert choose_family([B, A], source, None, "a model") is A
    assert choose_family([A, B], source, "third", "a model") is B
    assert choose_layout(source, None, A.LAYOUTS, A.recognise, "an A") == "first"
    assert choose_layout(source, "second", A.LAYOUTS, A.recognise, "an A") == "second"
    with pytest.raises(
        UserError, match=r"--layout lstm: there is no such layout; there are first, second, third"
    ):
        choose_family([A, B], source, "lstm", "a model")
    with pytest.raises(
        UserError, match=r"--layout third: there is no such layout; there are first, second$"
    ):
        choose_layout(source, "third", A.LAYOUTS, A.recognise, "an A")
    with pytest.raises(
        UserError,
        match=r"^a.pth: no layout of a B has names such as a.weight; name one with --layout",
    ):
        choose_layout(source, None, B.LAYOUTS, B.recognise, "a B")
    with pytest.raises(UserError, match=r"no layout of a model has names such as nothing"):
        choose_family([A, B], Source("x.pth"), None, "a model")
