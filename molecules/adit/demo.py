"""A picture of what a trained model draws from noise."""

from __future__ import annotations

from pathlib import Path

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.report import drawing
from isoform.core.report.balls import draw_still
from isoform.molecules.adit.config import AditApp
from isoform.molecules.adit.sampling.items import generate, sizes_learned
from isoform.molecules.adit.sampling.request import KINDS, Request
from isoform.molecules.generation.figures import scene_of
from isoform.molecules.state import MoleculesState
from isoform.molecules.systems.system import System

SHOWN = 12


def draw_samples(trained: TrainedModel[AditApp, MoleculesState], path: Path) -> Path:
    """The first systems that seed 0 draws, of each kind that was learned as many, none chosen, written to `path`.

    Raises UserError for a run of the autoencoder alone, and where not one of them is a system.
    """
    sizes = sizes_learned(trained)
    known = [kind for kind in KINDS if sizes.counts.get(kind)]
    drawn: list[System] = []
    for kind in known:
        request = Request(
            count=SHOWN // len(known),
            kind=kind,
            sampling=trained.config.sampling,
        )
        drawn += [one for one in generate(trained, request, sizes) if isinstance(one, System)]
    if not drawn:
        raise UserError(f"{trained.folder}: not one of {SHOWN} samples is a system; train longer")
    drawing.save(draw_still(scene_of({"generated": drawn})), path)
    return path
