"""Texts of covariates that no training row has: nothing can be learned of them.

A column of 0 and 1 for one of them ("sky=hail", see columns.py) would reach the model with weights as they were drawn,
and the later rows would have changed what is trained on. Without it the text is none of those that are known, as one
that a finished run meets in a new file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from isoform.core.errors import join_names
from isoform.timeseries.data.panel import Panel
from isoform.timeseries.data.splits import Borders

_SHOWN = 5  # texts in a sentence


def without_unseen_texts(panel: Panel, cuts: Sequence[Borders]) -> tuple[Panel, list[str]]:
    """The panel, in memory, without columns of such texts, and a line that names them, or none."""
    left_out: list[str] = []
    for kind in ("past", "known", "static"):
        names = panel.names(kind)
        if not any("=" in name for name in names):
            continue
        flags, trained = np.ones(len(names), bool), np.zeros(len(names), bool)
        for one, cut in zip(panel, cuts, strict=True):
            values = np.atleast_2d(one[f"{kind}_values"].values)
            rows = slice(*cut["train"]) if kind != "static" else slice(int(cut["train"][1] > 0))
            flags &= (np.isnan(values) | (values == 0) | (values == 1)).all(0)
            trained |= (values[rows] == 1).any(0)
        unseen = flags & ~trained & np.array(["=" in name for name in names])
        if unseen.any():
            left_out += [name for name, gone in zip(names, unseen, strict=True) if gone]
            kept = np.flatnonzero(~unseen)
            panel = replace(panel, series=tuple(one.isel({kind: kept}) for one in panel))
    if not left_out:
        return panel, []
    shown = join_names(left_out, _SHOWN)
    return panel, [f"in no row of training, and so taken for none of the known texts: {shown}"]
