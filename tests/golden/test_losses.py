"""The harness on cases that nobody stored: made of a stored one with another head, labels and loss.

What a case should hold is computed here, from the definition of its loss; the adapters go through the product's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from golden import molecule_kinds, timeseries_kinds, vision_kinds
from golden.cases import Case

Loss = Callable[[Tensor, Tensor], Tensor]
NAN = float("nan")


def official_sum(logits: Tensor, labels: Tensor) -> Tensor:
    known = ~labels.isnan()
    return F.binary_cross_entropy_with_logits(logits[known], labels[known], reduction="sum")


def smooth(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, label_smoothing=0.1)


GRAPHS = {
    "three classes": (3, {}, torch.tensor([2, 0, 1]), F.cross_entropy),
    "three classes, smoothed": (3, {"label_smoothing": 0.1}, torch.tensor([2, 0, 1]), smooth),
    "l1": (1, {"loss": "l1"}, torch.tensor([[0.3], [-2.0], [5.0]]), F.l1_loss),
    "huber": (1, {"loss": "huber"}, torch.tensor([[0.3], [-2.0], [5.0]]), F.smooth_l1_loss),
    "two numbers": (2, {"loss": "mse"}, torch.tensor([[0.3, 1.0], [-2.0, 2.0], [5.0, 0.0]]), F.mse_loss),
    "five labels, some unknown": (
        5, {}, torch.tensor([[1, 0, NAN, 1, 0], [NAN, 1, 1, 0, 0], [0, 0, 1, 1, NAN]]), official_sum,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_a_molecules_case_is_judged_by_its_own_loss(
    golden_dir: Path, tmp_path: Path, name: str
) -> None:
    outputs, settings, labels, loss = GRAPHS[name]
    stored = Case.load(golden_dir / "graphormer" / "graphormer_postln.json", golden_dir)
    head = "classifier.classifier.weight"
    weights = {**stored.weights, head: torch.randn(outputs, stored.weights[head].shape[1])}
    hidden = stored.output["head_hidden"][:, 0].double()
    hidden.requires_grad_()
    weight = weights[head].double().requires_grad_()
    logits = hidden @ weight.T + weights["classifier.lm_output_learned_bias"].double()
    value = loss(logits, labels if labels.dtype == torch.int64 else labels.double())
    value.backward()
    made = replace(
        stored,
        config={**stored.config, "num_classes": outputs, **settings},
        weights=weights,
        input={**stored.input, "labels": labels},
        output={**stored.output, "logits": logits.detach().float(), "loss": value.detach().float()},
        grad={head: weight.grad.float()},
        json=tolerant(stored),
    )
    molecule_kinds.graphormer(made, tmp_path)
    with pytest.raises(AssertionError, match="output/loss"):
        molecule_kinds.graphormer(
            replace(made, output={**made.output, "loss": made.output["loss"] * 1.01}), tmp_path
        )


VISION = {
    "classes": ({}, torch.tensor([3, 7]), F.cross_entropy),
    "smoothed": ({"label_smoothing": 0.1}, torch.tensor([3, 7]), smooth),
    "l1": ({"loss": "l1"}, torch.arange(20.0).reshape(2, 10), F.l1_loss),
    "labels": (
        {},
        (torch.arange(20).reshape(2, 10) % 3 == 0).float(),
        F.binary_cross_entropy_with_logits,
    ),
}


@pytest.mark.parametrize("name", VISION)
def test_a_vision_case_is_judged_by_its_own_loss(
    golden_dir: Path, tmp_path: Path, name: str
) -> None:
    settings, labels, loss = VISION[name]
    stored = Case.load(golden_dir / "mae" / "finetune_globalpool.json", golden_dir)
    labels = torch.cat([labels] * len(stored.output["logits"]))[: len(stored.output["logits"])]
    made = with_loss(
        stored, settings, {"label": labels}, "loss", loss(stored.output["logits"].double(), labels)
    )
    vision_kinds.mae_finetune(made, tmp_path)
    with pytest.raises(AssertionError, match="output/loss"):
        vision_kinds.mae_finetune(
            with_loss(made, {}, {}, "loss", made.output["loss"] * 1.01), tmp_path
        )


@pytest.mark.parametrize(
    ("loss", "function"), [("mae", F.l1_loss), ("huber", F.smooth_l1_loss), ("MSE", F.mse_loss)]
)
def test_a_forecast_case_is_judged_by_its_own_loss(
    golden_dir: Path, tmp_path: Path, loss: str, function: Loss
) -> None:
    stored = Case.load(golden_dir / "itransformer" / "itransformer_marks_norm.json", golden_dir)
    name = f"loss_{loss.lower()}"
    value = function(stored.output["forecast"].double(), stored.input["target"].double())
    made = with_loss(stored, {"loss": loss}, {}, name, value)
    made.output = {key: tensor for key, tensor in made.output.items() if key in (name, "forecast")}
    timeseries_kinds.itransformer(made, tmp_path)
    with pytest.raises(AssertionError, match=f"output/{name}"):
        timeseries_kinds.itransformer(with_loss(made, {}, {}, name, value * 1.01), tmp_path)


def test_a_loss_that_the_product_lacks_is_an_error(golden_dir: Path, tmp_path: Path) -> None:
    stored = Case.load(golden_dir / "graphormer" / "graphormer_postln.json", golden_dir)
    with pytest.raises(ValueError, match="loss"):
        molecule_kinds.graphormer(
            replace(stored, config={**stored.config, "loss": "hinge"}), tmp_path
        )


def tolerant(case: Case) -> dict[str, Any]:
    table = {
        **case.json["recommended_atol"],
        "output/logits": 1e-4,
        "output/loss*": 1e-3,
        "grad/*": 1e-3,
    }
    return {
        **case.json,
        "recommended_atol": {name: atol for name, atol in table.items() if name != "output/loss"},
    }


def with_loss(
    case: Case, settings: dict[str, Any], inputs: dict[str, Tensor], name: str, value: Tensor
) -> Case:
    """The case with another loss, whose gradients aren't stored."""
    return replace(
        case,
        config={**case.config, **settings},
        input={**case.input, **inputs},
        output={**case.output, name: value.float()},
        grad={},
        json=tolerant(case),
    )
