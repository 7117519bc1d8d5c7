"""The closed tables of the all-atom diffusion transformer, and its sizes. No torch here.

Sizes are those of Joshi et al. 2025 (arXiv:2503.03965), beside smaller ones for two cores.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, Field, model_validator

from isoform.core.config.schema import (
    AppConfig,
    BackboneConfig,
    EvalConfig,
    Floats,
    Names,
    ReadData,
    Seed,
    Table,
)
from isoform.core.errors import join_names


def _crystal_and_molecule(weights: tuple[float, ...]) -> tuple[float, ...]:
    if len(weights) != 2 or min(weights) < 0:
        raise ValueError("give two weights of at least 0: a crystal's and a molecule's")
    return weights


ByKind = Annotated[Floats, AfterValidator(_crystal_and_molecule)]

# What the official trunks are, beside their sizes: the autoencoder's, and the denoiser's.
#
# channel: the official code is trained with the tanh form of GELU, and so is this. In its inference PyTorch's fused
# layer takes the exact form instead, up to 5e-4 off: encoder.channel and decoder.channel = "gelu" reproduce that.
TRUNK = {
    "channel": "gelu_tanh",
    "eps": 1e-5,
    "init": "torch",
}
DENOISER_TRUNK = {
    "channel": "gelu_tanh",
    "norm": "layer_plain",
    "eps": 1e-6,
    "condition": "adaln_zero",
    "final_norm": False,
}

# (dim, depth, heads, mlp_dim) of encoder and decoder, and (dim, depth, heads) of the denoiser.
AUTOENCODERS = {
    "official": (512, 8, 8, 2048),
    "demo": (128, 4, 4, 512),
    "tiny": (32, 2, 2, 64),
}
DENOISERS = {
    "S": (384, 12, 6),
    "B": (768, 12, 12),
    "L": (1024, 24, 16),
    "demo": (192, 6, 6),
    "tiny": (32, 2, 2),
}


SOURCES = ("file", "qm9", "prototypes", "mp20")


def _known_sources(names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name not in SOURCES:
            raise ValueError(
                f"no source of systems is called {name!r}; there are {join_names(SOURCES)}"
            )
    if not names or len(set(names)) < len(names):
        raise ValueError("name each source once, and at least one")
    return names


class SystemsConfig(ReadData):
    """Which molecules and crystals, and how they are split."""

    source: Annotated[Names, AfterValidator(_known_sources)] = Field(
        ("file",),
        description="one or several of: file (data.path), qm9 (embedded), prototypes (AFLOW's 288, embedded), mp20 "
        "(data.root: train.csv, val.csv and test.csv)",
    )
    path: str | None = Field(
        None,
        description="a file of molecules or crystals (sdf, xyz, extxyz, cif, POSCAR, csv of CIFs), or a folder of "
        "such files called train, val and test",
    )
    root: str | None = Field(None, description="folder of MP-20's files")
    split: Literal["official", "random"] = Field(
        "official",
        description="official: the published split of qm9 and mp20, and a folder's own; random where there is none",
    )
    split_seed: Seed = Field(0, description="of all that is drawn of the data")
    val_fraction: float = Field(0.1, gt=0, lt=1)
    test_fraction: float = Field(0.1, ge=0, lt=1)
    max_atoms: int = Field(256, gt=0, description="larger systems are left out and counted")
    judged: int | None = Field(
        None,
        gt=0,
        description="of validation and of test at most so many of each source, drawn by split_seed",
    )
    epoch: int | None = Field(
        None, gt=0, description="training systems an epoch, drawn anew each time; all if unset"
    )
    shares: Floats | None = Field(
        None, description="of each source in an epoch; as many as it has if unset"
    )
    allow_leakage: bool = Field(False, description="the same system in two splits is no error")
    workers: int = Field(
        0, ge=0, description="loader processes; their number never changes a result"
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> SystemsConfig:
        if self.shares is not None:
            if len(self.shares) != len(self.source) or min(self.shares) <= 0:
                raise ValueError("shares needs one number above 0 for each source")
            if self.epoch is None:
                raise ValueError("shares are of data.epoch: set that too")
        return self


class SystemAugmentConfig(Table):
    """What training changes at random; each system has its own changes in each epoch."""

    pose: Literal["given", "principal"] = Field(
        "given",
        description="principal: every molecule is first turned so that its principal axes are the coordinates', which "
        "spares a model from learning all rotations; with rotate = false",
    )
    rotate: bool = Field(True, description="a rotation, uniform over all")
    shift: float = Field(
        0.0,
        ge=0,
        description="standard deviation of a molecule's translation, Angstrom; above 0, crystals move uniformly over "
        "their cell",
    )
    hidden: float = Field(
        0.0, ge=0, le=1, description="share of atoms whose element the autoencoder isn't told"
    )
    moved: float = Field(
        0.0, ge=0, le=1, description="share of atoms that the autoencoder is told displaced"
    )
    distance: float = Field(
        0.1, ge=0, description="standard deviation of that displacement, Angstrom an axis"
    )


class AditEval(EvalConfig):
    """Evaluation, with the domain's baselines; see baselines.py."""

    known: ClassVar[tuple[str, ...]] = ("mean_atom",)

    samples: int = Field(
        200,
        ge=0,
        description="systems that a trained denoiser generates and that are judged, of the sizes of the first of test",
    )


class AditModelConfig(Table):
    """Which part of the model, and what its two parts have in common."""

    family: Literal["adit"] = "adit"
    part: Literal["autoencoder", "denoiser", "both"] = Field(
        "both",
        description="the first stage, the second by itself (as some files hold it), or both: what samples",
    )
    elements: int = Field(100, gt=1, description="rows of the table of elements; row 0 is unknown")
    latent: int = Field(8, gt=0, description="features a token of the latent space")
    index: bool = Field(
        True,
        description="an atom's place in the list is embedded, as officially; without it, atoms are a set",
    )
    spacegroups: int = Field(230, ge=0, description="labels of the denoiser, beside not told")
    kinds: int = Field(2, gt=0, description="labels of the denoiser: 1 crystal, 2 molecule")


class ReconstructionConfig(Table):
    """Weights of the autoencoder's losses, [of a crystal, of a molecule]; a weight of 0 still counts in the mean."""

    types: ByKind = (1.0, 1.0)
    lengths: ByKind = (1.0, 0.0)
    angles: ByKind = (10.0, 0.0)
    fractional: ByKind = (10.0, 0.0)
    positions: ByKind = (0.0, 10.0)
    kl: ByKind = (1e-5, 1e-5)


class FlowConfig(Table):
    """What the denoiser learns from."""

    earliest: float = Field(0.01, ge=0, lt=1, description="first time that is drawn; 0 is noise")
    latest: float = Field(0.99, gt=0, le=1, description="last time that is drawn; 1 is data")
    scale: float = Field(
        1.0,
        gt=0,
        description="latents are multiplied by this for the denoiser, 1 as published: more of its times are then about "
        "fine detail, and fewer about none",
    )
    form: Literal["clean", "preconditioned"] = Field(
        "clean",
        description="what the network gives: the clean latents, as published, or what is left of them and of order 1 "
        "when the best linear guess is taken off (Karras et al. 2022)",
    )
    cap: float = Field(0.9, ge=0, lt=1, description="time from which on the loss weighs no more")
    self_condition: float = Field(
        0.5, ge=0, le=1, description="share of batches that see a prediction of their own"
    )
    label_dropout: float = Field(0.1, ge=0, le=1, description="share of labels that are not told")

    @model_validator(mode="after")
    def _in_order(self) -> FlowConfig:
        if self.earliest >= self.latest:
            raise ValueError(
                f"earliest = {self.earliest:g} must lie before latest = {self.latest:g}"
            )
        return self


class SamplingConfig(Table):
    """How samples are drawn."""

    steps: int = Field(100, ge=2, description="predictions from noise to a sample")
    solver: Literal["euler", "multistep"] = Field(
        "euler",
        description="euler: the official one; multistep: second order for the same work, so that fewer steps do",
    )
    start: float = Field(0.01, ge=0, lt=1, description="time of the noise")
    guidance: float | None = Field(
        2.0, description="scale of classifier-free guidance; 1 or unset: none"
    )
    self_condition: bool = Field(True, description="each prediction sees the one before")
    official_padding: bool = Field(
        False,
        description="noise is centred over as many rows as the batch's largest item has, as the official code does: "
        "samples then depend on their batch",
    )


def autoencoder_trunk(size: str, **changes: Any) -> BackboneConfig:
    """The table of `encoder` and `decoder`, of a size in AUTOENCODERS. Raises ValueError for another size."""
    dim, depth, heads, mlp_dim = _known(size, AUTOENCODERS)
    sizes = {"dim": dim, "depth": depth, "heads": heads, "mlp_dim": mlp_dim}
    return BackboneConfig.model_validate({**TRUNK, **sizes, **changes})


def denoiser_trunk(size: str, **changes: Any) -> BackboneConfig:
    """The table `backbone` of the denoiser, of a size in DENOISERS. Raises ValueError for another size."""
    dim, depth, heads = _known(size, DENOISERS)
    sizes = {"dim": dim, "depth": depth, "heads": heads}
    return BackboneConfig.model_validate({**DENOISER_TRUNK, **sizes, **changes})


def _known(size: str, sizes: dict[str, Any]) -> Any:
    if size not in sizes:
        raise ValueError(f"no size is called {size!r}; there are {', '.join(sizes)}")
    return sizes[size]


class AditApp(AppConfig):
    """An app of the all-atom diffusion transformer; `backbone` is the denoiser's trunk."""

    auto: bool = Field(False, description="choose the epochs from the data; keys that are set stay")
    data: SystemsConfig = SystemsConfig()
    augment: SystemAugmentConfig = SystemAugmentConfig()
    eval: AditEval = AditEval()
    model: AditModelConfig = AditModelConfig()
    encoder: BackboneConfig = autoencoder_trunk("official")
    decoder: BackboneConfig = autoencoder_trunk("official")
    backbone: BackboneConfig = denoiser_trunk("B")
    loss: ReconstructionConfig = ReconstructionConfig()
    flow: FlowConfig = FlowConfig()
    sampling: SamplingConfig = SamplingConfig()

    @model_validator(mode="before")
    @classmethod
    def _trunks_of_this_model(cls, tree: Any) -> Any:
        """A trunk's keys that nobody sets are those of the official one, not of any backbone."""
        if not isinstance(tree, dict):
            return tree
        usual = {"encoder": TRUNK, "decoder": TRUNK, "backbone": DENOISER_TRUNK}
        own = {name: tree[name] for name in usual if isinstance(tree.get(name), dict)}
        return tree | {name: {**usual[name], **table} for name, table in own.items()}

    @model_validator(mode="after")
    def _trunks_fit(self) -> AditApp:
        for name in ("encoder", "decoder", "backbone"):
            trunk: BackboneConfig = getattr(self, name)
            wanted = "adaln_zero" if name == "backbone" else "none"
            if trunk.condition != wanted:
                raise ValueError(
                    f'{name}.condition = "{trunk.condition}" must be "{wanted}": the denoiser alone is told time and '
                    "labels"
                )
            if trunk.position != "none":
                raise ValueError(
                    f'{name}.position = "{trunk.position}" must be "none": atoms bring their places (model.index)'
                )
            if trunk.dim % 2 and self.model.index:
                raise ValueError(
                    f"{name}.dim = {trunk.dim} must be even, for model.index fills it with sines and cosines"
                )
        return self


def app_of_size(
    autoencoder: str = "official",
    denoiser: str = "B",
    **tables: Any,
) -> AditApp:
    """A model by the sizes of its parts: AUTOENCODERS and DENOISERS; `tables` are those of `AditApp`.

    Raises ValueError for another size.
    """
    trunk = autoencoder_trunk(autoencoder)
    values = {"domain": "molecules", "app": f"adit-{denoiser.lower()}", **tables}
    return AditApp(
        encoder=trunk,
        decoder=trunk,
        backbone=denoiser_trunk(denoiser),
        **values,
    )
