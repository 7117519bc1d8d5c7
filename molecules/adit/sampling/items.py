"""Systems drawn from a trained model, window by window, each a function of its number alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.domain import TrainedModel
from isoform.core.engine import distributed
from isoform.core.errors import UserError, count
from isoform.molecules.adit.config import AditApp
from isoform.molecules.adit.model import Adit
from isoform.molecules.adit.sampler import SizeCounts, Wanted, sample
from isoform.molecules.adit.sampling.request import KINDS, Kind, Request
from isoform.molecules.systems.system import System, Unread, crystal, lattice_of, molecule

WINDOW = 4  # batches: so many items are ordered by size before they are drawn, and written together

Track = Callable[[Sequence[Any], str], Iterable[Any]]


def generate(
    trained: TrainedModel[Any, Any], request: Request, sizes: SizeCounts | None = None
) -> Iterator[System | Unread]:
    """Items 1 to request.count in their order; what is no system (no cell, an unknown element) is an `Unread`.

    sizes   how many atoms training systems have; the run's own if None

    Raises UserError for a run that samples nothing, or not that.
    """
    found = windows(trained, request, sizes_learned(trained) if sizes is None else sizes)
    return itertools.chain.from_iterable(found)


def windows(
    trained: TrainedModel[Any, Any],
    request: Request,
    sizes: SizeCounts,
    done: int = 0,
    track: Track = lambda parts, doing: parts,
) -> Iterator[list[System | Unread]]:
    """The items behind the first `done`, as many at once as are drawn from one ordering by size.

    Batches are the same wherever it starts, so that what is drawn again is the same bit for bit; `done` is 0 or where a
    window ended. Raises as `generate`, before anything is drawn.
    """
    model = model_for(trained, request, sizes)
    model.to(distributed.this_process().device)
    turns = range(done, request.count, request.batch)
    return _windows(model, request, sizes, track(turns, "sampling"))


def _windows(
    model: Adit, request: Request, sizes: SizeCounts, turns: Iterable[int]
) -> Iterator[list[System | Unread]]:
    long = WINDOW * request.batch
    drawn: dict[int, System | Unread] = {}
    for first in turns:
        start = first - first % long
        window = range(start + 1, min(start + long, request.count) + 1)
        atoms = {number: size_of(number, request, sizes) for number in window}
        order = sorted(window, key=lambda number: (atoms[number], number))
        numbers = order[first - start : first - start + request.batch]
        drawn |= _draw(model, request, {number: atoms[number] for number in numbers})
        if len(drawn) == len(window):
            yield [drawn[number] for number in window]
            drawn = {}


def model_for(trained: TrainedModel[Any, Any], request: Request, sizes: SizeCounts) -> Adit:
    """The model that draws what is asked for. Raises UserError for a run that doesn't."""
    model = adit_of(trained)
    most = trained.config.model.spacegroups
    if request.spacegroup > most:
        known = f"those up to {most}" if most else "none"
        raise UserError(f"--spacegroup {request.spacegroup}: the run's model knows {known}")
    size_of(1, request, sizes)
    return model


def size_of(number: int, request: Request, sizes: SizeCounts) -> int:
    """How many atoms item `number` has."""
    within = None
    if request.atoms is not None:
        within = range(request.atoms[0], request.atoms[1] + 1)
    return sizes.draw(request.kind, request.seed, number, within)


def adit_of(trained: TrainedModel[Any, Any]) -> Adit:
    """The model of both stages. Raises UserError for a run of anything else."""
    if not isinstance(trained.config, AditApp):
        raise UserError(
            f"{trained.folder}: its model predicts and draws nothing; sample from a run of an adit app"
        )
    if not isinstance(trained.model, Adit):
        raise UserError(
            f"{trained.folder}: holds the {trained.config.model.part} alone; sampling needs both stages"
        )
    return trained.model


def sizes_learned(trained: TrainedModel[Any, Any]) -> SizeCounts:
    """How many atoms the run's training systems have; of no kind any where the run doesn't know."""
    generative = trained.state.generative
    return SizeCounts({} if generative is None else generative.counts)


def only_kind(sizes: SizeCounts) -> Kind:
    """The one kind that training systems are of. Raises UserError where there are several, or it isn't known."""
    found = [kind for kind in KINDS if sizes.counts.get(kind)]
    if len(found) != 1:
        known = "both kinds" if found else "systems that it doesn't name"
        raise UserError(f"the run was trained on {known}: add --kind molecule or --kind crystal")
    return found[0]


def _draw(model: Adit, request: Request, atoms: Mapping[int, int]) -> dict[int, System | Unread]:
    """The items of {number: atoms}, drawn together."""
    label = [1 + (request.kind == "molecule"), request.spacegroup]
    labels_BC = torch.tensor([label] * len(atoms))
    wanted = Wanted(list(atoms), list(atoms.values()), labels_BC)
    found = sample(model, wanted, request.sampling, request.seed)
    names = [f"{request.kind}_{number}" for number in atoms]
    return dict(zip(atoms, items_of(found, names), strict=True))


_OF_ATOMS = ("numbers", "positions", "fractional")


def items_of(structures: Mapping[str, Tensor], names: Sequence[str]) -> list[System | Unread]:
    """The systems that `sampler.sample` gives, and why there is none where there is none."""
    arrays = {name: array_of(value) for name, value in structures.items()}
    starts = arrays["offsets"]
    return [
        _item(
            {key: arrays[key][starts[row] : starts[row + 1]] for key in _OF_ATOMS},
            np.concatenate([arrays["lengths"][row], arrays["angles"][row]]),
            bool(arrays["periodic"][row]),
            name,
        )
        for row, name in enumerate(names)
    ]


def array_of(tensor: Tensor) -> np.ndarray:
    """On the CPU, numbers with a point in float64."""
    array = tensor.cpu().numpy()
    return array.astype(np.float64) if tensor.is_floating_point() else array


def _item(
    atoms: Mapping[str, np.ndarray], cell: np.ndarray, periodic: bool, name: str
) -> System | Unread:
    """The system, or why there is none; a crystal's places are its fractional coordinates."""
    numbers = atoms["numbers"]
    unknown = int((numbers == 0).sum())
    if unknown:
        return Unread(name, f"{count(unknown, 'atom')} of {len(numbers)} of no known element")
    try:
        if not periodic:
            return molecule(numbers, atoms["positions"], name)
        return crystal(numbers, atoms["fractional"], _lattice(cell), name)
    except ValueError as error:
        return Unread(name, str(error))


def _lattice(cell: np.ndarray) -> np.ndarray:
    """[3, 3] of lengths and angles [6]. Raises ValueError, as part of a sentence, where they make no cell."""
    if not np.isfinite(cell).all():
        raise ValueError("its cell is not six finite numbers")
    if not (cell[:3] > 0).all():
        raise ValueError(f"lengths {', '.join(f'{x:.3g}' for x in cell[:3])} make no cell")
    if not ((cell[3:] > 0) & (cell[3:] < 180)).all():
        raise ValueError(f"angles {', '.join(f'{x:.4g}' for x in cell[3:])} make no cell")
    return lattice_of(cell)
