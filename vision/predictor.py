"""A trained vision model on images from anywhere: one row an input, whatever the input is.

N inputs, n images of a batch, C channels, H x W pixels, K classes, labels or targets.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isoform.core.data.below import warn_of_left_out
from isoform.core.domain import TrainedModel
from isoform.core.errors import UserError
from isoform.core.supervised.decision import Decision
from isoform.core.supervised.metrics import sigmoid, softmax
from isoform.core.supervised.predictor import SupervisedPredictor, describe_seen_inputs
from isoform.core.supervised.rows import rows_of
from isoform.core.supervised.scaling import TargetScaling
from isoform.vision.config import VisionApp
from isoform.vision.data.folders import list_images
from isoform.vision.data.images import MAX_PIXELS, to_input
from isoform.vision.data.transforms import Preprocess
from isoform.vision.data.values import describe_inputs, extent, pixel_digests
from isoform.vision.heads import head_rows, probabilities
from isoform.vision.state import VisionState


class VisionPredictor(SupervisedPredictor):
    """Predictions and features of one model.

    An input is a path, bytes, a Pillow image, an array [H, W], [H, W, C] or [C, H, W], or a tensor of these shapes.
    """

    def __init__(self, trained: TrainedModel[VisionApp, VisionState]) -> None:
        self.model = trained.model.eval()
        self.batch_size = trained.config.eval.batch
        self.state, self.kind = trained.state, trained.state.kind
        self.decision = Decision.of(trained.config.eval, trained.state.calibration)
        self.looked_at: list[int] = []  # digests of the images since `remarks` was asked
        self.ranges: list[tuple[Tensor, Tensor]] = []  # of their values, by channel
        self.preprocess = Preprocess(**dict(trained.state.preprocessing))

    def batches(
        self, items: Sequence[Any], errors: dict[int, str]
    ) -> Iterator[tuple[list[int], Tensor]]:
        """See SupervisedPredictor.batches; a batch is images [n, C, H, W], normalised."""
        channels, at_least = self.preprocess.channels, self.preprocess.at_least
        for start in range(0, len(items), self.batch_size):
            places, images = [], []
            for place in range(start, min(start + self.batch_size, len(items))):
                try:
                    image = to_input(
                        items[place], channels, at_least=at_least, reading=self.preprocess.reading
                    )
                    images.append(self.preprocess.fit(image))
                    places.append(place)
                except UserError as error:
                    errors[place] = str(error)
            if places:
                if self.state.seen is not None:
                    self.looked_at += pixel_digests(images).tolist()
                self.ranges += [extent(image) for image in images]
                yield places, self.preprocess(images)

    def run(self, function: Any, batch: Tensor) -> Tensor:
        """See SupervisedPredictor.run."""
        output: Tensor = function(batch.to(self.device))
        return output

    def remarks(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """Of the images predicted since the last call: how many the model was trained on, and values unlike theirs."""
        looked_at, self.looked_at = self.looked_at, []
        ranges, self.ranges = self.ranges, []
        found = []
        if self.state.seen is not None and looked_at:
            known = int(np.isin(np.array(looked_at, np.uint64), self.state.seen).sum())
            found += [describe_seen_inputs(known, len(looked_at), "images")] if known else []
        if ranges and self.preprocess.lowest:
            low_nC, high_nC = (torch.stack(each).numpy() for each in zip(*ranges, strict=True))
            p = self.preprocess
            found += describe_inputs(low_nC, high_nC, p.lowest, p.highest)
        return found

    def make_rows(self, output: np.ndarray, batch: Tensor) -> list[dict[str, Any]]:
        """See core/supervised/rows.py."""
        state = self.state
        names = state.classes or [str(k) for k in range(output.shape[1])]
        if len(names) != output.shape[1]:
            raise UserError(
                f"the model has {output.shape[1]} outputs and task.json names {len(names)} classes"
            )
        guess, apart = self.guess(output), self.spread()
        if state.kind == "multihead":
            return head_rows(names, guess, apart, decision=self.decision)
        return rows_of(state.kind, names, guess, spread=apart, decision=self.decision)

    def guess(self, output: np.ndarray) -> np.ndarray:
        """See SupervisedPredictor.guess."""
        state = self.state
        if state.kind == "regression":
            scaling = TargetScaling(state.target_mean, state.target_std)
            return scaling.unscale(torch.from_numpy(output), torch.float32).numpy()
        if state.kind == "multihead":
            return probabilities(output, state.classes)
        return softmax(output) if state.kind == "multiclass" else sigmoid(output)


def expand_inputs(inputs: Sequence[str]) -> list[str]:
    """Folders replaced by the images below them, a .txt by its lines; a path that does not exist stays, to be named.

    Warns of what of a folder is left out.
    """
    found: list[str] = []
    for one in inputs:
        path = Path(one)
        if path.is_dir():
            left_out: list[tuple[str, str]] = []
            found += [str(file) for file in list_images(path, path, left_out)]
            warn_of_left_out(path, left_out)
        elif path.suffix.lower() == ".txt" and path.is_file():
            if path.stat().st_size > MAX_PIXELS:
                raise UserError(f"{path}: is too large for a list of images")
            lines = os.fsdecode(path.read_bytes()).splitlines()
            found += [line.strip() for line in lines if line.strip()]
        else:
            found.append(one)
    return found
