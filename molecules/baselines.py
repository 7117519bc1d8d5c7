"""What a model must beat: fixed methods with fixed settings, fitted on the training molecules that have a label.

    mean                 the training set's mean of each target
    majority             the training set's share of each label or class as every molecule's probability
    logistic             logistic regression on Morgan fingerprints, C = 0.1, at most 200 iterations
    random_forest        200 trees on Morgan fingerprints, a fifth of the bits tried at each split
    descriptor_boosting  LightGBM on RDKit's two-dimensional descriptors; validation decides how many trees there are

Fingerprints have radius 2 and 2048 bits. At most 20,000 evenly spread training molecules are used, and as many of
validation and test are judged; molecules that come as graphs without SMILES, and more than 50 targets, have the first
two alone. Every target has a model of its own, fitted on the molecules whose label is known; only a forest of targets
that lack no label takes all at once.

n molecules, K targets, C classes, F features.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from isoform.core.baselines import QUIET, Baseline, Fitting
from isoform.core.runs.boosters import text_of
from isoform.molecules.data.dataset import MoleculeData
from isoform.molecules.data.descriptors import descriptors

TRAIN_ROWS, JUDGED_ROWS, MOST_TARGETS = 20_000, 20_000, 50
RADIUS, BITS = 2, 2048
FOREST: dict[str, Any] = {"n_estimators": 200, "max_features": 0.2, "random_state": 0}
TREES_AT_ONCE = 10  # of a forest, between two looks whether to stop
LOGISTIC: dict[str, Any] = {"C": 0.1, "max_iter": 200}
BOOSTING: dict[str, Any] = {
    "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 10, "lambda_l2": 1.0, "feature_fraction": 0.6,
    "bagging_fraction": 0.8, "bagging_freq": 1, "seed": 0, "deterministic": True, "force_col_wise": True, "verbose": -1,
}  # fmt: skip
TREES, PATIENCE, UNCHOSEN_TREES = 1500, 50, 300
Score = Callable[[np.ndarray, np.ndarray], dict[str, float]]
Metrics = dict[str, dict[str, float]]
Predict = Callable[[Any], np.ndarray]  # features -> guess, as metrics take it


class Sample(NamedTuple):
    """Features [n, F] and labels, as MoleculeData.targets, of one split."""

    x: Any
    y: np.ndarray


Fit = Callable[
    [Sample, Sample | None, str, int, Fitting], Predict
]  # training, validation, kind, classes


def baselines(data: MoleculeData, score: Score) -> list[Baseline]:
    """The methods, ready to be fitted and judged on the splits that there are; none without training molecules.

    `score` turns (guess, target), as metrics take it, into metrics; targets without any training label are left out.
    """
    judged = [split for split in data.rows if split != "train"]
    if "train" not in data.rows or not judged:
        return []

    name = "mean" if data.kind == "regression" else "majority"

    def constant(fitting: Fitting) -> Metrics:
        guess, found = _constant(data), {}
        each = [guess] if data.kind == "multiclass" else [np.array([one]) for one in guess]
        keep(name, PerTarget(each, data.kind, len(data.names)), fitting)
        guess = data.scaling.in_units(guess)
        for split in judged:
            labels = _labels(data, data.rows[split], data.judged)
            found[split] = score(np.tile(guess, (len(labels), 1)), labels)
        return found

    rows, why = _drawn(data, judged), _why_constant_alone(data)
    unsaid = _fewer(data, rows)

    def learned(name: str, fit: Fit) -> Baseline:
        def fitted(fitting: Fitting) -> Metrics:
            while unsaid:  # by the first that is fitted
                fitting.say(unsaid.pop(0))
            return _judge(data, fit, rows, score, fitting)

        return Baseline(name, fitted, _seconds(name, data, rows) / 60, why)

    found = [Baseline(name, constant)]
    if why or len(rows["train"]):
        found += [learned(name, fit) for name, fit in _methods(data.kind).items()]
    return found


def _why_constant_alone(data: MoleculeData) -> str:
    if not data.has_smiles:
        return "the molecules come without SMILES"
    if len(data.names) > MOST_TARGETS and data.kind != "multiclass":
        return f"there are more than {MOST_TARGETS} targets"
    return ""


def _seconds(name: str, data: MoleculeData, rows: dict[str, np.ndarray]) -> float:
    """Processor seconds, from the sizes alone: measured on one core of 2024, rounded up."""
    n, every = len(rows["train"]), sum(map(len, rows.values()))
    models = 1 if data.kind == "multiclass" else len(data.names)
    if name == "logistic":
        return models * n * 2e-4 + every * 2e-4
    if name == "random_forest":
        together = data.kind == "regression" and np.isfinite(data.labels[rows["train"]]).all()
        trees = FOREST["n_estimators"] * (1 if together else models)
        return trees * n * math.log2(n + 2) * 2e-5 + every * 2e-4
    boosters = TREES * (len(data.names) if data.kind == "multiclass" else models)
    return boosters * (0.01 + n * 1e-6) + every * 1e-2  # descriptors, unless they are kept


def _judge(
    data: MoleculeData, fit: Fit, rows: dict[str, np.ndarray], score: Score, fitting: Fitting
) -> Metrics:
    """Metrics of the splits; a target that is learned as its logarithm is fitted so, bounds count as their number."""
    x = describe(data, rows, fitting) if fit is boosting else fingerprints(data, rows, fitting)
    scaling = data.scaling
    samples = {
        split: Sample(x[split], scaling.learned(_labels(data, at, data.labels)))
        for split, at in rows.items()
    }
    train = samples.pop("train")
    predict = fit(train, samples.get("val"), data.kind, len(data.names), fitting)
    return {
        split: score(scaling.in_units(predict(sample.x)), _labels(data, rows[split], data.judged))
        for split, sample in samples.items()
    }


def _methods(kind: str) -> dict[str, Fit]:
    found: dict[str, Fit] = {} if kind == "regression" else {"logistic": logistic}
    return found | {"random_forest": random_forest, "descriptor_boosting": boosting}


def _drawn(data: MoleculeData, judged: Sequence[str]) -> dict[str, np.ndarray]:
    """Split -> the rows that are used: labelled ones in training, evenly spread ones where there are too many."""
    rows = {"train": _labelled(data)} | {split: data.rows[split] for split in judged}
    for split, at in rows.items():
        most = TRAIN_ROWS if split == "train" else JUDGED_ROWS
        if len(at) > most:
            rows[split] = at[np.linspace(0, len(at) - 1, most).astype(int)]
    return rows


def _labelled(data: MoleculeData) -> np.ndarray:
    """Rows of the training molecules that have any label."""
    train = data.rows["train"]
    labels = data.labels[train]
    known = labels >= 0 if data.kind == "multiclass" else np.isfinite(labels).any(1)
    return np.asarray(train[known])


def _fewer(data: MoleculeData, rows: dict[str, np.ndarray]) -> list[str]:
    """A sentence for each split of which only a part is used."""
    every = {split: len(data.rows[split]) for split in rows} | {"train": len(_labelled(data))}
    return [
        f"the baselines use {len(at):,} evenly spread molecules of the {every[split]:,} in {split}"
        for split, at in rows.items()
        if len(at) < every[split]
    ]


def _labels(data: MoleculeData, rows: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Labels of these molecules; missing throughout for a target without training labels, of which nothing is known."""
    found = labels[rows]
    if data.kind == "multiclass":
        return found
    return np.where(np.isfinite(data.targets("train")).any(0), found, np.nan)


def _constant(data: MoleculeData) -> np.ndarray:
    """[K] means of what is learned, or shares of each label or class, with one more of each: none is impossible."""
    labels = data.targets("train")
    if data.kind == "multiclass":
        counts = np.bincount(labels[labels >= 0], minlength=len(data.names)) + 1
        return np.asarray(counts / counts.sum())
    count = np.isfinite(labels).sum(0)
    if data.kind == "regression":
        return np.asarray(np.nansum(data.scaling.learned(labels), 0) / np.maximum(count, 1))
    return np.asarray((np.nansum(labels, 0) + 1) / (count + 2))


def fingerprints(
    data: MoleculeData, rows: dict[str, np.ndarray], fitting: Fitting = QUIET
) -> dict[str, np.ndarray]:
    """uint8 [n, 2048] Morgan bits of each split."""
    from rdkit.Chem import rdFingerprintGenerator

    from isoform.molecules.data.parsing import parse_smiles, quiet

    generator = rdFingerprintGenerator.GetMorganGenerator(radius=RADIUS, fpSize=BITS)
    found = {split: np.zeros((len(at), BITS), np.uint8) for split, at in rows.items()}
    with quiet():
        for split, at in rows.items():
            for i, row in enumerate(at.tolist()):
                if i % 1000 == 0:
                    fitting.step(i, len(at), f"fingerprints of {split}")
                mol = parse_smiles(data.molecules.smiles[row])
                if not isinstance(mol, str):
                    found[split][i] = generator.GetFingerprintAsNumPy(mol)
    return found


def describe(
    data: MoleculeData, rows: dict[str, np.ndarray], fitting: Fitting = QUIET
) -> dict[str, np.ndarray]:
    """float32 [n, F] descriptors of each split, NaN where there is none."""
    used = np.unique(np.concatenate(list(rows.values())))
    values = descriptors(
        [data.molecules.smiles[row] for row in used.tolist()],
        data.config.data.cache,
        step=lambda done, total: fitting.step(done, total, "molecules described"),
    )
    return {split: values[np.searchsorted(used, at)] for split, at in rows.items()}


def random_forest(
    train: Sample, val: Sample | None, kind: str, classes: int, fitting: Fitting
) -> Predict:
    """See the module."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    forest = RandomForestRegressor if kind == "regression" else RandomForestClassifier

    def fit(x: np.ndarray, y: np.ndarray) -> Any:
        """Some trees after the others, which are those that would grow at once."""
        grown = forest(**FOREST, n_jobs=torch.get_num_threads(), warm_start=True)
        total = FOREST["n_estimators"]
        for start in range(0, total, TREES_AT_ONCE):
            fitting.step(start, total, "trees")
            grown.set_params(n_estimators=min(start + TREES_AT_ONCE, total)).fit(x, y)
        return grown

    if kind == "regression" and train.y.shape[1] > 1 and np.isfinite(train.y).all():
        together = fit(*train)
        return lambda z: np.asarray(together.predict(z))
    predict = _each(lambda k, x, y: fit(x, y), train, kind, classes, fitting)
    if kind == "regression":
        return predict
    votes = FOREST["n_estimators"]
    rest = 1 / classes if kind == "multiclass" else 0.5
    return lambda z: (
        (predict(z) * votes + rest) / (votes + 1)
    )  # a vote spread evenly: no label is impossible


def logistic(
    train: Sample, val: Sample | None, kind: str, classes: int, fitting: Fitting
) -> Predict:
    """See the module."""
    from scipy.sparse import csr_matrix
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    def fit(k: int, x: Any, y: np.ndarray) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return LogisticRegression(**LOGISTIC).fit(x, y)

    sparse = Sample(csr_matrix(train.x, dtype=np.float64), train.y)
    predict = _each(fit, sparse, kind, classes, fitting)
    return lambda z: predict(csr_matrix(z, dtype=np.float64))


def boosting(
    train: Sample, val: Sample | None, kind: str, classes: int, fitting: Fitting
) -> Predict:
    """See the module."""
    import lightgbm

    objective = {"regression": "l2", "binary": "binary", "multiclass": "multiclass"}[kind]
    settings = {**BOOSTING, "num_threads": torch.get_num_threads(), "objective": objective}
    outputs = 2
    if kind == "multiclass":
        outputs = settings["num_class"] = classes

    def after_a_tree(so_far: Any) -> None:
        fitting.step(so_far.iteration + 1, so_far.end_iteration, "trees at most")

    def fit(k: int, x: np.ndarray, y: np.ndarray) -> Any:
        known = lightgbm.Dataset(x, y, params=settings)
        there = np.zeros(0, bool) if val is None else _there(val.y, k, kind)
        if val is None or not there.any():
            model = lightgbm.train(settings, known, UNCHOSEN_TREES, callbacks=[after_a_tree])
            return Booster(model, outputs)
        labels = _label(val.y, k, kind)
        held = lightgbm.Dataset(val.x[there], labels[there], reference=known)
        callbacks: list[Callable[..., Any]] = [
            lightgbm.early_stopping(PATIENCE, verbose=False),
            after_a_tree,
        ]
        model = lightgbm.train(settings, known, TREES, valid_sets=[held], callbacks=callbacks)
        return Booster(model, outputs)

    fitted = _each(fit, train, kind, classes, fitting)
    keep("descriptor_boosting", fitted, fitting)
    return fitted


class Booster:
    """A LightGBM with scikit-learn's names."""

    def __init__(self, model: Any, classes: int):
        self.model, self.classes_ = model, np.arange(classes)

    def predict(self, x: np.ndarray) -> np.ndarray:
        """[n] numbers or probabilities of 1, or [n, C] probabilities."""
        return np.asarray(self.model.predict(x))

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """[n, C] probabilities, of a binary target [n, 2]."""
        p = self.predict(x)
        return np.stack([1 - p, p], 1) if p.ndim == 1 else p


@dataclass(frozen=True)
class PerTarget:
    """A fitted model for each target (one for all classes), or the constant that stands for it."""

    models: list[Any]
    kind: str
    classes: int

    def __call__(self, z: Any) -> np.ndarray:
        """Features [n, F] -> [n, K] numbers or probabilities, or [n, C] probabilities."""
        return np.concatenate([self._predict(model, z) for model in self.models], 1)

    def _predict(self, model: Any, z: Any) -> np.ndarray:
        if isinstance(model, np.ndarray):
            return np.tile(model, (z.shape[0], 1))
        if self.kind == "regression":
            return np.asarray(model.predict(z))[:, None]
        columns = self.classes if self.kind == "multiclass" else 2
        probability = np.full((z.shape[0], columns), 1e-9)
        probability[:, np.asarray(model.classes_, int)] = model.predict_proba(z)
        return probability if self.kind == "multiclass" else probability[:, 1:]


def _label(y: np.ndarray, k: int, kind: str) -> np.ndarray:
    return y if kind == "multiclass" else y[:, k]


def _there(y: np.ndarray, k: int, kind: str) -> np.ndarray:
    label = _label(y, k, kind)
    return np.asarray(label >= 0 if kind == "multiclass" else np.isfinite(label))


def _each(
    fit: Callable[[int, Any, np.ndarray], Any],
    train: Sample,
    kind: str,
    classes: int,
    fitting: Fitting,
) -> PerTarget:
    """Fits a model a target on the molecules whose label is known."""
    models: list[Any] = []
    targets = 1 if kind == "multiclass" else train.y.shape[1]
    for k in range(targets):
        fitting.step(k, targets, "targets")
        there = _there(train.y, k, kind)
        known = _label(train.y, k, kind)[there]
        if len(known) and (kind == "regression" or (known != known[0]).any()):
            models.append(fit(k, train.x[there], known))
        else:
            models.append(_share(known, kind, classes))
    return PerTarget(models, kind, classes)


def keep(name: str, fitted: PerTarget, fitting: Fitting) -> None:
    """Hands the files of a fitted baseline to `fitting`; stored_baselines.py reads them."""
    targets: list[dict[str, Any]] = []
    for k, model in enumerate(fitted.models):
        if isinstance(model, np.ndarray):
            targets.append({"constant": model.tolist()})
            continue
        file = f"{name}.txt" if len(fitted.models) == 1 else f"{name}-{k + 1}.txt"
        fitting.keep(file, text_of(model.model))
        targets.append({"file": file})
    about = {"kind": fitted.kind, "classes": fitted.classes, "targets": targets}
    fitting.keep(f"{name}.json", json.dumps(about, indent=1) + "\n")


def _share(known: np.ndarray, kind: str, classes: int) -> np.ndarray:
    """The guess for a target whose labels are all alike, or for one that has none."""
    if kind == "multiclass":
        counts = np.bincount(known, minlength=classes) + 1
        return np.asarray(counts / (len(known) + classes))
    return np.array([(known.sum() + 1) / (len(known) + 2)])
