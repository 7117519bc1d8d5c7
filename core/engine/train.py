"""The one training loop.

A run is a pure function of its configuration and data: every batch, every augmentation and every dropout mask follows
from (seed, epoch, index) or (seed, step), so all that a run carries is weights, optimiser, averaged weights and a
`TrainState`.
"""

from __future__ import annotations

import errno
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.domain import Batch, Task
from isoform.core.engine import (
    distributed,
    finish,
    kept,
    loader,
    optim,
    precision,
    probe,
    warm_start,
)
from isoform.core.engine.determinism import reproducible, seed_forward
from isoform.core.engine.evaluate import evaluate, to_device
from isoform.core.engine.meter import Meter, NonFiniteGuard
from isoform.core.engine.progress import Display
from isoform.core.engine.refusals import refuse_unready
from isoform.core.engine.sam import Sam
from isoform.core.engine.signals import StopSignal
from isoform.core.engine.trackers import Trackers
from isoform.core.errors import Preempted, RunError, UserError
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.results import is_better


def train(
    task: Task,
    run: RunFolder,
    *,
    resume: bool = False,
    progress: bool = True,
    command: str | None = None,
    say: Callable[[str], None] | None = None,
    baselines: Mapping[str, Any] | None = None,
    log: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains `task` in the folder `run` and evaluates its best checkpoint once on test; returns results.json.

    `command` is the command line that card.md and report.html repeat; `say` gets the lines that a person should see
    even without `progress` (default: stdout); `baselines` that are known from the same data aren't fitted again; `log`
    names the trackers (see trackers.py). Raises UserError (the folder holds a run, no checkpoint is whole, the
    configuration changed), RunError (NaN loss, full disk) and Preempted (a signal came and a checkpoint was written).
    """
    config = task.config
    command = command or f"isoform {config.domain} train {config.app} --seed {config.train.seed}"
    if run.exists() and not resume:
        raise UserError(
            f"{run.path} holds a run already; go on with --resume or choose another --run-dir"
        )
    with run.lock(), Display(progress, say) as show, StopSignal() as stop, reproducible():
        if run.results().get("status") == "finished":
            show.say(f"{run.path}: this run is finished")
            return run.results()
        watch = Trackers(run, log, show.say)
        loop = Loop(task, run, show, stop, watch)
        loop.start(resume, command)
        try:
            watch.start(config)
            loop.run()
            return finish.finish(loop.outcome(), command, baselines)
        except Preempted:
            loop.record("preempted")
            raise
        except UserError:
            if not checkpoints.steps(run.checkpoints):
                watch.finish({})
                run.discard()  # a mistake in the data leaves nothing behind that would have to be resumed
            raise
        except BaseException as error:
            with suppress(OSError):  # a full disk must not hide what went wrong
                loop.record("failed")
            if isinstance(error, OSError) and error.errno in _NO_ROOM:
                raise RunError(
                    f"{run.path}: {error.strerror}; make room and go on with --resume"
                ) from error
            raise
        finally:
            watch.finish(run.results())


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass
class TrainState:
    """Where a run stands: all of its state that isn't a tensor."""

    step: int = 0  # optimiser steps made
    epoch: int = 0  # epochs completed, validation included
    batch: int = 0  # micro-batches of the present epoch done
    best: float | None = None  # the monitored metric of the best validation
    best_step: int | None = None
    best_metrics: dict[str, float] = field(default_factory=dict)
    stale: int = 0  # validations since the best
    seconds: float = 0.0  # of work, over all stretches of the run
    log_bytes: int = 0  # of metrics.jsonl
    meter: dict[str, tuple[float, float]] = field(default_factory=dict)
    initial: str = ""  # what the weights started from, and its licence


class Loop:
    """One run in progress: the model and all that trains it."""

    def __init__(
        self, task: Task, run: RunFolder, show: Display, stop: StopSignal, watch: Trackers
    ) -> None:
        self.task, self.run_folder, self.show, self.stop = task, run, show, stop
        self.watch = watch
        self.config = config = task.config.train
        refuse_unready(task)
        assert isinstance(config.epochs, int)
        self.epochs = config.epochs
        self.device = distributed.this_process().device
        torch.manual_seed(config.seed)
        self.model = task.build().to(self.device)
        self.precision = precision.resolve(config.precision, task.bf16_ok, self.model, self.device)
        self.frozen: list[nn.Module] = []
        if config.freeze == "trunk" or config.probe:
            self._freeze(task.trunk)
        if config.probe:
            task.last_layer(self.model)  # refuses a model without one
        self.ema = optim.Ema(self.model, config.ema) if config.ema else None
        self.optimizer = optim.build_optimizer(self.model, config)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.sam = Sam(self.trained, config.sam) if config.sam else None
        self.state = TrainState()
        self.seen_before: np.ndarray | None = None  # digests of what the initial weights know
        self.meter, self.finite = Meter(), NonFiniteGuard(self.device)
        self.saved_step = -1
        self._clock = self._line_clock = time.monotonic()
        self._line_samples = 0

    def _freeze(self, trunk: Sequence[str]) -> None:
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(not name.startswith(tuple(trunk)))
        if not any(p.requires_grad for p in self.model.parameters()):
            raise UserError("train.freeze = 'trunk' leaves nothing to train in this model")
        # No dropout and no moving statistics in what is held fixed.
        self.frozen = [
            m for name, m in self.model.named_children() if f"{name}.".startswith(tuple(trunk))
        ]

    # ------------------------------------------------------------------ start and resume

    def start(self, resume: bool, command: str) -> None:
        """From the newest whole checkpoint, or from step 0 with the folder's first files written."""
        folder, say = self.run_folder, self.show.say
        newest = checkpoints.newest(folder.checkpoints, say) if resume else None
        if newest is not None:
            finish.refuse_changes(folder, self.task.config)
            for line in finish.accept_data(folder, self.task):
                say(line)
            self._load(newest[1])
            say(f"resuming {folder.path} from step {newest[0]}")
        else:
            if resume:
                kept.refuse_other_data(folder, self.task)
                say(f"{folder.path}: no complete checkpoint yet, starting at step 0")
            if self.config.init:
                self._load_initial(self.config.init)
            elif self.frozen:
                say("warning: the frozen trunk is random; name its weights with --init")
            for line in finish.write_start(
                folder, self.task, command, self.state.initial, self.seen_before
            ):
                say(line)
        folder.cut_metrics(self.state.log_bytes)
        self.record("running")
        if self.config.warmup >= self.epochs and not self.config.probe:
            say(
                f"the warm-up of {self.config.warmup:g} epochs is as long as the run: the learning rate never falls"
            )
        if self.config.compile:
            self.model.compile()

    def _load_initial(self, source: str) -> None:
        start = warm_start.initial_weights(self.task, source)
        for line in warm_start.load_into(self.task, self.model, start):
            self.show.say(line)
        if self.ema is not None:
            self.ema = optim.Ema(self.model, self.config.ema)
        self.state.initial = f"{start.source} (licence: {start.licence})"
        if start.domain == self.task.config.domain:
            self.seen_before = start.seen

    def _load(self, checkpoint: checkpoints.Checkpoint) -> None:
        try:
            self.model.load_state_dict(checkpoint.model)
            if self.ema is not None:
                self.ema.model.load_state_dict(checkpoint.ema or {})
            optim.load_optimizer_tensors(self.optimizer, self.model, checkpoint.optimizer)
            self.state = TrainState(**checkpoint.state["place"])
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.run_folder.path}: the checkpoint is of another model or version: {str(error).splitlines()[0]}"
            ) from error
        self.meter.load(self.state.meter, self.device)
        self.saved_step = self.state.step
        for what, then, now in (
            ("threads", checkpoint.state.get("threads"), torch.get_num_threads()),
            ("torch", checkpoint.state.get("torch"), str(torch.__version__)),
            ("precision", checkpoint.state.get("precision"), self.precision),
        ):
            if then != now:
                self.show.say(
                    f"warning: {what} was {then} and is {now}: the result may differ in the last bits"
                )

    # ------------------------------------------------------------------ the loop

    def run(self) -> None:
        """Trains to the last epoch, or until patience runs out; a probe is fitted instead."""
        if self.config.probe:
            if not self.ended:
                self._fit_probe()
            return
        plan = loader.epoch_batches(self.task, self.config.seed, self.state.epoch)
        per_epoch = -(-len(plan) // self.config.accumulate)
        self.show.begin(per_epoch * self.epochs, self.state.step)
        self._clock = self._line_clock = time.monotonic()
        workers = loader.workers_of(self.task)
        keys = loader.read_batches(
            self.task, "train", self._keys(), seed=self.config.seed, workers=workers
        )
        try:
            with closing(keys) as batches:
                while not self.ended:
                    self._epoch(batches)
        except Preempted:
            if self.saved_step != self.state.step:
                self.save()
            raise
        if self.state.epoch < self.epochs:
            self.show.say(f"stopped early: no better validation in {self.state.stale} evaluations")

    def _fit_probe(self) -> None:
        """Fits the last layer to the trunk's features; what each strength gives is a line of metrics.jsonl."""
        state, task = self.state, self.task
        last = task.last_layer(self.model.eval())
        tried = []
        for one in probe.fit(task, last, self.precision, lambda: self.stop.requested):
            state.step += 1
            tried.append(one)
            if one.metrics:
                self._log("val", {**one.metrics, "strength": one.strength}, 0.0)
        best = max(tried, key=lambda one: one.worth(task.monitor, task.monitor_mode))
        best.put_into(last.layer)
        if self.ema is not None:
            self.ema = optim.Ema(self.model, self.config.ema)
        self.show.say(f"fitted to the trunk's features with strength {best.strength:g}")
        value = best.metrics.get(task.monitor, math.nan)
        state.best, state.best_metrics = None if math.isnan(value) else value, best.metrics
        state.best_step, state.epoch = state.step, self.epochs
        self.save()

    @property
    def ended(self) -> bool:
        """True after the last epoch, or once patience ran out."""
        return self.state.epoch >= self.epochs or (
            self.config.patience is not None and self.state.stale >= self.config.patience
        )

    def _keys(self) -> Iterator[loader.BatchKey]:
        first, done = self.state.epoch, self.state.batch
        for epoch in range(first, self.epochs):
            yield from loader.epoch_batches(self.task, self.config.seed, epoch)[
                done if epoch == first else 0 :
            ]

    def _epoch(self, batches: Iterator[Batch]) -> None:
        state, config = self.state, self.config
        plan = loader.epoch_batches(self.task, config.seed, state.epoch)
        steps = -(-len(plan) // config.accumulate)
        self._train_mode()
        while state.batch < len(plan):
            group = plan[state.batch : state.batch + config.accumulate]
            lr = optim.learning_rate(
                config, self.epochs, state.epoch + state.batch // config.accumulate / steps
            )
            self._step(group, batches, lr)
            state.batch += len(group)
            ends = state.batch == len(plan)
            self.show.step(state.step, state.epoch + 1, self.epochs)
            if ends or state.step % config.log_every == 0:
                self._log_training(lr)
            if not ends and config.checkpoint_every and state.step % config.checkpoint_every == 0:
                self.save()
            if self.stop.requested:
                raise Preempted(f"stopped by a signal at step {state.step}; go on with --resume")
        self._end_epoch()

    def _train_mode(self) -> None:
        self.model.train()
        for module in self.frozen:
            module.eval()

    def _step(self, group: Sequence[loader.BatchKey], batches: Iterator[Batch], lr: float) -> None:
        """One optimiser step on the mean loss over all samples of `group`, whatever the sizes of its micro-batches."""
        state = self.state
        read = (to_device(next(batches), self.device) for _ in group)
        if self.sam is None:
            summed = self._backward(group, read, self.meter)
        else:
            kept = list(read)
            summed = self._backward(group, kept, self.meter)
            self.sam.climb()
            above = self._backward(group, kept, None)  # the same samples and dropout, from up there
            self.sam.back()
            self.meter.add({"sharpness": above - summed}, 1)
        indices = [index for key in group for index in key.indices]
        gradients = [p.grad for p in self.trained if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        self.meter.add({"grad_norm": norm}, 1)
        self.finite.watch(state.step + 1, indices, summed, norm)
        optim.set_learning_rate(self.optimizer, lr)
        optim.move(self.optimizer, self.trained, norm, self.config)
        if self.ema is not None:
            self.ema.update(state.step)
        state.step += 1
        self._line_samples += len(indices)

    def _backward(
        self, group: Sequence[loader.BatchKey], batches: Iterable[Batch], meter: Meter | None
    ) -> Tensor:
        """Adds the gradient of the mean loss over `group` and returns that loss; `meter` takes what was measured."""
        total = sum(len(key.indices) for key in group)
        summed: Tensor | None = None
        for micro, (key, batch) in enumerate(zip(group, batches, strict=True)):
            seed_forward(loader.forward_seed(self.config.seed, self.state.step, micro), self.device)
            measured: dict[str, Tensor] = {}
            passes = self.task.passes(self.model, batch)
            while (losses := self._next(passes)) is not None:
                share = (
                    losses["loss"]
                    if len(group) == 1
                    else losses["loss"] * (len(key.indices) / total)
                )
                share.backward()
                summed = share.detach() if summed is None else summed + share.detach()
                measured = {
                    name: measured.get(name, 0) + value.detach() for name, value in losses.items()
                }
            if meter is not None:
                meter.add(measured, len(key.indices))
        assert summed is not None
        return summed

    def _next(self, passes: Iterator[Mapping[str, Tensor]]) -> Mapping[str, Tensor] | None:
        with precision.autocast(self.precision, self.device):
            return next(passes, None)

    def _end_epoch(self) -> None:
        state, config = self.state, self.config
        last = state.epoch + 1 == self.epochs
        improved = False
        if self.task.sizes().get("val") and (
            last or (state.epoch + 1) % config.evaluate_every == 0
        ):
            improved = self._validate()
        state.epoch, state.batch = state.epoch + 1, 0
        every = config.checkpoint_every
        if improved or self.ended or every is None or state.step % every == 0:
            self.save()

    def _validate(self) -> bool:
        """Evaluates on validation, keeps count of the best, and says whether this is to be kept as such."""
        state, task = self.state, self.task
        started = time.monotonic()
        metrics, _ = evaluate(
            task,
            self.eval_model,
            "val",
            precision_name=self.precision,
            device=self.device,
            stop=lambda: self.stop.requested,
        )
        if task.monitor not in metrics:
            raise ValueError(
                f"the task's metrics ({', '.join(metrics)}) lack {task.monitor!r}, which it monitors"
            )
        value = metrics[task.monitor]
        best = state.best is None or is_better(value, state.best, task.monitor_mode)
        better = value == value and best
        # Of equals the later is kept: on few validation images a coarse metric ties long before training is done.
        kept = better or value == state.best
        state.stale = 0 if better else state.stale + 1
        if kept:
            state.best, state.best_step, state.best_metrics = value, state.step, metrics
        rate = task.sizes()["val"] / max(time.monotonic() - started, 1e-9)
        self._log("val", metrics, rate)
        self.show.evaluated(state.epoch + 1, self.epochs, metrics, task.monitor, kept)
        self._line_clock = time.monotonic()
        return kept

    @property
    def eval_model(self) -> nn.Module:
        """The model that is judged: the averaged one where there is an average."""
        return self.model if self.ema is None else self.ema.model

    # ------------------------------------------------------------------ what is written

    def _log_training(self, lr: float) -> None:
        self.finite.check()
        means = self.meter.take()
        now = time.monotonic()
        rate = self._line_samples / max(now - self._line_clock, 1e-9)
        self._line_clock, self._line_samples = now, 0
        self._log("train", {**means, "lr": lr}, rate)
        self.show.trained(self.state.step, self.state.epoch + 1, self.epochs, means, rate)

    def _log(self, split: str, values: dict[str, float], rate: float) -> None:
        self.tick()
        where = {"step": self.state.step, "epoch": self.state.epoch + 1, "split": split}
        timing = {"seconds": round(self.state.seconds, 3), "samples_per_second": round(rate, 2)}
        line = {**where, **values, **timing}
        self.run_folder.append_metrics(line)
        self.watch.log(line)

    def tick(self) -> float:
        """Adds the time since the last call to the run's seconds, and gives them."""
        now = time.monotonic()
        self.state.seconds += now - self._clock
        self._clock = now
        return self.state.seconds

    def save(self) -> None:
        """Writes a checkpoint. Raises RunError where the weights aren't finite or the disk refuses."""
        state, folder = self.state, self.run_folder
        self.finite.check()
        model = self.model.state_dict()
        if not checkpoints.finite(model.values()):
            raise RunError(
                f"weights are NaN or infinite after step {state.step}; earlier checkpoints are intact"
            )
        self.tick()
        checkpoints.sync(folder.log)
        state.log_bytes = folder.log.stat().st_size
        state.meter = self.meter.state()
        content = {
            "place": asdict(state),
            "threads": torch.get_num_threads(),
            "torch": str(torch.__version__),
            "precision": self.precision,
        }
        ema = None if self.ema is None else self.ema.model.state_dict()
        tensors = optim.optimizer_tensors(self.optimizer, self.model)
        checkpoints.write(
            folder.checkpoints, state.step, checkpoints.Checkpoint(model, ema, tensors, content)
        )
        checkpoints.prune(folder.checkpoints, [] if state.best_step is None else [state.best_step])
        self.saved_step = state.step

    def record(self, status: str) -> None:
        """Writes results.json as far as it is known."""
        finish.write_results(self.outcome(), status, {}, {})

    def outcome(self) -> finish.Outcome:
        """What is known of this run now."""
        state = self.state
        return finish.Outcome(
            task=self.task,
            run=self.run_folder,
            model=self.eval_model,
            best_step=state.step if state.best_step is None else state.best_step,
            best_metrics=state.best_metrics,
            averaged=self.ema is not None,
            initial=state.initial,
            precision=self.precision,
            device=self.device,
            seconds=self.tick,
            stopping=lambda: self.stop.requested,
            show=self.show,
        )
