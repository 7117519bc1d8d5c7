"""The closed tables of a vision app. No torch here: `isoform explain` and every error of a config stay fast."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator

from isoform.core.config.schema import (
    AppConfig,
    DecimalMark,
    Floats,
    FoldedData,
    Names,
    Range,
    Seed,
    Sentinels,
    Table,
)
from isoform.core.supervised.config import LabelledEval, LossConfig
from isoform.vision.data.sources import SOURCES, source_of
from isoform.vision.vit.config import VitHeadConfig, VitTokeniserConfig


def _known_source(value: str) -> str:
    source_of(value)
    return value


def _positive(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] <= 0:
        raise ValueError("both should be above 0")
    return pair


def _share(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[1] > 1:
        raise ValueError("a share is at most 1")
    return _positive(pair)


Ratios = Annotated[Range, AfterValidator(_positive)]
Shares = Annotated[Range, AfterValidator(_share)]


class AugmentConfig(Table):
    """Random changes of training images; every draw is a function of (seed, epoch, index)."""

    crop: Literal["none", "resized", "pad"] = Field(
        "none",
        description="resized: a random part, resized (Inception); pad: shifted by at most `pad` pixels",
    )
    crop_scale: Shares = Field(
        (0.08, 1.0), description="smallest and largest share of the area (crop = resized)"
    )
    crop_ratio: Ratios = Field(
        (0.75, 4 / 3), description="smallest and largest width / height (crop = resized)"
    )
    pad: int = Field(4, ge=0, description="pixels (crop = pad)")
    flip: float = Field(0.0, ge=0, le=1, description="probability of a mirror image, left to right")
    flip_vertical: float = Field(
        0.0, ge=0, le=1, description="probability of a mirror image, top to bottom"
    )
    degrees: float = Field(0.0, ge=0, le=180, description="largest rotation either way")
    translate: float = Field(
        0.0, ge=0, lt=1, description="largest shift either way, share of the side"
    )
    scale: Ratios = Field((1.0, 1.0), description="smallest and largest magnification")
    shear: float = Field(0.0, ge=0, lt=90, description="largest shear either way, degrees")
    elastic: float = Field(
        0.0, ge=0, description="standard deviation of a smooth random displacement, pixels"
    )
    elastic_grid: int = Field(
        4, ge=2, description="control points of that displacement along each side"
    )
    fill: float = Field(
        0.0,
        ge=0,
        le=1,
        description="level of what a moved image leaves empty: 0 the training images' lowest, 1 their highest",
    )
    randaugment: str = Field(
        "", description='such as "rand-m9-n2-mstd0.5-inc1" (Cubuk et al. 2020); off if empty'
    )
    jitter: float = Field(
        0.0, ge=0, le=1, description="largest change of brightness, contrast and saturation"
    )
    hue: float = Field(
        0.0, ge=0, le=0.5, description="largest change of hue, share of the colour circle"
    )
    erase: float = Field(
        0.0, ge=0, le=1, description="probability that a rectangle is erased (Zhong et al. 2020)"
    )
    erase_scale: Shares = Field(
        (0.02, 1 / 3), description="smallest and largest share of the area that is erased"
    )
    erase_fill: Literal["zero", "noise"] = "zero"
    mixup: float = Field(0.0, ge=0, description="alpha of mixup's Beta (Zhang et al. 2018); 0: off")
    cutmix: float = Field(0.0, ge=0, description="alpha of cutmix's Beta (Yun et al. 2019); 0: off")
    mix_probability: float = Field(1.0, ge=0, le=1, description="share of batches that are mixed")
    mix_switch: float = Field(
        0.5, ge=0, le=1, description="share of cutmix where mixup and cutmix are on"
    )


class DataConfig(FoldedData):
    """Where the images are, how they are split, and what is done to them before the tokeniser."""

    source: Annotated[str, AfterValidator(_known_source)] = Field(
        "folder",
        description=f"{', '.join(SOURCES)} (recognised from data.path), or torchvision:NAME",
    )
    task: Literal["multiclass", "multilabel", "regression", "multihead"] = Field(
        "multiclass",
        description="one class an image, several labels or none, numbers, or a class for each of data.labels' columns "
        "with a head for each (all but the first need a table)",
    )
    root: str | None = Field(
        None, description="folder of the data: train/val/test/CLASS/files, or CLASS/files"
    )
    path: str | None = Field(
        None, description="a folder or a csv table whose kind is recognised (source = auto)"
    )
    table: str | None = Field(
        None, description="csv of path, label(s), optional split, group, weight; instead of folders"
    )
    paths: str = Field(
        "path",
        description="the table's column of image files, relative to data.root or to the table",
    )
    labels: Names = Field(
        ("label",),
        description="the table's label columns; one column may hold labels joined by `|`",
    )
    split_column: str = Field(
        "split", description="the table's column of train, val or test, if it has one"
    )
    group: str | None = Field(
        None,
        description="what must stay in one split: the table's column (`group` if it has one), or with folders a "
        "regular expression whose first group is found in the relative path",
    )
    missing: Sentinels = Field(
        (), description="words and numbers that stand for no value, beside the usual words"
    )
    decimal: DecimalMark = Field(
        "auto",
        description="the mark of a table's numbers; auto: each column tells its own, where it can",
    )
    weight: str = Field("weight", description="the table's column of sample weights, if it has one")
    val_fraction: float = Field(
        0.1, gt=0, lt=1, description="of the training images, where no val split is given"
    )
    test_fraction: float = Field(
        0.1, ge=0, le=1, description="share of all images, where no split at all is given"
    )
    split_seed: Seed = Field(
        0, description="of random splits; all of train.seed share one test set"
    )
    download: bool = Field(False, description="torchvision may download (never by default)")
    on_error: Literal["fail", "skip"] = Field(
        "fail", description="an unreadable or missing image ends the run, or is left out"
    )
    follow_links: bool = Field(
        False, description="links that lead out of data.root are read, and links to folders"
    )
    allow_leakage: bool = Field(
        False, description="the same image or group in two splits is no error"
    )
    cache: Literal["auto", "memory", "none"] = Field(
        "auto",
        description="memory: decode once, keep the images shrunk to twice the model's size; auto: if < 1 GiB",
    )
    workers: int = Field(
        0, ge=0, description="loader processes; their number never changes a result"
    )
    resize: Literal["crop", "squash", "pad", "border"] = Field(
        "crop",
        description="to the model's size: crop: by the shorter side; squash: both sides; pad: by the longer side, on "
        "black; border: the same on data.mean (timm's center, squash, -, border)",
    )
    crop_pct: float = Field(
        1.0, gt=0, le=1, description="share of the resized side that the centre crop keeps"
    )
    interpolation: Literal["bilinear", "bicubic"] = "bicubic"
    window: Range | None = Field(
        None,
        description="[low, high] in the files' own unit, such as a CT window in Hounsfield units: becomes 0 to 1, "
        "what lies outside is clipped",
    )
    scale: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto",
        description="what the files' values are divided by; auto: 8 bits by 255, 16 bits by 65,535, others stay",
    )
    layout: Literal["auto", "channels_first", "channels_last"] = Field(
        "auto", description="of .npy arrays; auto: the axis of tokeniser.channels, of 1, 3 or 4"
    )
    page: Literal["auto", "all"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="of a file of several: its number from 1, or all, each as a channel"
    )
    mean: Floats | None = Field(
        None, description="of each channel as scaled; from the training images if unset"
    )
    std: Floats | None = Field(
        None, description="of each channel as scaled; from the training images if unset"
    )
    lowest: Floats | None = Field(
        None, description="value of each channel as scaled; of the training images if unset"
    )
    highest: Floats | None = Field(
        None, description="value of each channel as scaled; of the training images if unset"
    )
    classes: Names | None = Field(
        None, description="in the order of the outputs; found in the data if unset"
    )
    target_mean: Floats | None = Field(
        None, description="of each regression target; from the training split if unset"
    )
    target_std: Floats | None = Field(
        None, description="of each regression target; from the training split if unset"
    )
    balanced: bool = Field(False, description="training draws every class equally often")
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes weigh more"
    )

    @field_validator("window")
    @classmethod
    def _opens(cls, window: Range | None) -> Range | None:
        if window is not None and not -math.inf < window[0] < window[1] < math.inf:
            raise ValueError("[low, high] with low below high")
        return window


class VisionEval(LabelledEval):
    """Evaluation, with the domain's baselines; see baselines.py."""

    known: ClassVar[tuple[str, ...]] = (
        "mean",
        "majority",
        "linear",
        "logistic",
        "knn",
        "trunk_knn",
        "trunk_linear",
    )


class VisionApp(AppConfig):
    """An app of the vision domain."""

    moved: ClassVar[Mapping[str, str]] = {
        "head.task": "data.task",
        "data.split": "data.split_column",
        "loss.multiclass": "loss.kind",
        "loss.regression": "loss.kind",
        "train.label_smoothing": "loss.label_smoothing",
        "train.mixup": "augment.mixup",
        "train.cutmix": "augment.cutmix",
        "train.mix_probability": "augment.mix_probability",
    }

    auto: bool = Field(
        False,
        description="choose image size, patch, trunk and epochs from the data; keys that are set stay",
    )
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    tokeniser: VitTokeniserConfig = VitTokeniserConfig()
    head: VitHeadConfig = VitHeadConfig()
    loss: LossConfig = LossConfig()
    eval: VisionEval = VisionEval()

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the model's images, pixels."""
        size = self.tokeniser.image
        return size if isinstance(size, tuple) else (size, size)
