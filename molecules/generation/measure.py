"""A figure with its denominators, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isoform.molecules.systems.system import Records, System


@dataclass(frozen=True)
class Measure:
    """A rate, or a mean, over what could be scored; what could not is undetermined, never bad and never left out.

    value      None where nothing could be scored
    scored     that a judge answered about; read - scored are undetermined, or not what a share is of (see its measure)
    read       that could be read; generated - read are unreadable
    generated  asked for
    """

    value: float | None
    scored: int
    read: int
    generated: int

    def of_all(self) -> float:
        """A rate over everything generated: what is unreadable or undetermined counts as a failure."""
        return 0.0 if self.value is None else self.value * self.scored / max(self.generated, 1)

    def of_answered(self) -> float | None:
        """A rate over what was scored and what is unreadable, which counts as a failure; None where neither is."""
        unreadable = self.generated - self.read
        if self.value is None:
            return 0.0 if unreadable else None
        return self.value * self.scored / (self.scored + unreadable)

    def __str__(self) -> str:
        shown = "-" if self.value is None else f"{self.value:.4g}"
        return f"{shown} ({self.scored:,}/{self.read:,}/{self.generated:,})"


def measure(answers: Iterable[float | bool | None], generated: int | None = None) -> Measure:
    """The mean of the answers about what was read; None is undetermined. `generated` is as many as answers if None."""
    answers = list(answers)
    known = [float(answer) for answer in answers if answer is not None]
    value = float(np.mean(known)) if known else None
    return Measure(
        value, len(known), len(answers), len(answers) if generated is None else generated
    )


def table(rows: Mapping[str, Mapping[str, Measure]]) -> str:
    """Rows of measures as Markdown, each "value (scored/read/generated)"."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [
        "| scored/read/generated | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for name, row in rows.items():
        cells = [str(row[column]) if column in row else "" for column in columns]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_bounds(
    measures: Callable[[Records], Mapping[str, Measure]],
    generated: Records,
    training: Sequence[System],
    seed: int = 0,
) -> dict[str, Mapping[str, Measure]]:
    """The rows of a table: what was generated, what the training data reach (the ceiling), and shuffled atoms."""
    return {
        "generated": measures(generated),
        "training data": measures(Records(list(training))),
        "shuffled atoms": measures(Records(list(shuffled(training, seed)))),
    }


def shuffled(systems: Sequence[System], seed: int) -> list[System]:
    """The floor: the elements of all atoms of the set dealt anew among all its places; places and cells stay."""
    pool = np.concatenate([one.numbers for one in systems])
    dealt = np.random.default_rng(seed).permutation(pool)
    ends = np.cumsum([len(one) for one in systems])
    return [
        replace(one, numbers=dealt[end - len(one) : end])
        for one, end in zip(systems, ends, strict=True)
    ]
