"""Which parts the clouds of a class have, and where they stand among a model's inputs and outputs.

B clouds, n points, S classes of clouds, P parts of all of them, M parts of the class that has most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from isoform.core.config.keys import suggest
from isoform.core.errors import UserError, join_names

Codes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class PartTable:
    """Class of clouds -> the codes of its parts as files have them.

    The model reads the class as one of S, in this order. Its P outputs are the parts, class after class.
    """

    codes: Codes

    @property
    def shapes(self) -> tuple[str, ...]:
        """The classes of clouds."""
        return tuple(self.codes)

    @property
    def outputs(self) -> tuple[str, ...]:
        """A name for every output: the class and the code."""
        return tuple(f"{shape} {code}" for shape, codes in self.codes.items() for code in codes)

    @cached_property
    def counts(self) -> np.ndarray:
        """int64 [S] parts of each class."""
        return np.array([len(codes) for codes in self.codes.values()], np.int64)

    @cached_property
    def first(self) -> np.ndarray:
        """int64 [S] the first output of each class."""
        found: np.ndarray = np.cumsum(self.counts) - self.counts
        return found

    def targets_of(self, code: np.ndarray, shape: int) -> np.ndarray:
        """int64 [n] of codes [n] of a cloud of class number `shape`: outputs, -1 for a code that it doesn't have."""
        known = code[:, None] == np.array(self.codes[self.shapes[shape]], np.int64)
        found: np.ndarray = np.where(known.any(1), self.first[shape] + known.argmax(1), -1)
        return found

    def number_of(self, name: str) -> int:
        """The number of a class of clouds. Raises UserError for one that isn't there."""
        if name not in self.codes:
            hint = suggest(name, self.shapes)
            raise UserError(
                f"no class {name!r} of clouds{hint}; there are {join_names(self.shapes, 20)}"
            )
        return self.shapes.index(name)

    def own_probabilities(self, logits: Tensor, shape_B: Tensor) -> Tensor:
        """float32 [B, n, M] of logits [B, n, P]: those of each cloud's own parts, zeros behind the last of them."""
        at = torch.arange(int(self.counts.max()), device=logits.device)
        first = torch.from_numpy(self.first).to(logits.device)[shape_B]
        counts = torch.from_numpy(self.counts).to(logits.device)[shape_B]
        beyond = at >= counts[:, None]
        index = (first[:, None] + at).clamp(max=logits.shape[2] - 1)
        own = logits.float().gather(2, index[:, None].expand(-1, logits.shape[1], -1))
        return own.masked_fill(beyond[:, None], -torch.inf).softmax(2)


# ShapeNetPart's classes (Yi et al. 2016) and how many parts each has; their codes run from 0 to 49 in this order.
SHAPES = {
    "Airplane": 4,
    "Bag": 2,
    "Cap": 2,
    "Car": 4,
    "Chair": 4,
    "Earphone": 3,
    "Guitar": 3,
    "Knife": 2,
    "Lamp": 4,
    "Laptop": 2,
    "Motorbike": 6,
    "Mug": 2,
    "Pistol": 3,
    "Rocket": 3,
    "Skateboard": 3,
    "Table": 3,
}


def shapenetpart() -> PartTable:
    """ShapeNetPart's 16 classes and 50 parts."""
    codes: dict[str, tuple[int, ...]] = {}
    first = 0
    for shape, count in SHAPES.items():
        codes[shape] = tuple(range(first, first + count))
        first += count
    return PartTable(codes)
