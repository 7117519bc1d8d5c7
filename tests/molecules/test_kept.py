"""The split that a run keeps is found again, whatever its molecules are called."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isoform.molecules.data.clean import clean, clean_and_split
from isoform.molecules.data.kept import assign_kept, keep_split
from isoform.molecules.data.read import read_molecules

from .miniatures import data


@pytest.mark.parametrize(
    "settings",
    [{"label": "series", "duplicates": "mean"}, {"label": None, "duplicates": "keep"}],
    ids=["series", "measured twice"],
)
@pytest.mark.parametrize("before", [0, 3])
def test_molecules_of_one_name_stay_in_their_split(
    settings: dict[str, str | None], before: int, tmp_path: Path
) -> None:
    """Two series of 31 chains, each also measured a second time; `before` others come before them later."""
    rows = [f"{'C' * k}O,{'AB'[k % 2]},{k / 7}" for k in range(1, 32)]
    again = [f"{'C' * k}O,{'AB'[k % 2]},{k / 7 + 1}" for k in range(1, 32)]
    path = tmp_path / "chains.csv"

    def write(*more: str) -> None:
        path.write_text("\n".join(["smiles,series,y", *more, *rows, *again]) + "\n")

    write()
    config = data(
        source="file",
        path=str(path),
        targets=("y",),
        split="random",
        allow_leakage=True,
        **settings,
    )
    then = clean_and_split(read_molecules(config), config)
    order = np.random.default_rng(0).permutation(len(then))
    splits = np.resize(np.array(["test", "train", "val"], dtype=object), len(then))[order]
    kept = keep_split(
        then,
        {name: np.flatnonzero(splits == name) for name in ("train", "val", "test")},
        [],
        config,
    )
    write(*[f"{'N' * k},{'AB'[k % 2]},{k}" for k in range(1, before + 1)])
    found = assign_kept(clean(read_molecules(config), config), kept, config)
    assert found.split is not None
    assert found.split.tolist() == [""] * before + splits.tolist()
