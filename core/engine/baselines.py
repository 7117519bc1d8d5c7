"""Fitting the baselines of a run, one after the other: shown, stopped by the training's signal, chosen by eval.*."""

from __future__ import annotations

import time
from collections.abc import Callable

from isoform.core.baselines import Baseline, Fitting, Metrics, chosen
from isoform.core.domain import Task
from isoform.core.engine.progress import Display
from isoform.core.errors import Preempted
from isoform.core.runs.folder import BASELINES, RunFolder


def fit_baselines(
    task: Task, show: Display, stopping: Callable[[], bool], run: RunFolder | None = None
) -> dict[str, Metrics]:
    """{NAME: {"val": metrics, "test": metrics}} of the chosen baselines; says which were left out, and why.

    Those that can be stored are, in the run's folder `baselines`, to predict with.

    Raises Preempted as soon as `stopping()` is true, and UserError as `chosen` does.
    """
    every = chosen(task.baselines(), task.config.eval)
    found: dict[str, Metrics] = {}
    missing = {one.name: one.left_out for one in every if one.left_out}
    ready = [one for one in every if not one.left_out]
    if ready:
        show.progress(f"baselines: {', '.join(one.name for one in ready)}")
    for number, one in enumerate(ready, 1):
        if stopping():
            raise Preempted("stopped before all baselines were fitted; go on with --resume")
        try:
            place = f"baseline {number}/{len(ready)}"
            found[one.name] = _fitted(one, place, show, stopping, _keeper(run))
        except (ImportError, OSError) as error:  # OSError: a library of the system, for LightGBM
            hint = f"pip install 'isoform[{task.config.domain}]' brings what it takes"
            missing[one.name] = f"{error}; {hint}"
    for reason in dict.fromkeys(missing.values()):
        names = [name for name, why in missing.items() if why == reason]
        many = "baselines" if len(names) > 1 else "baseline"
        were = "were" if len(names) > 1 else "was"
        show.say(f"the {many} {', '.join(names)} {were} left out: {reason}")
    return found


def _keeper(run: RunFolder | None) -> Callable[[str, str], None]:
    def keep(name: str, text: str) -> None:
        if run is not None:
            (run.path / BASELINES).mkdir(exist_ok=True)
            RunFolder(run.path / BASELINES).write_text(name, text)

    return keep


def _fitted(
    one: Baseline,
    place: str,
    show: Display,
    stopping: Callable[[], bool],
    keep: Callable[[str, str], None],
) -> Metrics:
    started = time.monotonic()

    def seconds() -> str:
        return f"{time.monotonic() - started:.1f} s"

    show.now(f"{place}  {one.name}")
    fitting = Fitting(
        say=show.say,
        show=lambda text: show.now(f"{place}  {one.name}  {text}  {seconds()}"),
        keep=keep,
        stopping=stopping,
    )
    found = one.fit(fitting)
    show.progress(f"{place}  {one.name}  {seconds()}")
    return found
