"""Where a training can be watched from outside: TensorBoard, MLflow and Weights & Biases, each an optional extra.

A tracker is told the lines that metrics.jsonl gets, so nothing is computed for it. What it keeps lies in the run's
folder `trackers/NAME`, and with it a resumed run goes on where it was; lines that a killed run had told behind its last
checkpoint are told again, with the same steps. All work without a network: MLflow writes a
database there unless MLFLOW_TRACKING_URI names a server, Weights & Biases is offline unless WANDB_MODE says otherwise.
"""

from __future__ import annotations

import abc
import importlib
import math
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from isoform.core.config import plain
from isoform.core.config.keys import flatten
from isoform.core.config.schema import AppConfig
from isoform.core.errors import UserError
from isoform.core.runs.folder import TRACKERS, RunFolder

_PLACE = ("step", "split")
_LONGEST = 500  # characters of a setting, as MLflow takes them
_AT_ONCE = 100  # settings in one call of MLflow's


class Tracker(abc.ABC):
    """One service that is told of one run; `folder` is its own, and there already where the run is resumed."""

    library = ""  # what it needs to be installed

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name

    @abc.abstractmethod
    def start(self, config: Mapping[str, Any]) -> None:
        """Begins, or goes on with the service's run of before; `config` has dotted keys."""

    @abc.abstractmethod
    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """Numbers named "SPLIT/METRIC" after an optimiser step."""

    @abc.abstractmethod
    def finish(self, results: Mapping[str, Any]) -> None:
        """Ends this stretch; results.json says by its `status` whether the run did."""

    def identity(self, make: Callable[[], str]) -> tuple[str, bool]:
        """The name of this run at the service, and whether it is new; `make` gives it the first time."""
        place = self.folder / "run-id"
        if place.is_file():
            return place.read_text().strip(), False
        name = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{name}\n")
        return name, True


class TensorBoard(Tracker):
    """Event files, for `tensorboard --logdir RUN`."""

    library = "torch.utils.tensorboard"

    def start(self, config: Mapping[str, Any]) -> None:
        """See Tracker."""
        self.resumed = self.folder.is_dir()
        self.writer: Any = None
        self.config = config

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See Tracker. What stands behind the step from which a run was resumed is dropped."""
        if self.writer is None:
            from torch.utils.tensorboard import SummaryWriter

            purge = step if self.resumed else None
            self.writer = SummaryWriter(str(self.folder), purge_step=purge)
            rows = "\n".join(f"    {key} = {value}" for key, value in self.config.items())
            self.writer.add_text("config", rows, step)
        for name, value in numbers.items():
            self.writer.add_scalar(name, value, step)

    def finish(self, results: Mapping[str, Any]) -> None:
        """See Tracker."""
        if self.writer is not None:
            self.writer.close()


class MLflow(Tracker):
    """A run of the experiment "isoform" (or MLFLOW_EXPERIMENT_NAME's)."""

    library = "mlflow"

    def start(self, config: Mapping[str, Any]) -> None:
        """See Tracker."""
        from mlflow import MlflowClient

        self.folder.mkdir(parents=True, exist_ok=True)
        local = f"sqlite:///{self.folder.resolve() / 'mlflow.db'}"
        self.client: Any = MlflowClient(os.environ.get("MLFLOW_TRACKING_URI") or local)
        self.run, new = self.identity(self._create)
        if not new:
            self.client.update_run(self.run, status="RUNNING")
            return
        from mlflow.entities import Param

        settings = [Param(key, str(value)[:_LONGEST]) for key, value in config.items()]
        for at in range(0, len(settings), _AT_ONCE):
            self.client.log_batch(self.run, params=settings[at : at + _AT_ONCE])

    def _create(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or "isoform"
        known = self.client.get_experiment_by_name(name)
        if known is not None:
            experiment = known.experiment_id
        elif os.environ.get("MLFLOW_TRACKING_URI"):
            experiment = self.client.create_experiment(name)
        else:
            place = (self.folder / "artifacts").resolve().as_uri()
            experiment = self.client.create_experiment(name, artifact_location=place)
        return str(self.client.create_run(experiment, run_name=self.name).info.run_id)

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See Tracker."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        names = {re.sub(r"[^\w\-. /]", "_", name): value for name, value in numbers.items()}
        metrics = [Metric(name, value, now, step) for name, value in names.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def finish(self, results: Mapping[str, Any]) -> None:
        """See Tracker."""
        ends = {"finished": "FINISHED", "preempted": "KILLED"}
        self.client.set_terminated(self.run, ends.get(results.get("status", ""), "FAILED"))


class WandB(Tracker):
    """A run of the project "isoform" (or WANDB_PROJECT's); `wandb sync RUN/trackers/wandb/wandb/*run-*` sends it."""

    library = "wandb"

    def start(self, config: Mapping[str, Any]) -> None:
        """See Tracker."""
        import wandb

        run, _ = self.identity(lambda: secrets.token_hex(4))
        mode: Any = os.environ.get("WANDB_MODE") or "offline"
        self.run: Any = wandb.init(
            project=os.environ.get("WANDB_PROJECT") or "isoform",
            mode=mode,
            id=run,
            name=self.name,
            resume="allow",
            dir=str(self.folder),
            config=dict(config),
            settings=wandb.Settings(silent=True, console="off"),
        )

    def log(self, step: int, numbers: Mapping[str, float]) -> None:
        """See Tracker."""
        self.run.log(dict(numbers), step=step)

    def finish(self, results: Mapping[str, Any]) -> None:
        """See Tracker."""
        self.run.summary["status"] = results.get("status", "failed")
        self.run.finish(exit_code=0 if results.get("status") == "finished" else 1)


def kinds() -> dict[str, type[Tracker]]:
    """What `--log` may name; the name is the extra's, too."""
    return {"tensorboard": TensorBoard, "mlflow": MLflow, "wandb": WandB}


def require(names: Iterable[str]) -> None:
    """Raises UserError for a name that isn't known, and where a library isn't there."""
    for name in names:
        if name not in kinds():
            raise UserError(f"--log {name}: there are {', '.join(kinds())}")
        try:
            importlib.import_module(kinds()[name].library)
        except ImportError:
            raise UserError(
                f"--log {name}: its library is not installed: pip install 'isoform[{name}]'"
            ) from None


class Trackers:
    """The trackers of one run. One that fails on the way is named and left out: a training never ends by it."""

    def __init__(self, run: RunFolder, names: Sequence[str], say: Callable[[str], None]) -> None:
        folder = run.path / TRACKERS
        title = run.path.resolve().name
        self.of = {name: kinds()[name](folder / name, title) for name in dict.fromkeys(names)}
        self.run, self.say, self.step = run, say, 0

    def start(self, config: AppConfig) -> None:
        """Begins each; one that is new to a resumed run is told the lines of before. Raises UserError."""
        settings = {".".join(path): value for path, value in flatten(plain(config))}
        for name, tracker in self.of.items():
            new = not tracker.folder.exists()
            try:
                tracker.start(settings)
                for line in self.run.metrics() if new else ():
                    tracker.log(line["step"], numbers_of(line))
            except Exception as error:
                if new:
                    shutil.rmtree(tracker.folder, ignore_errors=True)
                raise UserError(
                    f"--log {name}: can't start ({_brief(error)}); mend that, or leave --log {name} out"
                ) from error

    def log(self, line: Mapping[str, Any]) -> None:
        """A line of metrics.jsonl."""
        self.step = line["step"]
        self._each(lambda tracker: tracker.log(self.step, numbers_of(line)))

    def finish(self, results: Mapping[str, Any]) -> None:
        """The metrics on test, where there are any, and the end; a second call does nothing."""
        test = results.get("metrics", {}).get("test", {})
        if numbers := numbers_of({"split": "test", **test}):
            self._each(lambda tracker: tracker.log(self.step, numbers))
        self._each(lambda tracker: tracker.finish(results))
        self.of.clear()

    def _each(self, tell: Callable[[Tracker], None]) -> None:
        for name, tracker in list(self.of.items()):
            try:
                tell(tracker)
            except Exception as error:  # noqa: BLE001 - whatever a service's library raises
                del self.of[name]
                self.say(f"warning: {name} is left out from here on ({_brief(error)})")


def numbers_of(line: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers of a line of metrics.jsonl by "SPLIT/NAME"."""
    return {
        f"{line['split']}/{name}": value
        for name, value in line.items()
        if name not in _PLACE and isinstance(value, int | float) and math.isfinite(value)
    }


def _brief(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]
