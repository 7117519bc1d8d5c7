"""Weights against rare classes and labels, counted on the training samples, and weights of the samples themselves.

n training samples, B samples of a batch, C classes, K labels.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from isoform.core.errors import UserError

LIGHTEST, HEAVIEST = 0.01, 100.0  # of positive labels: a handful of them must not drown all others


def balanced_class_weights(classes_n: np.ndarray, classes: int) -> Tensor:
    """float32 [C] of classes [n], -1 = missing: in proportion to one over a class's share, 1 on average over them."""
    counts_C = np.bincount(classes_n[classes_n >= 0], minlength=classes)
    return torch.from_numpy(_balanced(counts_C[None])[0])


def balanced_label_weights(labels_nK: np.ndarray) -> Tensor:
    """float32 [K, 2] of labels 0 and 1, NaN = missing: the same for the negative and positive ones of each label."""
    negative_K = (labels_nK == 0).sum(0)
    positive_K = (labels_nK == 1).sum(0)
    return torch.from_numpy(_balanced(np.stack([negative_K, positive_K], 1)))


def _balanced(counts: np.ndarray) -> np.ndarray:
    """float32 weights of the kinds in each row of counts [rows, kinds]; those that occur share the weight evenly."""
    occurring = (counts > 0).sum(1, keepdims=True)
    total = counts.sum(1, keepdims=True)
    shares = np.maximum(counts, 1) * np.maximum(occurring, 1)
    return (total / shares).astype(np.float32)


def positive_weights(labels_nK: np.ndarray) -> Tensor:
    """float32 [K] negatives a positive of each label, NaN = missing, from 0.01 to 100: `positive_weight_K` of bce."""
    positive_K = (labels_nK > 0.5).sum(0)
    negative_K = np.isfinite(labels_nK).sum(0) - positive_K
    ratio_K = negative_K / np.maximum(positive_K, 1)
    weights_K = np.clip(ratio_K, LIGHTEST, HEAVIEST)
    return torch.from_numpy(weights_K.astype(np.float32))


def normalise_sample_weights(weights: np.ndarray, train_rows: np.ndarray, origin: str) -> Tensor:
    """float32 weights of all samples, 1 on average over the training ones.

    origin    of the data, for the UserError where all training samples weigh nothing
    """
    mean = weights[train_rows].mean()
    if mean == 0:
        raise UserError(f"{origin}: all training samples have weight 0")
    return torch.from_numpy((weights / mean).astype(np.float32))


def weights_of_classes(target_B: Tensor, weight_C: Tensor) -> Tensor:
    """[B] each sample's class's weight; that of class 0 where the class is missing and nothing counts."""
    return weight_C[target_B.clamp(min=0)]


def weights_of_labels(target_BK: Tensor, weight_K2: Tensor) -> Tensor:
    """[B, K] the weight of each label's negatives or positives; the negatives' where the label is missing."""
    negative_K, positive_K = weight_K2.unbind(1)
    return torch.where(target_BK > 0.5, positive_K, negative_K)


def combine_weights(samples_B: Tensor | None, labels: Tensor | None) -> Tensor | None:
    """The product of weights of samples [B] and of their labels [B] or [B, K]; either may be none."""
    if samples_B is None:
        return labels
    if labels is None:
        return samples_B
    return labels * (samples_B if labels.dim() == 1 else samples_B[:, None])
