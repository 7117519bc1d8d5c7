"""Adapters of the time-series kinds: a case in, an assertion out; `tmp_path` is where checkpoints to import go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from checks import assert_same_bits
from golden.cases import Case
from golden.losses import forecast_loss, of_model
from golden.official_settings import itransformer_settings, samformer_settings
from isoform.core.domain import ImportedModel
from isoform.core.engine.optim import build_optimizer
from isoform.core.engine.sam import Sam
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.models import build_model
from isoform.timeseries.pretrained import export_official, import_checkpoint
from isoform.timeseries.sizes import Sizes


def imported(case: Case, settings: TimeseriesApp, tmp_path: Path) -> tuple[ImportedModel, Any]:
    """The model of a bare state dict as the official trainer saves it, after its weights came back bit for bit."""
    file = tmp_path / "checkpoint.pth"
    torch.save(case.weights, file)
    found = import_checkpoint(file, None, settings)
    assert isinstance(found.config, TimeseriesApp)
    assert_same_bits(export_official(found.config, found.weights, found.state), case.weights)
    model = build_model(found.config, Sizes.of_state(found.state))
    model.load_state_dict(dict(found.weights))
    return found, model


def gradients(found: ImportedModel, model: Any) -> dict[str, Tensor]:
    """Those of every parameter, under the official names."""
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return export_official(found.config, grads, found.state)


def itransformer(case: Case, tmp_path: Path) -> None:
    """Forecast, tokens in front of the encoder and behind it, and the gradients of the loss where they are stored."""
    found, model = imported(case, itransformer_settings(of_model(case)), tmp_path)
    model.eval()
    inputs = {"context": case.input["x_enc"]}
    if "x_mark_enc" in case.input:
        inputs["calendar"] = case.input["x_mark_enc"]
    forecast = model(**inputs)[..., 0]
    tokens = model.tokens(**inputs)
    output = {
        "forecast": forecast,
        "embedded_tokens": tokens.x,
        "encoder_tokens": model.backbone(tokens).x,
    }
    grad: dict[str, Tensor] = {}
    if "target" in case.input:
        loss = forecast_loss(case, found.config, model, {**inputs, "target": case.input["target"]})
        output |= named_loss(case, loss)
        loss.backward()
        grad = gradients(found, model)
    case.compare(output=output, grad=grad)


def named_loss(case: Case, loss: Tensor) -> dict[str, Tensor]:
    """The loss under the name that it has in the case's output: "loss_mse", "loss_mae", ..."""
    return {name: loss for name in case.output if name.startswith("loss")}


def samformer(case: Case, tmp_path: Path) -> None:
    """Forecast and the gradients of its loss; the official tensors have the time last."""
    found, model = imported(case, samformer_settings(case.config), tmp_path)
    forecast = model.eval()(case.input["x"].transpose(1, 2))[..., 0].transpose(1, 2)
    output = {"forecast": forecast}
    grad: dict[str, Tensor] = {}
    if "target" in case.input:
        batch = {
            "context": case.input["x"].transpose(1, 2),
            "target": case.input["target"].transpose(1, 2),
        }
        loss = forecast_loss(case, found.config, model, batch)
        output |= named_loss(case, loss)
        loss.backward()
        grad = gradients(found, model)
    case.compare(output=output, grad=grad)


def samformer_sam(case: Case, tmp_path: Path) -> None:
    """Steps of the engine's own optimiser and climb, the weights compared up there and afterwards."""
    found, model = imported(case, samformer_settings(case.config), tmp_path)
    train = found.config.train
    optimizer = build_optimizer(model, train)
    sam = Sam(list(model.parameters()), train.sam)
    model.train()
    output: dict[str, Tensor] = {}

    def loss(samples: Tensor) -> Tensor:
        x, target = (case.input[name][samples].transpose(1, 2) for name in ("x", "target"))
        return forecast_loss(case, found.config, model, {"context": x, "target": target})

    def keep(label: str) -> None:
        state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        official = export_official(found.config, state, found.state)
        output.update({f"{label}/{name}": tensor for name, tensor in official.items()})

    for number, samples in enumerate(case.input["batch_order"].long(), start=1):
        first = loss(samples)
        first.backward()
        output |= {f"step{number}/loss_first": first, f"step{number}/grad_norm_first": sam.climb()}
        keep(f"step{number}/climbed")
        second = loss(samples)
        second.backward()
        output[f"step{number}/loss_second"] = second
        sam.back()
        optimizer.step()
        optimizer.zero_grad()
        keep(f"step{number}/weights")
    case.compare(output=output)


KINDS = {"itransformer": itransformer, "samformer": samformer, "samformer-sam": samformer_sam}
