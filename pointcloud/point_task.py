"""PointTask: what every task of this domain does alike: its model, its initial weights, and how it names its data."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from torch import Tensor, nn

from isoform.core.config.state import DataRecord
from isoform.core.domain import InitialWeights, Task
from isoform.core.errors import UserError, join_names
from isoform.core.supervised.config import LabelledEval, resolve_loss_kind
from isoform.core.supervised.rows import SHOWN_CLASSES
from isoform.pointcloud.config import PointcloudApp
from isoform.pointcloud.data.features import normal_columns
from isoform.pointcloud.data.transforms import Augment
from isoform.pointcloud.pointmae.model import build_model
from isoform.pointcloud.state import PointcloudState


class Provenance(NamedTuple):
    """Where data came from, whose they are, their SHA-256, and how many files and clouds were left out."""

    origin: str
    licence: str
    digest: str
    left_out: int


class PointTask(Task):
    """An app on clouds or scans."""

    config: PointcloudApp
    classes: Sequence[str]  # names of the outputs

    @abc.abstractmethod
    def provenance(self) -> Provenance:
        """Of the data."""

    @abc.abstractmethod
    def preprocessing(self) -> str:
        """What is done to points before the tokeniser, for the card."""

    def amount(self) -> str:
        """How many samples the data are, for the card."""
        return ", ".join(f"{count} {split}" for split, count in self.sizes().items())

    def build(self) -> nn.Module:
        """A fresh model. Raises UserError where the tables contradict each other."""
        try:
            return build_model(self.config)
        except ValueError as error:
            raise UserError(str(error)) from None

    def initial_weights(self, source: str) -> InitialWeights:
        """What `isoform pointcloud import` reads, and Point-BERT's pretraining."""
        from isoform.pointcloud.pointmae.pretrained import initial_weights

        return initial_weights(source, self.config)

    def adapt_weights(
        self, weights: Mapping[str, Tensor], model: nn.Module
    ) -> Mapping[str, Tensor]:
        """See Task.adapt_weights: channels of data.features start at 0."""
        from isoform.pointcloud.pointmae.pretrained import widen_channels

        return widen_channels(weights, model)

    def inference_state(self) -> PointcloudState:
        """Class names, and which data these were."""
        facts = self.provenance()
        data = DataRecord(
            origin=name_of(facts.origin),
            licence=facts.licence,
            sha256=facts.digest,
            sizes=dict(self.sizes()),
            left_out=facts.left_out,
        )
        return PointcloudState(classes=tuple(self.classes), data=data)

    def card(self) -> dict[str, str]:
        """See Task.card."""
        facts = self.provenance()
        return {
            "data": f"{name_of(facts.origin)} ({self.amount()})",
            "licence of the data": facts.licence,
            "SHA-256 of the data": facts.digest,
            "classes": join_names(list(self.classes), SHOWN_CLASSES),
            "preprocessing": self.preprocessing(),
        }


def refuse_other_loss(config: PointcloudApp, what: str) -> None:
    """Raises UserError where loss.kind is not the one that classes have; `what` has them, for the message."""
    if resolve_loss_kind(config.loss, "multiclass") != "ce":
        raise UserError(f"loss.kind: of {what} it is ce")


def refuse_threshold(config: PointcloudApp, what: str) -> None:
    """Raises UserError where eval.threshold is set, which `what` have not."""
    if config.eval.threshold != LabelledEval().threshold:
        raise UserError(f"eval.threshold: {what} have none; leave it out")


def augment_of(config: PointcloudApp) -> Augment:
    """The random changes of training points."""
    a = config.augment
    normals = normal_columns(config.data.features)
    return Augment(a.scale, a.shift, a.yaw, a.noise, normals, axes=a.scale_axes)


def name_of(origin: str) -> str:
    """Of a user's folder only its name, since a run folder travels."""
    return Path(origin).name if Path(origin).exists() else origin
