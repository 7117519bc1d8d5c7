"""The closed tables of a molecules app. No torch here: `isoform explain` and every error of a config stay fast."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from isoform.core.config.schema import (
    AppConfig,
    DecimalMark,
    Floats,
    FoldedData,
    Names,
    Seed,
    Sentinels,
    Table,
)
from isoform.core.supervised.config import LabelledEval
from isoform.core.supervised.config import LossConfig as LabelledLoss

SOURCES = (
    "file", "qm9", "esol", "bbbp", "bace", "zinc12k", "zinc-full", "pcqm4mv2", "molhiv", "molpcba",
)  # fmt: skip


Kind = Literal["regression", "binary", "multiclass"]
Transforms = Annotated[
    tuple[Literal["none", "log10"], ...],
    Field(strict=False),
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value),
]


def _known_source(value: str) -> str:
    if value in SOURCES or value.startswith("pyg:"):
        return value
    raise ValueError(f"no such source of molecules; known: {', '.join(SOURCES)}, pyg:NAME")


class DataConfig(FoldedData):
    """Which molecules, which of their labels, how they are cleaned and how they are split."""

    source: Annotated[str, AfterValidator(_known_source)] = Field(
        "file",
        description="file (csv, tsv, smi, sdf, parquet), qm9 (embedded), a benchmark's standard files below "
        "data.root or data.path (esol, bbbp, bace, zinc12k, zinc-full, pcqm4mv2, molhiv, molpcba), or pyg:NAME",
    )
    root: str | None = Field(None, description="folder of a benchmark's files")
    path: str | None = Field(None, description="the file")
    smiles: str | None = Field(None, description="the column of SMILES or InChI; found if unset")
    targets: Names | None = Field(
        None, description="the columns to predict; all numeric ones that are left if unset"
    )
    label: str | None = Field(None, description="the column of names; a row's line otherwise")
    group: str | None = Field(
        None, description="a column: rows with the same entry (a series, a patent) share a split"
    )
    missing: Sentinels = Field(
        (),
        description="words and numbers of a table that stand for no value, beside the usual words",
    )
    decimal: DecimalMark = Field(
        "auto",
        description="the mark of a table's numbers; auto: each column tells its own, where it can",
    )
    weight: str | None = Field(
        None, description="a column of numbers: how much a row counts in training"
    )
    task: Literal["auto", "regression", "binary", "multiclass"] = Field(
        "auto", description="binary: every target 0 or 1; multiclass: one target of classes"
    )
    classes: Names | None = Field(
        None, description="of a multi-class target, in the order of the outputs"
    )
    class_weights: Literal["none", "balanced"] = Field(
        "none",
        description="balanced: a label weighs the more the rarer it is in training (binary, multiclass)",
    )
    split: Literal["random", "scaffold", "cluster", "given"] = Field(
        "random",
        description="scaffold: Bemis-Murcko frameworks, the rare ones last; cluster: by fingerprints; given: "
        "the column data.split_column or the benchmark's own",
    )
    split_column: str = Field("split", description="the column of train, val or test")
    val_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, ge=0, lt=1)
    counts: Annotated[tuple[int, ...], Field(strict=False)] | None = Field(
        None,
        description="molecules in train, val and test, drawn by split_seed; instead of fractions",
    )
    split_seed: Seed = Field(
        0, description="of random splits; all of train.seed share one test set"
    )
    fragment: bool = Field(False, description="only the largest fragment: salts are cut off")
    neutralise: bool = Field(False, description="charges removed where hydrogens can be moved")
    tautomer: bool = Field(False, description="one canonical tautomer")
    canonical: bool = Field(
        False,
        description="canonical SMILES before featurising: all spellings of a molecule give one prediction",
    )
    chirality: bool = Field(True, description="the atoms' chirality tags are features")
    hydrogens: bool = Field(False, description="hydrogens are atoms of their own")
    duplicates: Literal["mean", "first", "drop", "keep"] = Field(
        "mean",
        description="several rows of one molecule: their mean (majority of classes), the first, none or all",
    )
    censored: Literal["value", "drop", "loss"] = Field(
        "value",
        description="'>10' counts as 10, as no label, or as a bound (regression): a prediction above it costs nothing",
    )
    transform: Transforms = Field(
        ("none",),
        description="what is learned of each target (one for all, or one each), none or log10: its decimal logarithm; "
        "predictions are in the data's units again",
    )
    max_atoms: int = Field(256, gt=0, description="larger molecules are left out and named")
    scale: Literal["auto", "standard", "none"] = Field(
        "auto", description="regression targets by training mean and std"
    )
    target_mean: Floats | None = Field(
        None, description="of each target; from the training split if unset"
    )
    target_std: Floats | None = Field(
        None, description="of each target; from the training split if unset"
    )
    cache: str | None = Field(
        None, description="folder for featurised graphs; the user's cache folder if unset"
    )
    download: bool = Field(False, description="torch-geometric may download (never by default)")
    allow_leakage: bool = Field(False, description="the same molecule in two splits is no error")
    workers: int = Field(
        0, ge=0, description="loader processes; their number never changes a result"
    )


class ModelConfig(Table):
    """Which of the domain's models."""

    family: Literal["graphormer", "gt"] = Field(
        "graphormer",
        description="Graphormer (Ying et al. 2021) or the graph transformer of Dwivedi & Bresson (2021)",
    )


class ScoreConfig(Table):
    """What distances and bonds between atoms add to attention scores (family graphormer)."""

    distance_ids: int = Field(
        512, gt=0, description="rows of the table of distances, padding's among them"
    )
    bond_ids: int = Field(
        1537, gt=0, description="rows of the table of bond features, padding's among them"
    )
    hops: int = Field(5, gt=0, description="bonds of a path that are looked at")
    hop_matrices: int | None = Field(
        None, gt=0, description="matrices of hops; hops if unset (files may hold more)"
    )
    reach: int | None = Field(
        None,
        gt=0,
        description="bonds from which on two atoms don't see each other; unset: no limit",
    )


class TokeniserConfig(Table):
    """Atoms -> tokens."""

    atom_ids: int = Field(
        4609, gt=0, description="rows of the table of atom features, padding's among them"
    )
    degree_ids: int = Field(
        512, ge=0, description="rows of the tables of degrees; 0: no centrality encoding"
    )
    out_degree_ids: int | None = Field(
        None, gt=0, description="of the table of out-degrees; degree_ids if unset"
    )
    bond_ids: int = Field(
        1537, gt=0, description='rows of the table of bond features of family "gt"'
    )
    graph_token: bool = Field(True, description="a virtual node in front of the atoms")
    norm: bool = Field(True, description="a norm of the tokens (Graphormer's emb_layer_norm)")
    laplacian: int = Field(
        0, ge=0, description="Laplacian eigenvectors as positions (Dwivedi & Bresson 2021)"
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    hf_compat: bool = Field(
        False, description="atom ids one higher, as the collator of transformers makes them"
    )


class HeadConfig(Table):
    """Tokens -> predictions."""

    pool: Literal["graph", "mean", "sum"] = Field(
        "graph", description="the graph token, or all atoms"
    )
    outputs: int = Field(0, ge=0, description="targets or classes; from the data if 0")
    hidden: bool = Field(
        True,
        description="layers before the last: one with activation and norm (graphormer), two of half and a "
        "quarter of the width (gt)",
    )
    dropout: float = Field(0.0, ge=0, lt=1)
    descriptors: bool = Field(
        False,
        description="RDKit's 2D descriptors, normalised, beside the pooled vector (family graphormer)",
    )


class LossConfig(LabelledLoss):
    """What training minimises; missing labels count nothing, and a regression's loss is l1 if nothing is set."""

    graph_alone: float = Field(
        0.0,
        ge=0,
        description="weight of the same loss without descriptors beside it, so that the graph counts too",
    )
    flag_steps: int = Field(
        0, ge=0, description="FLAG: ascent steps on the atoms' features (Kong et al. 2022); 0: off"
    )
    flag_size: float = Field(0.001, gt=0, description="length of such a step")


class MoleculesEval(LabelledEval):
    """Evaluation, with the domain's baselines; see baselines.py."""

    known: ClassVar[tuple[str, ...]] = (
        "mean",
        "majority",
        "logistic",
        "random_forest",
        "descriptor_boosting",
    )


class MoleculesApp(AppConfig):
    """An app of the molecules domain."""

    moved: ClassVar[Mapping[str, str]] = {
        "data.name": "data.source",
        "loss.regression": "loss.kind",
        "loss.balance": 'data.class_weights ("balanced")',
        "train.label_smoothing": "loss.label_smoothing",
        "backbone.score_edge_ids": "score.bond_ids",
        "backbone.score_hops": "score.hops",
        "backbone.score_matrices": "score.hop_matrices",
        "backbone.score_reach": "score.reach",
    }

    auto: bool = Field(
        False, description="choose trunk and epochs from the data; keys that are set stay"
    )
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    tokeniser: TokeniserConfig = TokeniserConfig()
    score: ScoreConfig = ScoreConfig()
    head: HeadConfig = HeadConfig()
    loss: LossConfig = LossConfig()
    eval: MoleculesEval = MoleculesEval()
