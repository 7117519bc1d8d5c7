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

from isoform.core.baselines import Baseline
from isoform.core.config.state import DataRecord
from isoform.core.data import writers
from isoform.core.domain import Figure, InitialWeights, Task
from isoform.core.domain.kept_split import KeptSplit
from isoform.core.errors import UserError
from isoform.core.supervised.class_weights import (
    balanced_class_weights,
    balanced_label_weights,
    combine_weights,
    weights_of_classes,
    weights_of_labels,
)
from isoform.core.supervised.config import resolve_loss_kind
from isoform.core.supervised.conformal import Calibration, calibrate
from isoform.core.supervised.decision import (
    Decision,
    check_threshold,
    decision_metrics,
    describe_thresholds,
    learn_thresholds,
)
from isoform.core.supervised.ensemble import spread_of
from isoform.core.supervised.losses import class_loss, keeps_bound, label_loss
from isoform.core.supervised.metrics import (
    sigmoid,
    softmax,
)
from isoform.core.supervised.monitors import has_both_kinds, resolve_monitor
from isoform.core.supervised.rows import rows_of
from isoform.core.supervised.scaling import TargetScaling
from isoform.core.supervised.suspects import suspect_classes, suspect_labels
from isoform.molecules import familiar
from isoform.molecules.config import MoleculesApp
from isoform.molecules.data.buckets import batches
from isoform.molecules.data.collate import collate, flip_signs
from isoform.molecules.data.dataset import (
    MoleculeData,
    describe_other,
    describe_unscored,
    other_data,
)
from isoform.molecules.data.descriptors import Normaliser
from isoform.molecules.data.digests import molecule_digests
from isoform.molecules.data.kept import keep_split
from isoform.molecules.exchange import exchanged_error
from isoform.molecules.losses import flag
from isoform.molecules.metrics import intervals_of_score, score
from isoform.molecules.models import make_model
from isoform.molecules.prepare import check_ids
from isoform.molecules.state import DescriptorState, MoleculesState, ScalingState


class MoleculesTask(Task):
    """One molecules app with its data."""

    items = "molecules"
    augments = False  # what is random (signs of eigenvectors, FLAG) is drawn a batch at a time

    config: MoleculesApp

    def __init__(
        self, config: MoleculesApp, data: MoleculeData, normaliser: Normaliser | None = None
    ) -> None:
        """`config` as `prepare` leaves it; `normaliser` of a finished run's descriptors, else of these molecules."""
        self.config, self.data = config, data
        self.kind, self.scaling = data.kind, data.scaling
        self.calibration: Calibration | None = None  # of the best checkpoint, once it is known
        self.normaliser = normaliser
        self.described = self._described() if self.config.head.descriptors else None
        self.has_labels = self.kind != "regression"
        self.loss_kind = resolve_loss_kind(config.loss, self.kind, default="l1")
        self.weights = self._label_weights() if config.data.class_weights == "balanced" else None
        val = data.judged[data.rows.get("val", [])]
        self.monitor, self.monitor_mode = resolve_monitor(
            config.train.monitor, self.kind, val, default=self._usual_monitor(val)
        )
        if "train" in data.rows:
            check_threshold(config.eval, self.kind, data.names, val)
        self.decision = Decision.of(config.eval)  # of the best checkpoint, once it is known
        self.notes = describe_unscored(data)

    def _usual_monitor(self, val: np.ndarray) -> str:
        """One target by its own error, several or a logarithm by the scaled one; of classes, what benchmarks go by."""
        if self.kind == "regression":
            if len(self.data.names) > 1 or any(self.scaling.log):
                return "loss"
            return "rmse" if self.loss_kind == "mse" else "mae"
        if self.kind == "multiclass":
            return "top1"
        return "roc_auc" if has_both_kinds(val) else "loss"

    def _described(self) -> Tensor:
        """float32 [n, F] normalised descriptors of all molecules, by the training molecules' range."""
        values = self.data.descriptors
        if self.normaliser is None:
            self.normaliser = Normaliser.fitted(values[self.data.rows["train"]])
        return torch.from_numpy(self.normaliser(values))

    def _label_weights(self) -> Tensor | None:
        """[K, 2] weights of negative and positive labels, or [C] of classes; their mean over training is 1."""
        if self.kind == "regression" or "train" not in self.data.rows:
            return None
        labels = self.data.targets("train")
        if self.kind == "multiclass":
            return balanced_class_weights(labels, len(self.data.names))
        return balanced_label_weights(labels)

    def sizes(self) -> dict[str, int]:
        """Molecules of each split. See Task.sizes."""
        return self.data.sizes()

    def build(self) -> nn.Module:
        """A fresh model. Raises UserError where the tables contradict each other."""
        descriptors = 0 if self.described is None else self.described.shape[1]
        return make_model(self.config, len(self.data.names), descriptors=descriptors)

    def batches(self, split: str, size: int, rng: np.random.Generator | None) -> list[list[int]]:
        """Molecules of like size together; see buckets.py."""
        return batches(self.data.store.sizes[self.data.rows[split]], size, rng)

    def sample_name(self, split: str, index: int) -> str:
        """The molecule's name."""
        return str(self.data.molecules.names[int(self.data.rows[split][index])])

    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> int:
        """The molecule's row; its graph is read with the whole batch, in one go."""
        return int(self.data.rows[split][index])

    def collate(self, samples: Sequence[int]) -> dict[str, Tensor]:
        """What the model reads (data/collate.py), "descriptors" [B, F], and the labels.

        "target"  [B, K] float64 in the data's units, NaN = missing or a bound; or [B] int64 classes, -1 = missing
        "scaled"  [B, K] float32 what a regression learns, its bounds among it
        "bound"   [B, K] int8 where there are any, see label_loss
        "weight"  [B] where molecules have weights
        """
        rows = np.asarray(samples, np.int64)
        hf_compat = self.config.tokeniser.hf_compat
        gt = self.config.model.family == "gt"
        batch = collate(self.data.store, rows, hf_compat=hf_compat, compact=True, bonds=gt)
        batch["target"] = torch.from_numpy(self.data.judged[rows])
        if self.kind == "regression":
            batch["scaled"] = self.scaling.scale(torch.from_numpy(self.data.labels[rows])).float()
        if self.data.molecules.bounds is not None:
            batch["bound"] = torch.from_numpy(self.data.molecules.bounds[rows])
        if self.described is not None:
            batch["descriptors"] = self.described[torch.from_numpy(rows)]
        if self.data.molecules.weight is not None:
            weight = np.asarray(self.data.molecules.weight)[rows]
            batch["weight"] = torch.from_numpy(weight).float()
        return batch

    def mix(self, batch: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
        """Laplacian eigenvectors have no sign of their own: it is drawn anew for every training batch."""
        return flip_signs(batch, rng) if "laplacian" in batch else batch

    def loss(self, model: nn.Module, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """See core/supervised/losses.py; missing labels count nothing. With loss.graph_alone the graph's own beside it.

        Descriptors that say nothing are 0, a training molecule's mean; the trunk reads each graph once for both.
        """
        weight = self.config.loss.graph_alone
        if not weight or self.described is None:
            return {"loss": self._loss(model(batch).float(), batch)}
        given = batch["descriptors"]
        read = {**batch, "descriptors": torch.stack([given, torch.zeros_like(given)])}
        both, alone = (self._loss(output, batch) for output in model(read).float())
        return {"loss": both + weight * alone, "both": both, "graph_alone": alone}

    def _loss(self, output: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """Of outputs [B, K]."""
        weight, smoothing = batch.get("weight"), self.config.loss.label_smoothing
        if self.kind == "regression":
            scaled, bound = batch["scaled"], batch.get("bound")
            return label_loss(self.loss_kind, output, scaled, weight, bound_BK=bound)
        target = batch["target"]
        if self.kind == "multiclass":
            if self.weights is not None:
                weight = combine_weights(
                    weight, weights_of_classes(target, self.weights.to(output))
                )
            return class_loss(self.loss_kind, output, target, weight, smoothing=smoothing)
        if self.weights is not None:
            weight = combine_weights(weight, weights_of_labels(target, self.weights.to(output)))
        return label_loss(self.loss_kind, output, target.float(), weight, smoothing=smoothing)

    def passes(self, model: nn.Module, batch: dict[str, Tensor]) -> Iterator[Mapping[str, Tensor]]:
        """One loss, or FLAG's several over perturbed atoms."""
        asked = self.config.loss
        if not asked.flag_steps:
            yield self.loss(model, batch)
            return
        loss = functools.partial(self.loss, model)
        yield from flag(
            loss, batch, self.config.backbone.dim, steps=asked.flag_steps, size=asked.flag_size
        )

    def predict(self, model: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """{"prediction" [B, K] in the targets' units, or "logits" [B, K]; "target"; "atoms" [B]; "keeps" [B, K]}.

        "keeps" is 1 where the label is a bound that the prediction keeps, 0 where it doesn't, NaN where it is no bound.
        Of an ensemble also "spread" [B, K], of the members' predictions as they are learned, or of their probabilities.
        """
        output: Tensor = model(batch).float()
        found = {"target": batch["target"], "atoms": batch["valid"].sum(1)}
        if "bound" in batch:
            found["keeps"] = _keeps(output, batch["scaled"], batch["bound"])
        key, value = "logits", output
        if self.kind == "regression":
            key, value = "prediction", self.scaling.unscale(output)
        apart = spread_of(model, self._as_learned)
        if apart is not None:
            found["spread"] = torch.from_numpy(apart)
        return {key: value, **found}

    def _as_learned(self, output: np.ndarray) -> np.ndarray:
        """What intervals and spreads are of, from outputs [B, K]: numbers or logarithms, or probabilities."""
        if self.kind != "regression":
            return self.probability({"logits": output})
        return self.scaling.learned(self.scaling.unscale(torch.from_numpy(output)).numpy())

    def probability(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, K] probabilities of classes (that sum to 1) or of labels."""
        return (
            softmax(outputs["logits"]) if self.kind == "multiclass" else sigmoid(outputs["logits"])
        )

    def guess(self, outputs: Mapping[str, np.ndarray]) -> np.ndarray:
        """[N, K] predictions in the targets' units, or probabilities."""
        return outputs["prediction"] if self.kind == "regression" else self.probability(outputs)

    def score(self, guess: np.ndarray, target: np.ndarray) -> dict[str, float]:
        """Metrics of predictions [N, K] in the targets' units, or of probabilities."""
        return score(self.data, guess, target)

    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """See core/supervised/metrics.py; on test, how many labels the intervals hold, too."""
        guess, target = self.guess(outputs), outputs["target"]
        found = self.score(guess, target)
        if split == "test":
            found |= decision_metrics(self.decision, self.kind, guess, target)
        if "keeps" in outputs and np.isfinite(outputs["keeps"]).any():
            found["bounds_kept"] = float(np.nanmean(outputs["keeps"]))
        if self.calibration is not None and split == "test":
            guess, target = self._learned(outputs)
            held = self.calibration.coverage(guess, target, spread=outputs.get("spread"))
            found |= {self._in_words(name): value for name, value in held.items()}
        return found

    def intervals(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float]]:
        """See core/supervised/bootstrap.py; of labels that are no bounds."""
        guess, target = self.guess(outputs), outputs["target"]
        return intervals_of_score(self.data, guess, target, self.decision)

    def _in_words(self, name: str) -> str:
        """A width, which there is of one target alone, says so where it is one of logarithms."""
        log = self.kind == "regression" and name.startswith("width") and self.scaling.is_log(0)
        return f"{name} (log10)" if log else name

    def _learned(self, outputs: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(guess, target), of regression as they are learned: intervals are of logarithms where these are."""
        guess, target = self.guess(outputs), outputs["target"]
        if self.kind != "regression":
            return guess, target
        return self.scaling.learned(guess), self.scaling.learned(target)

    def importance(self, model: nn.Module, split: str) -> dict[str, float]:
        """What exchanging graphs, or descriptors, costs; see exchange.py."""
        return exchanged_error(self, model, split)

    def groups(self, split: str) -> list[str | None] | None:
        """See Task.groups: data.group, or without it of data.split = scaffold the frameworks."""
        groups = self.data.molecules.groups
        if groups is not None:
            return [groups[row] or None for row in self.data.rows[split].tolist()]
        if self.config.data.split != "scaffold" or not self.data.has_smiles:
            return None
        from isoform.molecules.data.groups import frameworks

        return ["acyclic" if text == "" else text for text in frameworks(self.data.smiles(split))]

    def digests(self, split: str) -> np.ndarray | None:
        """See Task.digests and data/digests.py."""
        data = self.data
        return molecule_digests(data.molecules, data.rows[split], self.config.data)

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit:
        """See data/kept.py."""
        data = self.data
        return keep_split(data.molecules, data.rows, data.rest, self.config.data)

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Conformal intervals or sets (conformal.py), and the thresholds that eval.threshold asks for (decision.py)."""
        found = calibrate(self.kind, *self._learned(outputs), outputs.get("spread"))
        asked, probability = self.config.eval, self.guess(outputs)
        found |= learn_thresholds(asked, self.kind, probability, outputs["target"])
        self.know(found)
        return found

    def know(self, learned: Mapping[str, np.ndarray] | None) -> None:
        """What validation taught (RunState.calibration); a note says which thresholds a rule chose."""
        self.calibration = Calibration.found_in(learned)
        self.decision = Decision.of(self.config.eval, learned)
        rule = self.config.eval.threshold
        told = describe_thresholds(self.decision, rule, self.data.names, self.kind)
        self.notes = (*self.notes, *told)

    def initial_weights(self, source: str) -> InitialWeights:
        """What `isoform molecules import` reads."""
        from isoform.molecules.graphormer.pretrained import initial_weights

        return initial_weights(source, self.config)

    def baselines(self) -> Sequence[Baseline]:
        """See baselines.py."""
        from isoform.molecules.baselines import baselines

        return baselines(self.data, self.score)

    def inference_state(self) -> MoleculesState:
        """Targets, units, scale and kinds of bonds: what predicting elsewhere needs."""
        data, normaliser = self.data, self.normaliser
        return MoleculesState(
            kind=data.kind,
            names=data.names,
            units=data.units,
            scaling=ScalingState.model_validate(self.scaling.to_json()),
            kinds=data.store.kinds.tolist(),
            training=self._training,
            fingerprints=self._fingerprints,
            familiar=self._familiar,
            descriptors=None
            if normaliser is None
            else DescriptorState.model_validate(normaliser.to_json()),
            data=DataRecord(
                origin=self._origin,
                licence=data.molecules.licence,
                sha256=data.digest,
                sizes=self.sizes(),
                left_out=len(data.skipped),
            ),
        )

    @functools.cached_property
    def _training(self) -> tuple[str, ...]:
        """SMILES of the training molecules; none where they come as graphs."""
        if not self.data.has_smiles or "train" not in self.data.rows:
            return ()
        texts = self.data.molecules.keys or self.data.molecules.smiles
        return tuple(texts[row] for row in self.data.rows["train"].tolist())

    @functools.cached_property
    def _fingerprints(self) -> str | None:
        """Theirs, for the nearest one of a prediction."""
        from isoform.molecules.nearest import fingerprints_of, to_text

        return to_text(fingerprints_of(self._training)) if self._training else None

    @functools.cached_property
    def _familiar(self) -> float | None:
        return familiar.floor_of(self._training)

    @functools.cached_property
    def _origin(self) -> str:
        """Where the data came from; of a user's file only its name, since a run folder travels."""
        origin = self.data.molecules.origin
        return Path(origin).name if Path(origin).exists() else origin

    def card(self) -> dict[str, str]:
        """See Task.card."""
        data, config = self.data, self.config.data
        sizes = ", ".join(f"{count} {split}" for split, count in self.sizes().items())
        units = [
            f"{name} [{unit}]" if unit else name
            for name, unit in zip(data.names, data.units, strict=False)
        ]
        cleaned = [
            key
            for key in ("fragment", "neutralise", "tautomer", "canonical")
            if getattr(config, key)
        ]
        return {
            "data": f"{self._origin} ({sizes}; {config.split} split, {len(data.skipped)} left out)",
            "licence of the data": data.molecules.licence,
            "SHA-256 of the data": data.digest,
            "targets": ", ".join((units or list(data.names))[:20])
            + (", ..." if len(data.names) > 20 else ""),
            "preprocessing": ", ".join(cleaned) or "none",
        }

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """STEM.csv: input (its name), smiles, target, prediction, ..."""
        made = rows_of(
            self.kind,
            self.data.names,
            self.guess(outputs),
            self.calibration,
            log=self.scaling.log,
            spread=outputs.get("spread"),
            decision=self.decision,
        )
        molecules, target = self.data.molecules, self.data.labels[self.data.rows[split]]
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
                known |= {
                    f"target {name}": _cell(target[i, k]) for k, name in enumerate(self.data.names)
                }
            if molecules.bounds is not None:
                known |= _relations(self.data.names, molecules.bounds[at])
            rows.append({**known, **row})
        path = folder / f"{stem}.csv"
        writers.write_rows(rows, path)
        return [path]

    def suspects(self, split: str, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """See Task.suspects."""
        find = suspect_classes if self.kind == "multiclass" else suspect_labels
        molecules, rows = self.data.molecules, self.data.rows[split]
        found = []
        for row in find(self.data.names, self.guess(outputs), self.data.labels[rows]):
            at = int(rows[row["sample"]])
            known: dict[str, Any] = {"sample": row["sample"], "input": molecules.names[at]}
            if self.data.has_smiles:
                known["smiles"] = molecules.smiles[at]
            found.append({**known, **row})
        return found

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """See figures.py."""
        from isoform.molecules.figures import figures

        return figures(self, model, outputs)


def _keeps(output: Tensor, scaled: Tensor, bound: Tensor) -> Tensor:
    """float32 [B, K], see `MoleculesTask.predict`."""
    kept = keeps_bound(output, scaled, bound).float()
    return torch.where((bound == 0) | scaled.isnan(), torch.nan, kept)


def _relations(names: Sequence[str], bounds_K: np.ndarray) -> dict[str, str]:
    """The cells "relation" of one target, or "relation NAME" of several: the truth is = the target, or < or > it."""
    signs = [{0: "=", 1: ">", -1: "<"}[sign] for sign in bounds_K.tolist()]
    if len(names) == 1:
        return {"relation": signs[0]}
    return {f"relation {name}": sign for name, sign in zip(names, signs, strict=True)}


def _cell(value: float) -> float | str:
    return float(value) if np.isfinite(value) else ""


def task_from_run(config: MoleculesApp, state: MoleculesState, path: Path | None) -> MoleculesTask:
    """The task of a finished run on its own molecules, or on those of a file (all of them) with the same targets."""
    if state.kinds is None or state.kind is None or state.names is None or state.scaling is None:
        raise UserError(
            "an imported model has no molecules of its own; evaluate what was trained, or use predict"
        )
    scaling = TargetScaling.from_json(state.scaling.model_dump())
    kinds = state.bond_kinds()
    known = (state.kind, state.names, kinds, scaling, state.kept, state.units or ())
    data = other_data(config, path, *known)
    check_ids(data.config, data.store)
    normaliser = (
        None if state.descriptors is None else Normaliser.from_json(state.descriptors.model_dump())
    )
    task = MoleculesTask(data.config, data, normaliser)
    if path is not None:
        task.notes = [f"{path}: {line}" for line in describe_other(data)]
    task.know(state.calibration)
    return task
