"""The domain's models, by the app's tables or by name.

B windows, L rows of look-back, H rows of horizon, V variates, D features a token, Q quantile levels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from isoform.core.errors import UserError
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.itransformer.model import ITransformer
from isoform.timeseries.samformer.model import SAMformer
from isoform.timeseries.sizes import Sizes

FAMILIES: dict[str, type[ITransformer] | type[SAMformer]] = {"itransformer": ITransformer, "samformer": SAMformer}


def build_model(config: TimeseriesApp, sizes: Sizes) -> ITransformer | SAMformer:
    """A fresh model of the app, from torch's global generator; see its `forward`, `features` and `tokens`.

    Raises ValueError, naming the keys, for tables that contradict each other or leave "auto" open.
    """
    for name in ("context", "horizon"):
        value = getattr(config.model, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"model.{name} = {value!r} should be a number of rows here")
    return FAMILIES[config.model.family](config, sizes)


class Features(nn.Module):
    """A model's trunk alone: look-back [B, L, V] (and what the model takes beside it) -> tokens [B, V, D]."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """[B, V, D]."""
        return cast(Any, self.model).features(*inputs, **named)


def create(
    name: str, *, pretrained: bool | str = False, features_only: bool = False, context: int | None = None,
    horizon: int | None = None, variates: int = 0, past: int = 0, known: int = 0, calendar: int = 0, static: int = 0,
) -> nn.Module:  # fmt: skip
    """A model in evaluation mode, by the name of its app ("itransformer-etth1-96").

    pretrained     a path: a run folder, or a checkpoint of the official code with weights of that app's shape
    features_only  gives the variates' tokens behind the trunk [B, V, D] instead of forecasts [B, H, V, 1 + Q]
    context, horizon
                   override the app's
    variates, past, known, calendar, static
                   how many series of each kind a fresh model is built for (RevIN needs to know the variates)
    Raises UserError for an unknown name and for weights that can't be had or don't fit.
    """
    if pretrained is True:
        raise UserError(
            f"{name}: no published weights come with isoform; name a run folder or a checkpoint file with pretrained="
        )
    sizes = Sizes(variates, past, known, calendar, static)
    model = _with_weights(name, pretrained, sizes) if pretrained else _fresh(_app(name, context, horizon), sizes)
    model.eval()
    return Features(model) if features_only else model


def _app(name: str, context: int | None = None, horizon: int | None = None) -> TimeseriesApp:
    from isoform.core.config import resolve_app
    from isoform.timeseries import DOMAIN

    config = cast(TimeseriesApp, resolve_app(name, domain=DOMAIN))
    changes = {key: value for key, value in (("context", context), ("horizon", horizon)) if value is not None}
    return config.model_copy(update={"model": config.model.model_copy(update=changes)})


def _fresh(config: TimeseriesApp, sizes: Sizes) -> nn.Module:
    try:
        return build_model(config, sizes)
    except ValueError as error:
        raise UserError(f"{config.app}: {error}") from None


def _with_weights(name: str, source: str, sizes: Sizes) -> nn.Module:
    from isoform.timeseries import DOMAIN

    if (Path(source) / "config.toml").exists():
        from isoform.core.engine.evaluate import load_model
        from isoform.core.runs.folder import RunFolder

        return load_model(DOMAIN, RunFolder(source))
    from isoform.timeseries.pretrained import import_checkpoint

    imported = import_checkpoint(source, None, _app(name))
    given = Sizes.of_portable(imported.portable)
    if given.variates and sizes.variates not in (0, given.variates):
        raise UserError(f"{source}: its weights are of {given.variates} variates, not of {sizes.variates}")
    model = _fresh(cast(TimeseriesApp, imported.config), given)
    model.load_state_dict(dict(imported.weights))
    return model
