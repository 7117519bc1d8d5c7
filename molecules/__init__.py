"""The molecules domain: Graphormer and a graph transformer on the shared backbone. Its wiring; read it first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

from isoform.core.domain import Domain

if TYPE_CHECKING:
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
    from isoform.molecules.config import MoleculesApp
    from isoform.molecules.data.dataset import MoleculeData
    from isoform.molecules.state import MoleculesState


class Molecules(Domain["MoleculesApp", "MoleculesState", "MoleculeData"]):
    """Properties of molecules from their 2D graphs."""

    name = "molecules"
    summary = "molecules: properties from SMILES, with Graphormer"
    fitted = ("target_mean", "target_std")

    def schema(self) -> type[MoleculesApp]:
        """See config.py."""
        from isoform.molecules.config import MoleculesApp

        return MoleculesApp

    def state_schema(self) -> type[MoleculesState]:
        """See state.py."""
        from isoform.molecules.state import MoleculesState

        return MoleculesState

    def prepare(self, config: MoleculesApp) -> Prepared[MoleculesApp, MoleculeData]:
        """Molecules read, cleaned, split and made graphs; see prepare.py."""
        from isoform.molecules.prepare import prepare

        return prepare(config)

    def task(self, prepared: Prepared[MoleculesApp, MoleculeData]) -> Task:
        """See task.py."""
        from isoform.molecules.task import MoleculesTask

        return MoleculesTask(prepared.config, prepared.data)

    def check(self, config: MoleculesApp) -> CheckReport:
        """See data/check.py."""
        from isoform.molecules.data.check import check

        return check(config)

    def app_of_path(self, path: Path) -> MoleculesApp:
        """graphormer-own on a file."""
        from isoform.core.config import resolve_app

        app = resolve_app("graphormer-own", domain=self, settings={"data.path": str(path)})
        return cast("MoleculesApp", app)

    def build_from_run(self, config: MoleculesApp, state: MoleculesState) -> nn.Module:
        """See models.py."""
        from isoform.molecules.models import build_from_run

        return build_from_run(config, state)

    def task_from_run(self, config: MoleculesApp, state: MoleculesState, data: Path | None) -> Task:
        """See task.py."""
        from isoform.molecules.task import task_from_run

        return task_from_run(config, state, data)

    def baseline(
        self, trained: TrainedModel[MoleculesApp, MoleculesState], folder: Path, name: str
    ) -> Predictor:
        """See stored_baselines.py."""
        from isoform.molecules.stored_baselines import BaselinePredictor, read

        return BaselinePredictor(trained, read(folder, name, trained.state))

    def outputs(self, config: MoleculesApp, state: MoleculesState) -> Outputs:
        """Of classes and labels their logits."""
        if state.kind == "multiclass":
            return "classes"
        return "labels" if state.kind in ("binary", "multilabel") else "numbers"

    def predictor(self, trained: TrainedModel[MoleculesApp, MoleculesState]) -> Predictor:
        """See predictor.py."""
        from isoform.molecules.predictor import MoleculePredictor

        return MoleculePredictor(trained)

    def join_folds(
        self, members: Sequence[TrainedModel[MoleculesApp, MoleculesState]]
    ) -> tuple[MoleculesState, list[nn.Module]]:
        """See folds.py."""
        from isoform.molecules.folds import join_folds

        return join_folds(members)

    def graph(self, trained: TrainedModel[MoleculesApp, MoleculesState]) -> Graph:
        """See export.py."""
        from isoform.molecules.export import graph_of

        return graph_of(trained)

    def from_facts(
        self, trained: TrainedModel[MoleculesApp, MoleculesState], facts: Mapping[str, Any]
    ) -> TrainedModel[MoleculesApp, MoleculesState]:
        """See export.py."""
        from isoform.molecules.export import config_of_facts

        told = super().from_facts(trained, facts)
        return replace(told, config=config_of_facts(told.config, facts))

    def import_weights(
        self, source: str, layout: str | None = None, config: MoleculesApp | None = None
    ) -> ImportedModel[MoleculesApp, MoleculesState]:
        """Official checkpoints of Graphormer; see graphormer/pretrained.py."""
        from isoform.molecules.graphormer.pretrained import import_checkpoint

        return import_checkpoint(source, layout, config)

    def export_formats(self) -> Mapping[str, Export]:
        """The official code bases' own."""
        return {"official": self.write_official, "transformers": self.write_transformers}

    def write_official(
        self, trained: TrainedModel[MoleculesApp, MoleculesState], out: Path
    ) -> None:
        """A file of microsoft/Graphormer; see export.py."""
        from isoform.molecules.export import write_official

        write_official(trained, out)

    def write_transformers(
        self, trained: TrainedModel[MoleculesApp, MoleculesState], out: Path
    ) -> None:
        """A folder of transformers; see export.py."""
        from isoform.molecules.export import write_transformers

        write_transformers(trained, out)

    def app_of_model(self, name: str, **options: Any) -> tuple[MoleculesApp, MoleculesState]:
        """A size ("graphormer-slim"), or an app; see models.py."""
        from isoform.molecules.models import app_of_model

        return app_of_model(name, **options)

    def describe(self, config: MoleculesApp, *, detail: bool = True) -> Mapping[str, Any]:
        """See describe.py."""
        from isoform.molecules.describe import describe

        return describe(config, detail)


DOMAIN = Molecules()
