"""`python -m isoform.molecules.data.screen_worker`: a process of its own that reads molecules; see processes.py."""

from __future__ import annotations

from typing import BinaryIO, cast

from isoform.molecules.data.processes import answer, live
from isoform.molecules.data.screen import Text, Wanted, read_chunk


def serve(requests: BinaryIO, replies: BinaryIO) -> None:
    """A worker's life: `read_chunk` of every list of molecules that it is asked about."""
    answer(
        requests,
        replies,
        lambda texts, wanted: read_chunk(cast(list[Text], texts), cast(Wanted, wanted)),
    )


if __name__ == "__main__":
    live(serve)
