"""LightGBM's text format: what was written comes back, and no damaged number reaches LightGBM."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from isoform.core.errors import UserError
from isoform.core.runs.boosters import check, read_booster, text_of

lightgbm = pytest.importorskip("lightgbm")
FEATURES = 5


def table() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(331, FEATURES))
    x[:, 2] = rng.integers(0, 7, 331)
    x[::11, 1] = np.nan
    return x, np.sin(x[:, 0]) + (x[:, 2] % 3) + 0.1 * rng.normal(size=331)


def trained(objective: str = "l2", **settings: object) -> lightgbm.Booster:
    x, y = table()
    if objective != "l2":
        y = np.digitize(y, [0.5, 1.5])
    data = lightgbm.Dataset(x, y, categorical_feature=[2])
    given = {"objective": objective, "num_leaves": 11, "min_data_in_leaf": 5, "verbose": -1}
    return lightgbm.train({**given, "num_threads": 1, **settings}, data, 7)


@pytest.mark.parametrize(
    "settings", [{}, {"objective": "multiclass", "num_class": 3}, {"num_leaves": 2}]
)
def test_what_was_stored_predicts_the_same(tmp_path: Path, settings: dict) -> None:
    model = trained(**settings)
    (tmp_path / "a.txt").write_text(text_of(model))
    x, _ = table()
    again = read_booster(tmp_path / "a.txt", FEATURES)
    np.testing.assert_array_equal(again.predict(x), model.predict(x))


def test_only_the_chosen_trees_are_stored(tmp_path: Path) -> None:
    model = trained()
    model.best_iteration = 3
    (tmp_path / "a.txt").write_text(text_of(model))
    x, _ = table()
    again = read_booster(tmp_path / "a.txt", FEATURES)
    assert again.num_trees() == 3
    np.testing.assert_array_equal(again.predict(x), model.predict(x, num_iteration=3))


@pytest.mark.parametrize(
    ("row", "changed"),
    [
        (r"max_feature_idx=4", "max_feature_idx=400"),
        (r"num_class=1", "num_class=0"),
        (r"tree_sizes=\d+ ", "tree_sizes="),
        (r"split_feature=\d+ ", "split_feature=99999 "),
        (r"split_feature=\d+ ", "split_feature=-7 "),
        (r"split_feature=\d+ ", "split_feature="),
        (r"left_child=\S+ ", "left_child=0 "),  # round in a circle
        (r"right_child=\S+ ", "right_child=123456789 "),
        (r"left_child=\S+ ", "left_child=-100 "),
        (r"leaf_value=\S+ ", "leaf_value="),
        (r"num_leaves=\d+", "num_leaves=2000000000"),
        (r"num_cat=[1-9]\d*", "num_cat=0"),
        (r"cat_boundaries=0 \d+", "cat_boundaries=0 99999"),
        (r"is_linear=0", "is_linear=1"),
        (r"Tree=3", "Tree=4"),
        (r"end of trees", ""),
    ],
)
def test_damaged_numbers_are_refused(tmp_path: Path, row: str, changed: str) -> None:
    text = text_of(trained())
    broken, count = re.subn(row, changed, text, count=1)
    assert count == 1
    check(text, FEATURES)
    (tmp_path / "a.txt").write_text(broken)
    with pytest.raises(UserError, match="holds no trees"):
        read_booster(tmp_path / "a.txt", FEATURES)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="can't be read"):
        read_booster(tmp_path / "none.txt", FEATURES)
    (tmp_path / "a.txt").write_bytes(b"tree\n\xff\xfe")
    with pytest.raises(UserError, match="no trees"):
        read_booster(tmp_path / "a.txt", FEATURES)
    with (tmp_path / "b.txt").open("wb") as file:
        file.truncate((64 << 20) + 1)
    with pytest.raises(UserError, match="larger than 64 MiB"):
        read_booster(tmp_path / "b.txt", FEATURES)
    (tmp_path / "c.txt").write_text(text_of(trained()))
    with pytest.raises(UserError, match="isn't of 6 features"):
        read_booster(tmp_path / "c.txt", 6)
