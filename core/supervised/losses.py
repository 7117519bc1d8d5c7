"""Losses of labelled samples: numbers, yes-or-no labels, and classes. A missing target counts for nothing.

Missing is NaN for a number or label, below 0 for a class, and a row of NaN where targets are shares of classes (mixup).

    label_loss      numbers (mse, l1, huber) and labels (bce)
    class_loss      classes: cross-entropy (ce), or each class against the rest (bce)
    mean_known      where both end

B samples, K targets or labels, C classes.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Divisor = Literal["weight", "count"]

LABEL_LOSSES = ("mse", "l1", "huber", "bce")
CLASS_LOSSES = ("ce", "bce")


def label_loss(
    kind: str,
    outputs_BK: Tensor,
    targets_BK: Tensor,
    weight: Tensor | None = None,
    *,
    bound_BK: Tensor | None = None,
    positive_weight_K: Tensor | None = None,
    smoothing: float = 0.0,
    divide_by: Divisor = "weight",
) -> Tensor:
    """The mean loss of the numbers or labels that are there, one scalar; see `label_losses` and `mean_known`.

    weight      [B] of samples or [B, K] of labels
    bound_BK    of numbers: 1 where the truth is the target or more (">10"), -1 where it is that or less, 0 where the
                target is exact. An output on the true side of a bound costs nothing, and counts as known

    Raises ValueError for another name, for shapes that differ, and for bounds of "bce".
    """
    if outputs_BK.shape != targets_BK.shape:
        raise ValueError(
            f"outputs {list(outputs_BK.shape)} and targets {list(targets_BK.shape)} differ in shape"
        )
    known_BK = ~targets_BK.isnan()
    # Missing targets are replaced before the loss: NaN times a weight of 0 is NaN, in the gradient too.
    filled_BK = torch.where(known_BK, targets_BK, 0).to(outputs_BK.dtype)
    losses_BK = label_losses(
        kind, outputs_BK, filled_BK, positive_weight_K=positive_weight_K, smoothing=smoothing
    )
    if bound_BK is not None:
        if kind == "bce":
            raise ValueError("a bound is one of numbers, and bce is a loss of yes and no")
        keeps_BK = keeps_bound(outputs_BK, filled_BK, bound_BK)
        losses_BK = torch.where(keeps_BK, 0, losses_BK)
    return mean_known(losses_BK, known_BK, weight, divide_by=divide_by)


def keeps_bound(outputs_BK: Tensor, targets_BK: Tensor, bound_BK: Tensor) -> Tensor:
    """[B, K] True where the target is a bound (see `label_loss`) and the output lies on its true side, or upon it."""
    return (bound_BK != 0) & ((outputs_BK - targets_BK) * bound_BK >= 0)


def label_losses(
    kind: str,
    outputs: Tensor,
    targets: Tensor,
    *,
    positive_weight_K: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """The loss of each number or label [..., K], none missing: "mse", "l1", "huber" (bend at 1) or, of logits, "bce".

    positive_weight_K   factor of the positive labels' part (bce)
    smoothing           labels are drawn towards 1/2 by this share (bce)
    """
    if kind == "mse":
        return F.mse_loss(outputs, targets, reduction="none")
    if kind == "l1":
        return F.l1_loss(outputs, targets, reduction="none")
    if kind == "huber":
        return F.smooth_l1_loss(outputs, targets, reduction="none")
    if kind == "bce":
        soft = targets * (1 - smoothing) + smoothing / 2
        factor = None if positive_weight_K is None else positive_weight_K.to(outputs)
        return F.binary_cross_entropy_with_logits(
            outputs, soft, pos_weight=factor, reduction="none"
        )
    raise ValueError(f"no loss is called {kind!r}; there are {', '.join(LABEL_LOSSES)}")


def class_loss(
    kind: str,
    logits_BC: Tensor,
    target: Tensor,
    weight_B: Tensor | None = None,
    *,
    class_weight_C: Tensor | None = None,
    smoothing: float = 0.0,
    divide_by: Divisor = "weight",
) -> Tensor:
    """The mean loss of the samples whose class is known, one scalar; see `mean_known`.

    kind            "ce", or "bce" of each class against the rest, a sample's mean over the classes
    target          [B] classes, or [B, C] shares of them
    class_weight_C  factor of each class, as torch's cross-entropy takes it: smoothing's share of a class is weighed by
                    that class. It is no part of the divisor; weights that are to be go into weight_B
                    (`class_weights.weights_of_classes`)
    smoothing       this share of every target is spread evenly over the classes

    Raises ValueError for another name.
    """
    losses_B = class_losses(
        kind, logits_BC, target, class_weight_C=class_weight_C, smoothing=smoothing
    )
    return mean_known(losses_B, is_known_class(target), weight_B, divide_by=divide_by)


def class_losses(
    kind: str,
    logits_BC: Tensor,
    target: Tensor,
    *,
    class_weight_C: Tensor | None = None,
    smoothing: float = 0.0,
) -> Tensor:
    """[B] the loss of each sample, as `class_loss` means them; of no meaning where the class is missing."""
    known_B = is_known_class(target)
    factor_C = None if class_weight_C is None else class_weight_C.to(logits_BC)
    filled = target.clamp(min=0)
    if target.dim() == 2:
        filled = torch.where(known_B[:, None], target, 0)
    if kind == "ce":
        return F.cross_entropy(
            logits_BC, filled, weight=factor_C, label_smoothing=smoothing, reduction="none"
        )
    if kind == "bce":
        return _one_against_rest(logits_BC, filled, factor_C, smoothing)
    raise ValueError(f"no loss of classes is called {kind!r}; there are {', '.join(CLASS_LOSSES)}")


def _one_against_rest(
    logits_BC: Tensor, target: Tensor, factor_C: Tensor | None, smoothing: float
) -> Tensor:
    classes = logits_BC.shape[1]
    share_BC = target
    if target.dim() == 1:
        share_BC = F.one_hot(target, classes).to(logits_BC.dtype)
    soft_BC = share_BC * (1 - smoothing) + smoothing / classes
    losses_B = F.binary_cross_entropy_with_logits(logits_BC, soft_BC, reduction="none").mean(1)
    if factor_C is None:
        return losses_B
    return losses_B * (share_BC * factor_C).sum(1)


def mean_known(
    losses: Tensor,
    known: Tensor | None,
    weight: Tensor | None = None,
    *,
    divide_by: Divisor = "weight",
) -> Tensor:
    """The mean of `losses` [B, ...] over all entries that are known; 0 without a gradient where none is.

    known      of the same shape; None: all
    weight     [B] of samples or of every entry
    divide_by  "weight": by the sum of the weights of what is known, so that only their ratios within a batch matter;
               "count": by how many entries are known, so that a batch of heavy samples counts more than one of light
               ones: for weights that are 1 on average over the training samples

    Every known entry counts alike, whichever sample it belongs to: a sample that lacks half of its labels counts half.
    Without weights both divisors mean the same; they add in another order (all entries at once, or each sample's
    entries first), which float32 shows in the last digit.
    """
    if divide_by == "count":
        return _mean_by_count(losses, known, weight)
    if known is None and weight is None:
        return losses.mean()
    counts = torch.ones_like(losses)
    if known is not None:
        counts = known.to(losses.dtype)
    if weight is not None:
        counts = counts * _spread(weight, losses)
    total = counts.sum()
    divisor = torch.where(total > 0, total, 1)
    return (losses * counts).sum() / divisor


def _mean_by_count(losses: Tensor, known: Tensor | None, weight: Tensor | None) -> Tensor:
    if known is not None:
        losses = losses * known
    if weight is not None and weight.dim() > 1:
        losses = losses * weight
        weight = None
    if losses.dim() > 1:
        losses = losses.flatten(1).mean(1)
    if weight is not None:
        losses = losses * weight
    mean = losses.mean()
    if known is None:
        return mean
    # Of all entries to those that are known: exactly 1 where all are.
    ratio = known.numel() / known.sum().clamp(min=1)
    return mean * ratio


def _spread(weight: Tensor, losses: Tensor) -> Tensor:
    """A weight of samples in the shape that multiplies all of their entries."""
    while weight.dim() < losses.dim():
        weight = weight[..., None]
    return weight.to(losses.dtype)


def is_known_class(target: Tensor) -> Tensor:
    """[B] True where the class [B], or every share of classes [B, C], is there."""
    if target.dim() == 1:
        return target >= 0
    return ~target.isnan().any(1)


def class_shares(target_B: Tensor, classes: int) -> Tensor:
    """float32 [B, C] that can be mixed: 1 at the sample's class; a row of NaN where it is missing, and stays so."""
    known_B = is_known_class(target_B)
    shares_BC = F.one_hot(target_B.clamp(min=0), classes).float()
    return torch.where(known_B[:, None], shares_BC, torch.nan)


def accuracy(logits_BC: Tensor, target_B: Tensor) -> Tensor:
    """Share of the samples with a known class whose highest logit is that class's, one scalar."""
    right_B = (logits_BC.argmax(1) == target_B).float()
    return mean_known(right_B, is_known_class(target_B))
