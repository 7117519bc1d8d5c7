"""SegmentTask: scans in, a class for every point out. Tiles are judged one by one, then put together.

B draws of n points, N points of a split's scans, P classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.baselines import Baseline
from isoform.core.data import writers
from isoform.core.domain import Figure, Prepared
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.domain.task import MetricAccumulator
from isoform.core.errors import UserError, count
from isoform.core.supervised.class_weights import balanced_class_weights
from isoform.core.supervised.monitors import resolve_monitor
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.scan_points import chosen_points
from isoform.pointcloud.data.scans import ScanData, keep_scans
from isoform.pointcloud.data.tiles import Votes
from isoform.pointcloud.data.transforms import draw_points
from isoform.pointcloud.losses import part_loss
from isoform.pointcloud.metrics import part_metrics
from isoform.pointcloud.point_task import (
    PointTask,
    Provenance,
    augment_of,
    refuse_other_loss,
    refuse_threshold,
)
from isoform.pointcloud.prepare import update
from isoform.pointcloud.segment_prepare import prepare_scans
from isoform.pointcloud.state import PointcloudState

TINY = 1e-7  # a probability of 0 would cost without end


class Sample(NamedTuple):
    """Points [n, C] of a tile in its frame, their classes [n], and which points of the scan they are [n]."""

    points: np.ndarray
    target: np.ndarray
    chosen: np.ndarray


class SegmentTask(PointTask):
    """One app on labelled scans."""

    items = "draws"
    kept_items = "scans"
    config: PointcloudApp

    def __init__(self, prepared: Prepared[PointcloudApp, ScanData]) -> None:
        self.config = config = prepared.config
        self.data = prepared.data
        self.classes = list(self.data.classes)
        self.monitor, self.monitor_mode = resolve_monitor(config.train.monitor, "parts")
        refuse_other_loss(config, "classes of points")
        refuse_threshold(config, "classes of points")
        self.augment = augment_of(config)
        self.class_weight = self._class_weight()

    def sizes(self) -> dict[str, int]:
        """See Task.sizes: draws from tiles."""
        return {split: len(draws) for split, draws in self.data.draws.items()}

    def judged(self, split: str) -> str:
        """See Task.judged."""
        own = self.data.rows(split)
        known = sum(int((self.data.targets[k] >= 0).sum()) for k in own)
        return f"judged: {known:,} labelled points of {count(len(own), 'scan')}, split {split}"

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Sample:
        """A training draws points of the tile anew; an evaluation shows all of them, in turns that never change."""
        k, number, turn = self.data.draws[split][index]
        tile, wanted = self.data.tiles[k][number], self.config.data.points
        if rng is None:
            chosen = chosen_points(tile, number, turn, wanted)
        else:
            chosen = tile.index[draw_points(tile.index, wanted, "random", rng)]
        points = self.data.scans[k].points.framed(chosen, tile, self.config.data.tile)
        if rng is not None:
            points = self.augment(points, rng)
        return Sample(points, self.data.targets[k][chosen], chosen)

    def collate(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """{"points" [B, n, C], "target" [B, n], -1 = none, "chosen" [B, n]}."""
        points = np.stack([sample.points for sample in samples])
        return {
            "points": torch.from_numpy(points.astype(np.float32)),
            "target": torch.from_numpy(np.stack([sample.target for sample in samples])),
            "chosen": torch.from_numpy(np.stack([sample.chosen for sample in samples])),
        }

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See losses.py."""
        smoothing = self.config.loss.label_smoothing
        logits = model(batch["points"])
        return {"loss": part_loss(logits, batch["target"], smoothing, self.class_weight)}

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"probability" [B, n, P], "chosen" [B, n]}."""
        return {
            "probability": model(batch["points"]).float().softmax(2),
            "chosen": batch["chosen"],
        }

    def accumulator(self, split: str) -> MetricAccumulator:
        """Averages over all tiles that a point lies in."""
        return _Joined(self, split)

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Of points, see metrics.py; and "loss", the cross-entropy of the averaged probabilities."""
        return self.score(outputs["probability"], outputs["target"])

    def score(self, probability: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of probabilities [N, P] and classes [N], -1 = none."""
        known = target >= 0
        right = probability[known, target[known]].clip(TINY)
        found = part_metrics(probability.argmax(1), target, self.classes)
        return {**found, "loss": float(-np.log(right).mean()) if known.any() else float("nan")}

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit:
        """See data/scans.py."""
        return keep_scans(self.data)

    def baselines(self) -> Sequence[Baseline]:
        """See segment_baselines.py."""
        from isoform.pointcloud.segment_baselines import baselines

        return baselines(self)

    def provenance(self) -> Provenance:
        """See PointTask.provenance."""
        data = self.data
        return Provenance(data.origin, data.licence, data.digest, len(data.skipped))

    def amount(self) -> str:
        """See PointTask.amount."""
        return count(len(self.data.scans), "scan")

    def preprocessing(self) -> str:
        """See PointTask.preprocessing."""
        c = self.config.data
        return f"tiles of {c.tile:g}, overlap {c.overlap:g}; {c.points} points a draw"

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.csv, a row a scan, and STEM_tiles.csv, a row a tile; `isoform pointcloud label` writes the points."""
        rows: list[dict[str, Any]] = []
        names = ("miou", "accuracy", *(f"iou {name}" for name in self.classes))
        for k, part in self.parts(split):
            found = self.score(outputs["probability"][part], outputs["target"][part])
            row = {"input": self.data.scans[k].name, "points": part.stop - part.start}
            rows.append({**row, **{name: found.get(name, float("nan")) for name in names}})
        tiles = [row for k, _ in self.parts(split) for row in self._tile_rows(k)]
        paths = [folder / f"{stem}.csv", folder / f"{stem}_tiles.csv"]
        for path, told in zip(paths, (rows, tiles), strict=True):
            writers.write_rows(told, path)
        return paths

    def _tile_rows(self, k: int) -> list[dict[str, Any]]:
        """Where each tile of a scan lies in its file: what was subtracted from coordinates, in float64."""
        name, axes = self.data.scans[k].name, ("shift x", "shift y", "shift z")
        return [
            {
                "input": name,
                "tile": number,
                **dict(zip(axes, tile.middle.tolist(), strict=True)),
                "points": len(tile.index),
            }
            for number, tile in enumerate(self.data.tiles[k])
        ]

    def parts(self, split: str) -> list[tuple[int, slice]]:
        """Each scan of a split, and where its points stand in the outputs."""
        found, start = [], 0
        for k in self.data.rows(split):
            stop = start + len(self.data.scans[k].xyz)
            found.append((k, slice(start, stop)))
            start = stop
        return found

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See segment_figures.py."""
        from isoform.pointcloud.segment_figures import figures

        return figures(self, outputs)

    def _class_weight(self) -> Tensor | None:
        own = self.data.rows("train")
        if self.config.data.class_weights == "none" or not own:
            return None
        targets = np.concatenate([self.data.targets[k] for k in own])
        return balanced_class_weights(targets, len(self.classes))


class _Joined(MetricAccumulator):
    """Votes for the points of every scan of a split."""

    def __init__(self, task: SegmentTask, split: str) -> None:
        self.task, self.split = task, split
        data = task.data
        classes = len(task.classes)
        self.votes = {k: Votes(len(data.scans[k].xyz), classes) for k in data.rows(split)}

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """See MetricAccumulator.add."""
        draws = self.task.data.draws[self.split]
        for row, index in enumerate(indices):
            votes = self.votes[draws[index].scan]
            votes.add(outputs["chosen"][row], outputs["probability"][row])

    def metrics(self) -> dict[str, float]:
        """Task.metrics of the points."""
        return self.task.metrics(self.split, self.outputs())

    def outputs(self) -> dict[str, np.ndarray]:
        """{"probability" [N, P], "target" [N]} of all points of the split, scan after scan."""
        targets = [self.task.data.targets[k] for k in self.votes]
        scans = self.task.data.scans
        means = [scans[k].points.answered(votes.mean()) for k, votes in self.votes.items()]
        return {"probability": np.concatenate(means), "target": np.concatenate(targets)}


def task_of_scans(config: PointcloudApp, state: PointcloudState, path: Path | None) -> SegmentTask:
    """The task of a finished run on its own scans, or on those at `path`, with the run's classes."""
    if state.data is None:
        raise UserError(
            "an imported model has no scans of its own; evaluate what was trained, or use label"
        )
    config = update(config, data={"allow_leakage": True})
    if path is None:
        return SegmentTask(prepare_scans(config, state.kept))
    config = update(config, data={"source": "scans", "root": str(path)})
    return SegmentTask(prepare_scans(config, alone=True))
