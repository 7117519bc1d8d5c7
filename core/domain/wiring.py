"""What the command line and Python speak to: `Domain`, and what it hands over: data that were read, models, checks."""

from __future__ import annotations

import abc
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from isoform.core.domain.predictor import Predictor, Speaker
from isoform.core.domain.task import Task
from isoform.core.errors import UserError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from torch import Tensor, nn

    from isoform.core.config.schema import AppConfig
    from isoform.core.config.state import RunState

# Of a model: numbers, logits of classes of which one is true, or logits of labels, each true or not; sizes: of blocks
# of classes side by side, of each of which one is true.
Outputs = Literal["numbers", "classes", "labels"] | tuple[int, ...]
AppT = TypeVar("AppT", bound="AppConfig")  # the closed tables of a domain's apps
StateT = TypeVar("StateT", bound="RunState")  # its task.json
DataT = TypeVar("DataT")  # what its data are once read


@dataclass(frozen=True)
class Prepared(Generic[AppT, DataT]):
    """An app whose data have been read, once: training, its seeds, evaluating, checking and explaining pass it along.

    `config` has nothing left open ("auto", number of classes, scales); `notes` are lines that say what was found in the
    data and what was chosen, and `lost` those of them about cells, rows and files that could not be used.
    """

    config: AppT
    notes: Sequence[str]
    data: DataT
    lost: Sequence[str] = ()


@dataclass(frozen=True)
class ImportedModel(Generic[AppT, StateT]):
    """A foreign checkpoint in isoform's layout: the app config that rebuilds it, its weights, its preprocessing."""

    config: AppT
    weights: Mapping[str, Tensor]
    state: StateT
    layout: str
    notes: Sequence[str] = ()
    licence: str = "unknown"
    precision: str = "fp32"  # to compute in


@dataclass(frozen=True)
class TrainedModel(Generic[AppT, StateT]):
    """A run as predicting and exporting see it: its model in evaluation mode, averaged weights where it has them."""

    config: AppT
    state: StateT
    model: nn.Module
    folder: Path
    step: int  # of the checkpoint
    precision: str = "fp32"  # in which the stored metrics were measured

    @property
    def licence(self) -> str:
        """Of the weights that this run started from; empty where it started from random ones."""
        return self.state.licence or self.state.initial or ""

    def weights(self) -> dict[str, Tensor]:
        """The state dict, contiguous as safetensors wants it."""
        return {name: tensor.contiguous() for name, tensor in self.model.state_dict().items()}


@dataclass(frozen=True)
class Graph:
    """How another engine calls a model: named inputs whose first axis is the batch, and one output.

    `module` takes the inputs of `example(batch)` by their names. `free`: names of other axes whose size may change, by
    input and axis. `facts`: JSON that a consumer needs beside the graph; licence and calibration come with them.
    `inputs_of`: those of a call of the model itself, where they aren't the same by place and name.
    """

    module: nn.Module
    example: Callable[[int], dict[str, Tensor]]
    output: str
    facts: Mapping[str, Any]
    free: Mapping[str, Mapping[int, str]] = field(default_factory=dict)
    inputs_of: Callable[..., Mapping[str, Tensor]] | None = None


@dataclass
class CheckReport:
    """What `check` read: lines for a person, the same as JSON, and whether it should stop a training.

    `leakage`: a sample is in two splits, which may be allowed. `refusal`: with which sentence training refuses these
    data. `prepared`: what training makes of them otherwise, of which core finds out whether it could begin.
    """

    lines: list[str]
    data: dict[str, Any]
    leakage: bool = False
    page: str | None = None  # HTML page of samples
    refusal: str | None = None
    prepared: Prepared[Any, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Verb:
    """An extra command of a domain (`forecast`, `sample`): `run` speaks through the console and gives the exit code.

    What it puts into `console.result` is the object that --json prints.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Speaker], int]


BASE_FORMATS = (
    "bundle",
    "onnx",
    "openvino",
    "safetensors",
    "safetensors16",
)  # that core writes for every domain
PredictOption = Literal["draw", "with", "min-probability"]
Export = Callable[[TrainedModel[Any, Any], "Path"], None]  # writes a model in one format to a path


class Domain(abc.ABC, Generic[AppT, StateT, DataT]):
    """One domain. Its methods import what they need when called, so that one domain never loads another's libraries."""

    name: ClassVar[str]
    summary: ClassVar[str]
    # Of the formats of its own those that tell how an input is prepared, as a run does; with others the run's settings.
    telling_formats: ClassVar[tuple[str, ...]] = ()
    # Of `predict`'s options those that not every domain can serve and this one does; only they are offered.
    predict_options: ClassVar[tuple[PredictOption, ...]] = ()
    # Keys of data that training samples fill: each fold has its own.
    fitted: ClassVar[tuple[str, ...]] = ()

    # What its files hold -------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def schema(self) -> type[AppT]:
        """The closed tables of its apps."""

    def schema_of(self, tree: Mapping[str, Any]) -> type[AppT]:
        """The closed tables of an app that sets the keys of `tree`, where models of a domain differ in them."""
        return self.schema()

    @abc.abstractmethod
    def state_schema(self) -> type[StateT]:
        """The closed table of its runs' task.json."""

    # From data to a run --------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def prepare(self, config: AppT) -> Prepared[AppT, DataT]:
        """Reads the data and fills every "auto" from them. Preparing the prepared config again changes nothing in it.

        Raises UserError for data that are missing, hold nothing to learn or don't fit the config.
        """

    @abc.abstractmethod
    def task(self, prepared: Prepared[AppT, DataT]) -> Task:
        """The app made concrete on the data that were read; reads nothing itself."""

    @abc.abstractmethod
    def check(self, config: AppT) -> CheckReport:
        """What the data of an app hold, by the same pipeline as `prepare`: what stops a training is its `refusal`."""

    @abc.abstractmethod
    def app_of_path(self, path: Path) -> AppT:
        """The app that a user's own file or folder stands for by itself, as `check PATH` takes it."""

    # From a run to answers -----------------------------------------------------------------------------------------

    @abc.abstractmethod
    def build_from_run(self, config: AppT, state: StateT) -> nn.Module:
        """The model of a run, without its data, freshly initialised."""

    @abc.abstractmethod
    def task_from_run(self, config: AppT, state: StateT, data: Path | None) -> Task:
        """The task of a finished run, by its own classes and scales, on its own data (None) or on those at `data`."""

    @abc.abstractmethod
    def predictor(self, trained: TrainedModel[AppT, StateT]) -> Predictor:
        """A trained model on inputs from outside."""

    def baseline(self, trained: TrainedModel[AppT, StateT], folder: Path, name: str) -> Predictor:
        """A baseline that a run of this domain stored in `folder`, as a predictor in the model's place."""
        raise UserError(f"{self.name}: baselines of this domain are not stored; leave --with out")

    def outputs(self, config: AppT, state: StateT) -> Outputs:
        """What the model's outputs are, for the average of several models; numbers by default."""
        return "numbers"

    def join_folds(
        self, members: Sequence[TrainedModel[AppT, StateT]]
    ) -> tuple[StateT, list[nn.Module]]:
        """The models of a cross-validation side by side: all called, and answering, as one state says.

        Its calibration is theirs, joined. Raises UserError where they can't be, or learned from different data.
        """
        raise UserError(
            f"{self.name}: models of folds can't be joined; predict with each by itself"
        )

    def join_predictions(self, folders: Sequence[Path], out: Path) -> None:
        """Writes the folds' predictions of test into `out`, with their numbers; nothing where they are tables.

        Those core joins.
        """

    def expand_inputs(self, inputs: Sequence[str]) -> list[Any]:
        """Inputs of the command line as inputs of the predictor (folders, lists of names); as they are by default."""
        return list(inputs)

    def graph(self, trained: TrainedModel[AppT, StateT]) -> Graph:
        """How onnx and OpenVINO call the model. Raises UserError, in a sentence, where it has no fixed graph."""
        raise UserError(
            f"{trained.config.app}: this model has no fixed graph; export --format safetensors or bundle"
        )

    def from_facts(
        self, trained: TrainedModel[AppT, StateT], facts: Mapping[str, Any]
    ) -> TrainedModel[AppT, StateT]:
        """The run as an exported graph's facts tell it; a domain adds the settings that a consumer needs of them."""
        schema = self.state_schema()
        rows = schema.model_fields.keys() - {"calibration", "seen"}
        told = {name: value for name, value in facts.items() if name in rows}
        return replace(trained, state=schema.model_validate_json(json.dumps(told)))

    # Weights from and to elsewhere ---------------------------------------------------------------------------------

    @abc.abstractmethod
    def import_weights(
        self, source: str, layout: str | None = None, config: AppT | None = None
    ) -> ImportedModel[AppT, StateT]:
        """A foreign checkpoint in isoform's layout, under the settings of `config`. Raises UserError."""

    def export_formats(self) -> Mapping[str, Export]:
        """Formats of its own ("timm", "official"), beside those that core writes for every domain."""
        return {}

    # Models by name, for `isoform.create` ---------------------------------------------------------------------------

    @abc.abstractmethod
    def app_of_model(self, name: str, **options: Any) -> tuple[AppT, StateT]:
        """What `build_from_run` makes a model of that name from: a size, an app, a published name, with its options.

        Raises UserError for a name that nobody knows.
        """

    def published_source(self, name: str) -> str:
        """Where `pretrained=True` finds weights of that name, as `import_weights` reads it. Raises UserError."""
        raise UserError(
            f"{name}: no published weights come with isoform; name a run folder or a checkpoint with pretrained="
        )

    def import_named(self, name: str, source: str) -> ImportedModel[AppT, StateT]:
        """Weights for the model of that name; by default read under the settings of its app."""
        return self.import_weights(source, None, self.app_of_model(name)[0])

    def features(self, model: nn.Module, layers: Sequence[int] | None = None) -> nn.Module | None:
        """The trunk of a model alone, with maps after the blocks `layers`; None: what `model.features` gives."""
        if layers is not None:
            raise UserError(f"{self.name}: features come from behind the trunk; leave layers out")
        return None

    # What the command line adds ------------------------------------------------------------------------------------

    def describe(self, config: AppT, *, detail: bool = True) -> Mapping[str, Any]:
        """Rows that `apps` ("data", "model", "parameters", "source") and, with `detail`, `explain` add for an app."""
        return {}

    def predict_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Options of its own for `predict`, which `Predictor.adopt` gets; none by default."""

    def verbs(self) -> Mapping[str, Verb]:
        """Extra commands, by name."""
        return {}


AnyDomain = Domain[Any, Any, Any]
