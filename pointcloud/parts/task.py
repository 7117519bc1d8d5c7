"""PartTask: clouds and their class in, a part of that class for every point out.

B draws of n points, N points of a cloud, T points of a split's clouds, P parts, M parts of the class that has most.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.baselines import Baseline
from isoform.core.data import writers
from isoform.core.domain import Figure, Prepared
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.domain.task import MetricAccumulator
from isoform.core.errors import UserError, count
from isoform.core.supervised import bootstrap
from isoform.core.supervised.class_weights import balanced_class_weights
from isoform.core.supervised.monitors import resolve_monitor
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.tiles import Votes
from isoform.pointcloud.data.transforms import draw_points
from isoform.pointcloud.losses import part_loss
from isoform.pointcloud.metrics import CONVENTIONS, cloud_mious, shape_metrics
from isoform.pointcloud.parts.data import Draw, PartData, every_turn
from isoform.pointcloud.parts.prepare import prepare_parts
from isoform.pointcloud.parts.table import PartTable
from isoform.pointcloud.point_task import (
    PointTask,
    Provenance,
    augment_of,
    refuse_other_loss,
    refuse_threshold,
)
from isoform.pointcloud.prepare import update
from isoform.pointcloud.state import PointcloudState

TINY = 1e-7  # a probability of 0 would cost without end
SPLITS = ("train", "val", "test")


class Sample(NamedTuple):
    """Points [n, 3] of a cloud, their parts [n], which of the cloud's points they are [n], and its class's number."""

    points: np.ndarray
    target: np.ndarray
    chosen: np.ndarray
    shape: int


class Judged(NamedTuple):
    """A cloud's points [N] as a model sees them: likeliest part, probability of the true one, and the true one."""

    row: int
    guess: np.ndarray
    right: np.ndarray
    target: np.ndarray


class PartTask(PointTask):
    """One app on clouds with parts."""

    items = "draws"
    kept_items = "clouds"

    def __init__(self, prepared: Prepared[PointcloudApp, PartData]) -> None:
        self.config = config = prepared.config
        self.data, self.table = prepared.data, prepared.data.table
        self.classes = list(self.table.outputs)
        self.monitor, self.monitor_mode = resolve_monitor(config.train.monitor, "shapes")
        refuse_other_loss(config, "parts")
        refuse_threshold(config, "parts")
        self.official = config.train.recipe == "official"
        self.draws = {split: draws for split in SPLITS if (draws := self._draws(split))}
        self.augment = augment_of(config)
        self.class_weight = self._class_weight()

    def _draws(self, split: str) -> list[Draw]:
        """A training skips clouds without a point that has a part."""
        once = split == "train" or self.official
        found = self.data.draws(split, self.config.data.points, once=once)
        targets = self.data.targets
        return [d for d in found if split != "train" or (targets[d.row] >= 0).any()]

    def sizes(self) -> dict[str, int]:
        """See Task.sizes: a draw of each training cloud, and as many of the others as show all of their points."""
        return {split: len(draws) for split, draws in self.draws.items()}

    def rows(self, split: str) -> list[int]:
        """Which clouds are of a split."""
        return list(dict.fromkeys(draw.row for draw in self.draws.get(split, ())))

    def judged(self, split: str) -> str:
        """See Task.judged."""
        rows = self.rows(split)
        if self.official:
            points = f"{self.config.data.points:,} points"
            return f"judged: {count(len(rows), 'cloud')}, {points} drawn of each, split {split}"
        known = sum(int((self.data.targets[row] >= 0).sum()) for row in rows)
        return f"judged: {known:,} points of {count(len(rows), 'cloud')}, split {split}"

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Sample:
        """A training draws points anew; an evaluation shows all of them, in turns that never change."""
        row, turn = self.draws[split][index]
        points, wanted = self.data.points(row), self.config.data.points
        if self.official:
            key = int(self.data.clouds.digests_N[row])
            drawing = np.random.default_rng(key) if rng is None else rng
            chosen = drawing.integers(len(points), size=wanted)
        elif rng is None:
            chosen = next(itertools.islice(every_turn(len(points), wanted), turn, None))
        else:
            chosen = draw_points(points, wanted, "random", rng)
        target = self.data.targets[row][chosen]
        seen = points[chosen] if rng is None else self.augment(points[chosen], rng)
        return Sample(seen, target, chosen, int(self.data.clouds.targets[row]))

    def collate(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """{"points" [B, n, 3], "target" [B, n], -1 = none, "chosen" [B, n], "shape" [B]}."""
        points = np.stack([sample.points for sample in samples])
        return {
            "points": torch.from_numpy(points.astype(np.float32)),
            "target": torch.from_numpy(np.stack([sample.target for sample in samples])),
            "chosen": torch.from_numpy(np.stack([sample.chosen for sample in samples])),
            "shape": torch.tensor([sample.shape for sample in samples]),
        }

    def logits(self, model: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """[B, n, P]."""
        shapes = F.one_hot(batch["shape"], len(self.table.shapes)).float()
        found: Tensor = model(batch["points"], shapes)
        return found

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Over all parts, those of other classes too; see losses.py."""
        smoothing = self.config.loss.label_smoothing
        logits = self.logits(model, batch)
        return {"loss": part_loss(logits, batch["target"], smoothing, self.class_weight)}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"probability" [B, n, M] among the parts of each cloud's class, "chosen" [B, n]}."""
        probability = self.table.own_probabilities(self.logits(model, batch), batch["shape"])
        return {"probability": probability, "chosen": batch["chosen"]}

    def accumulator(self, split: str) -> MetricAccumulator:
        """Averages over all draws that a point is in."""
        return _Joined(self, split)

    def judge(self, row: int, probability: np.ndarray, index: np.ndarray | None = None) -> Judged:
        """Probabilities [N, M] of a cloud's points, or of those that `index` draws of them."""
        target = self.data.targets[row]
        target = target if index is None else target[index]
        shape = int(self.data.clouds.targets[row])
        first, parts = int(self.table.first[shape]), int(self.table.counts[shape])
        true = (target - first).clip(min=0)
        right = np.where(target >= 0, probability[np.arange(len(target)), true], np.nan)
        return Judged(row, first + probability[:, :parts].argmax(1), right, target)

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Of clouds and points, see metrics.py."""
        return self.score(self.clouds_of(outputs))

    def score(self, clouds: Iterator[Judged] | Sequence[Judged]) -> dict[str, float]:
        """shape_metrics; "accuracy" of points, and "loss", the cross-entropy of their averaged probabilities."""
        clouds = list(clouds)
        guesses, targets = [c.guess for c in clouds], [c.target for c in clouds]
        found = shape_metrics(guesses, targets, self.shapes_of(clouds), self.parts_of)
        guess, target = np.concatenate(guesses), np.concatenate(targets)
        right = np.concatenate([c.right for c in clouds])
        known = target >= 0
        some = known.any()
        accuracy = float((guess[known] == target[known]).mean()) if some else float("nan")
        loss = float(-np.log(right[known].clip(TINY)).mean()) if some else float("nan")
        mious = {name: value for name, value in found.items() if not name.startswith("miou ")}
        return {**mious, "accuracy": accuracy, "loss": loss, **found}

    def intervals(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float]]:
        """Of the means over clouds; see core/supervised/bootstrap.py."""
        each = self.mious(list(self.clouds_of(outputs)))
        known = np.isfinite(each[:, 0])
        wanted = {
            f"instance_miou {convention}": bootstrap.share(each[known, k])
            for k, convention in enumerate(CONVENTIONS)
        }
        return bootstrap.intervals(wanted, int(known.sum()))

    def mious(self, clouds: Sequence[Judged]) -> np.ndarray:
        """float64 [clouds, 2], see metrics.cloud_mious."""
        guesses, targets = [c.guess for c in clouds], [c.target for c in clouds]
        return cloud_mious(guesses, targets, self.shapes_of(clouds), self.parts_of)

    def shapes_of(self, clouds: Sequence[Judged]) -> list[str]:
        """The class of each."""
        return [self.table.shapes[self.data.clouds.targets[c.row]] for c in clouds]

    @property
    def parts_of(self) -> dict[str, list[int]]:
        """Class of clouds -> its outputs."""
        spans = zip(self.table.shapes, self.table.first, self.table.counts, strict=True)
        return {shape: list(range(first, first + n)) for shape, first, n in spans}

    def clouds_of(self, outputs: Mapping[str, np.ndarray]) -> Iterator[Judged]:
        """The clouds of a split's outputs, one by one."""
        ends = np.cumsum(outputs["points"])
        for row, end, size in zip(outputs["row"], ends, outputs["points"], strict=True):
            part = slice(end - size, end)
            columns = (outputs[name][part] for name in ("guess", "right", "target"))
            yield Judged(int(row), *columns)

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit:
        """See PartData.keep_split."""
        return self.data.keep_split()

    def digests(self, split: str) -> np.ndarray | None:
        """See Task.digests: of the coordinates as they were read, of every draw its cloud's."""
        rows = [draw.row for draw in self.draws.get(split, ())]
        return self.data.clouds.digests_N[rows][:, None]

    def baselines(self) -> Sequence[Baseline]:
        """See baselines.py."""
        from isoform.pointcloud.parts.baselines import baselines

        return baselines(self)

    def inference_state(self) -> PointcloudState:
        """See PointTask.inference_state; and the parts of every class."""
        return super().inference_state().model_copy(update={"parts": dict(self.table.codes)})

    def provenance(self) -> Provenance:
        """See PointTask.provenance."""
        clouds = self.data.clouds
        left_out = len(clouds.unreadable) + len(clouds.records.skipped)
        return Provenance(clouds.records.origin, clouds.records.licence, self.data.digest, left_out)

    def amount(self) -> str:
        """See PointTask.amount."""
        return ", ".join(f"{len(self.rows(split))} {split}" for split in self.draws)

    def preprocessing(self) -> str:
        """See PointTask.preprocessing."""
        c = self.config.data
        return f"scale {c.scale}; {c.points} points a draw"

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.csv, a row a cloud; `isoform pointcloud label` writes the points."""
        clouds = list(self.clouds_of(outputs))
        names = self.data.clouds.records.clouds.names
        rows: list[dict[str, Any]] = []
        shapes, each = self.shapes_of(clouds), self.mious(clouds)
        for cloud, shape, (official, strict) in zip(clouds, shapes, each, strict=True):
            known = cloud.target >= 0
            right = (cloud.guess == cloud.target)[known]
            rows.append(
                {
                    "input": names[cloud.row],
                    "shape": shape,
                    "points": len(known),
                    "miou official": float(official),
                    "miou strict": float(strict),
                    "accuracy": float(right.mean()) if len(right) else float("nan"),
                }
            )
        path = folder / f"{stem}.csv"
        writers.write_rows(rows, path)
        return [path]

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See figures.py."""
        from isoform.pointcloud.parts.figures import figures

        return figures(self, outputs)

    def _class_weight(self) -> Tensor | None:
        rows = self.rows("train")
        if self.config.data.class_weights == "none" or not rows:
            return None
        targets = np.concatenate([self.data.targets[row] for row in rows])
        return balanced_class_weights(targets, len(self.classes))


class _Joined(MetricAccumulator):
    """What was said of the points of every cloud of a split that was added."""

    def __init__(self, task: PartTask, split: str) -> None:
        self.task, self.draws = task, task.draws[split]
        self.votes: dict[int, Votes] = {}
        self.drawn: dict[int, Judged] = {}  # of the official recipe, which judges what it draws

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """See MetricAccumulator.add."""
        task = self.task
        for place, index in enumerate(indices):
            row = self.draws[index].row
            chosen, probability = outputs["chosen"][place], outputs["probability"][place]
            if task.official:
                self.drawn[row] = task.judge(row, probability, chosen)
                continue
            points = len(task.data.targets[row])
            votes = self.votes.setdefault(row, Votes(points, probability.shape[1]))
            votes.add(chosen, probability)

    def metrics(self) -> dict[str, float]:
        """PartTask.score of the clouds."""
        return self.task.score(self._clouds())

    def outputs(self) -> dict[str, np.ndarray]:
        """{"row", "points" [clouds]; "guess", "right", "target" [T]}, cloud after cloud as Judged has them."""
        clouds = self._clouds()
        found = {
            name: np.concatenate([getattr(cloud, name) for cloud in clouds])
            for name in ("guess", "right", "target")
        }
        return {
            "row": np.array([cloud.row for cloud in clouds]),
            "points": np.array([len(cloud.target) for cloud in clouds]),
            **found,
        }

    def _clouds(self) -> list[Judged]:
        judged = {row: self.task.judge(row, votes.mean()) for row, votes in self.votes.items()}
        judged |= self.drawn
        return [judged[row] for row in sorted(judged)]


def task_of_parts(config: PointcloudApp, state: PointcloudState, path: Path | None) -> PartTask:
    """The task of a finished run on its own clouds, or of any model on those at `path`, with the model's parts."""
    if not state.parts:
        raise UserError(
            "nothing says which parts this imported model's classes have; train from it with --init instead"
        )
    if state.data is None and path is None:
        raise UserError("an imported model has no clouds of its own; name some with --data")
    table = PartTable(state.parts)
    config = update(config, data={"allow_leakage": True})
    if path is None:
        return PartTask(prepare_parts(config, state.kept, table))
    official = (path / "synsetoffset2category.txt").is_file()
    other = {
        "source": "shapenetpart" if official else "parts",
        "root": str(path),
        "path": None,
        "group": None,
        "test_fraction": 1.0,
    }
    return PartTask(prepare_parts(update(config, data=other), table=table))
