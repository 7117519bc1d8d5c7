"""What training minimises, by the task: the losses are those of isoform.core.supervised.

B samples, K classes, labels or targets. Mixup and cutmix, which make shares of classes of targets, are in data/mix.py.
"""

from __future__ import annotations

from torch import Tensor

from isoform.core.supervised.losses import accuracy, class_loss, label_loss


def image_loss(
    kind: str,
    loss_kind: str,
    output_BK: Tensor,
    target: Tensor,
    weight_B: Tensor | None,
    *,
    class_weight_K: Tensor | None,
    smoothing: float,
) -> dict[str, Tensor]:
    """{"loss": mean over the batch}, with "top1", the share guessed right, where each image has one class.

    kind    data.task; loss_kind: loss.kind
    target  [B] classes, -1 = missing, or [B, K] shares of classes; [B, K] labels or scaled numbers, NaN = missing
    """
    if kind != "multiclass":
        loss = label_loss(
            loss_kind,
            output_BK,
            target,
            weight_B,
            positive_weight_K=class_weight_K,
            smoothing=smoothing,
            divide_by="count",
        )
        return {"loss": loss}
    loss = class_loss(
        loss_kind,
        output_BK,
        target,
        weight_B,
        class_weight_C=class_weight_K,
        smoothing=smoothing,
        divide_by="count",
    )
    if target.dim() > 1:
        return {"loss": loss}
    return {"loss": loss, "top1": accuracy(output_BK, target)}
