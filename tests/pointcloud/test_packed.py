"""Copies with packed weights answer as the models, whose modules also compute with weights of their layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from isoform.core.inference import optimise as module
from isoform.pointcloud import DOMAIN


@pytest.mark.parametrize(
    ("app", "shapes"), [("pointmae-tiny", 0), ("pointmae-parts-own", 3), ("pointmae-seg-own", 0)]
)
def test_packed_models_answer_as_the_models_do(
    app: str, shapes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SMALLEST_WEIGHT", 1)
    config: Any
    config, state = DOMAIN.app_of_model(app)
    tables = {"head": {"outputs": 5}, "backbone": {"dim": 24, "heads": 2}}
    if shapes:
        tables["parts"] = {"shapes": shapes}
    changes = {name: getattr(config, name).model_copy(update=one) for name, one in tables.items()}
    torch.manual_seed(7)
    model = DOMAIN.build_from_run(config.model_copy(update=changes), state).eval()
    inputs = [torch.rand(2, 211, 3), *([torch.eye(shapes)[:2]] if shapes else [])]
    packed = module.optimise(model)
    assert any(isinstance(one, module.PackedLinear) for one in packed.modules())
    with torch.no_grad():
        torch.testing.assert_close(packed(*inputs), model(*inputs), rtol=1e-4, atol=1e-5)
