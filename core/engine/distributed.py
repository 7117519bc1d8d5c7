"""Where this process stands among the processes of a run: the seam through which several will train one model.

The loops ask here for rank, size and device and write files only where `is_main`. One process is what works today;
`this_process` refuses more rather than train several unconnected models.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from isoform.core.errors import UserError


@dataclass(frozen=True)
class Process:
    """One of `size` processes; `rank` counts from 0."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """True for the one process that writes the run folder."""
        return self.rank == 0


def this_process() -> Process:
    """This process, on the first GPU where there is one. Raises UserError under a launcher of several processes."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size != 1:
        raise UserError(
            f"WORLD_SIZE is {size}, but isoform trains in one process; start it without torchrun"
        )
    return Process(
        rank=0, size=1, device=torch.device("cuda" if torch.cuda.is_available() else "cpu")
    )
