"""The closed tables of a time-series app. No torch here: `isoform explain` and every error of a config stay fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

from pydantic import Field

from isoform.core.config.schema import (
    AppConfig,
    DecimalMark,
    EvalConfig,
    Floats,
    FoldedData,
    Names,
    Range,
    Sentinels,
    Table,
)

BASELINES = ("last", "seasonal_naive", "ets", "theta", "linear", "lag_boosting")
Source = Literal["file", "pedestrians", "ett-hour", "ett-minute", "custom", "solar", "pems"]


class DataConfig(FoldedData):
    """Which file, which of its columns mean what, how gaps are mended and where the splits lie."""

    source: Source = Field(
        "file", description="file (csv, parquet, NetCDF, Zarr), pedestrians (embedded), or a benchmark's file with its "
        "official borders: ett-hour, ett-minute, custom (ECL, Traffic, Weather, Exchange), solar, pems",
    )  # fmt: skip
    path: str | None = Field(None, description="the file, or a Zarr store's folder")
    time: Names | None = Field(
        None,
        description="the column of stamps, or several such as [year, month, day, hour]; found by name if unset",
    )
    id: Names | None = Field(
        None,
        description='long format: the column, or several such as ["store", "item"], that say which series a row '
        "belongs to",
    )
    targets: Names | None = Field(
        None, description="columns to forecast; all numeric ones that have no other role"
    )
    past: Names = Field((), description="covariates known up to the forecast's start")
    known_future: Names = Field(
        (), description="covariates known over the horizon too (weather forecasts, prices)"
    )
    static: Names = Field((), description="columns that hold one value an id")
    drop: Names = Field((), description="columns to leave out")
    holidays: str | None = Field(
        None, description='country or country-region whose holidays are known: "DE", "NZ-AUK"'
    )
    freq: str | None = Field(
        None, description='step between rows, such as "h", "15min", "D", "MS", or sessions such as '
        '"30min@09:30-16:00/B"; found if unset',
    )  # fmt: skip
    tz: str | None = Field(
        None, description="IANA zone of stamps that carry none; daylight saving is resolved by it"
    )
    aggregate: Literal["mean", "sum", "last"] | None = Field(
        None,
        description="how all rows of one step become one value, where data.freq is coarser than the file or stamps "
        "repeat: mean if unset, but rows of several series are then asked about",
    )
    doubles: Literal["keep", "drop"] = Field(
        "keep",
        description="rows of one stamp that are equal in every column of the file: each counts, or only the first",
    )
    panel: Literal["auto", "variates", "series"] = Field(
        "auto", description="ids of a long file: variates of one window, or series of their own; auto: variates where "
        "they share 90 % of their time and are at most 2,000",
    )  # fmt: skip
    missing: Sentinels = Field(
        (), description="words and numbers that stand for no value, beside the usual words"
    )
    decimal: DecimalMark = Field(
        "auto",
        description="the mark of a table's numbers; auto: each column tells its own, where it can",
    )
    fill: Literal["last", "linear"] = Field(
        "last", description="missing values of a look-back: the last value carried forward (at most model.context "
        "rows), or a line between neighbours within the look-back; what is left is the training mean",
    )  # fmt: skip
    max_missing: float = Field(
        0.5,
        ge=0,
        le=1,
        description="a training window with a larger share of missing values is left out",
    )
    allow_leakage: bool = Field(
        False,
        description="a column that gives a target away, or test rows that stand in training, are no error",
    )
    bounds: dict[str, Range] = Field(
        default_factory=dict,
        description='limits of forecasts in data units, by variate or "*": {"*" = [0, inf]}',
    )
    calendar: str = Field(
        "auto",
        description='time marks: those of a frequency ("h", "15min", "D", ...), auto: of the data\'s, or none',
    )
    season: int | None = Field(
        None, gt=0, description="rows a season, of MASE and the seasonal naive forecast; unset: a day or a week (of "
        "days a week or a year), whichever fits the training rows better, and 1 where they hold no three",
    )  # fmt: skip
    scale: Literal["standard", "none"] = Field(
        "standard", description="each variate by its training mean and std"
    )
    split: Literal["rows", "date"] = Field(
        "rows", description="fractions are of each series' rows, or (date) of the time of all series together, with "
        "the same borders for all",
    )  # fmt: skip
    val_fraction: float = Field(0.1, gt=0, lt=1, description="of the rows, before the test rows")
    test_fraction: float = Field(0.2, ge=0, lt=1, description="of the rows, the last ones")
    val_from: str | None = Field(
        None, description="first stamp of validation; instead of a fraction"
    )
    test_from: str | None = Field(None, description="first stamp of test; instead of a fraction")
    since: str | None = Field(None, description="first stamp used; what lies before is left out")
    until: str | None = Field(None, description="last stamp used")
    stream: Literal["auto", "memory", "disk"] = Field(
        "auto",
        description="disk: windows are read from a Zarr store block by block; auto: if it is larger than 1 GiB",
    )
    workers: int = Field(
        0, ge=0, description="loader processes; their number never changes a result"
    )

    @property
    def how(self) -> Literal["mean", "sum", "last"]:
        """How rows of one step become one value."""
        return self.aggregate or "mean"


class AugmentConfig(Table):
    """Random changes of training windows; every draw is a function of (seed, epoch, index)."""

    jitter: float = Field(
        0.0, ge=0, description="standard deviation of noise on the look-back, scaled units"
    )
    stretch: float = Field(
        0.0, ge=0, description="a window, look-back and horizon, times exp of this much noise"
    )
    variates: float = Field(
        1.0,
        gt=0,
        le=1,
        description="share of the variates that a training batch sees (Liu et al. 2024, section 4.2)",
    )

    @property
    def each(self) -> bool:
        """Whether every window is changed by draws of its own."""
        return bool(self.jitter or self.stretch)


class ModelConfig(Table):
    """Which model, how far it looks back and ahead, and how a window is normalised."""

    family: Literal["itransformer", "samformer"] = "itransformer"
    context: int | Literal["auto"] = Field(96, description="look-back, rows")
    horizon: int | Literal["auto"] = Field(96, description="rows forecast")
    normalise: Literal["window", "revin", "none"] = Field(
        "window", description="window: each look-back by its mean and std (use_norm); revin: the same with a learned "
        "scale and shift a variate (Kim et al. 2022), which fixes the variates",
    )  # fmt: skip


class TokeniserConfig(Table):
    """Series -> tokens: one token a variate, covariate or time mark."""

    calendar: Literal["past", "future", "none"] = Field(
        "past",
        description="time marks as tokens of the look-back alone (official), or of look-back and horizon",
    )
    origin: bool = Field(
        False,
        description="variates' tokens are told the calendar of the forecast's first row; needs calendar = future",
    )
    identity: bool = Field(
        False,
        description="a learned vector for each variate on its token, which fixes the variates and their order",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="on the tokens")


class LossConfig(Table):
    """What training minimises, on scaled data; quantiles add their pinball loss to it."""

    kind: Literal["mse", "l1", "huber"] = Field("mse", description="of the point forecast")


class HeadConfig(Table):
    """Tokens -> forecasts."""

    quantiles: Floats = Field(
        (), description="levels forecast beside the mean, trained by pinball loss; none crosses"
    )


class TimeseriesEval(EvalConfig):
    """Evaluation, with the domain's baselines; see baselines/."""

    known: ClassVar[tuple[str, ...]] = BASELINES


class TimeseriesApp(AppConfig):
    """An app of the time-series domain."""

    moved: ClassVar[Mapping[str, str]] = {"head.loss": "loss.kind"}

    auto: bool = Field(
        False,
        description="choose look-back, horizon, trunk and epochs from the data; keys that are set stay",
    )
    data: DataConfig = DataConfig()
    augment: AugmentConfig = AugmentConfig()
    model: ModelConfig = ModelConfig()
    tokeniser: TokeniserConfig = TokeniserConfig()
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    eval: TimeseriesEval = TimeseriesEval()
