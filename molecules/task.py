"""MoleculesTask: molecules in, numbers or classes out. What the engine asks of this domain, in the order it asks.

B molecules, N atoms (padded), K targets or classes, F descriptors.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from isoform.core.config.schema import AppConfig
from isoform.core.data import writers
from isoform.core.domain import Figure, InitialWeights, Task
from isoform.core.errors import UserError
from isoform.core.supervised.metrics import sigmoid, softmax
from isoform.molecules.config import MoleculesApp
from isoform.molecules.conformal import Calibration, calibrate
from isoform.molecules.data.buckets import batches
from isoform.molecules.data.collate import FIRST_ATOM_ID, collate, flip_signs
from isoform.molecules.data.dataset import MoleculeData, data_of, other_data
from isoform.molecules.data.descriptors import Normaliser, descriptors
from isoform.molecules.data.graphs import COLUMN, GraphStore
from isoform.molecules.losses import Scaling, class_loss, flag, label_loss
from isoform.molecules.metrics import score
from isoform.molecules.models import build_model
from isoform.molecules.settle import settle

MOST_TRAINING = 20_000  # training molecules that a run remembers, for the nearest one of a prediction


class MoleculesTask(Task):
    """One molecules app with its data."""

    augments = False  # what is random (signs of eigenvectors, FLAG) is drawn a batch at a time

    def __init__(self, config: AppConfig, data: MoleculeData | None = None, normaliser: Normaliser | None = None):
        assert isinstance(config, MoleculesApp)
        self.config: MoleculesApp = settle(config)[0]
        self.data = data_of(self.config) if data is None else data
        self.kind, self.scaling = self.data.kind, self.data.scaling
        self.calibration: Calibration | None = None  # of the best checkpoint, once it is known
        check_ids(self.config, self.data.store)
        self.normaliser = normaliser
        self.described = self._described() if self.config.head.descriptors else None
        self.weights = self._label_weights() if self.config.loss.balance else None
        self.monitor, self.monitor_mode = self._monitor()

    def _monitor(self) -> tuple[str, str]:
        """One target by its own error, several by their scaled one; of classes, what their benchmarks are judged by."""
        if self.kind == "regression":
            if len(self.data.names) > 1:
                return "loss", "min"
            return ("rmse" if self.config.loss.regression == "mse" else "mae"), "min"
        if self.kind == "multiclass":
            return "top1", "max"
        labels = self.data.targets("val") if "val" in self.data.rows else np.zeros((0, 1))
        both = any(0 < np.nanmean(column) < 1 for column in labels.T if np.isfinite(column).any())
        return ("roc_auc", "max") if both else ("loss", "min")

    def _described(self) -> Tensor:
        """float32 [n, F] normalised descriptors of all molecules, by the training molecules' range."""
        if not self.data.has_smiles:
            raise UserError(
                f"{self.data.molecules.origin} comes as graphs without SMILES, which have no descriptors: set "
                "head.descriptors = false"
            )
        values = descriptors(self.data.molecules.smiles, self.config.data.cache)
        if self.normaliser is None:
            self.normaliser = Normaliser.fitted(values[self.data.rows["train"]])
        return torch.from_numpy(self.normaliser(values))

    def _label_weights(self) -> Tensor | None:
        """[K, 2] weights of negative and positive labels, or [C] of classes; their mean over training is 1."""
        if self.kind == "regression" or "train" not in self.data.rows:
            return None
        labels = self.data.targets("train")
        if self.kind == "multiclass":
            counts = np.bincount(labels[labels >= 0], minlength=len(self.data.names))[None]
        else:
            counts = np.stack([np.nansum(labels == value, 0) for value in (0, 1)], 1)
        there = np.maximum(counts, 1)
        weights = counts.sum(1, keepdims=True) / (there * np.maximum((counts > 0).sum(1, keepdims=True), 1))
        return torch.from_numpy(
            weights.astype(np.float32)[0] if self.kind == "multiclass" else weights.astype(np.float32)
        )

    def sizes(self) -> dict[str, int]:
        """Molecules of each split. See Task.sizes."""
        return self.data.sizes()

    def build(self) -> nn.Module:
        """A fresh model. Raises UserError where the tables contradict each other."""
        return make_model(self.config, len(self.data.names), {}, self._extra)

    @property
    def _extra(self) -> int:
        return 0 if self.described is None else self.described.shape[1]

    def batches(self, split: str, size: int, rng: np.random.Generator | None) -> list[list[int]]:
        """Molecules of like size together; see buckets.py."""
        return batches(self.data.store.sizes[self.data.rows[split]], size, rng)

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> int:
        """The molecule's row; its graph is read with the whole batch, in one go."""
        return int(self.data.rows[split][index])

    def collate(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """What the model reads (data/collate.py), "descriptors" [B, F], and the labels.

        "target"  [B, K] float64 in the data's units, NaN = missing; or [B] int64 classes, -1 = missing
        "scaled"  [B, K] float32 what a regression learns
        "weight"  [B] where molecules have weights
        """
        rows = np.asarray(samples, np.int64)
        gt = self.config.model.family == "gt"
        batch = collate(self.data.store, rows, hf_compat=self.config.tokeniser.hf_compat, compact=True, bonds=gt)
        batch["target"] = torch.from_numpy(self.data.labels[rows])
        if self.kind == "regression":
            batch["scaled"] = self.scaling.scaled(batch["target"]).float()
        if self.described is not None:
            batch["descriptors"] = self.described[torch.from_numpy(rows)]
        if self.data.molecules.weight is not None:
            batch["weight"] = torch.from_numpy(np.asarray(self.data.molecules.weight)[rows]).float()
        return batch

    def mix(self, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Laplacian eigenvectors have no sign of their own: it is drawn anew for every training batch."""
        return flip_signs(batch, rng) if "laplacian" in batch else batch

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See losses.py; missing labels count nothing."""
        output: Tensor = model(batch).float()
        weight = batch.get("weight")
        if self.kind == "regression":
            return {"loss": label_loss(self.config.loss.regression, output, batch["scaled"], weight)}
        target = batch["target"]
        if self.kind == "multiclass":
            weight = _times(weight, None if self.weights is None else self.weights.to(output)[target.clamp(min=0)])
            return {"loss": class_loss(output, target, weight, smoothing=self.config.train.label_smoothing)}
        rare = None
        if self.weights is not None:
            low_K, high_K = self.weights.to(output).unbind(1)
            rare = torch.where(target > 0.5, high_K, low_K)
        return {"loss": label_loss("bce", output, target.float(), _times(weight, rare))}

    def passes(self, model: nn.Module, batch: dict[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """One loss, or FLAG's several over perturbed atoms."""
        asked = self.config.loss
        if not asked.flag_steps:
            yield self.loss(model, batch)
            return
        loss = functools.partial(self.loss, model)
        yield from flag(loss, batch, self.config.backbone.dim, steps=asked.flag_steps, size=asked.flag_size)

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"prediction" [B, K] in the targets' units, or "logits" [B, K]; "target"; "atoms" [B]}."""
        output: Tensor = model(batch).float()
        found = {"target": batch["target"], "atoms": batch["valid"].sum(1)}
        if self.kind == "regression":
            return {"prediction": self.scaling.units(output), **found}
        return {"logits": output, **found}

    def probability(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, K] probabilities of classes (that sum to 1) or of labels."""
        return softmax(outputs["logits"]) if self.kind == "multiclass" else sigmoid(outputs["logits"])

    def guess(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, K] predictions in the targets' units, or probabilities."""
        return outputs["prediction"] if self.kind == "regression" else self.probability(outputs)

    def score(self, guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of what `guess` gives; see metrics.py."""
        return score_of(self.data, guess, target)

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """See metrics.py; on test, how many labels the intervals hold, too."""
        found = self.score(self.guess(outputs), outputs["target"])
        if self.calibration is not None and split == "test":
            found |= self.calibration.coverage(self.guess(outputs), outputs["target"])
        return found

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Conformal intervals or sets from the validation molecules; see conformal.py."""
        found = calibrate(self.kind, self.guess(outputs), outputs["target"])
        self.calibration = Calibration.of(found) if found else None
        return found

    def initial_weights(self, source: str) -> InitialWeights:
        """A run folder, a file in isoform's names, or whatever `isoform molecules import` reads."""
        from isoform.core.engine import warm_start
        from isoform.molecules.graphormer.pretrained import initial_weights

        return warm_start.read_own(source) or initial_weights(source, self.config)

    def baselines(self) -> dict[str, dict[str, dict[str, float]]]:
        """See baselines.py; fitted once for all seeds of a training."""
        return _baselines(self.data)

    def portable(self) -> dict[str, Any]:
        """Targets, units, scale and kinds of bonds: what predicting elsewhere needs."""
        data = self.data
        found: dict[str, Any] = {
            "kind": self.kind,
            "names": list(data.names),
            "units": list(data.units),
            "scaling": {"mean": list(self.scaling.mean), "std": list(self.scaling.std)},
            "kinds": data.store.kinds.tolist(),
            "training": self._training_smiles(),
            "data": {
                "origin": self._origin, "licence": data.molecules.licence, "sha256": data.digest,
                "sizes": self.sizes(), "left_out": len(data.skipped),
            },
        }  # fmt: skip
        if self.normaliser is not None:
            found["descriptors"] = self.normaliser.to_json()
        return found

    def _training_smiles(self) -> list[str]:
        if not self.data.has_smiles or "train" not in self.data.rows:
            return []
        rows = self.data.rows["train"]
        some = rows[np.linspace(0, len(rows) - 1, min(len(rows), MOST_TRAINING)).astype(int)]
        texts = self.data.molecules.keys or self.data.molecules.smiles
        return [texts[row] for row in some.tolist()]

    @functools.cached_property
    def _origin(self) -> str:
        """Where the data came from; of a user's file only its name, since a run folder travels."""
        origin = self.data.molecules.origin
        return Path(origin).name if Path(origin).exists() else origin

    def card(self) -> dict[str, str]:
        """See Task.card."""
        data, config = self.data, self.config.data
        sizes = ", ".join(f"{count} {split}" for split, count in self.sizes().items())
        units = [f"{name} [{unit}]" if unit else name for name, unit in zip(data.names, data.units, strict=False)]
        cleaned = [key for key in ("fragment", "neutralise", "tautomer", "canonical") if getattr(config, key)]
        return {
            "data": f"{self._origin} ({sizes}; {config.split} split, {len(data.skipped)} left out)",
            "licence of the data": data.molecules.licence,
            "SHA-256 of the data": data.digest,
            "targets": ", ".join((units or list(data.names))[:20]) + (", ..." if len(data.names) > 20 else ""),
            "preprocessing": ", ".join(cleaned) or "none",
        }

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.csv: input (its name), smiles, target, prediction, ..."""
        from isoform.molecules.predictor import rows_of

        made = rows_of(self.kind, self.data.names, self.guess(outputs), self.calibration)
        molecules, target = self.data.molecules, outputs["target"]
        rows = []
        for i, (at, row) in enumerate(zip(self.data.rows[split].tolist(), made, strict=True)):
            known: dict[str, Any] = {"input": molecules.names[at]}
            if self.data.has_smiles:
                known["smiles"] = molecules.smiles[at]
            if self.kind == "multiclass":
                known["target"] = self.data.names[int(target[i])] if target[i] >= 0 else ""
            elif len(self.data.names) == 1:
                known["target"] = _cell(target[i, 0])
            else:
                known |= {f"target {name}": _cell(target[i, k]) for k, name in enumerate(self.data.names)}
            rows.append({**known, **row})
        path = folder / f"{stem}.csv"
        writers.write_rows(rows, path)
        return [path]

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See figures.py."""
        from isoform.molecules.figures import figures

        return figures(self, model, outputs)


def score_of(data: MoleculeData, guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
    """Metrics of predictions [N, K] in the targets' units, or of probabilities, of these data; see metrics.py."""
    return score(data.kind, guess, target, data.names, data.scaling.std)


@functools.lru_cache(maxsize=1)
def _baselines(data: MoleculeData) -> dict[str, dict[str, dict[str, float]]]:
    from isoform.molecules.baselines import baselines

    return baselines(data, functools.partial(score_of, data))


def check_ids(config: MoleculesApp, store: GraphStore) -> None:
    """Raises UserError where a molecule has a feature that the model's tables have no row for."""
    hf = int(config.tokeniser.hf_compat)
    needed = {"tokeniser.atom_ids": FIRST_ATOM_ID + hf + _highest(store.graphs.atoms)}
    bonds = "tokeniser.bond_ids" if config.model.family == "gt" else "score.bond_ids"
    needed[bonds] = 3 + _highest(store.graphs.bonds)
    for key, highest in needed.items():
        table, name = key.split(".")
        rows = getattr(getattr(config, table), name)
        if rows is not None and highest >= rows:
            raise UserError(f"{key} = {rows}: the features of these molecules need {highest + 1} rows; set it to that")


def _highest(features: np.ndarray) -> int:
    """The largest of `COLUMN * column + value`."""
    if not len(features):
        return 0
    return int((features.max(0) + COLUMN * np.arange(features.shape[1])).max())


def _times(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    """The product of weights of molecules [B] and weights of their labels [B] or [B, K]; either may be none."""
    if a is None or b is None:
        return b if a is None else a
    return a.view(-1, *[1] * (b.dim() - 1)) * b


def _cell(value: float) -> float | str:
    return float(value) if np.isfinite(value) else ""


def make_model(config: MoleculesApp, outputs: int, source: Mapping[str, Any], descriptors: int = 0) -> nn.Module:
    """A fresh model; `source` is portable()["source"] of an imported one.

    Raises UserError where the tables contradict each other.
    """
    try:
        return build_model(config, outputs, source.get("spare"), descriptors)
    except ValueError as error:
        raise UserError(str(error)) from None


def task_of_run(config: AppConfig, portable: dict[str, Any], path: Path | None) -> MoleculesTask:
    """The task of a finished run on its own molecules, or on those of a file (all of them) with the same targets."""
    assert isinstance(config, MoleculesApp)
    if "kinds" not in portable:
        raise UserError("an imported model has no molecules of its own; evaluate what was trained, or use predict")
    scaling = Scaling(**{name: tuple(values) for name, values in portable["scaling"].items()})
    kinds = np.array(portable["kinds"], np.int16)
    data = other_data(config, path, portable["kind"], portable["names"], kinds, scaling)
    given = portable.get("descriptors")
    task = MoleculesTask(data.config, data, None if given is None else Normaliser.from_json(given))
    if portable.get("calibration"):
        task.calibration = Calibration.of(portable["calibration"])
    return task


def rebuild(config: AppConfig, portable: dict[str, Any]) -> nn.Module:
    """The model of a run, without its data."""
    assert isinstance(config, MoleculesApp)
    count = Normaliser.from_json(portable["descriptors"]).count if portable.get("descriptors") else 0
    return make_model(config, len(portable.get("names") or ()), portable.get("source") or {}, count)
