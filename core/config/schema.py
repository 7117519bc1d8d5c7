"""The closed tables that every app shares; a domain adds its own `data`, `tokeniser`, `head` and `model` tables.

Every table is frozen and refuses unknown keys. Units stand in the descriptions, which `isoform explain` prints.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    field_validator,
    model_validator,
)

from isoform.core.config.keys import suggest
from isoform.core.errors import join_names


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the smaller number should come first")
    return pair


# TOML has arrays, not tuples, and a frozen table should hold what cannot change.
Floats = Annotated[tuple[float, ...], Strict(False)]
Range = Annotated[tuple[float, float], Strict(False), AfterValidator(_ascending)]
Names = Annotated[
    tuple[str, ...], Strict(False), BeforeValidator(lambda v: (v,) if isinstance(v, str) else v)
]
# Words and numbers that a table holds where it has no value (data.missing); one may stand by itself.
Sentinels = Annotated[
    tuple[str | float, ...],
    Strict(False),
    BeforeValidator(lambda v: (v,) if isinstance(v, str | float | int) else v),
]

# What every random generator takes, and TOML's integers hold.
Seed = Annotated[int, Field(ge=0, lt=2**63)]

# The decimal mark of a table's numbers (data.decimal).
DecimalMark = Literal["auto", ".", ","]

# Norms by name, with the weights of a feature without and with `norm_bias`; their modules stand in core/norms.py.
NORMS = {"layer": (1, 2), "layer_plain": (0, 0), "rms": (1, 1), "batch": (1, 2), "none": (0, 0)}
# Gated channel mixers by name, with the activation of their gate.
GATED = {"swiglu": "silu", "geglu": "gelu"}
# Readouts by name, with how many times the trunk's width they are; what they compute stands in core/readout.py.
READOUTS = {
    "class": 1,
    "mean": 1,
    "max": 1,
    "mean_max": 1,
    "class_max": 2,
    "cat_mean_max": 2,
    "attention": 1,
    "none": 1,
}

if TYPE_CHECKING:
    Norm: TypeAlias = str
    Readout: TypeAlias = str
else:
    Norm, Readout = Literal[tuple(NORMS)], Literal[tuple(READOUTS)]


class Table(BaseModel):
    """A closed, frozen, strictly typed table of apps.toml (an integer is accepted where a float is meant)."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, protected_namespaces=())


class ReadData(Table):
    """The key of every domain's `data` that says what the loader does with a bad sample."""

    bad_samples: Literal["fail", "skip"] = Field(
        "fail",
        description="a training sample that can't be read when its turn comes ends the run, or is left out, named and "
        "counted (an evaluation never leaves one out)",
    )


class FoldedData(ReadData):
    """The keys of a domain's `data` that make a run one fold of a cross-validation (core/data/folds.py)."""

    folds: int | None = Field(
        None,
        ge=2,
        description="folds of a cross-validation, of which this run is data.fold; `train --folds K` trains all",
    )
    fold: int | None = Field(
        None, ge=1, description="the fold, from 1, that tests: the others train and validate"
    )

    @model_validator(mode="after")
    def _one_of_them(self) -> FoldedData:
        if (self.folds is None) != (self.fold is None):
            raise ValueError("folds and fold go together; `train --folds K` sets both")
        if self.folds is not None and self.fold is not None and self.fold > self.folds:
            raise ValueError(f"fold = {self.fold} is not among {self.folds} folds")
        return self


class BackboneConfig(Table):
    """One transformer trunk: which filler each slot of the block gets, and how large it is."""

    dim: int = Field(192, gt=0, description="features a token")
    depth: int = Field(12, ge=0, description="blocks")
    heads: int = Field(3, gt=0, description="query heads")
    kv_heads: int | None = Field(
        None, gt=0, description="key/value heads (grouped queries); as many as heads if unset"
    )
    head_dim: int | None = Field(None, gt=0, description="features a head; dim / heads if unset")
    value_dim: int | None = Field(
        None, gt=0, description="features a head of the values; head_dim if unset"
    )
    mlp_dim: int | None = Field(
        None, gt=0, description="hidden features of the channel mixer; 4 * dim if unset"
    )
    mixer: str = Field("softmax", description="how tokens exchange")
    channel: Literal[
        "gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu", "geglu", "none"
    ] = Field("gelu", description="channel mixer: an MLP's activation, or a gated one")
    score: Literal["none", "table", "dense", "distance"] = Field(
        "none", description="bias on the scores"
    )
    score_ids: int | None = Field(None, gt=0, description='rows of the table of score = "table"')
    score_gaussians: int = Field(16, gt=0, description='basis functions of score = "distance"')
    causal: bool = Field(False, description="a token sees only itself and what stands before it")
    qkv_bias: bool = True
    proj: bool = Field(
        True, description="output projection; without it heads * value_dim must be dim"
    )
    proj_bias: bool = True
    mlp_bias: bool = True
    qk_norm: Literal["none", "layer", "rms"] = Field(
        "none", description="norm of queries and keys, a head at a time"
    )
    mixer_norm: bool = Field(
        False, description="norm of the mixed values before the output projection (Sub-LN)"
    )
    gated: bool = Field(
        False, description="mixed values are multiplied by a sigmoid gate of the input"
    )
    mlp_norm: bool = Field(
        False, description="norm of the hidden features before the second projection (Sub-LN)"
    )
    norm: Norm = Field(
        "layer", description="layer_plain has no weights; batch: over all real tokens of a batch"
    )
    eps: float = Field(1e-6, gt=0, description="inside the square root of every norm")
    norm_bias: bool = True
    order: Literal["pre", "post", "res_post", "cct"] = Field(
        "pre",
        description="pre: norm of a branch's input; post: of the stream after the sum; res_post: of a branch's "
        "output; cct: pre-norm attention, then a norm that replaces the stream, then a bare MLP",
    )
    layout: Literal["sequence", "parallel"] = Field(
        "sequence", description="the two branches one after the other or summed"
    )
    branches: int = Field(1, gt=0, description="copies of each branch side by side, summed")
    condition: Literal["none", "adaln_zero"] = Field(
        "none", description="what Tokens.cond does to each branch"
    )
    cond_dim: int | None = Field(None, description="features of Tokens.cond; dim if unset")
    layer_scale_mlp: bool = Field(
        True, description="the channel mixer's branch has a layer_scale too"
    )
    layer_scale: float | None = Field(
        None, description="first value of a learned factor on each branch; none if unset"
    )
    position: Literal["none", "readd", "rotary", "rotary_half", "rotary_learned"] = Field(
        "none",
        description="readd: Tokens.pos is added to the stream before every block; rotary: its angles turn q "
        "and k by interleaved pairs (rotary_half: by halves; rotary_learned: angles are learned frequencies times "
        "Tokens.pos)",
    )
    drop_path: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="stochastic depth of the last block; 0 at the first, linear between",
    )
    dropout: float = Field(
        0.0, ge=0, lt=1, description="on each branch's output, and inside the MLP"
    )
    mlp_dropout: float | None = Field(
        None, ge=0, lt=1, description="inside the MLP; dropout if unset"
    )
    attention_dropout: float = Field(0.0, ge=0, lt=1, description="on the attention probabilities")
    final_norm: bool = True
    memory: Literal["none", "cross"] = Field(
        "none", description="cross: blocks also attend to the stream `memory`"
    )
    init: Literal["xavier", "torch"] = Field(
        "xavier",
        description="fresh matrices: Xavier's uniform and zero biases, or as PyTorch's layers start",
    )
    recompute: Literal["none", "elementwise", "light", "block"] = Field(
        "none",
        description="what the backward pass computes again to save memory: norms and activations; also the products "
        "that attention and activations read; or each block",
    )
    attention: Literal["auto", "reference", "sdpa", "triton"] = Field(
        "auto", description="implementation of attention"
    )


class TrainConfig(Table):
    """How the engine trains."""

    seed: Seed = Field(0, description="of everything random; at most 2**63 - 1")
    epochs: int | Literal["auto"] = Field(10, description="passes over the training split")
    batch: int = Field(64, gt=0, description="samples in a micro-batch")
    accumulate: int = Field(1, gt=0, description="micro-batches summed into one optimiser step")
    lr: float = Field(1e-3, gt=0, description="peak learning rate (AdamW)")
    min_lr: float = Field(1e-6, ge=0, description="learning rate at the end")
    warmup: float = Field(0.0, ge=0, description="epochs of linear warm-up")
    warmup_lr: float = Field(1e-6, ge=0)
    schedule: Literal["cosine", "cosine_late", "constant", "linear", "halving"] = Field(
        "cosine",
        description="after the warm-up; halving: half of the rate after every epoch but the first; cosine_late: moved "
        "between epochs alone and one epoch late, the warm-up's epochs counting as the cosine's",
    )
    schedule_epochs: float | None = Field(
        None, gt=0, description="epochs until min_lr is reached; all of the run if unset"
    )
    optimizer: Literal["adamw", "adam", "sgd", "muon"] = Field(
        "adamw",
        description="muon: the matrices of blocks step by their momentum made orthogonal, all else by adamw",
    )
    weight_decay: float = Field(
        0.05,
        ge=0,
        description="not on norms, biases, tokens, positions; adam and sgd add it to the gradient",
    )
    decay_all: bool = Field(
        False, description="weight_decay on norms, biases, tokens and positions too"
    )
    sam: float = Field(
        0.0,
        ge=0,
        description="length of the climb of sharpness-aware minimisation, which doubles a step's cost; 0: off",
    )
    beta1: float = 0.9
    beta2: float = 0.999
    layer_decay: float = Field(
        1.0, gt=0, le=1, description="learning rate factor from each layer to the one below"
    )
    clip: float | None = Field(None, gt=0, description="largest gradient norm; none if unset")
    updates: int = Field(
        1,
        gt=0,
        description="times that the optimiser steps along each gradient, which is clipped for the last of them alone",
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of the averaged weights a step; 0: none")
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    nonfinite: Literal["stop", "skip"] = Field(
        "stop",
        description="a step whose loss or gradient is NaN or infinite ends the run, or is left out; either way its "
        "samples are named (skip waits for the device at every step)",
    )
    compile: bool = False
    shard: Literal["none", "full"] = Field(
        "none",
        description="among several processes; full: each holds a part of every block's weights and optimiser state",
    )
    save_in_background: bool = Field(
        False, description="checkpoints are written while the training goes on"
    )
    patience: int | None = Field(
        None, gt=0, description="evaluations without improvement before stopping; none if unset"
    )
    evaluate_every: int = Field(1, gt=0, description="epochs between validations")
    monitor: str | None = Field(
        None,
        description="validation metric that chooses the best checkpoint, such as balanced_accuracy or loss; "
        "the domain's own choice if unset",
    )
    log_every: int = Field(50, gt=0, description="optimiser steps between lines of metrics.jsonl")
    checkpoint_every: int | None = Field(
        None, gt=0, description="optimiser steps between checkpoints; each epoch if unset"
    )
    init: str | None = Field(
        None,
        description="run folder, checkpoint file, or zoo/NAME that comes with isoform, to start from",
    )
    init_sha256: str | None = Field(
        None, description="of the file that init names: another is refused"
    )
    freeze: Literal["none", "trunk"] = "none"
    probe: bool = Field(
        False,
        description="the trunk is frozen and its features are computed once; the last layer is fitted to them, instead "
        "of trained by steps",
    )

    @field_validator("epochs")
    @classmethod
    def _some_epochs(cls, epochs: int | Literal["auto"]) -> int | Literal["auto"]:
        if epochs != "auto" and epochs < 1:
            raise ValueError("should be at least 1")
        return epochs

    @model_validator(mode="after")
    def _has_an_end(self) -> TrainConfig:
        if self.schedule_epochs is not None and self.schedule in ("constant", "halving"):
            raise ValueError(f"schedule = {self.schedule} has no end; leave out schedule_epochs")
        return self


class EvalConfig(Table):
    """How the engine evaluates. A domain that has baselines subclasses it with their names."""

    known: ClassVar[tuple[str, ...]] = ()  # names of the domain's baselines

    batch: int = Field(256, gt=0)
    baselines: Names | None = Field(
        None,
        description="simple methods to fit and judge beside the model; [] for none, all that the data allow if unset",
    )
    baseline_minutes: float | None = Field(
        None,
        gt=0,
        description="processor minutes of all baselines together, estimated beforehand from the sizes of the data; "
        "those beyond are left out; 120 if unset",
    )

    @field_validator("baselines")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for name in names or ():
            if name not in cls.known:
                there = join_names(cls.known, 20)
                hint = suggest(name, cls.known)
                raise ValueError(
                    f'no baseline is called "{name}"{hint}; there are {there}; [] is none'
                )
        return names


class AppConfig(Table):
    """An app of apps.toml, resolved. Domains subclass it with their tables."""

    moved: ClassVar[
        Mapping[str, str]
    ] = {}  # keys of earlier releases -> what they are called now, for the message

    domain: str
    app: str
    backbone: BackboneConfig = BackboneConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    status: Literal["measured", "smoke", "unverified"] = "unverified"
    summary: str = Field("", description="one line for `isoform apps`")
    minutes: float | None = Field(None, description="on 2 cores, measured")
    expected: dict[str, float] = Field(
        default_factory=dict, description="test metrics last measured, mean over seeds"
    )
    spread: dict[str, float] = Field(
        default_factory=dict, description="their standard deviation over seeds"
    )
    published: dict[str, float] = Field(default_factory=dict, description="the published result")
    measured: str = Field("", description="command, seeds and commit of the measurement")
