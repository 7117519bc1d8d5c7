"""The point cloud domain: Point-MAE on the shared backbone. This file is its wiring; read it first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from isoform.core.domain import Domain, Verb

if TYPE_CHECKING:
    import argparse
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
        Speaker,
        Task,
        TrainedModel,
    )
    from isoform.pointcloud.config import PointcloudApp
    from isoform.pointcloud.data.scans import ScanData
    from isoform.pointcloud.parts.data import PartData
    from isoform.pointcloud.prepare import PointcloudData
    from isoform.pointcloud.state import PointcloudState

    AnyData = PointcloudData | PartData | ScanData  # of clouds, of parts of clouds, of scans


class Pointcloud(Domain["PointcloudApp", "PointcloudState", "AnyData"]):
    """Clouds of points in; classes out, or masked parts drawn again."""

    name = "pointcloud"
    summary = "point clouds: classes of clouds and pretraining, with Point-MAE"
    predict_options = ("min-probability",)

    def schema(self) -> type[PointcloudApp]:
        """See config.py."""
        from isoform.pointcloud.config import PointcloudApp

        return PointcloudApp

    def state_schema(self) -> type[PointcloudState]:
        """See state.py."""
        from isoform.pointcloud.state import PointcloudState

        return PointcloudState

    def prepare(self, config: PointcloudApp) -> Prepared[PointcloudApp, AnyData]:
        """See prepare.py, of parts parts/prepare.py, and of scans segment_prepare.py."""
        if config.has_parts:
            from isoform.pointcloud.parts.prepare import prepare_parts

            return cast("Prepared[PointcloudApp, AnyData]", prepare_parts(config))
        if config.model.kind == "segment":
            from isoform.pointcloud.segment_prepare import prepare_scans

            return prepare_scans(config)
        from isoform.pointcloud.prepare import prepare

        return cast("Prepared[PointcloudApp, AnyData]", prepare(config))

    def task(self, prepared: Prepared[PointcloudApp, AnyData]) -> Task:
        """See task.py, parts/task.py and segment_task.py."""
        if prepared.config.has_parts:
            from isoform.pointcloud.parts.task import PartTask

            return PartTask(cast("Prepared[PointcloudApp, PartData]", prepared))
        if prepared.config.model.kind == "segment":
            from isoform.pointcloud.segment_task import SegmentTask

            return SegmentTask(cast("Prepared[PointcloudApp, ScanData]", prepared))
        from isoform.pointcloud.task import PointcloudTask

        return PointcloudTask(cast("Prepared[PointcloudApp, PointcloudData]", prepared))

    def check(self, config: PointcloudApp) -> CheckReport:
        """See check.py, of parts parts/prepare.py, and of scans segment_check.py."""
        if config.has_parts:
            from isoform.pointcloud.parts.prepare import check_parts

            return check_parts(config)
        if config.model.kind == "segment":
            from isoform.pointcloud.segment_check import check_scans

            return check_scans(config)
        from isoform.pointcloud.check import check

        return check(config)

    def app_of_path(self, path: Path) -> PointcloudApp:
        """`pointmae-own` on a folder of clouds, on a table of them, or on a file of many."""
        from isoform.core.config import resolve_app
        from isoform.pointcloud.data.sources import source_of_path

        settings = {"data.source": source_of_path(path), "data.path": str(path)}
        app = resolve_app("pointmae-own", domain=self, settings=settings)
        return cast("PointcloudApp", app)

    def build_from_run(self, config: PointcloudApp, state: PointcloudState) -> nn.Module:
        """The model of a run; its number of outputs stands in the run's configuration."""
        from isoform.pointcloud.pointmae.model import build_model

        return build_model(config)

    def task_from_run(
        self, config: PointcloudApp, state: PointcloudState, data: Path | None
    ) -> Task:
        """See task.py, parts/task.py and segment_task.py."""
        if config.has_parts:
            from isoform.pointcloud.parts.task import task_of_parts

            return task_of_parts(config, state, data)
        if config.model.kind == "segment":
            from isoform.pointcloud.segment_task import task_of_scans

            return task_of_scans(config, state, data)
        from isoform.pointcloud.task import task_from_run

        return task_from_run(config, state, data)

    def outputs(self, config: PointcloudApp, state: PointcloudState) -> Outputs:
        """Of classes their logits."""
        return "classes" if config.model.kind == "classify" else "numbers"

    def predictor(self, trained: TrainedModel[PointcloudApp, PointcloudState]) -> Predictor:
        """See predictor.py, labels.py, parts/labels.py and reconstruct.py."""
        if trained.config.has_parts:
            from isoform.pointcloud.parts.labels import PartLabeller

            return PartLabeller(trained)
        if trained.config.model.kind == "segment":
            from isoform.pointcloud.labels import Labeller

            return Labeller(trained)
        if trained.config.model.kind == "pretrain":
            from isoform.pointcloud.reconstruct import Reconstructor

            return Reconstructor(trained)
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

    def predict_arguments(self, parser: argparse.ArgumentParser) -> None:
        """See protocols.py; PointcloudPredictor takes them."""
        from isoform.pointcloud.protocols import predict_arguments

        predict_arguments(parser)

    def verbs(self) -> Mapping[str, Verb]:
        """See labels.py, reconstruct.py and protocols.py."""
        from isoform.pointcloud.protocols import PROTOCOLS

        label = Verb(
            help="write scans or clouds with a class or a part, and a confidence, for every point",
            arguments=_label_arguments,
            run=_run_label,
        )
        reconstruct = Verb(
            help="hide patches of clouds and write them as a pretrained model draws them again",
            arguments=_reconstruct_arguments,
            run=_run_reconstruct,
        )
        return {"label": label, "reconstruct": reconstruct, **PROTOCOLS}


def _label_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder of a segmentation")
    parser.add_argument("scans", nargs="+", metavar="SCAN", help="files of points, or folders")
    parser.add_argument(
        "--out", required=True, metavar="FILE", help=".las, .laz or .ply; of several scans a folder"
    )
    parser.add_argument(
        "--shape", metavar="NAME", help="of parts: the class of the clouds, which the model reads"
    )
    parser.add_argument(
        "--min-probability",
        type=float,
        default=0.0,
        metavar="P",
        help="a less sure point gets the code 0, unclassified (-1 where 0 is a part)",
    )
    parser.add_argument(
        "--checkpoint", default="best", metavar="WHICH", help="best, last or a step"
    )


def _run_label(args: argparse.Namespace, console: Speaker) -> int:
    from isoform.pointcloud.labels import run_label

    return run_label(args, console)


def _reconstruct_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder of a pretraining")
    parser.add_argument("clouds", nargs="+", metavar="CLOUD", help="files of points, or folders")
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=".ply with what wasn't hidden and what was drawn (field drawn); of several clouds a folder",
    )
    parser.add_argument(
        "--original",
        metavar="FILE",
        help="also the cloud as it was: .ply with the field hidden; of several clouds a folder",
    )
    parser.add_argument(
        "--mask-ratio",
        type=float,
        metavar="R",
        help="share of hidden patches; as in training if unset",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="which patches are hidden")
    parser.add_argument(
        "--checkpoint", default="best", metavar="WHICH", help="best, last or a step"
    )


def _run_reconstruct(args: argparse.Namespace, console: Speaker) -> int:
    from isoform.pointcloud.reconstruct import run_reconstruct

    return run_reconstruct(args, console)


DOMAIN = Pointcloud()
