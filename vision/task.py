"""VisionTask: images in, classes, labels or numbers out. What the engine asks of this domain, in the order it asks.

B samples, N samples of a split, C channels, H x W pixels, K classes, labels or targets.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.baselines import Baseline
from isoform.core.config.state import DataRecord
from isoform.core.data import writers
from isoform.core.data.splits import ALONE
from isoform.core.domain import Figure, InitialWeights, LastLayer, Prepared, Task
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError, join_names
from isoform.core.supervised import bootstrap, class_weights
from isoform.core.supervised.config import resolve_loss_kind
from isoform.core.supervised.decision import (
    Decision,
    check_threshold,
    decision_metrics,
    describe_thresholds,
    learn_thresholds,
)
from isoform.core.supervised.metrics import sigmoid, softmax
from isoform.core.supervised.monitors import resolve_monitor
from isoform.core.supervised.rows import SHOWN_CLASSES, rows_of
from isoform.core.supervised.scaling import TargetScaling
from isoform.core.supervised.suspects import suspect_classes, suspect_labels
from isoform.vision import heads
from isoform.vision.baselines import baselines
from isoform.vision.config import VisionApp
from isoform.vision.data.dataset import preprocessing
from isoform.vision.data.kept import find_split, keep_split
from isoform.vision.data.mix import mix_batch
from isoform.vision.data.sources import other_data, read_records
from isoform.vision.data.transforms import Augment, Drawn, Preprocess
from isoform.vision.data.values import to_float
from isoform.vision.initial import adapt_weights, import_initial, initial_weights
from isoform.vision.losses import image_loss
from isoform.vision.metrics import score
from isoform.vision.models import build_model
from isoform.vision.prepare import VisionData, prepare_records, unscored
from isoform.vision.state import VisionState


class VisionTask(Task):
    """One vision app with its data."""

    items = "images"
    config: VisionApp

    def __init__(self, prepared: Prepared[VisionApp, VisionData]) -> None:
        self.config = config = prepared.config
        self.data = prepared.data.images
        self.imported = prepared.data.imported
        self.kind = config.data.task
        self.classes = self.data.classes
        self.preprocess = preprocessing(config)
        self.augment = Augment(config.augment, self.preprocess)
        val = self.data.targets[self.data.rows.get("val", [])]
        if "train" in self.data.rows:
            check_threshold(config.eval, self.kind, self.classes, val)
        self.decision = Decision.of(config.eval)  # of the best checkpoint, once it is known
        self.monitor, self.monitor_mode = resolve_monitor(config.train.monitor, self.kind, val)
        self.bf16_ok = self.kind != "regression"
        self.has_labels = self.kind != "regression"
        self.loss_kind = resolve_loss_kind(config.loss, self.kind)
        mean, std = config.data.target_mean or (0.0,), config.data.target_std or (1.0,)
        self.scaling = TargetScaling(mean, std).in_float32()
        self.class_weight = self._class_weight()
        self.sample_weight = self._sample_weight()
        self.notes = unscored(self.data)

    def sizes(self) -> dict[str, int]:
        """See Task.sizes."""
        return {split: len(rows) for split, rows in self.data.rows.items()}

    def build(self) -> nn.Module:
        """A fresh model. Raises UserError where the tables contradict each other."""
        return build_model(self.config)

    def sample_name(self, split: str, index: int) -> str:
        """The image's name."""
        return self.data.records.images.names[int(self.data.rows[split][index])]

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Drawn:
        """See Task.sample. Without pixels where the image lies in memory at the model's size: `collate` finds it there.

        That saves a copy of every image, and of the whole memory for each worker that would have to send it.
        """
        row = int(self.data.rows[split][index])
        resident = self.data.held.resident is not None
        if rng is None:
            return Drawn(row, None if resident else self.data.fitted(row))
        if self.config.augment.crop == "resized":
            return self.augment.draw(row, self.data.raw(row), rng)
        image = None if resident and not self.augment.needs_image else self.data.fitted(row)
        return self.augment.draw(row, image, rng)

    def collate(self, samples: Sequence[Drawn]) -> dict[str, Tensor]:
        """{"image" [B, C, H, W] normalised, "target" [B] or [B, K], "weight" [B] where samples have weights}.

        A missing target is -1 for a class and NaN for a label or a number.
        """
        rows = torch.tensor([sample.row for sample in samples])
        given = [sample.image for sample in samples if sample.image is not None]
        if given:
            image = torch.stack([to_float(one) for one in given])
        else:
            assert self.data.held.resident is not None
            image = to_float(self.data.held.resident[rows])
        batch = {
            "image": self.augment.finish(image, samples),
            "target": torch.from_numpy(self.data.targets[rows.numpy()]),
        }
        if self.sample_weight is not None:
            batch["weight"] = self.sample_weight[rows]
        return batch

    def batches(self, split: str, size: int, rng: np.random.Generator | None) -> list[list[int]]:
        """See Task.batches; with data.balanced, training samples are drawn so that all classes are equally likely."""
        if rng is None or not self.config.data.balanced:
            return super().batches(split, size, rng)
        target = self.data.targets[self.data.rows[split]]
        counts = np.bincount(target[target >= 0], minlength=len(self.classes))
        share = np.where(target >= 0, 1 / np.maximum(counts, 1)[target], 0)
        order = rng.choice(len(target), len(target), p=share / share.sum())
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]

    def mix(self, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """See data/mix.py."""
        classes = len(self.classes) if self.kind == "multiclass" else None
        return mix_batch(batch, self.config.augment, classes, rng)

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See Task.loss and losses.py; a missing target counts for nothing."""
        output, target = model(batch["image"]).float(), batch["target"]
        if self.kind == "regression":
            target = self.scaling.scale(target, torch.float32)
        if self.kind == "multihead":
            return heads.heads_loss(
                self.loss_kind,
                output,
                target,
                batch.get("weight"),
                self.classes,
                class_weight_K=self.class_weight,
                smoothing=self.config.loss.label_smoothing,
            )
        return image_loss(
            self.kind,
            self.loss_kind,
            output,
            target,
            batch.get("weight"),
            class_weight_K=self.class_weight,
            smoothing=self.config.loss.label_smoothing,
        )

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"logits" [B, K], or "prediction" [B, K] in the targets' own units; "target"}."""
        output = model(batch["image"]).float()
        if self.kind == "regression":
            return {
                "prediction": self.scaling.unscale(output, torch.float32),
                "target": batch["target"],
            }
        return {"logits": output, "target": batch["target"]}

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """See metrics.py; on test also how good the answers are, by the threshold of their probability."""
        guess, target = self.guess(outputs), outputs["target"]
        found = self.score(guess, target)
        if split == "test" and self.kind != "multihead":
            found |= decision_metrics(self.decision, self.kind, guess, target)
        return found

    def intervals(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float]]:
        """See core/supervised/bootstrap.py."""
        guess, target = self.guess(outputs), outputs["target"]
        if self.kind == "regression":
            found = bootstrap.of_numbers(guess, target, self.classes, self.scaling.std)
        elif self.kind == "multiclass":
            found = bootstrap.of_classes(guess, target, self.decision)
        elif self.kind == "multihead":
            found = heads.statistics(guess, target, self.classes)
        else:
            found = bootstrap.of_labels(self.kind, guess, target, self.classes, self.decision)
        return bootstrap.intervals(found, len(target))

    @property
    def calibrates(self) -> bool:
        """Where a rule is to choose the threshold."""
        return isinstance(self.config.eval.threshold, str)

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The thresholds that eval.threshold asks for; see core/supervised/decision.py."""
        guess, target = self.guess(outputs), outputs["target"]
        found = learn_thresholds(self.config.eval, self.kind, guess, target)
        self.decide_by(found)
        return found

    def decide_by(self, learned: Mapping[str, np.ndarray] | None) -> None:
        """Answers follow what validation taught (RunState.calibration); a note says so where a rule chose."""
        self.decision = Decision.of(self.config.eval, learned)
        rule = self.config.eval.threshold
        told = describe_thresholds(self.decision, rule, self.classes, self.kind)
        self.notes = (*self.notes, *told)

    def guess(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, K] numbers in the targets' own units, or probabilities of labels, or of classes (that sum to 1)."""
        if self.kind == "regression":
            return outputs["prediction"]
        if self.kind == "multihead":
            return heads.probabilities(outputs["logits"], self.classes)
        return (
            softmax(outputs["logits"]) if self.kind == "multiclass" else sigmoid(outputs["logits"])
        )

    def score(self, guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of a guess [N, K]; see metrics.py."""
        return score(self.kind, guess, target, self.classes, self.scaling.std)

    def groups(self, split: str) -> list[str | None] | None:
        """See Task.groups; an image whose cell of the group is empty has none."""
        group = self.data.records.group
        if group is None:
            return None
        names = (str(group[row]) for row in self.data.rows[split].tolist())
        return [None if name.startswith(ALONE) else name for name in names]

    def digests(self, split: str) -> np.ndarray | None:
        """See Task.digests and ImageData.digests."""
        return self.data.digests(split)

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit:
        """See data/kept.py."""
        data = self.data
        return keep_split(data.records, data.rows, data.contents(before))

    def initial_weights(self, source: str) -> InitialWeights:
        """See initial.py; a checkpoint is opened once for the model, its training and its baselines."""
        if self.imported is None:
            self.imported = import_initial(source)
        return initial_weights(self.imported, source)

    def adapt_weights(self, weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """See initial.py."""
        return adapt_weights(weights, model)

    def last_layer(self, model: nn.Module) -> LastLayer:
        """The head's linear layer. Raises UserError where a distillation token has one of its own."""
        vit: Any = model
        if vit.head.linear is None or vit.head.linear_distill is not None:
            raise UserError(
                "train.probe fits one linear layer, and this head has one for each of two tokens; leave it out, or set "
                "tokeniser.distill_token = false"
            )
        return LastLayer(vit.head.linear, lambda batch: vit.features(batch["image"]), "image")

    def baselines(self) -> Sequence[Baseline]:
        """See baselines.py, and probe.py for those of the trunk that a training starts from."""
        found = baselines(self.data, self.score)
        if self.config.train.init:
            from isoform.vision.probe import of_trunk

            found += of_trunk(self)
        return found

    def inference_state(self) -> VisionState:
        """Class names, preprocessing, target scale, and which data these were."""
        data = DataRecord(
            origin=self._origin,
            licence=self.data.records.licence,
            sha256=self.data.digest,
            sizes=self.sizes(),
            left_out=len(self.data.unreadable) + len(self.data.records.skipped),
        )
        return VisionState(
            kind=self.kind,
            classes=tuple(self.classes),
            preprocessing=self.preprocess,
            target_mean=self.scaling.mean,
            target_std=self.scaling.std,
            data=data,
        )

    @functools.cached_property
    def _origin(self) -> str:
        """Where the data came from; of a user's folder only its name, since a run folder travels."""
        origin = self.data.records.origin
        return Path(origin).name if Path(origin).exists() else origin

    def card(self) -> dict[str, str]:
        """See Task.card."""
        sizes = ", ".join(f"{count} {split}" for split, count in self.sizes().items())
        p = self.preprocess
        return {
            "data": f"{self._origin} ({sizes})",
            "licence of the data": self.data.records.licence,
            "SHA-256 of the data": self.data.digest,
            "classes": join_names(self.classes, SHOWN_CLASSES),
            "preprocessing": f"{p.size[0]} x {p.size[1]} pixels, {p.channels} channel(s), {p.resize} at "
            f"{p.crop_pct:g}, {p.interpolation}{_units(p)}, mean {list(p.mean)}, std {list(p.std)}",
        }

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.csv: input, target, prediction, ..."""
        guess = self.guess(outputs)
        if self.kind == "multihead":
            rows = heads.head_rows(self.classes, guess, decision=self.decision)
        else:
            rows = rows_of(self.kind, self.classes, guess, decision=self.decision)
        names = self.data.records.images.names
        for i, row in enumerate(rows):
            row["input"] = names[int(self.data.rows[split][i])]
            row |= self._target_cells(outputs["target"][i])
        path = folder / f"{stem}.csv"
        writers.write_rows(rows, path)
        return [path]

    def _target_cells(self, target: np.ndarray) -> dict[str, object]:
        """The true answer of a sample as a row shows it, nothing where it is missing."""
        if self.kind == "regression":
            return {
                f"target {name}": float(value)
                for name, value in zip(self.classes, target, strict=True)
            }
        if self.kind == "multiclass":
            return {"target": self.classes[int(target)] if target >= 0 else None}
        if self.kind == "multihead":
            return heads.target_cells(self.classes, target)
        named = list(zip(self.classes, target, strict=True))
        cells: dict[str, object] = {"target": "|".join(name for name, is_ in named if is_ > 0.5)}
        if self.data.records.unknown:
            cells["unknown"] = "|".join(name for name, is_ in named if np.isnan(is_))
        return cells

    def suspects(self, split: str, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """See Task.suspects."""
        finders = {"multiclass": suspect_classes, "multihead": heads.suspects}
        find = finders.get(self.kind, suspect_labels)
        names, rows = self.data.records.images.names, self.data.rows[split]
        return [
            {"sample": row["sample"], "input": names[int(rows[row["sample"]])], **row}
            for row in find(self.classes, self.guess(outputs), outputs["target"])
        ]

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See figures.py."""
        from isoform.vision.figures import figures

        return figures(self, model, outputs)

    def _class_weight(self) -> Tensor | None:
        """[K] of classes or of positive labels, counted on the training samples."""
        if self.config.data.class_weights == "none" or "train" not in self.data.rows:
            return None
        target = self.data.targets[self.data.rows["train"]]
        if self.kind == "multiclass":
            return class_weights.balanced_class_weights(target, len(self.classes))
        if self.kind == "multihead":
            return heads.balanced_weights(target, self.classes)
        return class_weights.positive_weights(target)

    def _sample_weight(self) -> Tensor | None:
        """Of every row, 1 on average over the training samples."""
        records = self.data.records
        if records.weight is None or "train" not in self.data.rows:
            return None
        return class_weights.normalise_sample_weights(
            records.weight, self.data.rows["train"], records.origin
        )


def _units(p: Preprocess) -> str:
    """What was done to the values, where it isn't the usual."""
    window = "" if p.window is None else f", values {p.window[0]:g} to {p.window[1]:g} as 0 to 1"
    return window if p.scale == "auto" else f", values divided by {p.scale:g}"


def task_from_run(config: VisionApp, state: VisionState, path: Path | None) -> VisionTask:
    """The task of a finished run, on its own split or on the data at `path`; classes and scales are the run's."""
    if path is not None:
        config = other_data(config, path)
    records = read_records(config.data)
    own = find_split(records, state.kept) if path is None and state.kept is not None else None
    prepared = prepare_records(config, records, own)
    task = VisionTask(prepared)
    task.decide_by(state.calibration)
    if path is not None:
        unnamed = config.data.classes is None and task.classes
        told = [_describe_order(task.classes)] if unnamed and state.kind == "multiclass" else []
        task.notes = (*prepared.lost, *told, *task.notes)
    return task


def _describe_order(classes: Sequence[str]) -> str:
    """Of an imported model, whose outputs are numbered: which class each of them is taken for."""
    order = join_names(f"{number} {name}" for number, name in enumerate(classes))
    return (
        f"this model's outputs have no names: they are taken for the classes of these data in order, {order}; where it "
        "learned them in another order its metrics are wrong"
    )
