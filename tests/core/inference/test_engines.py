"""The engines of `isoform.load(RUN, engine=...)` and `predict --engine`, on a toy."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
import toy

from isoform.core.domain import Graph, TrainedModel
from isoform.core.errors import UserError
from isoform.core.inference import optimise as module
from isoform.core.inference.engines import ENGINES, with_engine


class Graphed(toy.Toy):
    def graph(self, trained):
        def example(batch):
            return {
                "x": torch.randn(batch, toy.FEATURES, generator=torch.Generator().manual_seed(3))
            }

        return Graph(trained.model, example, "logits", {})


def trained(precision="fp32"):
    torch.manual_seed(11)
    model = toy.ToyModel().eval()
    return TrainedModel(
        toy.app(), toy.ToyState(classes=("a", "b", "c")), model, Path("run"), 7, precision
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_answers_as_the_model_at_any_batch_size(engine, monkeypatch):
    if engine == "openvino":
        pytest.importorskip("openvino")
        pytest.importorskip("onnxscript")
    monkeypatch.setattr(module, "SMALLEST_WEIGHT", 1)
    first = trained()
    other = with_engine(Graphed(), first, engine)
    for batch in (1, 13):
        x = torch.randn(batch, toy.FEATURES)
        with torch.no_grad():
            torch.testing.assert_close(other.model(x), first.model(x), rtol=1e-5, atol=1e-5)
    assert (other.model is first.model) == (engine == "eager")


def test_a_packed_model_has_features_too(monkeypatch):
    class Featured(toy.ToyModel):
        def features(self, x):
            return self.backbone(self.tokeniser(x))

    monkeypatch.setattr(module, "SMALLEST_WEIGHT", 1)
    model, x = Featured().eval(), torch.randn(5, toy.FEATURES)
    packed = module.optimise(model)
    with torch.no_grad():
        torch.testing.assert_close(packed.features(x), model.features(x), rtol=1e-5, atol=1e-5)
        assert not packed.features(x).allclose(packed(x).mean())


def test_a_model_without_a_fixed_graph_and_an_unknown_engine_are_refused():
    pytest.importorskip("openvino")
    with pytest.raises(UserError, match="no fixed graph"):
        with_engine(toy.Toy(), trained(), "openvino")
    with pytest.raises(UserError, match="there are eager, packed, openvino"):
        with_engine(toy.Toy(), trained(), "fast")


def test_a_packed_bfloat16_run_needs_no_autocast(monkeypatch):
    monkeypatch.setattr(module, "SMALLEST_WEIGHT", 1)
    first = trained("bf16")
    packed = with_engine(toy.Toy(), first, "packed")
    x = torch.randn(3, toy.FEATURES)
    with torch.no_grad():
        answer = packed.model(x)
    assert packed.precision == "fp32" and answer.dtype == torch.float32
    torch.testing.assert_close(answer, first.model(x).detach(), rtol=0.1, atol=0.1)
