"""What is asked for when systems are sampled."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from isoform.core.errors import UserError
from isoform.molecules.adit.config import SamplingConfig

Kind = Literal["molecule", "crystal"]
KINDS: tuple[Kind, ...] = ("molecule", "crystal")
MOST_ATOMS = 10_000


@dataclass(frozen=True)
class Request:
    """`count` systems of a kind, numbered from 1.

    atoms       the least and the most atoms; None: as training had them
    spacegroup  of crystals, 1 to 230, which the model is told; 0: it isn't
    batch       systems drawn at once. An item is the same in any batch up to rounding, bit for bit in equal ones

    Raises UserError for numbers that can't be.
    """

    count: int
    kind: Kind
    sampling: SamplingConfig
    seed: int = 0
    atoms: tuple[int, int] | None = None
    spacegroup: int = 0
    batch: int = 128

    def __post_init__(self) -> None:
        for option, value in (("-n", self.count), ("--batch", self.batch)):
            if value < 1:
                raise UserError(f"{option} {value}: should be at least 1")
        if not 0 <= self.seed < 2**63:
            raise UserError(f"--seed {self.seed}: should be a number from 0 on, below 2^63")
        least, most = self.atoms or (1, 1)
        if not 1 <= least <= most <= MOST_ATOMS:
            raise UserError(
                f"--atoms {least}-{most}: should be the least and the most, from 1 to {MOST_ATOMS:,}"
            )
        if not 0 <= self.spacegroup <= 230:
            raise UserError(f"--spacegroup {self.spacegroup}: there are those from 1 to 230")
        if self.spacegroup and self.kind == "molecule":
            raise UserError(
                f"--spacegroup {self.spacegroup}: molecules have none; leave it out, or ask for --kind crystal"
            )

    def to_json(self) -> dict[str, Any]:
        """Everything that an item depends on, flat, by the names of the options."""
        return {
            "n": self.count,
            "kind": self.kind,
            "seed": self.seed,
            "atoms": None if self.atoms is None else list(self.atoms),
            "spacegroup": self.spacegroup,
            "batch": self.batch,
            **self.sampling.model_dump(mode="json"),
        }


def parse_atoms(text: str | None) -> tuple[int, int] | None:
    """ "9" or "9-20". Raises UserError for anything else."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,9})(?:-(\d{1,9}))?", text.strip())
    if found is None:
        raise UserError(
            f"--atoms {text}: should be a number of atoms, such as 18, or a range, 9-29"
        )
    least = int(found[1])
    return least, int(found[2] or least)


def changed(config: SamplingConfig, **options: Any) -> SamplingConfig:
    """A run's settings of sampling with the options that are given (not None). Raises UserError for wrong values."""
    given = {name: value for name, value in options.items() if value is not None}
    for name, value in given.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise UserError(f"--{name} {value}: should be a finite number")
    try:
        return SamplingConfig.model_validate({**config.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        raise UserError(f"--{name} {given.get(name)}: {first['msg']}") from None
