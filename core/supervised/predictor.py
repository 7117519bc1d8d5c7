"""SupervisedPredictor: predict and embed for a model that answers sample by sample.

N items (what the inputs hold), n items of a batch, D features.
"""

from __future__ import annotations

import abc
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.data.inputs import list_inputs
from isoform.core.domain import Predictor
from isoform.core.errors import UserError
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.ensemble import spread_of
from isoform.core.supervised.rows import name_of_input, put_in_front


class SupervisedPredictor(Predictor):
    """Batches the items that can be read and keeps the place of those that can't. A domain reads and names them."""

    model: nn.Module  # in evaluation mode; its `features` gives [n, D]
    item = "input"  # what an item is called in a sentence
    kind = "regression"  # what `make_rows` takes the outputs for; see rows.py
    decision = Decision()

    @abc.abstractmethod
    def batches(
        self, items: Sequence[Any], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], Any]]:
        """(places [n] in `items`, batch) of the items that can be read; why another can't goes into `errors`."""

    def feature_batches(
        self, items: Sequence[Any], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], Any]]:
        """`batches` of what the model's `features` reads, where that is less than the whole model reads."""
        return self.batches(items, errors)

    @abc.abstractmethod
    def run(self, function: Any, batch: Any) -> Tensor:
        """[n, ...] what `function`, the model or its `features`, makes of a batch; called without gradients."""

    @abc.abstractmethod
    def make_rows(self, output: np.ndarray, batch: Any) -> list[dict[str, Any]]:
        """A row (rows.py) for each item of a batch, from the model's float32 outputs [n, K]."""

    def demand(self, probability: float) -> None:
        """See Predictor.demand."""
        if self.kind == "regression":
            super().demand(probability)
        self.decision = replace(self.decision, min_probability=probability)

    def guess(self, output: np.ndarray) -> np.ndarray:
        """[n, K] numbers in the targets' units, or probabilities, from float32 outputs; these by default."""
        return output

    def spread(self) -> np.ndarray | None:
        """[n, K] how far an ensemble's members are apart over the batch that was run last; None of a model alone."""
        return spread_of(self.model, self.guess)

    def expand(self, inputs: Any) -> Sequence[Any]:
        """See Predictor.expand: by default each input is an item."""
        return list_inputs(inputs)

    def name_of(self, item: Any, number: int) -> str:
        """What the row of an item calls it."""
        return name_of_input(item, number)

    def describe_error(self, name: str, error: str) -> str:
        """Why an item can't be read, where no row says which it is; by default the reason names it itself."""
        return error

    def predict(self, inputs: Any) -> list[dict[str, Any]]:
        """One row an item, in input order: the columns of its file, input, prediction, ..., error.

        One that can't be read has its reason in `error` and None elsewhere. A column of a file that is called as one
        of the others is renamed (rows.py).
        """
        items = self.expand(inputs)
        rows: list[dict[str, Any]] = [{} for _ in items]
        errors: dict[int, str] = {}
        batches = self.batches(items, errors)
        for places, output_nK, batch in self._outputs(self.model, batches, items, "predicting"):
            for place, row in zip(places, self.make_rows(output_nK, batch), strict=True):
                rows[place] = row
        columns = dict.fromkeys(column for row in rows for column in row)
        answers = []
        for i, item in enumerate(items):
            cells = {column: rows[i].get(column) for column in columns}
            answers.append({"input": self.name_of(item, i), **cells, "error": errors.get(i, "")})
        return put_in_front([self.cells_of(item) for item in items], answers)

    def embed(self, inputs: Any) -> np.ndarray:
        """[N, D] float32 features in front of the head; NaN for an item that can't be read, with a warning.

        Raises UserError where none can be read.
        """
        items = self.expand(inputs)
        features_ND: np.ndarray | None = None
        errors: dict[int, str] = {}
        function: Any = self.model.features
        batches = self.feature_batches(items, errors)
        for places, output_nD, _ in self._outputs(function, batches, items, "embedding"):
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

    def _outputs(
        self,
        function: Any,
        batches: Iterator[tuple[list[int], Any]],
        items: Sequence[Any],
        doing: str,
    ) -> Iterator[tuple[list[int], np.ndarray, Any]]:
        """(places, float32 outputs, batch) of every batch, with the progress among all items."""
        passed = iter(self.track(items, doing))
        for places, batch in batches:
            with torch.no_grad():
                output = self.run(function, batch).float().cpu().numpy()
            yield places, output, batch
            for _ in zip(places, passed, strict=False):
                pass
        for _ in passed:  # those that can't be read
            pass

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
