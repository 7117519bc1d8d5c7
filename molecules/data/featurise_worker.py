"""`python -m isoform.molecules.data.featurise_worker`: a process of its own that featurises; see processes.py."""

from __future__ import annotations

from typing import BinaryIO

from isoform.molecules.data.featurise import Options, featurise_chunk
from isoform.molecules.data.processes import answer, live


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """A worker's life: `featurise_chunk` of every list of texts that it is asked about."""
    answer(requests, replies, lambda texts, options: featurise_chunk(texts, Options(*options)))


if __name__ == "__main__":
    live(serve)
