"""PointcloudTask: clouds in, classes out, or masked patches drawn again. What the engine asks of this domain, in order.

B clouds, N points (padded), C channels, G patches, K classes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.baselines import Baseline
from isoform.core.data import writers
from isoform.core.data.splits import ALONE
from isoform.core.domain import Figure, LastLayer, Prepared
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError
from isoform.core.supervised import bootstrap
from isoform.core.supervised.class_weights import balanced_class_weights
from isoform.core.supervised.config import LabelledEval
from isoform.core.supervised.conformal import Calibration, calibrate
from isoform.core.supervised.decision import (
    Decision,
    check_threshold,
    decision_metrics,
    describe_thresholds,
    learn_thresholds,
)
from isoform.core.supervised.metrics import multiclass_metrics, softmax
from isoform.core.supervised.monitors import resolve_monitor
from isoform.core.supervised.rows import rows_of
from isoform.core.supervised.suspects import suspect_classes
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.dataset import sizes_of
from isoform.pointcloud.data.kept import keep_split
from isoform.pointcloud.data.transforms import draw_points
from isoform.pointcloud.losses import cloud_loss, drawn_distances, reconstruction_loss
from isoform.pointcloud.masks import mask_of
from isoform.pointcloud.point_task import (
    PointTask,
    Provenance,
    augment_of,
    refuse_other_loss,
)
from isoform.pointcloud.pointmae.model import Drawn, PointClassifier, PointMae
from isoform.pointcloud.pointmae.patches import cut_into_patches
from isoform.pointcloud.prepare import PointcloudData, other_data, prepare, update
from isoform.pointcloud.state import PointcloudState


class Sample(NamedTuple):
    """A cloud [N, C], its row of the data, and [G] from which its mask is made (pretraining)."""

    points: np.ndarray
    row: int
    noise: np.ndarray | None


class PointcloudTask(PointTask):
    """One point cloud app with its data."""

    items = "clouds"
    config: PointcloudApp

    def __init__(self, prepared: Prepared[PointcloudApp, PointcloudData]) -> None:
        self.config = config = prepared.config
        self.data = prepared.data.clouds
        self.pretrains = config.model.kind == "pretrain"
        self.classes = list(self.data.classes)
        self.monitor, self.monitor_mode = self._monitor()
        self.decision = Decision.of(config.eval)  # of the best checkpoint, once it is known
        self.bf16_ok = self.has_labels = not self.pretrains
        if not self.pretrains:
            refuse_other_loss(config, "classes of clouds")
        self.augment = augment_of(config)
        self.calibration: Calibration | None = None
        self.class_weight = self._class_weight()

    def _monitor(self) -> tuple[str, str]:
        """The metric that chooses the checkpoint; raises UserError for one that the task lacks."""
        train, config = self.config.train, self.config.eval
        if self.pretrains:
            if train.monitor not in (None, "loss") or config.threshold != LabelledEval().threshold:
                raise UserError(
                    "train.monitor and eval.threshold: a pretraining is judged by its loss; leave them out"
                )
            return "loss", "min"
        val = self.data.targets[self.data.rows.get("val", [])]
        if "train" in self.data.rows:
            check_threshold(config, "multiclass", self.classes, val)
        return resolve_monitor(train.monitor, "multiclass", val)

    def sizes(self) -> dict[str, int]:
        """See Task.sizes."""
        return sizes_of(self.data.rows)

    def groups(self, split: str) -> list[str | None] | None:
        """See Task.groups; of a table's column. A cloud whose cell is empty has none."""
        group = self.data.records.group
        if group is None or self.pretrains:
            return None
        names = (str(group[row]) for row in self.data.rows[split].tolist())
        return [None if name.startswith(ALONE) else name for name in names]

    def sample_name(self, split: str, index: int) -> str:
        """The cloud's name."""
        return self.data.records.clouds.names[int(self.data.rows[split][index])]

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Sample:
        """Training draws the points of a larger cloud and changes it; an evaluation sees the same points every time."""
        row = int(self.data.rows[split][index])
        if rng is None:
            points = self.data.evaluated(row)
            draws = np.random.default_rng([row, 1])  # masks of an evaluation are always the same
        else:
            points, draws = self.data.cloud(row), rng
            if len(points) > self.config.data.points:
                points = points[draw_points(points, self.config.data.points, "random", rng)]
            points = self.augment(points, rng)
        if not self.pretrains:
            return Sample(points, row, None)
        groups = self.config.tokeniser.groups
        if len(points) < groups:  # every cloud has as many patches as every other
            points = points[draw_points(points, groups, "farthest")]
        return Sample(points, row, draws.random(groups, dtype=np.float32))

    def collate(self, samples: Sequence[Sample]) -> dict[str, Tensor]:
        """{"points" [B, N, C], padded, "lengths" [B]; "target" [B], -1 = missing, or "noise" [B, G] of the masks}."""
        batch = pad([sample.points for sample in samples])
        if self.pretrains:
            noise = [sample.noise for sample in samples if sample.noise is not None]
            return {**batch, "noise": torch.from_numpy(np.stack(noise))}
        rows = [sample.row for sample in samples]
        return {**batch, "target": torch.from_numpy(self.data.targets[rows])}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See losses.py."""
        if self.pretrains:
            drawn = self._draw(model, batch)
            return {"loss": reconstruction_loss(drawn, self.config.loss.chamfer)}
        output = self._logits(model, batch)
        smoothing = self.config.loss.label_smoothing
        loss = cloud_loss(output, batch["target"], smoothing, self.class_weight)
        return {"loss": loss}

    def _draw(self, model: nn.Module, batch: dict[str, Tensor]) -> Drawn:
        assert isinstance(model, PointMae)
        patches = cut_into_patches(batch["points"], self.config.tokeniser, batch["lengths"])
        mask = mask_of(self.config.mask, batch["noise"], patches.centres)
        return model.draw_masked(patches, mask)

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"logits" [B, K], "target"}; of pretraining {"distance" [B]}, of each cloud's hidden patches."""
        if self.pretrains:
            return {"distance": drawn_distances(self._draw(model, batch), self.config.loss.chamfer)}
        return {"logits": self._logits(model, batch), "target": batch["target"]}

    def _logits(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """[B, K] of the model, or of its last layer alone, which reads features in the points' place."""
        points = batch["points"]
        features = points.ndim == 2
        output: Tensor = model(points) if features else model(points, batch["lengths"])
        return output.float()

    def last_layer(self, model: nn.Module) -> LastLayer:
        """The head's, where it is its only one. Raises UserError where there are others, and for a pretraining."""
        if self.pretrains:
            return super().last_layer(model)
        classifier = cast(PointClassifier, model)
        last = classifier.head.out
        if len(classifier.head.hidden) or not isinstance(last, nn.Linear):
            raise UserError(
                "train.probe fits one linear layer, and this head has others in front of it: set head.widths = []"
            )
        return LastLayer(
            last,
            lambda batch: classifier.features(batch["points"], batch["lengths"]),
            "points",
        )

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Of classes those of core; of pretraining "loss", the mean distance of hidden patches."""
        if self.pretrains:
            return {"loss": float(outputs["distance"].mean())}
        guess, target = self.guess(outputs), outputs["target"]
        found = self.score(guess, target)
        if split == "test":
            found |= decision_metrics(self.decision, "multiclass", guess, target)
        if self.calibration is not None and split == "test":
            found |= self.calibration.coverage(guess, target)
        return found

    def intervals(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float]]:
        """See core/supervised/bootstrap.py."""
        if self.pretrains:
            return {}
        guess, target = self.guess(outputs), outputs["target"]
        return bootstrap.intervals(bootstrap.of_classes(guess, target, self.decision), len(target))

    def guess(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, K] probabilities."""
        return softmax(outputs["logits"])

    def score(self, guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of probabilities [N, K]."""
        return multiclass_metrics(guess, target)

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Conformal sets of classes and the threshold, from the validation clouds; see core/supervised."""
        guess, target = self.guess(outputs), outputs["target"]
        found = calibrate("multiclass", guess, target)
        found |= learn_thresholds(self.config.eval, "multiclass", guess, target)
        self.decide_by(found)
        return found

    @property
    def calibrates(self) -> bool:
        """Classes alone have sets and thresholds."""
        return not self.pretrains

    def decide_by(self, learned: Mapping[str, np.ndarray] | None) -> None:
        """Answers follow what validation taught (RunState.calibration); a note says so where a rule chose."""
        self.calibration = Calibration.of(learned) if learned and "levels" in learned else None
        self.decision = Decision.of(self.config.eval, learned)
        rule = self.config.eval.threshold
        told = describe_thresholds(self.decision, rule, self.classes, "multiclass")
        self.notes = (*self.notes, *told)

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit:
        """See data/kept.py."""
        return keep_split(self.data)

    def digests(self, split: str) -> np.ndarray | None:
        """See Task.digests: of the coordinates as they were read."""
        return self.data.digests_N[self.data.rows[split]][:, None]

    def baselines(self) -> Sequence[Baseline]:
        """See baselines.py."""
        from isoform.pointcloud.baselines import baselines

        return baselines(self)

    def inference_state(self) -> PointcloudState:
        """See PointTask.inference_state; and the points of the smallest training cloud."""
        train = self.data.rows.get("train", np.zeros(0, np.int64))
        least = min((len(self.data.cloud(int(row))) for row in train), default=None)
        return super().inference_state().model_copy(update={"least_points": least})

    def provenance(self) -> Provenance:
        """See PointTask.provenance."""
        records = self.data.records
        left_out = len(self.data.unreadable) + len(records.skipped)
        return Provenance(records.origin, records.licence, self.data.digest, left_out)

    def preprocessing(self) -> str:
        """See PointTask.preprocessing."""
        c = self.config.data
        return f"at most {c.points} points, {c.draw}; scale {c.scale}"

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.csv: input, and target, prediction, ... or the distance of the hidden patches."""
        names = self.data.records.clouds.names
        rows: list[dict[str, Any]] = [{"input": names[int(r)]} for r in self.data.rows[split]]
        if self.pretrains:
            for row, distance in zip(rows, outputs["distance"], strict=True):
                row["distance"] = float(distance)
        else:
            made = rows_of(
                "multiclass",
                self.classes,
                self.guess(outputs),
                self.calibration,
                decision=self.decision,
            )
            for row, target, answer in zip(rows, outputs["target"], made, strict=True):
                row["target"] = self.classes[int(target)] if target >= 0 else ""
                row |= answer
        path = folder / f"{stem}.csv"
        writers.write_rows(rows, path)
        return [path]

    def suspects(self, split: str, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """See Task.suspects."""
        names, rows = self.data.records.clouds.names, self.data.rows[split]
        return [
            {"sample": row["sample"], "input": names[int(rows[row["sample"]])], **row}
            for row in suspect_classes(self.classes, self.guess(outputs), outputs["target"])
        ]

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See figures.py."""
        from isoform.pointcloud.figures import figures

        return figures(self, model, outputs)

    def _class_weight(self) -> Tensor | None:
        if self.config.data.class_weights == "none" or "train" not in self.data.rows:
            return None
        return balanced_class_weights(self.data.targets[self.data.rows["train"]], len(self.classes))


def pad(clouds: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """{"points" [B, N, C] with zeros behind each cloud's last, "lengths" [B]}."""
    lengths = torch.tensor([len(cloud) for cloud in clouds])
    points = torch.zeros(len(clouds), int(lengths.max()), clouds[0].shape[1])
    for b, cloud in enumerate(clouds):
        points[b, : len(cloud)] = torch.from_numpy(np.ascontiguousarray(cloud, np.float32))
    return {"points": points, "lengths": lengths}


def task_from_run(
    config: PointcloudApp, state: PointcloudState, path: Path | None
) -> PointcloudTask:
    """The task of a finished run on its own clouds, or on those at `path`, with the run's classes."""
    if state.data is None:
        raise UserError(
            "an imported model has no clouds of its own; evaluate what was trained, or use predict"
        )
    # What check and training say of leakage was said then.
    config = update(config, data={"allow_leakage": True})
    if path is None:
        task = PointcloudTask(prepare(config, state.kept))
    else:
        task = PointcloudTask(prepare(other_data(config, str(path))))
    if not task.pretrains:
        task.decide_by(state.calibration)
    return task
