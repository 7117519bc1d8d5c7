"""What a person hands to `predict` and `embed`: one input or several."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from isoform.core.errors import UserError


def list_inputs(inputs: Any) -> list[Any]:
    """The inputs of `predict` and `embed` as a list: a text, a path, bytes, a table or any single object is one input.

    A table is what has columns, such as a DataFrame. Raises UserError for a dictionary or a set, which have no order
    that rows could follow.
    """
    if isinstance(inputs, Mapping | set | frozenset) and not hasattr(inputs, "columns"):
        raise UserError(
            f"a {type(inputs).__name__} is no list of inputs; give one input, or a list of them"
        )
    single = isinstance(inputs, str | bytes | bytearray | os.PathLike)
    if single or hasattr(inputs, "columns") or not hasattr(inputs, "__iter__"):
        return [inputs]
    return list(inputs)
