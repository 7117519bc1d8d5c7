"""What a training refuses before its first step, and `check` therefore too; and what stops it later, in a sentence."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from isoform.core.baselines import chosen
from isoform.core.domain import Task
from isoform.core.engine import loader
from isoform.core.engine.distributed import ALONE, Process
from isoform.core.errors import RunError, UserError
from isoform.core.ops.shapes import shapes_alone

# What the operating system may say to a run that writes, and how its user mends it.
_REFUSED_WRITES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT, errno.EFBIG), "make room"),
    **dict.fromkeys((errno.EROFS, errno.EACCES, errno.EPERM), "make the folder writable"),
    errno.EIO: "look after the disk",
}


def refuse_unready(task: Task, process: Process = ALONE) -> None:
    """Raises UserError where nothing is there to be trained on, or settings are still open or name what isn't there.

    And where they leave some of several processes without work.
    """
    config = task.config.train
    if not isinstance(config.epochs, int):
        raise UserError(f"train.epochs = {config.epochs!r} was not settled; give a number")
    chosen(task.baselines(), task.config.eval)  # a name that isn't offered
    if not task.sizes().get("train"):
        raise UserError("there is no training sample; look at the data with `isoform check`")
    if config.shard == "full" and config.optimizer == "muon":
        raise UserError(
            "train.optimizer = 'muon' needs whole matrices and train.shard = 'full' divides them; change one of the two"
        )
    if config.shard == "full" and loader.forgives(task):
        raise UserError(
            "train.shard = 'full' has all processes work on as many micro-batches, and data.bad_samples = 'skip' may "
            "leave one without; change one of the two"
        )
    if process.size > 1 and config.probe:
        raise UserError("train.probe fits one layer in one process; start it without a launcher")
    if process.size > config.accumulate:
        raise UserError(
            f"{process.size} processes share a step's micro-batches, and train.accumulate is "
            f"{config.accumulate}; raise it, and lower train.batch to keep their product (a run that is resumed keeps "
            f"both: start {config.accumulate} at most)"
        )


def refusal_of(make: Callable[[], Task]) -> str | None:
    """With which sentence a training of the task would end before its first step; its model is built without memory."""
    try:
        task = make()
        refuse_unready(task)
        with shapes_alone():
            task.build()
    except UserError as error:
        return str(error)
    return None


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Raises RunError where `explain_stop` has a sentence."""
    try:
        yield
    except Exception as error:
        if (known := explain_stop(error, place)) is not None:
            raise known from error
        raise


def explain_stop(error: BaseException, place: Path) -> RunError | None:
    """What happened and how to go on, where a disk refused or a loader process died; None for anything else.

    A worker's death is told by a signal, so torch's words for it may come up anywhere in the run.
    """
    if isinstance(error, OSError) and error.errno in _REFUSED_WRITES:
        mend = _REFUSED_WRITES[error.errno]
        return RunError(f"{place}: {error.strerror}; {mend} and go on with --resume")
    if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
        told = str(error).splitlines()[0].split(". ")[0]
        return RunError(
            f"{place}: a loader process died ({told}), often for want of memory; earlier checkpoints are intact: go on "
            "with --resume, and fewer data.workers if it happens again"
        )
    return None
