"""Molecules that RDKit may never be done with are tried in a process first, which is ended when its time is up.

RDKit is C++, which no signal stops: a sheet of 42 fused rings that has no Kekule structure keeps it for hours, and
descriptors take the cube of a ring's atoms. Usual molecules are too small for that and are never tried, so they cost
nothing; one that passes is worked on as any other.
"""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
from typing import Any

from isoform.molecules.data.processes import Processes, limited

MANY_RINGS = 24  # of fused aromatic ones 30 take milliseconds, 35 a second, 42 for ever
MANY_ATOMS = 500  # whose descriptors take a second
SECONDS = 5.0


def refused(task: str, what: Any) -> str:
    """Why a molecule can't be worked on ("takes RDKit more than 5 s", "crashes RDKit"), or "".

    task  "smiles", "block" (see parsing.py) or "describe" (see descriptors.py), by what `what` is: a text or a molecule
    """
    return "" if limited.is_set() else fence().refused(task, what)


class Fence:
    """One worker, started when first needed, and what became of the molecules that were tried."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}
        self._workers: Processes[str] | None = None
        self._process = 0  # whose worker it is

    def refused(self, task: str, what: Any) -> str:
        """See `refused`."""
        request = pickle.dumps((task, what))
        key = hashlib.sha256(request).digest()
        if key not in self._known:
            (self._known[key],) = self._worker().map([[request]])
        return self._known[key]

    def _worker(self) -> Processes[str]:
        """It ends when this process does, at the end of what it reads."""
        # A fork doesn't share its parent's.
        if self._workers is None or self._process != os.getpid():
            module = "isoform.molecules.data.fence_worker"
            self._workers = Processes(1, module, (), str, "".join, seconds=SECONDS)
            self._process = os.getpid()
        return self._workers


@functools.cache
def fence() -> Fence:
    """That of this process."""
    return Fence()
