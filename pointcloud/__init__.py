"""The point cloud domain: Point-MAE on the shared backbone. This file is its wiring; read it first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

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
        Task,
        TrainedModel,
    )
    from isoform.pointcloud.config import PointcloudApp
    from isoform.pointcloud.prepare import PointcloudData
    from isoform.pointcloud.state import PointcloudState


class Pointcloud(Domain["PointcloudApp", "PointcloudState", "PointcloudData"]):
    """Clouds of points in; classes out, or masked parts drawn again."""

    name = "pointcloud"
    summary = "point clouds: classes of clouds and pretraining, with Point-MAE"

    def schema(self) -> type[PointcloudApp]:
        """See config.py."""
        from isoform.pointcloud.config import PointcloudApp

        return PointcloudApp

    def state_schema(self) -> type[PointcloudState]:
        """See state.py."""
        from isoform.pointcloud.state import PointcloudState

        return PointcloudState

    def prepare(self, config: PointcloudApp) -> Prepared[PointcloudApp, PointcloudData]:
        """See prepare.py."""
        from isoform.pointcloud.prepare import prepare

        return prepare(config)

    def task(self, prepared: Prepared[PointcloudApp, PointcloudData]) -> Task:
        """See task.py."""
        from isoform.pointcloud.task import PointcloudTask

        return PointcloudTask(prepared)

    def check(self, config: PointcloudApp) -> CheckReport:
        """See check.py."""
        from isoform.pointcloud.check import check

        return check(config)

    def app_of_path(self, path: Path) -> PointcloudApp:
        """`pointmae-own` on a folder of clouds, or on a file of many."""
        from isoform.core.config import resolve_app

        source = "folder" if path.is_dir() else "set"
        settings = {"data.source": source, "data.path": str(path)}
        app = resolve_app("pointmae-own", domain=self, settings=settings)
        return cast("PointcloudApp", app)

    def build_from_run(self, config: PointcloudApp, state: PointcloudState) -> nn.Module:
        """The model of a run; its number of outputs stands in the run's configuration."""
        from isoform.pointcloud.pointmae.model import build_model

        return build_model(config)

    def task_from_run(
        self, config: PointcloudApp, state: PointcloudState, data: Path | None
    ) -> Task:
        """See task.py."""
        from isoform.pointcloud.task import task_from_run

        return task_from_run(config, state, data)

    def outputs(self, config: PointcloudApp, state: PointcloudState) -> Outputs:
        """Of classes their logits."""
        return "classes" if config.model.kind == "classify" else "numbers"

    def predictor(self, trained: TrainedModel[PointcloudApp, PointcloudState]) -> Predictor:
        """See predictor.py."""
        from isoform.pointcloud.predictor import PointcloudPredictor

        return PointcloudPredictor(trained)

    def join_folds(
        self, members: Sequence[TrainedModel[PointcloudApp, PointcloudState]]
    ) -> tuple[PointcloudState, list[nn.Module]]:
        """See folds.py."""
        from isoform.pointcloud.folds import join_folds

        return join_folds(members)

    def expand_inputs(self, inputs: Sequence[str]) -> list[str]:
        """Folders of files of points."""
        from isoform.pointcloud.predictor import expand_inputs

        return expand_inputs(inputs)

    def graph(self, trained: TrainedModel[PointcloudApp, PointcloudState]) -> Graph:
        """See export.py."""
        from isoform.pointcloud.export import graph_of

        return graph_of(trained)

    def export_formats(self) -> Mapping[str, Export]:
        """The official code's own."""
        from isoform.pointcloud.export import write_official

        return {"official": write_official}

    def import_weights(
        self, source: str, layout: str | None = None, config: PointcloudApp | None = None
    ) -> ImportedModel[PointcloudApp, PointcloudState]:
        """Official checkpoints of Point-MAE and Point-BERT; see pointmae/pretrained.py."""
        from isoform.pointcloud.pointmae.pretrained import import_checkpoint

        return import_checkpoint(source, layout, config)

    def app_of_model(self, name: str, **options: Any) -> tuple[PointcloudApp, PointcloudState]:
        """The published size ("pointmae"), or an app; see models.py."""
        from isoform.pointcloud.models import app_of_model

        return app_of_model(name, **options)

    def describe(self, config: PointcloudApp, *, detail: bool = True) -> Mapping[str, Any]:
        """See describe.py."""
        from isoform.pointcloud.describe import describe

        return describe(config, detail=detail)


DOMAIN = Pointcloud()
