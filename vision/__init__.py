"""The vision domain: ViT on the shared backbone. This file is its wiring; read it first, then follow a name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isoform.core.domain import Domain

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from isoform.core.domain import (
        CheckReport,
        Export,
        Graph,
        ImportedModel,
        Outputs,
        Predictor,
        Prepared,
        TrainedModel,
    )
    from isoform.vision.config import VisionApp
    from isoform.vision.prepare import VisionData
    from isoform.vision.state import VisionState
    from isoform.vision.task import VisionTask


class Vision(Domain["VisionApp", "VisionState", "VisionData"]):
    """Images in; classes, labels or numbers out."""

    name = "vision"
    summary = "images: classes, labels or numbers, with ViT"
    telling_formats = ("timm",)
    predict_options = ("min-probability",)
    fitted = ("mean", "std", "lowest", "highest", "target_mean", "target_std")

    def schema(self) -> type[VisionApp]:
        """See config.py."""
        from isoform.vision.config import VisionApp

        return VisionApp

    def state_schema(self) -> type[VisionState]:
        """See state.py."""
        from isoform.vision.state import VisionState

        return VisionState

    def prepare(self, config: VisionApp) -> Prepared[VisionApp, VisionData]:
        """See prepare.py, and data/leakage.py for what it refuses."""
        from isoform.vision.data.leakage import prepare_without_leakage

        return prepare_without_leakage(config)

    def task(self, prepared: Prepared[VisionApp, VisionData]) -> VisionTask:
        """See task.py."""
        from isoform.vision.task import VisionTask

        return VisionTask(prepared)

    def check(self, config: VisionApp) -> CheckReport:
        """See data/check.py."""
        from isoform.vision.data.check import check

        return check(config)

    def app_of_path(self, path: Path) -> VisionApp:
        """`vit-folder` on a folder of images, or on a table whose kind of labels is recognised."""
        from isoform.vision.models import app_of_path

        return app_of_path(path)

    def build_from_run(self, config: VisionApp, state: VisionState) -> nn.Module:
        """The model of a run; its number of outputs stands in the run's configuration."""
        from isoform.vision.models import build_model

        return build_model(config)

    def task_from_run(self, config: VisionApp, state: VisionState, data: Path | None) -> VisionTask:
        """The task of a finished run, on its own data or on those at `data`; classes and scales are the run's."""
        from isoform.vision.task import task_from_run

        return task_from_run(config, state, data)

    def outputs(self, config: VisionApp, state: VisionState) -> Outputs:
        """Of classes and labels their logits."""
        if state.kind == "multiclass":
            return "classes"
        if state.kind == "multihead":
            from isoform.vision.heads import blocks_of

            return tuple(one.stop - one.start for one in blocks_of(state.classes).values())
        return "labels" if state.kind in ("binary", "multilabel") else "numbers"

    def predictor(self, trained: TrainedModel[VisionApp, VisionState]) -> Predictor:
        """See predictor.py."""
        from isoform.vision.predictor import VisionPredictor

        return VisionPredictor(trained)

    def join_folds(
        self, members: Sequence[TrainedModel[VisionApp, VisionState]]
    ) -> tuple[VisionState, list[nn.Module]]:
        """See folds.py."""
        from isoform.vision.folds import join_folds

        return join_folds(members)

    def expand_inputs(self, inputs: Sequence[str]) -> list[str]:
        """Folders of images and lists of their names."""
        from isoform.vision.predictor import expand_inputs

        return expand_inputs(inputs)

    def graph(self, trained: TrainedModel[VisionApp, VisionState]) -> Graph:
        """See export.py."""
        from isoform.vision.export import graph

        return graph(trained)

    def export_formats(self) -> Mapping[str, Export]:
        """timm's folder, and the layout that the weights came in."""
        from isoform.vision.export import write_official, write_timm

        return {"timm": write_timm, "official": write_official}

    def import_weights(
        self, source: str, layout: str | None = None, config: VisionApp | None = None
    ) -> ImportedModel[VisionApp, VisionState]:
        """See vit/pretrained/."""
        from isoform.vision.vit.pretrained import import_checkpoint

        return import_checkpoint(source, layout, config)

    def app_of_model(self, name: str, **options: Any) -> tuple[VisionApp, VisionState]:
        """A size ("vit-s16"), one of the apps ("vit-mnist") or timm's name ("vit_small_patch16_224"); see models.py."""
        from isoform.vision.models import app_of_model

        return app_of_model(name, **options)

    def published_source(self, name: str) -> str:
        """timm's weights of that name."""
        return f"timm:{name}"

    def import_named(self, name: str, source: str) -> ImportedModel[VisionApp, VisionState]:
        """Trained weights, with the architecture that they tell of themselves."""
        from isoform.vision.vit.pretrained import import_checkpoint

        return import_checkpoint(source, pretrained=True)

    def features(self, model: nn.Module, layers: Sequence[int] | None = None) -> nn.Module:
        """Feature maps [B, D, h, w] after the blocks `layers`, by default the last one."""
        from isoform.vision.models import FeatureMaps

        return FeatureMaps(model, layers)

    def describe(self, config: VisionApp, *, detail: bool = True) -> Mapping[str, Any]:
        """See describe.py."""
        from isoform.vision.describe import describe

        return describe(config, detail=detail)


DOMAIN = Vision()
