"""Voting: a cloud judged several times, other points drawn and changed at random each time, and the logits averaged.

plain     one look at the points that an evaluation sees: the score to compare
one vote  the mean of the logits over V draws, as Point-MAE votes: points at random from a fifth more that lie farthest
          apart, scaled and shifted as in training
best of   the best of N such votes by their score on these very clouds. Point-MAE's and others' published voted figures
          are that, chosen on test; it is too good by construction, made on request alone and never called a score

N clouds, K classes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from isoform.core.domain import Speaker
from isoform.core.engine import distributed, precision
from isoform.core.engine.evaluate import evaluate, to_device
from isoform.core.engine.kept import look_at_own, refuse_missing_place
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder
from isoform.core.supervised.metrics import softmax
from isoform.pointcloud.data.draws import Draws
from isoform.pointcloud.data.transforms import Augment
from isoform.pointcloud.judging import load_one, warn_of_known, write_judgement
from isoform.pointcloud.task import PointcloudTask, pad, task_from_run

Track = Callable[[Sequence[Any], str], Iterable[Any]]


class Voting:
    """Votes of a model on a split of labelled clouds; vote v averages the draws v V to (v + 1) V - 1."""

    def __init__(
        self, task: PointcloudTask, model: nn.Module, split: str, draws: int, precision_name: str
    ) -> None:
        self.task, self.model, self.draws = task, model.eval(), draws
        self.precision, self.device = precision_name, next(model.parameters()).device
        self.rows = task.data.rows[split]
        self.target_N = task.data.targets[self.rows]
        asked = task.config.augment
        change = Augment(asked.scale, asked.shift, normals=task.augment.normals)
        points = task.config.data.points
        self.clouds = [
            Draws(task.data.cloud(row), points, int(task.data.digests_N[row]), change)
            for row in self.rows.tolist()
        ]

    def vote(self, number: int) -> np.ndarray:
        """[N, K] mean logits."""
        size = self.task.config.eval.batch
        first = number * self.draws
        parts = []
        for start in range(0, len(self.clouds), size):
            part = self.clouds[start : start + size]
            summed = None
            for draw in range(first, first + self.draws):
                batch = to_device(pad([cloud[draw] for cloud in part]), self.device)
                with torch.no_grad(), precision.autocast(self.precision, self.device):
                    logits = self.model(batch["points"], batch["lengths"]).float()
                summed = logits if summed is None else summed + logits
            assert summed is not None
            parts.append((summed / self.draws).cpu().numpy())
        return np.concatenate(parts)

    def score(self, logits_NK: np.ndarray) -> dict[str, float]:
        """The metrics of a classification."""
        return self.task.score(softmax(logits_NK), self.target_N)


def run_vote(args: argparse.Namespace, console: Speaker) -> int:
    """The command; writes its judgement as JSON."""
    for name, value in (("--draws", args.draws), ("--best-of", args.best_of)):
        if value is not None and value < 1:
            raise UserError(f"{name} {value}: should be at least 1")
    task, trained, notes = _open(args)
    for note in notes:
        console.warn(note)
    model = trained.model.to(distributed.this_process().device)
    plain, _ = evaluate(task, model, args.split, precision_name=trained.precision)
    voting = Voting(task, model, args.split, args.draws, trained.precision)
    one = voting.score(voting.vote(0))
    console.say(task.judged(args.split))
    rows = [[name, plain[name], value] for name, value in one.items()]
    console.table(["metric", "plain", f"one vote of {args.draws} draws"], rows)
    content: dict[str, Any] = {
        "split": args.split,
        "clouds": len(voting.rows),
        "checkpoint": trained.step,
        "draws": args.draws,
        "plain": plain,
        "one_vote": one,
    }
    if args.best_of is not None:
        found = _best_of(voting, args.best_of, one["top1"], console.track)
        console.warn(
            f"best of {args.best_of} votes, chosen on {args.split}: top1 {found['top1']:.4f} (their mean "
            f"{found['mean']:.4f}, the least {found['least']:.4f}); not comparable to a plain score"
        )
        content[f"best_of_votes_chosen_on_{args.split}"] = found
    place = Path(args.out) if args.out else trained.folder / "votes.json"
    write_judgement(place, content)
    console.say(f"written: {place}")
    console.result |= {**content, "out": str(place)}
    return 0


def _best_of(voting: Voting, votes: int, first: float, track: Track) -> dict[str, Any]:
    """top1 of the best of several votes, the first among them, beside their mean and the least."""
    each = [first]
    for number in track(range(1, votes), "voting"):
        each.append(voting.score(voting.vote(number))["top1"])
    return {
        "votes": votes,
        "top1": max(each),
        "mean": statistics.fmean(each),
        "least": min(each),
        "comparable": False,
    }


def _open(args: argparse.Namespace) -> tuple[PointcloudTask, Any, list[str]]:
    """The clouds and the model, and what is to be said of them."""
    trained = load_one(args.run_dir, args.checkpoint)
    if trained.config.model.kind != "classify":
        raise UserError(
            f"{args.run_dir}: its model is for {trained.config.model.kind}; votes are about classes of clouds"
        )
    kept = None
    if args.data is None:
        refuse_missing_place(trained.folder, trained.config)
        kept = RunFolder(trained.folder).split()
    state = trained.state.model_copy(update={"kept": kept})
    path = None if args.data is None else Path(args.data)
    task = task_from_run(trained.config, state, path)
    if not task.sizes().get(args.split):
        raise UserError(f"{args.run_dir}: there are no clouds in the split {args.split}")
    changed = [] if path else look_at_own(task, kept, args.split).notes
    seen = trained.state.seen if path or args.split == "test" else None
    return task, trained, [*changed, *warn_of_known(task, args.split, seen)]
