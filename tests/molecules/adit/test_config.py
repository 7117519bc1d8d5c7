from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from isoform.core.config.schema import BackboneConfig
from isoform.molecules.adit.config import (
    AUTOENCODERS,
    DENOISERS,
    AditApp,
    FlowConfig,
    ReconstructionConfig,
    SamplingConfig,
    app_of_size,
    autoencoder_trunk,
    denoiser_trunk,
)


@pytest.mark.parametrize("denoiser", DENOISERS)
@pytest.mark.parametrize("autoencoder", AUTOENCODERS)
def test_every_size_makes_an_app(autoencoder: str, denoiser: str) -> None:
    config = app_of_size(autoencoder, denoiser)
    assert config.encoder.dim == AUTOENCODERS[autoencoder][0]
    assert config.backbone.dim == DENOISERS[denoiser][0]


def test_an_unknown_size_is_named() -> None:
    with pytest.raises(ValueError, match="no size is called 'XL'; there are S, B, L, demo, tiny"):
        denoiser_trunk("XL")


@pytest.mark.parametrize(
    ("make", "values", "message"),
    [
        (ReconstructionConfig, {"kl": [1.0]}, "give two weights of at least 0"),
        (ReconstructionConfig, {"kl": [1.0, -1.0]}, "give two weights of at least 0"),
        (FlowConfig, {"earliest": 0.5, "latest": 0.5}, "earliest = 0.5 must lie before latest"),
        (SamplingConfig, {"steps": 1}, "greater than or equal to 2"),
        (SamplingConfig, {"solver": "heun"}, "'euler' or 'multistep'"),
        (SamplingConfig, {"start": 1.0}, "less than 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    make: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        make.model_validate(values)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"backbone": BackboneConfig()}, 'backbone.condition = "none" must be "adaln_zero"'),
        ({"encoder": denoiser_trunk("tiny")}, 'encoder.condition = "adaln_zero" must be "none"'),
        ({"decoder": autoencoder_trunk("tiny", position="rotary")}, "atoms bring their places"),
        ({"encoder": autoencoder_trunk("tiny", dim=21, heads=3)}, "encoder.dim = 21 must be even"),
    ],
)
def test_trunks_that_do_not_fit_are_refused(tables: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AditApp(domain="molecules", app="x", **tables)
