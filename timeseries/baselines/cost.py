"""What each baseline costs, from the sizes of the data alone: seconds measured on one core of 2024, rounded up.

Trees are counted as if validation stopped none of them, so that a baseline may well be done in a fraction of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from isoform.timeseries.baselines.boosting import PREDICTED, TRAIN_ROWS, TREES
from isoform.timeseries.baselines.linear import OPERATIONS
from isoform.timeseries.baselines.smoothing import FORMS
from isoform.timeseries.metrics import training_rows

if TYPE_CHECKING:
    from isoform.timeseries.data.windows import WindowData

JUDGED = 1e-7  # seconds for a value that is forecast and judged
LEARNED, DESCENDED = 5e-7, 1.5e-7  # for a value that a tree learns from, or forecasts
COLUMN_ROW = 3e-5  # for a training row that one form of smoothing is fitted to
SPEED = 1e10  # operations of a matrix product a second


def minutes(name: str, data: WindowData) -> float:
    """Processor minutes of one of the baselines."""
    cells = data.horizon * len(data.variates)
    judged = [size * cells for split, size in data.sizes().items() if split != "train"]
    learned = data.sizes().get("train", 0) * cells
    rows = sum(stop for _, stop in training_rows(data)) * len(data.variates)
    inputs = 2 * data.context * (data.context / data.horizon + 1)  # operations a value
    descended = sum(min(values, PREDICTED) for values in judged)
    own = {
        "ets": COLUMN_ROW * len(FORMS) * rows,
        "theta": COLUMN_ROW * rows,
        "linear": min(OPERATIONS, learned * inputs) / SPEED,
        "lag_boosting": TREES * (LEARNED * min(learned, TRAIN_ROWS) + DESCENDED * descended),
    }
    return (own.get(name, 0.0) + JUDGED * sum(judged)) / 60
