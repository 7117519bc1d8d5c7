"""task.json of a vision run: what predicting and exporting need beside settings and weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, Strict

from isoform.core.config.schema import Floats, Names, Range, Table
from isoform.core.config.state import RunState

Size = Annotated[tuple[int, int], Strict(False)]


class Preprocessing(Table):
    """What evaluation and prediction do to an image; see DataConfig for the words."""

    size: Size = Field(description="height and width of the model's images, pixels")
    channels: int = 3
    resize: Literal["crop", "squash", "pad", "border"] = "crop"
    crop_pct: float = 1.0
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    mean: Floats = Field((0.5, 0.5, 0.5), description="of each channel, as scaled")
    std: Floats = Field((0.5, 0.5, 0.5), description="of each channel, as scaled")
    window: Range | None = None
    scale: Literal["auto"] | float = "auto"
    layout: Literal["auto", "channels_first", "channels_last"] = "auto"
    page: Literal["auto", "all"] | int = "auto"
    lowest: Floats = Field((), description="of each channel in the training images; empty: unknown")
    highest: Floats = Field((), description="of each channel in the training images")


class VisionState(RunState):
    """A vision run's task.json."""

    kind: Literal["multiclass", "multilabel", "regression", "multihead"] = "multiclass"
    classes: Names = Field(
        (), description="of the outputs, in their order; none: the outputs' numbers"
    )
    preprocessing: Preprocessing
    target_mean: Floats = Field((0.0,), description="of each regression target, in its own unit")
    target_std: Floats = Field((1.0,), description="of each regression target, in its own unit")
    source: dict[str, Any] | None = Field(
        None, description="an imported model's layout, and what its way back needs"
    )
