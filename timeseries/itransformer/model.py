"""iTransformer (Liu et al. 2024, arXiv:2310.06625) on the shared backbone: attention between variates, not times.

B windows, L rows of look-back, H rows of horizon, V variates, D features, Q quantile levels.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from isoform.core.backbone import Backbone, initialise
from isoform.core.tokens import Tokens
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.head import ForecastHead
from isoform.timeseries.itransformer.tokeniser import VariateTokeniser
from isoform.timeseries.normalise import Level, make_normalise
from isoform.timeseries.sizes import Sizes, refuse_contradictions


class ITransformer(nn.Module):
    """Variates as tokens, the trunk of the table `backbone`, one linear layer from a variate's token to its horizon.

    The weights depend on neither the number nor the order of the variates: any of both may come at test time (but with
    RevIN). Every layer starts as backbone.init says; the authors' start as PyTorch's. Raises ValueError for tables that
    contradict each other.
    """

    def __init__(self, config: TimeseriesApp, sizes: Sizes) -> None:
        super().__init__()
        m, t = config.model, config.tokeniser
        context, horizon = int(m.context), int(m.horizon)
        refuse_contradictions(config, sizes)
        self.context, self.sizes = context, sizes
        self.normalise = make_normalise(m.normalise, sizes.variates)
        self.tokeniser = VariateTokeniser(
            context,
            horizon,
            config.backbone.dim,
            known=sizes.known > 0,
            calendar_ahead=t.calendar == "future" and sizes.calendar > 0,
            static=sizes.static,
            normalise=m.normalise != "none",
            dropout=t.dropout,
            origin=sizes.calendar if t.origin else 0,
            identity=sizes.variates if t.identity else 0,
        )
        self.backbone = Backbone(config.backbone, ordered=False)
        self.head = ForecastHead(config.backbone.dim, horizon, sorted(config.head.quantiles))
        if config.backbone.init == "xavier":
            self.tokeniser.apply(initialise)
            self.head.apply(initialise)
        self.head.start()

    def forward(
        self,
        context: Tensor,
        past: Tensor | None = None,
        known: Tensor | None = None,
        calendar: Tensor | None = None,
        static: Tensor | None = None,
    ) -> Tensor:
        """Scaled, gapless series -> [B, H, V, 1 + Q]: the mean, then the quantiles of head.quantiles, ascending.

        context [B, L, V], past [B, L, P], known [B, L + H, K], calendar [B, L, M] (tokeniser.calendar = "future":
        [B, L + H, M]), static [B, S]. V, P, K and M are free; what the model was built with must be there. Raises
        ValueError for other shapes.
        """
        tokens, level = self._tokenise(context, past, known, calendar, static)
        point, offset = self.head(self._run_trunk(tokens))
        return self.normalise.restore(point, offset, level)

    def tokens(self, *inputs: Any, **named: Any) -> Tokens:
        """The arguments of `forward` -> Tokens [B, N, D] in front of the trunk, variates first, the rest the suffix."""
        return self._tokenise(*inputs, **named)[0]

    def states(self, *inputs: Any, **named: Any) -> Tensor:
        """The arguments of `forward` -> [B, V, D], the variates' tokens behind the trunk."""
        return self._run_trunk(self.tokens(*inputs, **named))

    features = states  # what every model's trunk alone is called

    def _run_trunk(self, tokens: Tokens) -> Tensor:
        """Marks and covariates are read by the last block, but nothing reads what it makes of them."""
        variates = tokens.x.shape[1] - tokens.suffix
        return self.backbone(tokens, first=variates if tokens.suffix else None).x

    def _tokenise(
        self,
        context: Tensor,
        past: Tensor | None = None,
        known: Tensor | None = None,
        calendar: Tensor | None = None,
        static: Tensor | None = None,
    ) -> tuple[Tokens, Level | None]:
        if context.dim() != 3 or context.shape[1] != self.context:
            raise ValueError(
                f"the look-back is [B, {self.context}, V] as model.context says, got {list(context.shape)}"
            )
        given = {"past": past, "known": known, "calendar": calendar, "static": static}
        for name, value in given.items():
            if value is None and getattr(self.sizes, name):
                raise ValueError(
                    f"this model was built with {getattr(self.sizes, name)} of {name!r} and got none"
                )
        x_BVL, level = self.normalise(context)
        return self.tokeniser(x_BVL, past, known, calendar, static), level
