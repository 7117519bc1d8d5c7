"""What a model must beat: simple methods that a task offers by name, each fitted and judged by itself when asked to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from isoform.core.errors import Preempted, UserError, join_names

if TYPE_CHECKING:
    from isoform.core.config.schema import EvalConfig

Metrics = Mapping[str, Mapping[str, float]]  # split -> metric -> value
MINUTES = 120.0  # of a processor that all baselines together may take where eval.baseline_minutes is unset


def _nothing(*_: object) -> None:
    pass


@dataclass(frozen=True)
class Fitting:
    """What a fit in progress speaks to.

    say    gets sentences that a person should read
    show   gets how far it is
    keep   gets name and text of each file that a fitted method is stored as, NAME.json first or last among them
    """

    say: Callable[[str], None] = _nothing
    show: Callable[[str], None] = _nothing
    keep: Callable[[str, str], None] = _nothing
    stopping: Callable[[], bool] = lambda: False

    def step(self, done: int, total: int, what: str) -> None:
        """So many of so many are done ("trees"). Raises Preempted where the training was told to stop."""
        if self.stopping():
            raise Preempted("stopped while a baseline was fitted; go on with --resume")
        self.show(f"{what} {done}/{total}")


QUIET = Fitting()  # goes on and shows nothing


@dataclass(frozen=True)
class Baseline:
    """One method: its settings are fixed in code, and its result follows from the data alone.

    fit       fits it and returns {"val": metrics, "test": metrics} of the splits that there are; raises ImportError
              where a library is missing
    minutes   of a processor that this takes, roughly, from the sizes of the data alone: the same on every machine
    left_out  why it can't be had of these data; empty where it can
    """

    name: str
    fit: Callable[[Fitting], Metrics]
    minutes: float = 0.0
    left_out: str = ""


def chosen(offered: Sequence[Baseline], settings: EvalConfig) -> list[Baseline]:
    """Those of a task's baselines that the settings ask for, in its order; some may be marked as left out.

    Those whose minutes would go beyond eval.baseline_minutes, added up in order, are left out. Raises UserError for a
    name that isn't offered of these data.
    """
    wanted = settings.baselines
    names = [one.name for one in offered]
    for name in wanted or ():
        if name not in names:
            raise UserError(
                f"eval.baselines: {name} isn't for data of this kind; there are {join_names(names, 20)}"
            )
    limit = MINUTES if settings.baseline_minutes is None else settings.baseline_minutes
    found, total = [], 0.0
    for one in offered:
        if wanted is not None and one.name not in wanted:
            continue
        if not one.left_out and total + one.minutes > limit:
            reason = (
                f"eval.baseline_minutes allows {limit:g}, and this takes about {one.minutes:.2g}"
            )
            one = replace(one, left_out=reason)
        total += 0.0 if one.left_out else one.minutes
        found.append(one)
    return found
