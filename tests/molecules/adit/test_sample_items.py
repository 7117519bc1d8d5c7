"""Sampled items: by seed and number in any batch, their sizes, and why one is no system."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.molecules.adit.config import app_of_size
from isoform.molecules.adit.model import build_model
from isoform.molecules.adit.sampler import SizeCounts
from isoform.molecules.adit.sampling import items
from isoform.molecules.adit.sampling.command import sample_into
from isoform.molecules.adit.sampling.items import generate
from isoform.molecules.state import MoleculesState
from isoform.molecules.systems.system import System, Unread

from .sampled import RUN, SIZES, asked


@pytest.mark.parametrize("kind", ["molecule", "crystal"])
def test_an_item_is_a_function_of_seed_and_number_in_any_batch(kind: Any) -> None:
    reference = list(generate(RUN, asked(kind=kind), SIZES))
    assert [one.name for one in reference] == [f"{kind}_{k}" for k in range(1, 24)]
    for batch, count in ((1, 7), (5, 23), (64, 23)):
        found = list(generate(RUN, asked(count, kind, batch=batch), SIZES))
        assert len(found) == count
        for one, other in zip(found, reference, strict=False):
            assert type(one) is type(other)
            if isinstance(one, System) and isinstance(other, System):
                assert one.numbers.tolist() == other.numbers.tolist()
                assert np.abs(one.positions - other.positions).max() < 1e-4
    again = list(generate(RUN, asked(kind=kind), SIZES))
    assert repr(again) == repr(reference)
    assert repr(list(generate(RUN, asked(kind=kind, seed=4), SIZES))) != repr(reference)


def test_sizes_are_those_of_training_or_as_asked() -> None:
    sizes = [items.size_of(k, asked(), SIZES) for k in range(1, 200)]
    assert set(sizes) == {2, 5, 7}
    alike = [items.size_of(k, asked(atoms=(4, 9)), SIZES) for k in range(1, 200)]
    assert set(alike) == {5, 7} and abs(alike.count(5) / 199 - 0.6) < 0.12
    assert {items.size_of(k, asked(atoms=(4, 4)), SIZES) for k in range(9)} == {4}
    assert items.only_kind(SizeCounts({"crystal": {3: 1}, "molecule": {}})) == "crystal"
    with pytest.raises(UserError, match="both kinds: add --kind"):
        items.only_kind(SIZES)


def test_what_is_no_system_says_why() -> None:
    atoms = {
        "numbers": np.array([3, 8]),
        "positions": np.zeros((2, 3)),
        "fractional": np.zeros((2, 3)),
    }

    def why(cell: list[float], **changes: Any) -> str:
        found = items._item({**atoms, **changes}, np.array(cell), True, "x")
        return found.reason if isinstance(found, Unread) else ""

    box = [3.0, 4.0, 5.0, 90.0, 90.0, 90.0]
    assert why(box) == ""
    assert why([-0.5, *box[1:]]) == "lengths -0.5, 4, 5 make no cell"
    assert why([*box[:3], -60, 90, 90]) == "angles -60, 90, 90 make no cell"
    assert why([*box[:3], 20, 60, 120]) == "angles 20, 60, 120 close no cell"
    assert why([*box[:3], np.nan, 90, 90]) == "its cell is not six finite numbers"
    assert why(box, numbers=np.array([0, 8])) == "1 atom of 2 of no known element"
    assert "not finite" in why(box, fractional=np.full((2, 3), np.inf))


def test_a_run_that_draws_nothing_is_named(tmp_path: Path) -> None:
    config = app_of_size("tiny", "tiny", model={"part": "autoencoder"})
    first = TrainedModel(config, MoleculesState(), build_model(config), Path("vae"), 1)
    with pytest.raises(UserError, match=r"vae: holds the autoencoder alone"):
        next(generate(first, asked(), SIZES))
    narrow = app_of_size("tiny", "tiny", model={"spacegroups": 13})
    second = TrainedModel(narrow, MoleculesState(), build_model(narrow), Path("x"), 1)
    with pytest.raises(UserError, match="knows those up to 13"):
        sample_into(
            tmp_path / "new" / "a.cif",
            second,
            asked(kind="crystal", spacegroup=14),
            SIZES,
        )
    with pytest.raises(UserError, match="trained on no molecule"):
        sample_into(tmp_path / "a.sdf", RUN, asked(), SizeCounts({"crystal": {3: 1}}))
    assert not list(tmp_path.iterdir())
