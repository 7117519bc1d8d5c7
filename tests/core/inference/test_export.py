"""What the exports of every domain share, on a model of two inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import toy
from safetensors.torch import load_file
from torch import Tensor, nn

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.inference.export import Graph, check_agreement, write_safetensors16


class Two(nn.Module):
    def forward(self, rows: Tensor, shift: Tensor | None = None) -> Tensor:
        """[B, 5, 3] and [B, 3] -> [B, 5, 3]."""
        return rows if shift is None else rows + shift[:, None]


def graph() -> Graph:
    def example(batch: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(batch)
        return {
            "rows": torch.randn(batch, 5, 3, generator=generator), "shift": torch.randn(batch, 3, generator=generator),
        }  # fmt: skip

    return Graph(Two(), example, "sums", {})


@pytest.mark.parametrize(
    ("value", "fits"), [(65504.0, True), (-65519.0, True), (-65520.0, False), (7e5, False)]
)
def test_a_weight_that_float16_cannot_hold_is_refused(
    tmp_path: Path, monkeypatch: Any, value: float, fits: bool
) -> None:
    model = nn.Linear(3, 2)
    with torch.no_grad():
        model.weight[1, 2] = value
    trained = TrainedModel(toy.app(), toy.ToyState(), model, tmp_path, 7)
    if fits:
        write_safetensors16(trained, tmp_path / "a.safetensors")
        assert load_file(tmp_path / "a.safetensors")["weight"].isfinite().all()
        return
    with pytest.raises(UserError, match=r"^weight holds (700000|65520), "):
        write_safetensors16(trained, tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()


def same(inputs: dict[str, np.ndarray]) -> np.ndarray:
    return inputs["rows"] + inputs["shift"][:, None]


@pytest.mark.parametrize(
    "other",
    [
        lambda inputs: same(inputs) + 0.1,
        lambda inputs: same(inputs) * np.nan,
        lambda inputs: same(inputs)[:1],
        lambda inputs: inputs["rows"] + inputs["shift"][:1, None],  # as if the batch had one sample
    ],
)
def test_a_file_that_answers_differently_is_not_kept(tmp_path: Path, other: Any) -> None:
    (tmp_path / "a.onnx").write_text("graph")
    check_agreement(graph(), same, tmp_path / "a.onnx", "it")
    assert (tmp_path / "a.onnx").exists()
    with pytest.raises(RuntimeError, match="it answers differently by"):
        check_agreement(graph(), other, tmp_path / "a.onnx", "it")
    assert not (tmp_path / "a.onnx").exists()
