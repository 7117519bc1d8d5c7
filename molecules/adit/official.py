"""The official hyper-parameters, by their names in facebookresearch/all-atom-diffusion-transformer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained.settings import switch, table
from isoform.molecules.adit.config import (
    DENOISER_TRUNK,
    TRUNK,
    AditApp,
    AditModelConfig,
    FlowConfig,
    ReconstructionConfig,
    SamplingConfig,
)
from isoform.molecules.adit.layout import LOSSES

WHERE = "ADiT's hyper-parameters"
ACTIVATIONS = {"gelu": "gelu_tanh", "relu": "relu"}
# name -> table and key of ours
TRANSFORMER = {
    "max_num_elements": ("model", "elements"),
    "d_model": ("trunk", "dim"),
    "nhead": ("trunk", "heads"),
    "dim_feedforward": ("trunk", "mlp_dim"),
    "num_layers": ("trunk", "depth"),
    "dropout": ("trunk", "dropout"),
}
DENOISER = {
    "d_x": ("model", "latent"),
    "num_datasets": ("model", "kinds"),
    "num_spacegroups": ("model", "spacegroups"),
    "d_model": ("backbone", "dim"),
    "num_layers": ("backbone", "depth"),
    "nhead": ("backbone", "heads"),
    "class_dropout_prob": ("flow", "label_dropout"),
    "guidance_scale": ("sampling", "guidance"),
    "T": ("sampling", "steps"),
    "min_t": ("sampling", "start"),
    "self_condition": ("sampling", "self_condition"),
}
KINDS = ("mp20", "qm9")  # crystals, molecules


def adit_settings(official: Mapping[str, Any]) -> AditApp:
    """The hyper-parameters of the first stage or of the second, under their own names, as an app to import with.

    The first stage is known by its `transformer`. Raises UserError for a name or a value that can't be honoured.
    """
    if "transformer" in official:
        return _autoencoder(official)
    return _denoiser(official)


def _autoencoder(official: Mapping[str, Any]) -> AditApp:
    rest = dict(official)
    inner = dict(rest.pop("transformer"))
    tables: dict[str, dict[str, Any]] = {
        "model": {"part": "autoencoder"},
        "trunk": dict(TRUNK),
    }
    _move(inner, TRANSFORMER, tables)
    if "latent_dim" in rest:
        tables["model"]["latent"] = rest.pop("latent_dim")
    trunk = tables["trunk"]
    if "activation" in inner:
        name = inner.pop("activation")
        if name not in ACTIVATIONS:
            raise UserError(
                f"activation = {name!r} can't be honoured; there are {', '.join(ACTIVATIONS)}"
            )
        trunk["channel"] = ACTIVATIONS[name]
    if "norm_first" in inner:
        trunk["order"] = "pre" if switch(inner.pop("norm_first"), "norm_first") else "post"
    if "bias" in inner:
        bias = switch(inner.pop("bias"), "bias")
        trunk.update(dict.fromkeys(("qkv_bias", "proj_bias", "mlp_bias", "norm_bias"), bias))
    losses = _losses(rest.pop("loss_weights", {}))
    _refuse_rest({**rest, **inner})
    shared = table(BackboneConfig, trunk, WHERE)
    return _app(
        model=table(AditModelConfig, tables["model"], WHERE),
        encoder=shared,
        decoder=shared,
        loss=table(ReconstructionConfig, losses, WHERE),
    )


def _denoiser(official: Mapping[str, Any]) -> AditApp:
    rest = dict(official)
    tables: dict[str, dict[str, Any]] = {
        "model": {"part": "denoiser"},
        "backbone": dict(DENOISER_TRUNK),
        "flow": {},
        "sampling": {},
    }
    _move(rest, DENOISER, tables)
    trunk = tables["backbone"]
    if "mlp_ratio" in rest:
        if "dim" not in trunk:
            raise UserError(f"{WHERE}: mlp_ratio is given without d_model")
        trunk["mlp_dim"] = int(trunk["dim"] * rest.pop("mlp_ratio"))
    _refuse_rest(rest)
    return _app(
        model=table(AditModelConfig, tables["model"], WHERE),
        backbone=table(BackboneConfig, trunk, WHERE),
        flow=table(FlowConfig, tables["flow"], WHERE),
        sampling=table(SamplingConfig, tables["sampling"], WHERE),
    )


def _move(
    rest: dict[str, Any],
    names: Mapping[str, tuple[str, str]],
    tables: dict[str, dict[str, Any]],
) -> None:
    for name in names.keys() & rest.keys():
        place, key = names[name]
        tables[place][key] = rest.pop(name)


def _losses(weights: Mapping[str, Mapping[str, float]]) -> dict[str, list[float]]:
    """[crystal, molecule] by our names, from {"loss_pos": {"mp20": 0.0, "qm9": 10.0}, ...}."""
    known = {f"loss_{there}": own for own, there in LOSSES.items()}
    found = {}
    for name, by_kind in weights.items():
        if name not in known:
            raise UserError(f"{WHERE}: loss_weights.{name} can't be honoured: no such loss")
        if sorted(by_kind) != sorted(KINDS):
            raise UserError(f"{WHERE}: loss_weights.{name} needs a weight of {' and '.join(KINDS)}")
        found[known[name]] = [float(by_kind[kind]) for kind in KINDS]
    return found


def _refuse_rest(rest: Mapping[str, Any]) -> None:
    if rest:
        raise UserError(f"ADiT's {', '.join(rest)}: not known to this import")


def _app(**tables: Any) -> AditApp:
    try:
        return AditApp(domain="molecules", app="imported", **tables)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UserError(f"{WHERE}: {why}") from None
