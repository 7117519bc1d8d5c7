"""task.json: what predicting with a run needs besides its weights and settings, as a closed table.

A domain subclasses `RunState` with its own rows. A misspelt key is an error when the file is read, and an error of
types where the code asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from pydantic import ConfigDict, Field, SkipValidation

from isoform.core.config.schema import Table
from isoform.core.domain.kept_split import KeptSplit


class DataRecord(Table):
    """Which data a run was trained on; of a user's file only its name, since a run folder travels."""

    origin: str = ""
    licence: str = "unknown"
    sha256: str = ""
    sizes: dict[str, int] = Field(default_factory=dict, description="samples of each split")
    left_out: int = 0


class RunState(Table):
    """What every domain's task.json may hold."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    data: DataRecord | None = Field(None, description="none for an imported model")
    initial: str | None = Field(None, description="what the weights started from, and its licence")
    licence: str | None = Field(None, description="of an imported model's weights")
    calibration: SkipValidation[Mapping[str, np.ndarray]] | None = Field(
        None, exclude=True, description="the arrays of calibration.npz, which lies beside task.json"
    )
    seen: SkipValidation[np.ndarray] | None = Field(
        None, exclude=True, description="digests of the samples it was trained on, of seen.npz"
    )
    kept: SkipValidation[KeptSplit] | None = Field(
        None, exclude=True, description="its split, of split.json; where it is evaluated"
    )

    def to_json(self) -> dict[str, Any]:
        """The rows that are set, as JSON."""
        return self.model_dump(mode="json", exclude_none=True)
