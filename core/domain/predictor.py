"""A trained model on inputs from outside: `Predictor`; and where a verb speaks: `Speaker`."""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from isoform.core.errors import UserError

if TYPE_CHECKING:
    import argparse

    import numpy as np


class Speaker(Protocol):
    """Where a verb of a domain speaks: core's console."""

    json: bool
    result: dict[str, Any]

    def say(self, *lines: str) -> None:
        """Lines for the reader."""

    def warn(self, line: str) -> None:
        """A line that must not mix with results."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
        """A table."""

    def track(self, parts: Sequence[Any], doing: str) -> Iterator[Any]:
        """The parts of some long work, with its progress shown."""


class Predictor(abc.ABC):
    """A trained model on inputs from outside, one or several in a list: what `isoform.load(RUN)` gives."""

    speaker: Speaker | None = None  # where notes on the inputs and progress go

    @abc.abstractmethod
    def predict(self, inputs: Any) -> list[dict[str, Any]]:
        """One row an item, in input order: the input's own columns, input, prediction, ..., error."""

    @abc.abstractmethod
    def embed(self, inputs: Any) -> np.ndarray:
        """[items, features] of the frozen trunk."""

    def outputs(self, inputs: Any) -> np.ndarray:
        """float32 outputs of the model itself, first axis the items, before they are words or in units; NaN of none."""
        raise UserError("--verify: this predictor has no model behind it; leave it out")

    def expand(self, inputs: Any) -> Sequence[Any]:
        """The items that the inputs hold, a row each, which `predict` and `embed` take as they are."""
        return inputs if isinstance(inputs, list) else [inputs]

    def cells_of(self, item: Any) -> Mapping[str, Any]:
        """What stands beside an item in its file, by column: its identifiers and all else that is there."""
        return {}

    def track(self, parts: Sequence[Any], doing: str) -> Iterable[Any]:
        """The parts of some long work, with their progress shown where there is a speaker."""
        return parts if self.speaker is None else self.speaker.track(parts, doing)

    def demand(self, probability: float) -> None:
        """From now on a prediction whose top probability is lower says "undecided". Raises UserError for numbers."""
        raise UserError(
            "--min-probability: this model predicts numbers, not probabilities; leave it out"
        )

    def adopt(self, options: argparse.Namespace) -> None:  # noqa: B027
        """Takes the options that `Domain.predict_arguments` adds. Raises UserError for what can't be."""

    def remarks(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """What a person should know of the rows that `predict` made, in sentences; nothing by default."""
        return []

    def draw(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """A page (HTML) of the inputs as pictures of what their parts contribute, from what `predict` gave of them."""
        raise UserError("--draw: predictions of this model are not drawn; leave it out")
