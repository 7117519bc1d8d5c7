"""A trained vision model on images from anywhere: one row an input, whatever the input is.

N inputs, K classes, labels or targets, D features.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.domain import Predictor, TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised import metrics as M
from isoform.vision.config import VisionApp
from isoform.vision.data.folders import list_images
from isoform.vision.data.images import MAX_PIXELS, to_input
from isoform.vision.data.transforms import Preprocess
from isoform.vision.state import VisionState

SHOWN_CLASSES = 20  # with more, a table of predictions has no column for each class's probability


class VisionPredictor(Predictor):
    """Predictions and features of one model."""

    def __init__(self, trained: TrainedModel[VisionApp, VisionState]) -> None:
        state = trained.state
        self.model = trained.model.eval()
        self.batch = trained.config.eval.batch
        self.preprocess = Preprocess(**dict(state.preprocessing))
        self.kind = state.kind
        self.classes = state.classes
        self.mean = np.asarray(state.target_mean)
        self.std = np.asarray(state.target_std)

    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """One row an input, in input order: input, prediction, probability, ..., error.

        An input is a path, bytes, a Pillow image, an array [H, W], [H, W, C] or [C, H, W], or a tensor of these shapes.
        One that cannot be read has its reason in `error` and None elsewhere.
        """
        rows: list[dict[str, Any]] = [{"input": self._name(one, i), "error": ""} for i, one in enumerate(inputs)]
        for members, images in self._batches(inputs, rows):
            output = self._run(self.model, images)
            for i, row in zip(members, self._rows(output), strict=True):
                rows[i] = {"input": rows[i]["input"], **row, "error": ""}
        columns = dict.fromkeys(key for row in rows for key in row if key not in ("input", "error"))
        return [{"input": r["input"], **{c: r.get(c) for c in columns}, "error": r["error"]} for r in rows]

    def embed(self, inputs: Sequence[Any]) -> np.ndarray:
        """[N, D] float32 features in front of the last linear layer; NaN for an input that can't be read (it warns)."""
        rows: list[dict[str, Any]] = [{"input": self._name(one, i), "error": ""} for i, one in enumerate(inputs)]
        features: np.ndarray | None = None
        method: Any = self.model.features
        for members, images in self._batches(inputs, rows):
            output = self._run(method, images)
            if features is None:
                features = np.full((len(inputs), output.shape[1]), np.nan, np.float32)
            features[members] = output
        failed = [row for row in rows if row["error"]]
        if features is None:
            raise UserError(failed[0]["error"] if failed else "there is no input to embed")
        for row in failed:
            warnings.warn(f"{row['error']} (its features are NaN)", stacklevel=2)
        return features

    def _batches(self, inputs: Sequence[Any], rows: list[dict[str, Any]]) -> Any:
        """(members, images [n, C, H, W]) of the inputs that can be read; the reason goes into the others' rows."""
        for start in range(0, len(inputs), self.batch):
            members, images = [], []
            for i in range(start, min(start + self.batch, len(inputs))):
                try:
                    image = to_input(inputs[i], self.preprocess.channels, at_least=self.preprocess.at_least)
                    images.append(self.preprocess.fit(image))
                    members.append(i)
                except UserError as error:
                    rows[i]["error"] = str(error)
            if members:
                yield members, self.preprocess(images)

    def _run(self, function: Any, images: Tensor) -> np.ndarray:
        device = next(self.model.parameters()).device
        with torch.no_grad():
            return function(images.to(device)).float().cpu().numpy()

    def _rows(self, output_NK: np.ndarray) -> list[dict[str, Any]]:
        classes = self.classes or [str(k) for k in range(output_NK.shape[1])]
        if len(classes) != output_NK.shape[1]:
            raise UserError(f"the model has {output_NK.shape[1]} outputs and task.json names {len(classes)} classes")
        if self.kind == "regression":
            return rows_of(self.kind, classes, output_NK * self.std + self.mean)
        guess = M.softmax(output_NK) if self.kind == "multiclass" else M.sigmoid(output_NK)
        return rows_of(self.kind, classes, guess)

    @staticmethod
    def _name(value: Any, number: int) -> str:
        return str(value) if isinstance(value, (str, Path)) else f"{type(value).__name__} {number}"


def rows_of(kind: str, classes: Sequence[str], guess: np.ndarray | Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Rows for a table of predictions, without their inputs; `guess` [N, K] as metrics take it.

    multiclass: prediction, probability, `p CLASS` of up to 20 classes, uncertainty (entropy, 1 = all classes alike);
    multilabel: prediction (labels of probability 0.5 and more, joined by `|`), `p LABEL`;
    regression: `prediction TARGET`.
    """
    values = guess["prediction"] if isinstance(guess, Mapping) else guess
    if kind == "regression":
        names = ["prediction"] if len(classes) == 1 else [f"prediction {name}" for name in classes]
        return [dict(zip(names, map(float, row), strict=True)) for row in values]
    shown = range(len(classes)) if len(classes) <= SHOWN_CLASSES else range(0)
    rows = []
    for p in values:
        each = {f"p {classes[k]}": round(float(p[k]), 6) for k in shown}
        if kind == "multiclass":
            best = int(p.argmax())
            entropy = float(-(p * np.log(np.maximum(p, 1e-12))).sum() / np.log(max(len(classes), 2)))
            rows.append({"prediction": classes[best], "probability": round(float(p[best]), 6), **each,
                         "uncertainty": round(abs(entropy), 6)})  # fmt: skip
        else:
            chosen = [k for k in range(len(classes)) if p[k] >= 0.5]
            rows.append({
                "prediction": "|".join(classes[k] for k in chosen),
                "probability": "|".join(f"{p[k]:.4f}" for k in chosen), **each,
            })  # fmt: skip
    return rows


def expand_inputs(inputs: Sequence[str]) -> list[str]:
    """Folders replaced by the images below them, a .txt by its lines; a path that does not exist stays, to be named."""
    found: list[str] = []
    for one in inputs:
        path = Path(one)
        if path.is_dir():
            found += [str(file) for file in list_images(path, path, [])]
        elif path.suffix.lower() == ".txt" and path.is_file():
            if path.stat().st_size > MAX_PIXELS:
                raise UserError(f"{path}: is too large for a list of images")
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found += [line.strip() for line in lines if line.strip()]
        else:
            found.append(one)
    return found
