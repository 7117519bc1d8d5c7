"""Which strength a probe keeps, and which models have none. What it fits: tests/vision/test_linear_probe.py."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
import toy

from isoform.core.engine.probe import Fitted
from isoform.core.engine.train import train
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder


def test_of_equal_metrics_the_lower_loss_decides() -> None:
    def worth(mode: str = "max", **metrics: float) -> tuple[float, float]:
        return Fitted(1.0, metrics, torch.zeros(1), torch.zeros(1)).worth("top1", mode)

    assert worth(top1=0.9, loss=0.5) > worth(top1=0.9, loss=0.6) > worth(top1=0.8, loss=0.1)
    assert worth("min", top1=0.8, loss=0.6) > worth("min", top1=0.9, loss=0.5)
    assert worth(top1=0.1, loss=9.0) > worth(top1=math.nan, loss=0.1) > worth(top1=math.nan)
    assert worth() == (-math.inf, -math.inf)


def test_a_model_without_one_last_layer_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(UserError, match=r"train.probe fits the one linear layer behind a trunk"):
        train(toy.task(probe=True), RunFolder(tmp_path / "run"), progress=False)
    assert not (tmp_path / "run").exists()
