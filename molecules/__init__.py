"""The molecules domain on the shared backbone. Its wiring; read it first.

Graphormer and a graph transformer predict properties of molecules; the all-atom diffusion transformer (adit/) generates
molecules and crystals.
"""

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
        Verb,
    )
    from isoform.molecules.adit.config import AditApp
    from isoform.molecules.adit.dataset import SystemsData
    from isoform.molecules.config import MoleculesApp
    from isoform.molecules.data.dataset import MoleculeData
    from isoform.molecules.state import MoleculesState

    AnyApp = MoleculesApp | AditApp  # of properties, of structures
    AnyData = MoleculeData | SystemsData
    AnyTrained = TrainedModel[Any, MoleculesState]


class Molecules(Domain["AnyApp", "MoleculesState", "AnyData"]):
    """Properties of molecules from their 2D graphs; structures of molecules and crystals from noise."""

    name = "molecules"
    summary = "molecules: properties from SMILES with Graphormer, structures with ADiT"
    predict_options = ("draw", "with", "min-probability")
    fitted = ("target_mean", "target_std")

    def schema(self) -> type[AnyApp]:
        """See config.py."""
        from isoform.molecules.config import MoleculesApp

        return MoleculesApp

    def schema_of(self, tree: Mapping[str, Any]) -> type[AnyApp]:
        """Of model.family = "adit" adit/config.py."""
        model = tree.get("model")
        if not isinstance(model, Mapping) or model.get("family") != "adit":
            return self.schema()
        from isoform.molecules.adit.config import AditApp

        return AditApp

    def state_schema(self) -> type[MoleculesState]:
        """See state.py."""
        from isoform.molecules.state import MoleculesState

        return MoleculesState

    def prepare(self, config: AnyApp) -> Prepared[AnyApp, AnyData]:
        """Molecules read, cleaned, split and made graphs, see prepare.py; systems, see adit/prepare.py."""
        if config.model.family == "adit":
            from isoform.molecules.adit.prepare import prepare as prepare_systems

            return cast("Prepared[AnyApp, AnyData]", prepare_systems(cast("AditApp", config)))
        from isoform.molecules.prepare import prepare

        return cast("Prepared[AnyApp, AnyData]", prepare(cast("MoleculesApp", config)))

    def task(self, prepared: Prepared[AnyApp, AnyData]) -> Task:
        """See task.py and adit/task.py."""
        if prepared.config.model.family == "adit":
            from isoform.molecules.adit.task import make_task

            return make_task(cast("Prepared[AditApp, SystemsData]", prepared))
        from isoform.molecules.task import MoleculesTask

        return MoleculesTask(
            cast("MoleculesApp", prepared.config), cast("MoleculeData", prepared.data)
        )

    def check(self, config: AnyApp) -> CheckReport:
        """See data/check.py and adit/prepare.py."""
        if config.model.family == "adit":
            from isoform.molecules.adit.prepare import check as check_systems

            return check_systems(cast("AditApp", config))
        from isoform.molecules.data.check import check

        return check(cast("MoleculesApp", config))

    def app_of_path(self, path: Path) -> AnyApp:
        """graphormer-own on a table of molecules or an SD file; adit-own on files and folders of structures."""
        from isoform.core.config import resolve_app
        from isoform.molecules.systems.read import holds_structures

        app = "adit-own-vae" if holds_structures(path) else "graphormer-own"
        return cast("AnyApp", resolve_app(app, domain=self, settings={"data.path": str(path)}))

    def build_from_run(self, config: AnyApp, state: MoleculesState) -> nn.Module:
        """See models.py and adit/model.py."""
        if config.model.family == "adit":
            from isoform.molecules.adit.model import build_model

            return build_model(cast("AditApp", config))
        from isoform.molecules.models import build_from_run

        return build_from_run(cast("MoleculesApp", config), state)

    def task_from_run(self, config: AnyApp, state: MoleculesState, data: Path | None) -> Task:
        """See task.py and adit/task.py."""
        if config.model.family == "adit":
            from isoform.molecules.adit.task import task_from_run as systems_from_run

            return systems_from_run(cast("AditApp", config), state, data)
        from isoform.molecules.task import task_from_run

        return task_from_run(cast("MoleculesApp", config), state, data)

    def baseline(self, trained: AnyTrained, folder: Path, name: str) -> Predictor:
        """See stored_baselines.py."""
        from isoform.molecules.stored_baselines import BaselinePredictor, read

        return BaselinePredictor(trained, read(folder, name, trained.state))

    def outputs(self, config: AnyApp, state: MoleculesState) -> Outputs:
        """Of classes and labels their logits."""
        if state.kind == "multiclass":
            return "classes"
        return "labels" if state.kind in ("binary", "multilabel") else "numbers"

    def predictor(self, trained: AnyTrained) -> Predictor:
        """See predictor.py and adit/predictor.py."""
        if trained.config.model.family == "adit":
            from isoform.molecules.adit.predictor import SystemsPredictor

            return SystemsPredictor(trained)
        from isoform.molecules.predictor import MoleculePredictor

        return MoleculePredictor(trained)

    def join_folds(self, members: Sequence[AnyTrained]) -> tuple[MoleculesState, list[nn.Module]]:
        """See folds.py."""
        from isoform.molecules.folds import join_folds

        return join_folds(members)

    def graph(self, trained: AnyTrained) -> Graph:
        """See export.py; of structures there is none."""
        if trained.config.model.family == "adit":
            return super().graph(trained)
        from isoform.molecules.export import graph_of

        return graph_of(trained)

    def from_facts(self, trained: AnyTrained, facts: Mapping[str, Any]) -> AnyTrained:
        """See export.py."""
        from isoform.molecules.export import config_of_facts

        told = super().from_facts(trained, facts)
        return replace(told, config=config_of_facts(cast("MoleculesApp", told.config), facts))

    def import_weights(
        self, source: str, layout: str | None = None, config: AnyApp | None = None
    ) -> ImportedModel[AnyApp, MoleculesState]:
        """Official checkpoints of Graphormer and of ADiT; see pretrained.py of each."""
        from isoform.core.pretrained.source import read_source
        from isoform.molecules.adit import pretrained as adit

        opened = read_source(source)
        if layout in adit.LAYOUTS or (layout is None and adit.recognise(opened)):
            told = adit.settings_for(config)
            return cast(
                "ImportedModel[AnyApp, MoleculesState]",
                adit.import_checkpoint(opened, layout, told),
            )
        from isoform.molecules.graphormer.pretrained import import_checkpoint

        return cast(
            "ImportedModel[AnyApp, MoleculesState]",
            import_checkpoint(opened, layout, cast("MoleculesApp | None", config)),
        )

    def export_formats(self) -> Mapping[str, Export]:
        """The official code bases' own."""
        return {"official": self.write_official, "transformers": self.write_transformers}

    def write_official(self, trained: AnyTrained, out: Path) -> None:
        """A file of microsoft/Graphormer, see export.py, or of ADiT, see adit/pretrained.py."""
        if trained.config.model.family == "adit":
            from isoform.molecules.adit.pretrained import write_lightning

            write_lightning(out, trained.config, trained.weights(), trained.state)
            return
        from isoform.molecules.export import write_official

        write_official(trained, out)

    def write_transformers(self, trained: AnyTrained, out: Path) -> None:
        """A folder of transformers; see export.py."""
        from isoform.molecules.export import write_transformers

        write_transformers(trained, out)

    def app_of_model(self, name: str, **options: Any) -> tuple[AnyApp, MoleculesState]:
        """A size ("graphormer-slim"), or an app; see models.py."""
        from isoform.molecules.models import app_of_model

        return app_of_model(name, **options)

    def describe(self, config: AnyApp, *, detail: bool = True) -> Mapping[str, Any]:
        """See describe.py and adit/describe.py."""
        if config.model.family == "adit":
            from isoform.molecules.adit.describe import describe as describe_adit

            return describe_adit(cast("AditApp", config), detail)
        from isoform.molecules.describe import describe

        return describe(config, detail)

    def verbs(self) -> Mapping[str, Verb]:
        """See adit/sampling."""
        from isoform.molecules.adit.sampling.verb import SAMPLE

        return {"sample": SAMPLE}


DOMAIN = Molecules()
