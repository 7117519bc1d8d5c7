"""SAMformer (Ilbert et al. 2024, arXiv:2402.10198) on the shared backbone: one layer of attention between variates.

B windows, L rows of look-back, H rows of horizon, V variates, Q quantile levels. A token is a variate's look-back as it
is, so a token has L features.
"""

from __future__ import annotations

from torch import Tensor, nn

from isoform.core.backbone import Backbone, initialise
from isoform.core.config.schema import BackboneConfig
from isoform.core.tokens import Tokens
from isoform.timeseries.config import TimeseriesApp
from isoform.timeseries.head import ForecastHead
from isoform.timeseries.normalise import Level, make_normalise
from isoform.timeseries.samformer.tokeniser import LookbackTokeniser
from isoform.timeseries.sizes import Sizes, refuse_contradictions

# What makes a trunk SAMformer's; a setting that says otherwise is refused.
FIXED = {"depth": 1, "proj": False, "channel": "none", "norm": "none", "final_norm": False}
# The same and what may be set to something else.
TRUNK = {**FIXED, "heads": 1, "head_dim": 16, "init": "torch"}


def trunk_table(backbone: BackboneConfig, context: int) -> BackboneConfig:
    """The trunk's whole table for look-backs of `context` rows: what is set in `backbone`, else the paper's.

    Its widths follow from the look-back. A table that this made is left as it is. Raises ValueError for a key that is
    set to what no SAMformer has.
    """
    given = {key: getattr(backbone, key) for key in backbone.model_fields_set}
    for key, value in {**FIXED, "dim": context}.items():
        if given.get(key, value) != value:
            why = (
                "model.context, a token being a look-back as it is"
                if key == "dim"
                else "what makes it one"
            )
            raise ValueError(
                f"a SAMformer has backbone.{key} = {value!r} ({why}), not {given[key]!r}: leave it out"
            )
    heads = given.get("heads", TRUNK["heads"])
    if context % heads:
        raise ValueError(f"backbone.heads = {heads} must divide model.context = {context}")
    return BackboneConfig.model_validate(
        {**TRUNK, "value_dim": context // heads, **given, "dim": context}
    )


class SAMformer(nn.Module):
    """RevIN, x + attention(x) between the variates with values as wide as the look-back, one linear layer, RevIN back.

    Trained with train.sam, which is what the paper is about. It has the targets alone. Every layer starts as
    backbone.init says; the authors' PyTorch code starts as PyTorch. Raises ValueError for tables that contradict each
    other.
    """

    def __init__(self, config: TimeseriesApp, sizes: Sizes) -> None:
        super().__init__()
        self.context = int(config.model.context)
        refuse_contradictions(config, sizes)
        self.normalise = make_normalise(config.model.normalise, sizes.variates)
        self.tokeniser = LookbackTokeniser(config.tokeniser.dropout)
        self.backbone = Backbone(trunk_table(config.backbone, self.context), ordered=False)
        self.head = ForecastHead(
            self.context, int(config.model.horizon), sorted(config.head.quantiles)
        )
        if config.backbone.init == "xavier":
            self.head.apply(initialise)
        self.head.start()

    def forward(
        self,
        context: Tensor,
        past: None = None,
        known: None = None,
        calendar: None = None,
        static: None = None,
    ) -> Tensor:
        """Scaled, gapless series [B, L, V] -> [B, H, V, 1 + Q]: the mean, then the quantiles, ascending.

        The other arguments are iTransformer's. Raises ValueError where one is given.
        """
        tokens, level = self._tokenise(context, past, known, calendar, static)
        point, offset = self.head(self.backbone(tokens).x)
        return self.normalise.restore(point, offset, level)

    def tokens(self, context: Tensor, *others: None, **named: None) -> Tokens:
        """The arguments of `forward` -> Tokens [B, V, L] in front of the trunk."""
        return self._tokenise(context, *others, *named.values())[0]

    def states(self, context: Tensor, *others: None, **named: None) -> Tensor:
        """The arguments of `forward` -> [B, V, L], the variates' tokens behind the trunk."""
        return self.backbone(self.tokens(context, *others, **named)).x

    features = states  # what every model's trunk alone is called

    def _tokenise(self, context: Tensor, *others: Tensor | None) -> tuple[Tokens, Level | None]:
        if context.dim() != 3 or context.shape[1] != self.context:
            raise ValueError(
                f"the look-back is [B, {self.context}, V] as model.context says, got {list(context.shape)}"
            )
        x_BVL, level = self.normalise(context)
        return self.tokeniser(x_BVL, *others), level
