"""The domain's models, by the app's tables or by name.

B windows, L rows of look-back, H rows of horizon, V variates, D features a token, Q quantile levels.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, cast

from torch import nn

from isoform.core.errors import UserError
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.itransformer.model import ITransformer
from isoform.timeseries.samformer.model import SAMformer
from isoform.timeseries.sizes import Sizes
from isoform.timeseries.state import TimeseriesState

FAMILIES: dict[str, type[ITransformer] | type[SAMformer]] = {
    "itransformer": ITransformer,
    "samformer": SAMformer,
}


def build_model(config: TimeseriesApp, sizes: Sizes) -> ITransformer | SAMformer:
    """A fresh model of the app, from torch's global generator; see its `forward`, `features` and `tokens`.

    Raises ValueError, naming the keys, for tables that contradict each other or leave "auto" open.
    """
    for name in ("context", "horizon"):
        value = getattr(config.model, name)
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"model.{name} = {value!r} should be a number of rows here")
    return FAMILIES[config.model.family](config, sizes)


def make_model(config: TimeseriesApp, sizes: Sizes) -> nn.Module:
    """The same; raises UserError where the tables contradict each other."""
    try:
        return build_model(config, sizes)
    except ValueError as error:
        raise UserError(str(error)) from None


def app_of_model(name: str, **options: int) -> tuple[TimeseriesApp, TimeseriesState]:
    """The app of that name ("itransformer-etth1-96") and a state that names nothing but numbers.

    context, horizon
                   override the app's
    variates, past, known, calendar, static
                   how many series of each kind a fresh model is built for (RevIN needs to know the variates)
    Raises UserError for an unknown name or option.
    """
    from isoform.core.config import resolve_app
    from isoform.timeseries import DOMAIN

    config = cast(TimeseriesApp, resolve_app(name, domain=DOMAIN))
    windows: dict[str, Any] = {
        key: options.pop(key) for key in ("context", "horizon") if key in options
    }
    config = config.model_copy(update={"model": config.model.model_copy(update=windows)})
    kinds = [field.name for field in fields(Sizes)]
    if unknown := options.keys() - set(kinds):
        raise UserError(
            f"{name}: no option {sorted(unknown)[0]}; there are context, horizon, {', '.join(kinds)}"
        )
    names: dict[str, Any] = {
        kind: [f"{kind} {number + 1}" for number in range(options.get(kind, 0))] for kind in kinds
    }
    return config, TimeseriesState(**names)
