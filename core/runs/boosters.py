"""Gradient-boosted trees in LightGBM's own text format: how a run stores them, and how such a text is trusted.

LightGBM's reader is C++ that believes what it reads. A file is handed to it only after every number by which it indexes
memory was checked here: features, children, leaves, categories, and how many of each there are.

F features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError

LIMIT = 64 << 20  # bytes of a file; those of isoform's baselines have a few MiB
_MOST_LEAVES = 1 << 17


def text_of(booster: Any) -> str:
    """The trees that predict, up to the one that validation chose."""
    return str(booster.model_to_string(num_iteration=booster.best_iteration or None))


def read_booster(path: Path, features: int) -> Any:
    """A lightgbm.Booster of `features` features. Raises UserError for a missing, damaged or oversized file."""
    try:
        if path.stat().st_size > LIMIT:
            raise UserError(f"{path}: is larger than {LIMIT >> 20} MiB")
        text = path.read_text(encoding="ascii")
        check(text, features)
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    except (ValueError, KeyError, IndexError) as error:
        raise UserError(f"{path}: holds no trees of LightGBM's, or is damaged ({error})") from error
    try:
        import lightgbm

        return lightgbm.Booster(model_str=text, params={"verbose": -1})
    except ImportError as error:
        raise UserError("lightgbm is not installed: pip install lightgbm") from error
    except lightgbm.basic.LightGBMError as error:
        raise UserError(f"{path}: LightGBM refuses it ({error})") from error


def check(text: str, features: int) -> None:
    """Raises ValueError, KeyError or IndexError for a text whose numbers don't fit each other or `features`."""
    head, *trees = text.split("end of trees")[0].split("\nTree=")
    if not head.startswith("tree\n") or "end of trees" not in text:
        raise ValueError("it doesn't begin and end as such a file")
    told = _lines(head)
    sizes = _numbers(told["tree_sizes"])
    if (
        int(told["max_feature_idx"]) != features - 1
        or len(told["feature_names"].split()) != features
    ):
        raise ValueError(f"it isn't of {features} features")
    outputs = int(told["num_tree_per_iteration"])
    if outputs < 1 or int(told["num_class"]) != outputs or len(trees) % outputs:
        raise ValueError("its classes and trees don't fit")
    if len(sizes) != len(trees) or sizes.sum() > len(text):
        raise ValueError("its trees are not all there")
    for number, tree in enumerate(trees):
        if not tree.startswith(f"{number}\n"):
            raise ValueError(f"tree {number} is not there")
        _check_tree(_lines(tree), features)


def _check_tree(told: Mapping[str, str], features: int) -> None:
    leaves, categories = int(told["num_leaves"]), int(told["num_cat"])
    if not 1 <= leaves <= _MOST_LEAVES or int(told.get("is_linear", "0")):
        raise ValueError("a tree is of an unknown kind")
    if len(_numbers(told["leaf_value"])) != leaves:
        raise ValueError("a tree lacks leaves")
    if leaves == 1:
        return
    nodes = leaves - 1
    names = ("split_feature", "threshold", "decision_type", "left_child", "right_child")
    split, threshold, decision, left, right = (_numbers(told[name]) for name in names)
    if any(len(one) != nodes for one in (split, threshold, decision, left, right)):
        raise ValueError("a tree lacks nodes")
    if ((split < 0) | (split >= features)).any():
        raise ValueError("a tree asks for a feature that there isn't")
    place = np.arange(nodes)
    for child in (left, right):  # a leaf is -1 - its number; a node lies behind its parent
        if not np.where(child < 0, child >= -leaves, (child > place) & (child < nodes)).all():
            raise ValueError("a tree's nodes don't form one")
    _check_categories(told, categories, threshold[decision.astype(int) & 1 == 1])


def _check_categories(told: Mapping[str, str], categories: int, asked: np.ndarray) -> None:
    if not categories:
        if len(asked):
            raise ValueError("a tree asks for categories that there aren't")
        return
    bounds, words = _numbers(told["cat_boundaries"]), _numbers(told["cat_threshold"])
    if len(bounds) != categories + 1 or bounds[0] or bounds[-1] != len(words):
        raise ValueError("a tree's categories are not all there")
    if (np.diff(bounds) < 0).any() or ((asked < 0) | (asked >= categories)).any():
        raise ValueError("a tree asks for categories that there aren't")


def _lines(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def _numbers(text: str) -> np.ndarray:
    return np.array(text.split(), np.float64)
