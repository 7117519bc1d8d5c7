"""SupervisedPredictor: predict and embed for a model that answers sample by sample.

N items (what the inputs hold), n items of a batch, D features.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.domain import Predictor
from isoform.core.errors import UserError
from isoform.core.supervised.rows import name_of_input


class SupervisedPredictor(Predictor):
    """Batches the items that can be read and keeps the place of those that can't. A domain reads and names them."""

    model: nn.Module  # in evaluation mode; its `features` gives [n, D]
    item = "input"  # what an item is called in a sentence

    @abc.abstractmethod
    def batches(
        self, items: Sequence[Any], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], Any]]:
        """(places [n] in `items`, batch) of the items that can be read; why another can't goes into `errors`."""

    @abc.abstractmethod
    def run(self, function: Any, batch: Any) -> Tensor:
        """[n, ...] what `function`, the model or its `features`, makes of a batch; called without gradients."""

    @abc.abstractmethod
    def make_rows(self, output: np.ndarray, batch: Any) -> list[dict[str, Any]]:
        """A row (rows.py) for each item of a batch, from the model's float32 outputs [n, K]."""

    def items_of(self, inputs: Sequence[Any]) -> Sequence[Any]:
        """The items that the inputs hold, one row each: by default each input is one."""
        return inputs

    def name_of(self, item: Any, number: int) -> str:
        """What the row of an item calls it."""
        return name_of_input(item, number)

    def describe_error(self, name: str, error: str) -> str:
        """Why an item can't be read, where no row says which it is; by default the reason names it itself."""
        return error

    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """One row an item, in input order: input, prediction, ..., error.

        One that can't be read has its reason in `error` and None elsewhere.
        """
        items = self.items_of(inputs)
        rows: list[dict[str, Any]] = [{} for _ in items]
        errors: dict[int, str] = {}
        for places, batch in self.batches(items, errors):
            output_nK = self._output(self.model, batch)
            made = self.make_rows(output_nK, batch)
            for place, row in zip(places, made, strict=True):
                rows[place] = row
        columns = dict.fromkeys(column for row in rows for column in row)
        answers = []
        for i, item in enumerate(items):
            cells = {column: rows[i].get(column) for column in columns}
            answers.append({"input": self.name_of(item, i), **cells, "error": errors.get(i, "")})
        return answers

    def embed(self, inputs: Sequence[Any]) -> np.ndarray:
        """[N, D] float32 features in front of the head; NaN for an item that can't be read, with a warning.

        Raises UserError where none can be read.
        """
        items = self.items_of(inputs)
        features_ND: np.ndarray | None = None
        errors: dict[int, str] = {}
        function: Any = self.model.features
        for places, batch in self.batches(items, errors):
            output_nD = self._output(function, batch)
            if features_ND is None:
                shape = (len(items), output_nD.shape[1])
                features_ND = np.full(shape, np.nan, np.float32)
            features_ND[places] = output_nD
        failed = []
        for i in sorted(errors):
            name = self.name_of(items[i], i)
            failed.append(self.describe_error(name, errors[i]))
        if features_ND is None:
            raise UserError(failed[0] if failed else f"there is no {self.item} to embed")
        for line in failed:
            warnings.warn(f"{line} (its features are NaN)", stacklevel=2)
        return features_ND

    def _output(self, function: Any, batch: Any) -> np.ndarray:
        with torch.no_grad():
            return self.run(function, batch).float().cpu().numpy()

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device


def describe_seen_inputs(known: int, count: int, items: str) -> str:
    """How many inputs a run was trained on, as a sentence."""
    return (
        f"{known:,} of {count:,} {items} are among those that the run was trained on: their predictions say nothing "
        "about how good those of others are"
    )
