"""Series -> tokens: a variate's whole look-back is one token, and so is a covariate's or a time mark's.

B windows, L rows of look-back, H rows of horizon, V variates, P past covariates, K known ones, M time marks, S static
values, D features, N = V + everything else.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.ops.dropout import Dropout
from isoform.core.ops.linear import Linear
from isoform.core.tokens import Tokens
from isoform.timeseries.normalise import standardise


class OriginEmbedding(nn.Module):
    """The calendar of a forecast's first row as a vector for all variates of the window.

    A linear layer of the look-back can't turn its answer by the hour of the day; a vector that depends on the hour and
    the weekday can. Each mark m in [-1/2, 1/2] becomes cos(pi k (m + 1/2)) for k = 1 to HARMONICS, whose sums are
    functions of the hour, and two layers let the marks act together (the ninth hour of a Sunday).
    """

    HARMONICS = 12

    def __init__(self, marks: int, dim: int) -> None:
        super().__init__()
        self.inner = Linear(marks * self.HARMONICS, dim)
        self.outer = Linear(dim, dim)

    def forward(self, mark_BM: Tensor) -> Tensor:
        """[B, M] -> [B, 1, D]."""
        k = torch.arange(1, self.HARMONICS + 1, device=mark_BM.device, dtype=mark_BM.dtype)
        waves = torch.cos(torch.pi * k * (mark_BM[..., None] + 0.5)).flatten(1)
        vector: Tensor = self.outer(F.gelu(self.inner(waves)))
        return vector[:, None]


class VariateTokeniser(nn.Module):
    """Variates first, then past covariates, time marks, known covariates and one token of all static values.

    One layer [L -> D] is shared by variates, past covariates and the marks of the look-back (Liu et al. 2024, section
    3.1, and the authors' code), which is why their numbers are free. What reaches over the horizon has a second
    [L + H -> D], static values a third. Past covariates are normalised as the variates are; marks, known covariates and
    static values never are, since their height is what they say.
    """

    def __init__(
        self,
        context: int,
        horizon: int,
        dim: int,
        *,
        known: bool,
        calendar_ahead: bool,
        static: int,
        normalise: bool,
        dropout: float,
        origin: int = 0,
        identity: int = 0,
    ) -> None:
        super().__init__()
        self.context, self.whole, self.static_values = context, context + horizon, static
        self.calendar_ahead, self.normalise = calendar_ahead, normalise
        self.value = Linear(context, dim)
        self.future = Linear(context + horizon, dim) if known or calendar_ahead else None
        self.static = Linear(static, dim) if static else None
        self.origin = OriginEmbedding(origin, dim) if origin else None
        self.identity = nn.Parameter(torch.zeros(identity, dim)) if identity else None
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BVL: Tensor,
        past: Tensor | None = None,
        known: Tensor | None = None,
        calendar: Tensor | None = None,
        static: Tensor | None = None,
    ) -> Tokens:
        """Tokens [B, N, D], of which all behind the V variates are the suffix.

        past [B, L, P], known [B, L + H, K], calendar [B, L, M] or [B, L + H, M], static [B, S]. Raises ValueError for
        other lengths.
        """
        rows, long = [x_BVL], []
        if past is not None:
            series = self._series(past, "past", self.context)
            rows.append(standardise(series.contiguous())[0] if self.normalise else series)
        if calendar is not None and self.calendar_ahead:
            long.append(self._series(calendar, "calendar", self.whole))
        elif calendar is not None:
            rows.append(self._series(calendar, "calendar", self.context))
        if known is not None:
            long.append(self._series(known, "known", self.whole))
        parts = [self.value(rows[0] if len(rows) == 1 else torch.cat(rows, dim=1))]
        if self.origin is not None or self.identity is not None:
            parts[0] = self._told(parts[0], x_BVL.shape[1], calendar)
        if long:
            if self.future is None:
                raise ValueError(
                    "this model was built without known covariates, and was given some"
                )
            parts.append(self.future(torch.cat(long, dim=1)))
        if static is not None:
            if self.static is None or static.shape[1] != self.static_values:
                raise ValueError(
                    f"the model takes {self.static_values} static values, got {static.shape[1]}"
                )
            parts.append(self.static(static)[:, None])
        x_BND = self.dropout(parts[0] if len(parts) == 1 else torch.cat(parts, dim=1))
        return Tokens(x_BND, suffix=x_BND.shape[1] - x_BVL.shape[1])

    def _told(self, token_BND: Tensor, variates: int, calendar: Tensor | None) -> Tensor:
        """The variates' tokens with what they are told of when they are and which they are."""
        own, rest = token_BND[:, :variates], token_BND[:, variates:]
        if self.origin is not None and calendar is not None:
            own = own + self.origin(calendar[:, self.context])
        if self.identity is not None:
            if len(self.identity) != variates:
                known = len(self.identity)
                raise ValueError(
                    f"tokeniser.identity has a vector for each of {known} variates, and these are {variates}"
                )
            own = own + self.identity
        return torch.cat([own, rest], dim=1) if rest.shape[1] else own

    def _series(self, x: Tensor, name: str, length: int) -> Tensor:
        if x.shape[1] != length:
            raise ValueError(f"{name} has {x.shape[1]} rows where the model takes {length}")
        return x.transpose(1, 2)
