"""`python -m isoform.molecules.data.fence_worker`: a process that may be ended; see fence.py."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, BinaryIO

from isoform.molecules.data.parsing import canonical, inchikey, parse_block, parse_smiles
from isoform.molecules.data.processes import answer, live


def work_on(requests: Sequence[Any], _: object) -> str:
    """Does what will be done with each molecule; what comes out of it doesn't matter."""
    for request in requests:
        task, what = pickle.loads(request)
        if task == "describe":
            from isoform.molecules.data.descriptors import compute_of

            compute_of([what])
        else:
            mol = (parse_block if task == "block" else parse_smiles)(what)
            if not isinstance(mol, str):
                inchikey(mol, canonical(mol))
    return ""


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """A worker's life; see processes.answer."""
    answer(requests, replies, work_on)


if __name__ == "__main__":
    live(serve)
