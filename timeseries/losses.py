"""What training minimises, on scaled data: the loss of the point forecast and the pinball loss of the quantiles.

B windows, H rows of horizon, V variates, Q quantile levels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isoform.core.supervised.losses import label_losses, mean_known


def point_loss(
    kind: str,
    forecast_BHV: Tensor,
    target_BHV: Tensor,
    observed_BHV: Tensor | None,
) -> Tensor:
    """Mean of loss.kind ("mse", "l1", "huber") over the targets that were observed; 0 where none was."""
    return mean_known(label_losses(kind, forecast_BHV, target_BHV), observed_BHV)


def pinball_loss(
    quantiles_BHVQ: Tensor, target_BHV: Tensor, levels: Sequence[float], observed_BHV: Tensor | None
) -> Tensor:
    """Mean over levels and observed targets of the quantile loss (Koenker and Bassett 1978)."""
    level_Q = torch.tensor(levels, dtype=quantiles_BHVQ.dtype, device=quantiles_BHVQ.device)
    above_BHVQ = target_BHV[..., None] - quantiles_BHVQ
    loss_BHVQ = torch.maximum(level_Q * above_BHVQ, (level_Q - 1) * above_BHVQ)
    return mean_known(loss_BHVQ.mean(-1), observed_BHV)
