"""A tiny run of both stages, what is asked of it, and what sampling leaves behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from answers import rows_in
from isoform.core.domain import TrainedModel
from isoform.molecules.adit.config import SamplingConfig, app_of_size
from isoform.molecules.adit.model import build_model
from isoform.molecules.adit.sampler import SizeCounts
from isoform.molecules.adit.sampling import records
from isoform.molecules.adit.sampling.journal import part_of
from isoform.molecules.adit.sampling.request import Request
from isoform.molecules.state import MoleculesState

SIZES = SizeCounts({"molecule": {2: 1, 5: 3, 7: 2}, "crystal": {1: 1, 3: 2, 11: 1}})
FEW = SamplingConfig(steps=3, guidance=1.5)


def tiny(seed: int = 5) -> TrainedModel[Any, Any]:
    """A run of both stages, none of whose weights is at rest."""
    config = app_of_size("tiny", "tiny", sampling=FEW)
    torch.manual_seed(seed)
    model = build_model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
        model.autoencoder.head.lattice.weight.mul_(0.05).add_(0.1)  # some cells close
    return TrainedModel(config, MoleculesState(), model.eval(), Path("run"), 7)


RUN = tiny()


def table_of(out: Path) -> Path:
    return records.beside(out, "records.csv")


def asked(count: int = 23, kind: Any = "molecule", **more: Any) -> Request:
    return Request(count=count, kind=kind, sampling=FEW, **{"seed": 3, "batch": 3, **more})


def contents(out: Path) -> list[bytes]:
    assert not part_of(out).exists() and not part_of(table_of(out)).exists()
    return [out.read_bytes(), table_of(out).read_bytes()]


def rows_of(out: Path) -> list[dict[str, str]]:
    return rows_in(table_of(out))
