"""Libraries of the extra `materials` (or another), which only those need who read, write or judge crystals."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from isoform.core.errors import UserError


@contextmanager
def materials(what: str, extra: str = "materials") -> Iterator[None]:
    """Imports inside it may fail: a UserError then says what `what` ("reading a CIF") needs, and how to get it."""
    try:
        yield
    except ImportError as error:
        name = (error.name or str(error)).partition(".")[0]
        raise UserError(
            f"{what} needs {name}, which is not installed: pip install 'isoform[{extra}]'"
        ) from None
