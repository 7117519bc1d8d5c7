"""The closed tables of a point cloud app. No torch here: `isoform explain` and every error of a config stay fast."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, Strict, model_validator

from isoform.core.config.schema import (
    AppConfig,
    BackboneConfig,
    FoldedData,
    Names,
    Range,
    Readout,
    Seed,
    Table,
    TrainConfig,
)
from isoform.core.supervised.config import LabelledEval
from isoform.core.supervised.config import LossConfig as LabelledLoss
from isoform.pointcloud.data.features import parse_features
from isoform.pointcloud.data.sources import PARTED, SCANS, SOURCES, source_of

# TOML has arrays, not tuples.
Widths = Annotated[tuple[int, ...], Strict(False)]
Codes = Annotated[tuple[int, ...], Strict(False)]

# What Point-MAE's trunk has otherwise than the table's defaults.
TRUNK = {
    "dim": 384, "depth": 12, "heads": 6, "qkv_bias": False, "eps": 1e-5, "position": "readd",
}  # fmt: skip


def _known_source(value: str) -> str:
    source_of(value)
    return value


def _known_features(value: tuple[str, ...]) -> tuple[str, ...]:
    parse_features(value)
    return value


class ModelConfig(Table):
    """Which model a cloud goes through."""

    kind: Literal["pretrain", "classify", "segment"] = Field(
        "classify",
        description="pretrain: masked patches are drawn again; classify: an answer a cloud; segment: a part a point",
    )


class PointcloudTrain(TrainConfig):
    """How the engine trains, and by whose recipe."""

    recipe: Literal["isoform", "official"] = Field(
        "isoform",
        description="official: with the oddities of Point-MAE's code; see recipe.py",
    )


class DataConfig(FoldedData):
    """Where the clouds are, how they are split, and what is done to them before the tokeniser."""

    source: Annotated[str, AfterValidator(_known_source)] = Field(
        "folder", description=", ".join(SOURCES)
    )
    root: str | None = Field(
        None, description="folder of the data: train/val/test/CLASS/files, or CLASS/files"
    )
    path: str | None = Field(None, description="a folder, a file of many equal clouds, or a table")
    table: str | None = Field(
        None, description="csv of file, label, optional split and group; instead of folders"
    )
    paths: str = Field(
        "file",
        description="the table's column of files of points, relative to data.root or to the table",
    )
    class_column: str = Field("label", description="the table's column of classes")
    split_column: str = Field(
        "split", description="the table's column of train, val or test, if it has one"
    )
    group: str | None = Field(
        None,
        description='what stays in one split and in one fold: the table\'s column (`group` if it has one), or "near": '
        "clouds of one shape, noisy, drawn anew, moved, scaled or turned",
    )
    variant: Literal["OBJ_BG", "OBJ_ONLY", "PB_T50_RS"] = Field(
        "PB_T50_RS",
        description="of ScanObjectNN: with background, without, or moved and turned, which is the hardest",
    )
    columns: Names = Field(
        (), description="names of a file's columns where it can't tell: x, y, z, intensity"
    )
    features: Annotated[Names, AfterValidator(_known_features)] = Field(
        (),
        description="channels behind x, y, z: fields of the files with what they are divided by, intensity/65535, "
        "red/255; nx, ny, nz; and normals and height_above_ground, which are worked out",
    )
    voxel: float | None = Field(
        None,
        ge=0,
        description="edge of the cubes of which one point each is kept before any is drawn, in the file's unit; 0: "
        "all are; if unset, clouds of more than a million points are thinned so",
    )
    points: int = Field(1024, gt=0, description="of a cloud, at most")
    draw: Literal["farthest", "first"] = Field(
        "farthest",
        description="which points of a larger cloud an evaluation sees; training draws them at random",
    )
    scale: Literal["unit", "keep"] = Field(
        "unit", description="unit: the farthest point lies at distance 1; keep: the file's unit"
    )
    up: Literal["x", "y", "z"] = Field(
        "z", description="axis of the files that points upwards; many meshes have y"
    )
    label: str = Field(
        "classification",
        description="field of a scan or a cloud that holds a code a point (segment)",
    )
    unlabelled: Codes = Field(
        (0,), description="codes that are no label: such points count nothing (segment)"
    )
    tile: float = Field(
        5.0, gt=0, description="edge of a tile of a scan, in the file's unit (segment)"
    )
    overlap: float = Field(
        0.5, ge=0, lt=1, description="share of a tile that its neighbour has too"
    )
    val_fraction: float = Field(
        0.1, gt=0, lt=1, description="of the training clouds, where no val split is given"
    )
    test_fraction: float = Field(
        0.1, ge=0, le=1, description="share of all clouds, where no split at all is given"
    )
    split_seed: Seed = Field(
        0, description="of random splits; all of train.seed share one test set"
    )
    labels: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of each class's training clouds that is learned from, at least one, drawn by split_seed; "
        "the rest is left out, and validation and test stay whole (classify)",
    )
    ways: int | None = Field(
        None,
        ge=2,
        description="classes of a few-shot episode, which data.fold numbers: train --folds 10 (classify)",
    )
    shots: int = Field(10, gt=0, description="training clouds of each of them (few-shot)")
    queries: int = Field(20, gt=0, description="test clouds of each of them (few-shot)")
    on_error: Literal["fail", "skip"] = Field(
        "fail", description="an unreadable cloud ends the run, or is left out"
    )
    allow_leakage: bool = Field(
        False, description="the same cloud or group in two splits is no error"
    )
    workers: int = Field(
        0, ge=0, description="loader processes; their number never changes a result"
    )
    classes: Names | None = Field(
        None, description="in the order of the outputs; found in the data if unset"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none", description="balanced: rare classes weigh more"
    )


class AugmentConfig(Table):
    """Random changes of training clouds; every draw is a function of (seed, epoch, index)."""

    scale: Range = Field((1.0, 1.0), description="smallest and largest factor, of each axis")
    scale_axes: bool = Field(
        True,
        description="an axis has a factor of its own; false: one for all three, which keeps shapes",
    )
    shift: float = Field(0.0, ge=0, description="largest, of each axis")
    yaw: float = Field(0.0, ge=0, le=180, description="largest turn around z either way, degrees")
    noise: float = Field(0.0, ge=0, description="deviation of every coordinate")


class PatchConfig(Table):
    """Points -> tokens: patches around centres, each through a small PointNet (Pang et al. 2022, section 3.1)."""

    groups: int = Field(64, gt=0, description="centres, by farthest point sampling")
    group_size: int = Field(32, gt=0, description="nearest points of each, itself among them")
    channels: int = Field(
        3, ge=3, description="of a point: x, y, z, and behind them data.features, which set it"
    )
    widths: Widths = Field((128, 256, 512), description="of the small PointNet")
    patch_dim: int | None = Field(
        None, gt=0, description="features of a patch before one more layer (Point-BERT: 256)"
    )
    position_hidden: int = Field(128, gt=0, description="of the layers that place a centre")
    class_token: bool = True
    origin_rule: float = Field(
        0.0,
        ge=0,
        description="squared radius around the origin where no centre is chosen (pointnet2_ops: 1e-3); 0: none",
    )
    ties: Literal["lowest", "cuda"] = Field(
        "lowest", description="of equally far points the first, or the one that pointnet2_ops takes"
    )


class MaskConfig(Table):
    """Which patches pretraining hides."""

    ratio: float = Field(0.6, gt=0, lt=1, description="share of the patches")
    kind: Literal["random", "block"] = Field(
        "random", description="block: those nearest to a random centre"
    )


class PointHeadConfig(Table):
    """Tokens -> answer."""

    pool: Readout = Field(
        "class_max",
        description="class_max: class token and largest value side by side; cat_mean_max: of an encoder whose class "
        "token learned nothing mean and largest value",
    )
    widths: Widths = Field((256, 256), description="of the layers before the last")
    norm: bool = Field(True, description="a batch norm behind each of them")
    dropout: float = Field(0.5, ge=0, lt=1)
    outputs: int = Field(0, ge=0, description="classes or parts; from the data if 0")


class PartConfig(Table):
    """What part segmentation adds: features of several blocks, carried from the centres to all points."""

    blocks: Widths = Field((3, 7, 11), description="whose outputs are read, by number")
    propagation: Widths = Field((1536, 1024), description="layers behind the interpolation")
    shapes: int = Field(
        0,
        ge=0,
        description="classes of the whole cloud, given beside it; of parts from the data if 0",
    )
    shape_dim: int = Field(64, gt=0, description="features of that class")


class LossConfig(LabelledLoss):
    """What training minimises: of classes cross-entropy, of masked patches their distance to the true ones."""

    chamfer: Literal["cdl1", "cdl2"] = Field(
        "cdl2", description="cdl2: squared distances; cdl1: distances (pretraining)"
    )


class PointcloudEval(LabelledEval):
    """Evaluation, with the domain's baselines; see baselines.py."""

    known: ClassVar[tuple[str, ...]] = (
        "majority",
        "shape_forest",
        "centre",
        "point_forest",
    )


class PointcloudApp(AppConfig):
    """An app of the point cloud domain."""

    train: PointcloudTrain = PointcloudTrain()
    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    tokeniser: PatchConfig = PatchConfig()
    backbone: BackboneConfig = BackboneConfig.model_validate(TRUNK)
    decoder: BackboneConfig = BackboneConfig.model_validate({**TRUNK, "depth": 4})
    mask: MaskConfig = MaskConfig()
    head: PointHeadConfig = PointHeadConfig()
    parts: PartConfig = PartConfig()
    loss: LossConfig = LossConfig()
    eval: PointcloudEval = PointcloudEval()

    @property
    def has_parts(self) -> bool:
        """Whether points are judged as parts of a cloud whose class is given; otherwise as points of a scan, or not."""
        return (
            self.model.kind == "segment"
            and self.data.source not in SCANS
            and (self.data.source in PARTED or self.parts.shapes > 0)
        )

    @model_validator(mode="after")
    def _for_classes_alone(self) -> PointcloudApp:
        classifies = self.model.kind == "classify"
        if classifies and not self.tokeniser.class_token and self.head.pool.startswith("class"):
            raise ValueError(
                f"head.pool = {self.head.pool} reads the class token that tokeniser.class_token = false leaves out; "
                "set it to cat_mean_max"
            )
        if self.data.labels < 1 and not classifies:
            raise ValueError(
                f"data.labels = {self.data.labels:g} leaves labelled clouds out, and model.kind = {self.model.kind} "
                "learns from none; leave it out"
            )
        if self.data.ways is not None and (not classifies or self.data.labels < 1):
            other = "data.labels" if classifies else f"model.kind = {self.model.kind}"
            raise ValueError(
                f"data.ways = {self.data.ways} is an episode of few labelled clouds, which doesn't go with {other}; "
                "leave one out"
            )
        return self
