"""The axis that a column of stamps makes, or its refusal."""

from __future__ import annotations

import pandas as pd

from answers import refusal
from isoform.timeseries.config import DataConfig
from isoform.timeseries.data.axis import make_axis
from isoform.timeseries.data.panel import Findings
from isoform.timeseries.data.stamps import parse_stamps


def axis_of(stamps, series=None, **data):
    """(axis, findings); `series` says of each stamp which series it is of."""
    findings = Findings()
    parsed = parse_stamps([pd.Series(stamps, name="stamp")], "f.csv")
    return make_axis(parsed, DataConfig(**data), findings, "f.csv", series), findings


def refused(stamps, *words, **data):
    """Asserts one sentence with all the words."""
    refusal(lambda: axis_of(stamps, **data), *words)
