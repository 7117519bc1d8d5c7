"""Settings that no images could make a training of: refused before any is decoded."""

from __future__ import annotations

from isoform.core.errors import UserError
from isoform.core.ops.shapes import shapes_alone
from isoform.vision.config import VisionApp
from isoform.vision.data.dataset import preprocessing
from isoform.vision.data.transforms import Augment
from isoform.vision.models import build_model


def refuse_impossible(config: VisionApp) -> None:
    """Raises UserError for tables that contradict each other; nothing of the model may be left open."""
    Augment(config.augment, preprocessing(config))
    data = config.data
    if data.balanced and data.task != "multiclass":
        raise UserError("data.balanced = true needs one class an image (data.task = multiclass)")
    if data.class_weights == "balanced" and data.task == "regression":
        raise UserError('data.class_weights = "balanced" needs classes; this app predicts numbers')
    head = config.head.model_copy(update={"outputs": config.head.outputs or 1})
    with shapes_alone():
        build_model(config.model_copy(update={"head": head}))
