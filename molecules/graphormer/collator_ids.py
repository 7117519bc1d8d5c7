"""Atom ids of transformers' collator, which are one higher than those that Microsoft's tables are numbered by.

A folder for transformers has a table with one more row, so that its collator finds every atom where isoform does, and
says so in config.json, where importing looks for it. A model that was trained on the collator's ids has none to shift.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from isoform.core.errors import UserError
from isoform.core.pretrained.source import Source
from isoform.molecules.graphormer.layout import ENCODER

TABLE = f"{ENCODER}.graph_node_feature.atom_encoder.weight"
KEY = "isoform_hf_compat"  # of config.json: the run's tokeniser.hf_compat; False: the table was shifted


def to_collator(
    state: Mapping[str, Tensor], settings: Mapping[str, Any], hf_compat: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and config.json for the ids of transformers' collator, from those for the run's own."""
    told = {**settings, KEY: hf_compat}
    if hf_compat:
        return dict(state), told
    table = state[TABLE]
    shifted = torch.cat([table[:1], table.new_zeros(1, table.shape[1]), table[1:]])
    return {**state, TABLE: shifted}, {**told, "num_atoms": told["num_atoms"] + 1}


def from_collator(source: Source, asked: bool | None = None) -> Source:
    """A source of `to_collator` with the run's own ids, any other as it is.

    asked   tokeniser.hf_compat where somebody set it
    Raises UserError where that contradicts config.json, and for a mark that doesn't fit the table.
    """
    hf_compat, table = source.config.get(KEY), source.state.get(TABLE)
    if hf_compat is None:
        return source
    if asked is not None and asked != hf_compat:
        raise UserError(
            f"tokeniser.hf_compat = {asked} is set, but {source.name} says {hf_compat}: leave it out"
        )
    if hf_compat is not False or table is None:
        return source
    count = source.config.get("num_atoms")
    if table.dim() != 2 or len(table) < 3 or not isinstance(count, int):
        raise UserError(f"{source.name}: {KEY} in config.json doesn't fit its table of atoms")
    state = {**source.state, TABLE: torch.cat([table[:1], table[2:]])}
    return replace(source, state=state, config={**source.config, "num_atoms": count - 1})
