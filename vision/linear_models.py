"""Linear models on features, as baselines and probes fit them: standardised, by scikit-learn, to convergence.

N samples, M training samples, D features, K classes, labels or targets.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from isoform.core.baselines import QUIET, Fitting

Method = Callable[[np.ndarray], np.ndarray]  # [N, D] -> [N, K] probabilities or targets


def fit_standardisation(x_MD: np.ndarray, least: float) -> Method:
    """To mean 0 and deviation 1 of the training samples; `least` is added to every deviation."""
    mean_D = x_MD.mean(0)
    std_D = x_MD.std(0) + least
    return lambda z: (z - mean_D) / std_D


def fit_classes(
    x_MD: np.ndarray,
    y_M: np.ndarray,
    classes: int,
    *,
    strength: float,
    iterations: int,
    absent: float = 0.0,
) -> Method:
    """Logistic regression of classes [M]; a class without training samples has the probability `absent`."""
    present = np.unique(y_M)
    if len(present) == 1:
        row = np.eye(classes)[present[0]]
        return lambda z: np.tile(row, (len(z), 1))
    model = _fit_logistic(x_MD, y_M, strength, iterations)

    def predict(z_ND: np.ndarray) -> np.ndarray:
        probability_NK = np.full((len(z_ND), classes), absent)
        probability_NK[:, model.classes_] = model.predict_proba(z_ND)
        return probability_NK

    return predict


def fit_labels(
    x_MD: np.ndarray,
    y_MK: np.ndarray,
    *,
    strength: float,
    iterations: int,
    fitting: Fitting = QUIET,
) -> Method:
    """Logistic regression of each label [M, K] by itself."""
    methods: list[Method] = []
    for y_M in y_MK.T.astype(np.int64):
        fitting.step(len(methods), y_MK.shape[1], "labels")
        methods.append(fit_classes(x_MD, y_M, 2, strength=strength, iterations=iterations))
    return lambda z: np.stack([method(z)[:, 1] for method in methods], 1)


def fit_numbers(x_MD: np.ndarray, y_MK: np.ndarray, *, alpha: float) -> Method:
    """Ridge regression of numbers [M, K]."""
    from sklearn.linear_model import Ridge

    model = Ridge(alpha=alpha).fit(x_MD, y_MK)
    return lambda z: model.predict(z).reshape(len(z), -1)


def _fit_logistic(x_MD: np.ndarray, y_M: np.ndarray, strength: float, iterations: int) -> Any:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=strength, max_iter=iterations).fit(x_MD, y_M)
