"""The one training loop.

A run is a pure function of its configuration and data: every batch, every augmentation and every dropout mask follows
from (seed, epoch, index) or (seed, step), so all that a run carries is weights, optimiser, averaged weights and a
`TrainState`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn

from isoform.core.domain import Batch, Task
from isoform.core.engine import (
    finish,
    kept,
    loader,
    optim,
    precision,
    probe,
    warm_start,
)
from isoform.core.engine.determinism import reproducible
from isoform.core.engine.distributed import Process, joined, restarted
from isoform.core.engine.evaluate import evaluate
from isoform.core.engine.left_out import LeftOut
from isoform.core.engine.meter import Meter, NonFiniteGuard
from isoform.core.engine.progress import Display
from isoform.core.engine.refusals import explain_stop, explained, refuse_unready
from isoform.core.engine.sam import Sam
from isoform.core.engine.saving import Saving
from isoform.core.engine.sharded import Whole, divide
from isoform.core.engine.signals import StopSignal
from isoform.core.engine.step import Gradient, deal, take
from isoform.core.engine.trackers import Trackers
from isoform.core.engine.train_state import TrainState
from isoform.core.errors import Preempted, UserError
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
    names the trackers (see trackers.py). Of several processes (see distributed.py) the main one alone writes, and stays
    for the test when the others have returned. Raises UserError (the folder holds a run, no checkpoint is whole, the
    configuration changed), RunError (NaN loss, full disk) and Preempted (a signal came and a checkpoint was written).
    """
    config = task.config
    command = command or f"isoform {config.domain} train {config.app} --seed {config.train.seed}"
    with joined() as process, reproducible():
        resume = resume or restarted()
        if run.exists() and not resume:
            raise UserError(
                f"{run.path} holds a run already; go on with --resume or choose another --run-dir"
            )
        finished = run.results() if run.results().get("status") == "finished" else None
        process.barrier()  # every process has looked before the main one writes
        say = process.aloud(say)
        with (
            process.holding(run.lock()),
            Display(progress and process.is_main, say) as show,
            StopSignal(process.size > 1) as stop,
        ):
            if finished is not None:
                process.on_main(lambda: finish.write_missing_report(run))
                show.say(f"{run.path}: this run is finished")
                return finished
            watch = Trackers(run, log if process.is_main else (), show.say)
            loop = Loop(task, run, show, stop, watch, process)
            with explained(run.path):
                loop.start(resume, command)
            return _through(loop, command, baselines)


def _through(loop: Loop, command: str, baselines: Mapping[str, Any] | None) -> dict[str, Any]:
    """From the first step to the results, and what is left where it doesn't come to them."""
    run, watch = loop.run_folder, loop.watch
    try:
        with closing(loop.saving):  # before anything is said of the folder, or it is let go
            watch.start(loop.task.config)
            loop.run()
            loop.saving.finish()
            if not loop.process.is_main:
                return run.results()
            return finish.finish(loop.outcome(), command, baselines)
    except Preempted:
        loop.record("preempted")
        raise
    except UserError:
        if loop.process.is_main and not checkpoints.steps(run.checkpoints):
            watch.finish({})
            run.discard()  # a mistake in the data leaves nothing behind that would have to be resumed
        raise
    except BaseException as error:
        with suppress(OSError):  # a full disk must not hide what went wrong
            loop.record("failed")
        if (known := explain_stop(error, run.path)) is not None:
            raise known from error
        raise
    finally:
        watch.finish(run.results())


class Loop:
    """One run in progress: the model and all that trains it."""

    def __init__(
        self,
        task: Task,
        run: RunFolder,
        show: Display,
        stop: StopSignal,
        watch: Trackers,
        process: Process,
    ) -> None:
        self.task, self.run_folder, self.show, self.stop = task, run, show, stop
        self.watch, self.process = watch, process
        self.config = config = task.config.train
        refuse_unready(task, process)
        assert isinstance(config.epochs, int)
        self.epochs = config.epochs
        self.device = process.device
        torch.manual_seed(config.seed)
        self.model = task.build().to(self.device)
        self.precision = precision.resolve(config.precision, task.bf16_ok, self.model, self.device)
        self.frozen: list[nn.Module] = []
        if config.freeze == "trunk" or config.probe:
            self._freeze(task.trunk)
        if config.probe:
            task.last_layer(self.model)  # refuses a model without one
        self.whole: Whole | None = None
        averaged: nn.Module | None = None
        task.even_passes = self.divided
        if self.divided:
            self.whole = Whole(self.model)
            averaged = divide(deepcopy(self.model)) if config.ema else None
            self.model = divide(self.model)
        self.ema = optim.Ema(self.model, config.ema, averaged) if config.ema else None
        self.optimizer = optim.build_optimizer(self.model, config)
        self.trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        sam = Sam(self.trained, config.sam, process) if config.sam else None
        self.gradient = Gradient(task, self.model, self.trained, process, self.precision, sam)
        self.saving = Saving(
            run,
            process,
            self.model,
            self.ema,
            self.optimizer,
            self.precision,
            show.say,
            self.whole,
            config.save_in_background,
        )
        self.state = TrainState()
        self.seen_before: np.ndarray | None = None  # digests of what the initial weights know
        self.meter, self.left_out = Meter(), LeftOut(task, show.say)
        self.forgiving = loader.forgives(task)
        skip = config.nonfinite == "skip"
        self.finite = NonFiniteGuard(self.model, self.left_out, skip, self.device)
        self.saved_step = -1
        self._clock = self._line_clock = time.monotonic()
        self._line_samples = 0

    @property
    def divided(self) -> bool:
        """Whether the processes hold a part each of the blocks, and so work on each together."""
        return self.config.shard == "full" and self.process.size > 1

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
        folder, say, process = self.run_folder, self.show.say, self.process
        newest = self.saving.newest() if resume else None
        if newest is not None:
            for line in process.on_main(lambda: finish.accept_changes(folder, self.task)):
                say(line)
            self._load(newest[1])
            say(f"resuming {folder.path} from step {newest[0]}")
        else:
            if resume:
                process.on_main(lambda: kept.refuse_other_data(folder, self.task))
                say(f"{folder.path}: no complete checkpoint yet, starting at step 0")
            if self.config.init:
                self._load_initial(self.config.init)
            elif self.frozen:
                say("warning: the frozen trunk is random; name its weights with --init")
            initial, seen = self.state.initial, self.seen_before
            begin = partial(finish.write_start, folder, self.task, command, initial, seen)
            for line in process.on_main(begin):
                say(line)
        if process.is_main:
            folder.cut_metrics(self.state.log_bytes)
        self.record("running")
        if self.config.warmup >= self.epochs and not self.config.probe:
            say(
                f"the warm-up of {self.config.warmup:g} epochs is as long as the run: the learning rate never falls"
            )
        if self.config.compile:
            self.model.compile()

    def _load_initial(self, source: str) -> None:
        warm_start.refuse_other_file(source, self.config.init_sha256)
        start = warm_start.initial_weights(self.task, source)
        model = self.model if self.whole is None else self.whole.model
        for line in warm_start.load_into(self.task, model, start):
            self.show.say(line)
        if self.whole is not None:
            self.whole.give(self.model)
        if self.ema is not None:
            self.ema.restart()
        self.state.initial = f"{start.source} (licence: {start.licence})"
        if start.domain == self.task.config.domain:
            self.seen_before = start.seen

    def _load(self, checkpoint: checkpoints.Checkpoint) -> None:
        self.state = TrainState.from_json(self.saving.load(checkpoint))
        if self.process.is_main:
            self.meter.load(self.state.meter, self.device)
        self.left_out.load(self.state.left_out)
        self.saved_step = self.state.step
        best, folder = self.state.best_step, self.run_folder.checkpoints
        there = self.process.on_main(lambda: checkpoints.steps(folder))
        if best is not None and best not in there and not self.ended:
            # It gave way to a better one, which was damaged.
            self.show.say(
                f"the best so far, of step {best}, isn't there any more: it's chosen anew"
            )
            self.state.best = self.state.best_step = None

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
        reading = loader.read_batches(
            self.task,
            "train",
            self._keys(),
            seed=self.config.seed,
            workers=loader.workers_of(self.task),
            unread=self.left_out.unread if self.forgiving else None,
        )
        try:
            with closing(reading) as batches:
                while not self.ended:
                    self._epoch(batches)
        except Preempted:
            if self.saved_step != self.state.step:
                self.save()
            self.saving.finish()
            raise
        if self.state.epoch < self.epochs:
            self.show.say(f"stopped early: no better validation in {self.state.stale} evaluations")
        for line in self.left_out.describe():
            self.show.say(line)

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
            self.ema.restart()
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
            plan = loader.epoch_batches(self.task, self.config.seed, epoch)
            for start in range(done if epoch == first else 0, len(plan), self.config.accumulate):
                group = plan[start : start + self.config.accumulate]
                for card in deal(group, self.process, even=self.divided):
                    yield card.key

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
            self.saving.check()
            state.batch += len(group)
            ends = state.batch == len(plan)
            self.show.step(state.step, state.epoch + 1, self.epochs)
            if ends or state.step % config.log_every == 0:
                self._log_training(lr)
            if not ends and config.checkpoint_every and state.step % config.checkpoint_every == 0:
                self.save()
            if self.process.any(self.stop.requested):
                raise Preempted(f"stopped by a signal at step {state.step}; go on with --resume")
        self._end_epoch()

    def _train_mode(self) -> None:
        self.model.train()
        for module in self.frozen:
            module.eval()

    def _step(self, group: Sequence[loader.BatchKey], batches: Iterator[Batch], lr: float) -> None:
        """One optimiser step on the mean loss over all samples of `group`, whatever the sizes of its micro-batches."""
        state = self.state
        forgiving = self.left_out if self.forgiving else None
        group, work = take(group, batches, self.process, self.divided, forgiving)
        indices = [index for key in group for index in key.indices]
        if not indices:
            state.step += 1
            return
        self.finite.begin()
        loss, norm, measured = self.gradient.compute(len(group), work, state.step)
        if self.finite.watch(state.step + 1, indices, loss, norm):
            for values, weight in measured:
                self.meter.add(values, weight)
            optim.set_learning_rate(self.optimizer, lr)
            optim.move(self.optimizer, self.trained, norm, self.config)
            if self.ema is not None:
                self.ema.update(state.step)
        else:
            self.optimizer.zero_grad(set_to_none=True)
        state.step += 1
        self._line_samples += len(indices)

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
        model = self.eval_model if self.whole is None else self.whole.take(self.eval_model)
        metrics, _ = evaluate(
            task,
            model,
            "val",
            precision_name=self.precision,
            device=self.device,
            stop=lambda: self.stop.requested,
            process=self.process,
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
        means = self.meter.take(self.process)
        if not self.process.is_main:
            return
        now = time.monotonic()
        rate = self._line_samples / max(now - self._line_clock, 1e-9)
        self._line_clock, self._line_samples = now, 0
        self._log("train", {**means, "lr": lr}, rate)
        self.show.trained(self.state.step, self.state.epoch + 1, self.epochs, means, rate)

    def _log(self, split: str, values: dict[str, float], rate: float) -> None:
        self.tick()
        if not self.process.is_main:
            return
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
        state, log = self.state, self.run_folder.log
        self.finite.check()
        self.tick()
        state.meter, state.left_out = self.meter.state(self.process), self.left_out.state()
        if self.process.is_main:
            checkpoints.sync(log)
            state.log_bytes = log.stat().st_size
        self.saving.save(asdict(state), state.best_step)
        self.saved_step = state.step

    def record(self, status: str) -> None:
        """Writes results.json as far as it is known."""
        if self.process.is_main:
            finish.write_results(self.outcome(), status, {}, {})

    def outcome(self) -> finish.Outcome:
        """What is known of this run now."""
        state = self.state
        return finish.Outcome(
            task=self.task,
            run=self.run_folder,
            model=self.eval_model if self.whole is None else self.whole.model,
            best_step=state.step if state.best_step is None else state.best_step,
            best_metrics=state.best_metrics,
            averaged=self.ema is not None,
            initial=state.initial,
            precision=self.precision,
            device=self.device,
            seconds=self.tick,
            stopping=lambda: self.stop.requested,
            show=self.show,
            left_out=self.left_out.to_json(),
        )
