"""The header of an .npy, read so that nobody has to trust it."""

from __future__ import annotations

import math
from tokenize import TokenError
from typing import BinaryIO

import numpy as np


def header_of(file: BinaryIO, size: int) -> tuple[tuple[int, ...], np.dtype]:
    """(shape, type) of an array whose file has `size` bytes; `file` stands at its start, and again afterwards.

    numpy makes room for a header of any length, and for as many numbers as it names, before it looks whether they are
    there, and parses odd headers with Python's own parser, which raises errors of many kinds. Here it is a ValueError.
    """
    start = file.tell()
    try:
        first = np.lib.format.read_magic(file) == (1, 0)
        place, width = file.tell(), 2 if first else 4
        if int.from_bytes(file.read(width), "little") > size:
            raise ValueError("its header claims to be longer than it")
        file.seek(place)
        read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
        shape, _, kind = read(file)
    except (
        TokenError,
        SyntaxError,
        TypeError,
        MemoryError,
        RecursionError,
        OverflowError,
        EOFError,
    ) as error:
        raise ValueError(f"its header can't be read ({type(error).__name__})") from None
    wanted = math.prod(shape) * kind.itemsize
    if kind.hasobject:
        raise ValueError(
            "it is not of plain numbers, but of objects that would have to be unpickled"
        )
    if min(shape, default=1) < 0 or wanted > size - (file.tell() - start):
        raise ValueError(f"it claims more numbers than it holds ({wanted:,} bytes)")
    file.seek(start)
    return shape, kind
