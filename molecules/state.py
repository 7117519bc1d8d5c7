"""task.json of a molecules run: what its outputs are, in which units, and how molecules became the model's input."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from isoform.core.config.schema import Floats, Names, Table
from isoform.core.config.state import RunState
from isoform.molecules.config import Kind

BondKinds = Annotated[
    tuple[Annotated[tuple[int, ...], Field(strict=False)], ...], Field(strict=False)
]
Shape = Annotated[tuple[int, ...], Field(strict=False)]


class ScalingState(Table):
    """Of each target in training, or of its decimal logarithm where `log` says so."""

    mean: Floats
    std: Floats
    log: Annotated[tuple[bool, ...], Field(strict=False)] = ()


class DescriptorState(Table):
    """The range of each RDKit descriptor in training; see descriptors.Normaliser."""

    low: Floats
    high: Floats
    mean: Floats
    std: Floats


class SourceState(Table):
    """The official checkpoint that a model was imported from."""

    layout: str
    spare: dict[str, Shape] = Field(
        default_factory=dict, description="shapes of tensors that nothing reads"
    )
    config: dict[str, Any] | None = Field(None, description="its config.json")


class GenerativeState(Table):
    """What a generative model was trained on."""

    counts: dict[str, dict[int, int]] = Field(
        default_factory=dict,
        description="kind of system -> number of atoms -> training systems of so many",
    )


class MoleculesState(RunState):
    """Everything is optional: an imported model knows neither its targets' names nor their scale."""

    kind: Kind | None = Field(None, description="regression if unset")
    names: Names | None = Field(
        None, description="of the targets, or of the classes of a multi-class one"
    )
    units: Names | None = Field(None, description='of the targets; "" where unknown')
    scaling: ScalingState | None = None
    kinds: BondKinds | None = Field(
        None, description="features of each kind of bond in training; kind 0 is no bond"
    )
    training: Names | None = Field(
        None, description="SMILES of the training molecules, to name the nearest one"
    )
    fingerprints: str | None = Field(
        None, description="of the training molecules; see nearest.to_text"
    )
    familiar: float | None = Field(
        None,
        description="similarity to the nearest training molecule from which on it is like them",
    )
    descriptors: DescriptorState | None = None
    source: SourceState | None = None
    generative: GenerativeState | None = None

    @property
    def outputs(self) -> int:
        """How many outputs the names name; 0 without names."""
        return len(self.names or ())

    @property
    def descriptor_count(self) -> int:
        """How many descriptors the head reads."""
        return len(self.descriptors.mean) if self.descriptors else 0

    @property
    def spare(self) -> dict[str, Sequence[int]]:
        """Shapes by name of the tensors that an imported checkpoint holds and nothing reads."""
        return dict(self.source.spare) if self.source else {}

    def bond_kinds(self) -> np.ndarray:
        """int16 [K + 1, Fb], as the graphs of the training molecules number them."""
        return np.array(self.kinds, np.int16)
