"""VisionTask: images in, classes, labels or numbers out. What the engine asks of this domain, in the order it asks.

B samples, C channels, H x W pixels, K classes, labels or targets.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from isoform.core.config.state import DataRecord
from isoform.core.data import writers
from isoform.core.domain import Figure, InitialWeights, Prepared, Task
from isoform.core.errors import UserError
from isoform.core.supervised.metrics import multiclass_metrics, sigmoid, softmax
from isoform.vision.baselines import baselines
from isoform.vision.config import VisionApp
from isoform.vision.data.dataset import preprocessing
from isoform.vision.data.sources import other_data
from isoform.vision.data.transforms import Augment, Drawn, to_float
from isoform.vision.initial import adapt_weights, import_initial, initial_weights
from isoform.vision.metrics import multilabel_metrics, regression_metrics
from isoform.vision.models import build_model
from isoform.vision.predictor import SHOWN_CLASSES, rows_of
from isoform.vision.prepare import VisionData, prepare
from isoform.vision.state import VisionState


class VisionTask(Task):
    """One vision app with its data."""

    def __init__(self, prepared: Prepared[VisionApp, VisionData]) -> None:
        self.config: VisionApp = prepared.config
        self.data = prepared.data.images
        self.imported = prepared.data.imported
        self.kind = self.config.head.task
        self.classes = self.data.classes
        self.preprocess = preprocessing(self.config)
        self.augment = Augment(self.config.augment, self.preprocess)
        self.monitor, self.monitor_mode = {
            "multiclass": ("top1", "max"), "multilabel": ("average_precision", "max"), "regression": ("rmse", "min"),
        }[self.kind]  # fmt: skip
        self.bf16_ok = self.kind != "regression"
        targets = self.config.data
        self.target_mean = torch.tensor(targets.target_mean or (0.0,))
        self.target_std = torch.tensor(targets.target_std or (1.0,))
        self.class_weight = self._class_weight()
        self.sample_weight = self._sample_weight()

    def sizes(self) -> dict[str, int]:
        """See Task.sizes."""
        return {split: len(rows) for split, rows in self.data.rows.items()}

    def build(self) -> nn.Module:
        """A fresh model. Raises UserError where the tables contradict each other."""
        return build_model(self.config)

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
        """{"image" [B, C, H, W] normalised, "target" [B] or [B, K], "weight" [B] where samples have weights}."""
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
        if self.kind != "multiclass":
            raise UserError("data.balanced = true needs one class an image (head.task = multiclass)")
        target = self.data.targets[self.data.rows[split]]
        share = 1 / np.bincount(target, minlength=len(self.classes))[target]
        order = rng.choice(len(target), len(target), p=share / share.sum())
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]

    def mix(self, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Mixup (Zhang et al. 2018) or cutmix (Yun et al. 2019) of each sample with another one of the batch."""
        train, a = self.config.train, self.config.augment
        if not (train.mixup or train.cutmix) or rng.random() >= train.mix_probability:
            return batch
        cut = bool(train.cutmix) and (not train.mixup or rng.random() < a.mix_switch)
        alpha = train.cutmix if cut else train.mixup
        share = float(rng.beta(alpha, alpha))
        other = torch.from_numpy(rng.permutation(len(batch["image"])))
        image, target = batch["image"], batch["target"]
        if cut:
            height, width = image.shape[2:]
            side = (1 - share) ** 0.5
            y, x = rng.random() * height, rng.random() * width
            top, bottom = (int(np.clip(y + s * side * height / 2, 0, height)) for s in (-1, 1))
            left, right = (int(np.clip(x + s * side * width / 2, 0, width)) for s in (-1, 1))
            image = image.clone()
            image[:, :, top:bottom, left:right] = batch["image"][other, :, top:bottom, left:right]
            share = 1 - (bottom - top) * (right - left) / (height * width)  # what is left after clipping at the border
        else:
            image = image * share + image[other] * (1 - share)
        if self.kind == "multiclass":
            target = F.one_hot(target, len(self.classes)).float()
        mixed = {**batch, "image": image, "target": target * share + target[other] * (1 - share)}
        if "weight" in batch:
            mixed["weight"] = batch["weight"] * share + batch["weight"][other] * (1 - share)
        return mixed

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """See Task.loss; "top1" is the share of training images guessed right, where each has one class."""
        output, target = model(batch["image"]).float(), batch["target"]
        loss_B = {"multiclass": self._class_loss, "multilabel": self._label_loss, "regression": self._target_loss}[
            self.kind
        ](output, target)
        if "weight" in batch:
            loss_B = loss_B * batch["weight"]
        found = {"loss": loss_B.mean()}
        if target.dim() == 1:
            found["top1"] = (output.argmax(1) == target).float().mean()
        return found

    def _class_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        smoothing, weight = self.config.train.label_smoothing, self._on(self.class_weight, logits)
        if self.config.loss.multiclass == "cross_entropy":
            return F.cross_entropy(logits, target, weight=weight, label_smoothing=smoothing, reduction="none")
        if target.dim() == 1:
            target = F.one_hot(target, logits.shape[1]).float()
        soft = target * (1 - smoothing) + smoothing / logits.shape[1]
        loss = F.binary_cross_entropy_with_logits(logits, soft, reduction="none").mean(1)
        return loss if weight is None else loss * (target * weight).sum(1)

    def _label_loss(self, logits: Tensor, target: Tensor) -> Tensor:
        smoothing = self.config.train.label_smoothing
        soft = target * (1 - smoothing) + smoothing / 2
        weight = self._on(self.class_weight, logits)
        return F.binary_cross_entropy_with_logits(logits, soft, pos_weight=weight, reduction="none").mean(1)

    def _target_loss(self, output: Tensor, target: Tensor) -> Tensor:
        scaled = (target - self.target_mean.to(target)) / self.target_std.to(target)
        measure = {"mse": F.mse_loss, "l1": F.l1_loss, "smooth_l1": F.smooth_l1_loss}[self.config.loss.regression]
        return measure(output, scaled, reduction="none").mean(1)

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"logits" [B, K], or "prediction" [B, K] in the targets' own units; "target"}."""
        output = model(batch["image"]).float()
        if self.kind == "regression":
            output = output * self.target_std.to(output) + self.target_mean.to(output)
            return {"prediction": output, "target": batch["target"]}
        return {"logits": output, "target": batch["target"]}

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """See Task.metrics, and metrics.py for what each name means."""
        guess = outputs["prediction"] if self.kind == "regression" else self.probability(outputs)
        return self.score(guess, outputs["target"])

    def score(self, guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of probabilities [N, K] or predicted targets."""
        if self.kind == "regression":
            return regression_metrics(guess, target, self.classes, self.target_std.tolist())
        return multiclass_metrics(guess, target) if self.kind == "multiclass" else multilabel_metrics(guess, target)

    def probability(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, K] probabilities of classes (that sum to 1) or of labels."""
        return softmax(outputs["logits"]) if self.kind == "multiclass" else sigmoid(outputs["logits"])

    def initial_weights(self, source: str) -> InitialWeights:
        """See initial.py; a checkpoint is opened once for the model, its training and its baselines."""
        if self.imported is None:
            self.imported = import_initial(source)
        return initial_weights(self.imported, source)

    def adapt_weights(self, weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
        """See initial.py."""
        return adapt_weights(weights, model)

    def baselines(self) -> dict[str, dict[str, dict[str, float]]]:
        """See baselines.py."""
        found = baselines(self.data, self.score)
        if self.config.train.init:
            from isoform.vision.probe import of_trunk

            found |= of_trunk(self)
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
            target_mean=tuple(self.target_mean.tolist()),
            target_std=tuple(self.target_std.tolist()),
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
            "classes": ", ".join(self.classes[:SHOWN_CLASSES]) + (", ..." if len(self.classes) > SHOWN_CLASSES else ""),
            "preprocessing": f"{p.size[0]} x {p.size[1]} pixels, {p.channels} channel(s), {p.resize} at "
            f"{p.crop_pct:g}, {p.interpolation}, mean {list(p.mean)}, std {list(p.std)}",
        }

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.csv: input, target, prediction, ..."""
        names = self.data.records.images.names
        rows = rows_of(self.kind, self.classes, outputs if self.kind == "regression" else self.probability(outputs))
        targets = outputs["target"]
        for i, row in enumerate(rows):
            row["input"] = names[int(self.data.rows[split][i])]
            if self.kind == "regression":
                row |= {f"target {name}": float(targets[i, k]) for k, name in enumerate(self.classes)}
            elif self.kind == "multiclass":
                row["target"] = self.classes[int(targets[i])]
            else:
                row["target"] = "|".join(name for k, name in enumerate(self.classes) if targets[i, k] > 0.5)
        path = folder / f"{stem}.csv"
        writers.write_rows(rows, path)
        return [path]

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See figures.py."""
        from isoform.vision.figures import figures

        return figures(self, model, outputs)

    def _class_weight(self) -> Tensor | None:
        """[K] balanced: in proportion to one over the class's share, 1 on average over the training samples."""
        if self.config.data.class_weights == "none" or "train" not in self.data.rows:
            return None
        target = self.data.targets[self.data.rows["train"]]
        if self.kind == "multiclass":
            counts = np.bincount(target, minlength=len(self.classes))
            weight = len(target) / (np.maximum(counts, 1) * (counts > 0).sum())
        elif self.kind == "multilabel":
            positive = target.sum(0)
            weight = np.clip((len(target) - positive) / np.maximum(positive, 1), 0.01, 100)
        else:
            raise UserError('data.class_weights = "balanced" needs classes; this app predicts numbers')
        return torch.from_numpy(weight.astype(np.float32))

    def _sample_weight(self) -> Tensor | None:
        """Of every row, 1 on average over the training samples."""
        weight = self.data.records.weight
        if weight is None or "train" not in self.data.rows:
            return None
        mean = weight[self.data.rows["train"]].mean()
        if mean == 0:
            raise UserError(f"{self.data.records.origin}: all training samples have weight 0")
        return torch.from_numpy((weight / mean).astype(np.float32))

    @staticmethod
    def _on(weight: Tensor | None, like: Tensor) -> Tensor | None:
        return None if weight is None else weight.to(like)


def task_from_run(config: VisionApp, path: Path | None) -> VisionTask:
    """The task of a finished run, on its own data or on those at `path`; classes and scales are the run's."""
    return VisionTask(prepare(config if path is None else other_data(config, path)))
