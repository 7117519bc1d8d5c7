"""What training minimises: the distance of drawn patches, and cross-entropy of clouds and of points.

B clouds, N points, M masked patches of K points, C classes, P parts.
"""

from __future__ import annotations

from torch import Tensor

from isoform.core.supervised.losses import class_loss
from isoform.pointcloud.ops import chamfer_l1, chamfer_l2, knn_points
from isoform.pointcloud.pointmae.model import Drawn


def reconstruction_loss(drawn: Drawn, kind: str = "cdl2") -> Tensor:
    """The Chamfer distance of each masked patch to the true one, mean over all; float32 whatever the precision.

    kind: "cdl1" or "cdl2", Point-MAE's words. Raises ValueError for another.
    """
    made, target = drawn.points.flatten(0, 1).float(), drawn.target.flatten(0, 1).float()
    if kind not in ("cdl1", "cdl2"):
        raise ValueError(f"no loss of pretraining is called {kind!r}; there are cdl1 and cdl2")
    return chamfer_l1(made, target) if kind == "cdl1" else chamfer_l2(made, target)


def drawn_distances(drawn: Drawn, kind: str) -> Tensor:
    """[B] the same of every cloud alone."""
    made, target = drawn.points.flatten(0, 1).float(), drawn.target.flatten(0, 1).float()
    there, back = knn_points(made, target).dists, knn_points(target, made).dists
    if kind == "cdl1":
        there, back = there.sqrt() / 2, back.sqrt() / 2
    each = there.mean((1, 2)) + back.mean((1, 2))
    return each.unflatten(0, drawn.points.shape[:2]).mean(1)


def cloud_loss(
    logits_BC: Tensor,
    target_B: Tensor,
    smoothing: float = 0.0,
    class_weight_C: Tensor | None = None,
) -> Tensor:
    """Cross-entropy; `smoothing` is what the true class gives to the others alone, as Point-BERT has it."""
    classes = logits_BC.shape[1]
    # The house's spreads over all classes, the true one too.
    shared = smoothing * classes / (classes - 1) if classes > 1 else 0.0
    factor = None if class_weight_C is None else class_weight_C.to(logits_BC.device)
    return class_loss(
        "ce", logits_BC.float(), target_B, class_weight_C=factor, smoothing=min(shared, 1.0)
    )


def part_loss(
    logits_BNP: Tensor,
    target_BN: Tensor,
    smoothing: float = 0.0,
    class_weight_P: Tensor | None = None,
) -> Tensor:
    """Cross-entropy over all points of all clouds; a label of -1 counts nothing."""
    logits, target = logits_BNP.float().flatten(0, 1), target_BN.flatten()
    return class_loss("ce", logits, target, class_weight_C=class_weight_P, smoothing=smoothing)
