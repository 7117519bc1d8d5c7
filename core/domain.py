"""The contract that each domain fills: `Domain` is what the command line and Python speak to, `Task` what engines run.

Both are handed to core and never looked up by it, so core stays ignorant of what the tokens mean.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from isoform.core.errors import UserError

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

    from isoform.core.baselines import Baseline
    from isoform.core.config.schema import AppConfig
    from isoform.core.config.state import RunState

# Of a model: numbers, logits of classes of which one is true, or logits of labels, each true or not.
Outputs = Literal["numbers", "classes", "labels"]
Batch = Any  # a pytree of tensors whose first axis is the sample, as Task.collate makes it
AppT = TypeVar("AppT", bound="AppConfig")  # the closed tables of a domain's apps
StateT = TypeVar("StateT", bound="RunState")  # its task.json
DataT = TypeVar("DataT")  # what its data are once read


class Task(abc.ABC):
    """One app made concrete: its data, model, loss and metrics. What the engine's two loops need, and nothing else.

    Everything random is handed in. `rng` is a pure function of (seed, epoch, index), so that the number of loader
    workers never changes a run and a resumed run sees what the uninterrupted one would have seen.
    """

    config: AppConfig
    monitor: str = "loss"  # the validation metric that selects the best checkpoint
    monitor_mode: str = "min"  # "min" or "max"
    augments: bool = True  # False: `sample` draws nothing, and gets no generator in training too
    bf16_ok: bool = False  # True: precision "auto" may choose bf16 (classification trunks)
    items: str = "samples"  # what they are called in a sentence
    notes: Sequence[str] = ()  # of a result, for a person: console, results.json, report
    # Name prefixes: what `--freeze trunk` holds and `--init` fills.
    trunk: tuple[str, ...] = ("backbone.", "tokeniser.")

    @abc.abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """Number of samples of each split that exists: "train", "val", "test"."""

    @abc.abstractmethod
    def build(self) -> nn.Module:
        """The model, freshly initialised from torch's global generator (the engine has seeded it)."""

    @abc.abstractmethod
    def sample(self, split: str, index: int, rng: np.random.Generator | None) -> Any:
        """Sample `index` of `split`; random augmentation draws from `rng` alone, and there is none where it is None."""

    @abc.abstractmethod
    def collate(self, samples: Sequence[Any]) -> Batch:
        """Samples to one batch."""

    def batches(self, split: str, size: int, rng: np.random.Generator | None) -> list[list[int]]:
        """The batches of one pass over `split` as lists of sample indices; shuffled where `rng` is given.

        The last, smaller batch is kept. A domain with ragged samples overrides this to put like sizes together.
        """
        import numpy as np  # here, so that a domain's wiring loads without it (`isoform DOMAIN --help`)

        order = np.arange(self.sizes()[split])
        if rng is not None:
            rng.shuffle(order)
        return [order[i : i + size].tolist() for i in range(0, len(order), size)]

    def mix(self, batch: Batch, rng: np.random.Generator) -> Batch:
        """Augmentation across the samples of a training batch (mixup, cutmix); none by default."""
        return batch

    @abc.abstractmethod
    def loss(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """{"loss": scalar mean over the batch, NAME: scalar to log, ...}.

        Runs under autocast when the precision is bf16: cast the model's outputs to float32 before the loss.
        """

    def passes(self, model: nn.Module, batch: Batch) -> Iterator[Mapping[str, Tensor]]:
        """Losses whose sum is what training minimises, for it goes backward through each before it asks for the next.

        One, `loss`, by default. A task that perturbs a batch along its gradient yields several, each divided by their
        number, and finds the perturbation's gradient where it takes up again.
        """
        yield self.loss(model, batch)

    @abc.abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Predictions and targets, first axis the sample: what `metrics` and predictions.* need."""

    @abc.abstractmethod
    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Named metrics over a whole split, `monitor` among them; `outputs` are predict's, joined in sample order."""

    def judged(self, split: str) -> str:
        """One line that says which samples an evaluation of `split` judges; it goes to console and --json."""
        return f"judged: {self.sizes()[split]:,} samples, split {split}"

    def accumulator(self, split: str) -> MetricAccumulator:
        """Where the predictions of one pass over `split` go: by default all are kept, and judged by `metrics`.

        A domain whose predictions of a whole split don't fit into memory returns one that sums as they come by.
        """
        return CollectAll(self, split)

    def digests(self, split: str) -> np.ndarray | None:
        """uint64 [N, D] of a split's samples, of which one is known again by any (core/data/digests.py); None: never.

        A task that gives them has `metrics` of outputs whose first axis is the sample.
        """
        return None

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the best checkpoint's outputs on validation teach about its uncertainty; nothing by default.

        Asked once, before test is evaluated. Its arrays, of plain numbers, come back as RunState.calibration.
        """
        return {}

    def initial_weights(self, source: str) -> InitialWeights | None:
        """Foreign weights that `train.init` names; None (the default) for a run folder or a file in isoform's names.

        Those the engine reads by itself. Raises UserError for what can't be read.
        """
        return None

    def adapt_weights(
        self, weights: Mapping[str, Tensor], model: nn.Module
    ) -> Mapping[str, Tensor]:
        """Initial weights made to fit `model` (a position table of another grid is resized); unchanged by default."""
        return weights

    def baselines(self) -> Sequence[Baseline]:
        """Simple methods to judge beside the model; listing them costs nothing, each is fitted when asked to."""
        return ()

    @abc.abstractmethod
    def inference_state(self) -> RunState:
        """What predicting elsewhere needs (class names, scaler, units, data hash): the run's task.json."""

    def card(self) -> dict[str, str]:
        """Rows of card.md that only the domain knows: "data", "licence", "preprocessing", ..."""
        return {}

    def write_predictions(
        self, folder: Path, split: str, outputs: Mapping[str, np.ndarray], stem: str = "predictions"
    ) -> list[Path]:
        """Writes STEM.* into the run folder; returns the files."""
        return []

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """The domain's pictures for report.html, drawn from the test outputs."""
        return []


class MetricAccumulator(abc.ABC):
    """What one pass over a split adds up to: predictions go in batch by batch, metrics and what is kept come out."""

    @abc.abstractmethod
    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """One batch: Task.predict's outputs, and the samples that they are of; each sample comes once, in any order."""

    @abc.abstractmethod
    def metrics(self) -> dict[str, float]:
        """Named metrics over all that was added, the task's `monitor` among them."""

    @abc.abstractmethod
    def outputs(self) -> dict[str, np.ndarray]:
        """What write_predictions, figures and calibrate get, in sample order."""


class CollectAll(MetricAccumulator):
    """Keeps everything, puts it into sample order and lets Task.metrics judge it."""

    def __init__(self, task: Task, split: str) -> None:
        self.task, self.split = task, split
        self.indices: list[int] = []
        self.parts: dict[str, list[np.ndarray]] = {}
        self.joined: dict[str, np.ndarray] | None = None

    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """See MetricAccumulator.add."""
        self.joined = None
        self.indices += indices
        for name, value in outputs.items():
            self.parts.setdefault(name, []).append(value)

    def metrics(self) -> dict[str, float]:
        """Task.metrics of the outputs."""
        return self.task.metrics(self.split, self.outputs())

    def outputs(self) -> dict[str, np.ndarray]:
        """Task.predict's outputs, first axis the sample, in sample order."""
        if self.joined is None:
            import numpy as np  # here, so that a domain loads without it (`isoform DOMAIN --help`)

            order = np.argsort(self.indices, kind="stable")
            self.joined = {name: np.concatenate(parts)[order] for name, parts in self.parts.items()}
            self.indices = [self.indices[i] for i in order]
            self.parts = {name: [value] for name, value in self.joined.items()}  # one copy, not two
        return self.joined


@dataclass(frozen=True)
class InitialWeights:
    """Weights to start from, in isoform's names. `domain`: whose they are ("" unknown); `licence` goes to card.md."""

    weights: Mapping[str, Tensor]
    source: str  # a name to show, never a path of this machine
    domain: str = ""
    licence: str = "unknown"
    seen: np.ndarray | None = field(default=None, compare=False)  # digests of what it learned from


@dataclass(frozen=True)
class Figure:
    """One picture of a report: SVG (matplotlib) or an HTML table, already safe, and a caption that will be escaped."""

    caption: str
    svg: str = ""
    html: str = ""


class Predictor(abc.ABC):
    """A trained model on inputs from outside, one or several in a list: what `isoform.load(RUN)` gives."""

    speaker: Speaker | None = None  # where notes on the inputs and progress go

    @abc.abstractmethod
    def predict(self, inputs: Any) -> list[dict[str, Any]]:
        """One row an item, in input order: the input's own columns, input, prediction, ..., error."""

    @abc.abstractmethod
    def embed(self, inputs: Any) -> np.ndarray:
        """[items, features] of the frozen trunk."""

    def expand(self, inputs: Any) -> Sequence[Any]:
        """The items that the inputs hold, a row each, which `predict` and `embed` take as they are."""
        return inputs if isinstance(inputs, list) else [inputs]

    def cells_of(self, item: Any) -> Mapping[str, Any]:
        """What stands beside an item in its file, by column: its identifiers and all else that is there."""
        return {}

    def track(self, parts: Sequence[Any], doing: str) -> Iterable[Any]:
        """The parts of some long work, with their progress shown where there is a speaker."""
        return parts if self.speaker is None else self.speaker.track(parts, doing)

    def remarks(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """What a person should know of the rows that `predict` made, in sentences; nothing by default."""
        return []

    def draw(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """A page (HTML) of the inputs as pictures of what their parts contribute, from what `predict` gave of them."""
        raise UserError("--draw: predictions of this domain are not drawn; leave it out")


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
    input and axis. `facts`: JSON that a consumer needs beside the graph; the licence is added. `inputs_of`: those of a
    call of the model itself, where they aren't the same by place and name.
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

    `leakage`: a sample is in two splits, which may be allowed. `refusal`: with which sentence training refuses.
    """

    lines: list[str]
    data: dict[str, Any]
    leakage: bool = False
    page: str | None = None  # HTML page of samples
    refusal: str | None = None


class Speaker(Protocol):
    """Where a verb of a domain speaks: core's console."""

    json: bool
    result: dict[str, Any]

    def say(self, *lines: str) -> None:
        """Lines for the reader."""

    def warn(self, line: str) -> None:
        """A line that must not mix with results."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "") -> None:
        """A table."""

    def track(self, parts: Sequence[Any], doing: str) -> Iterator[Any]:
        """The parts of some long work, with its progress shown."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """An extra command of a domain (`forecast`, `sample`): `run` speaks through the console and gives the exit code.

    What it puts into `console.result` is the object that --json prints.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Speaker], int]


BASE_FORMATS = ("bundle", "onnx", "openvino", "safetensors")  # that core writes for every domain
Export = Callable[[TrainedModel[Any, Any], "Path"], None]  # writes a model in one format to a path


class Domain(abc.ABC, Generic[AppT, StateT, DataT]):
    """One domain. Its methods import what they need when called, so that one domain never loads another's libraries."""

    name: ClassVar[str]
    summary: ClassVar[str]

    # What its files hold -------------------------------------------------------------------------------------------

    @abc.abstractmethod
    def schema(self) -> type[AppT]:
        """The closed tables of its apps."""

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

    def expand_inputs(self, inputs: Sequence[str]) -> list[Any]:
        """Inputs of the command line as inputs of the predictor (folders, lists of names); as they are by default."""
        return list(inputs)

    def graph(self, trained: TrainedModel[AppT, StateT]) -> Graph:
        """How onnx and OpenVINO call the model. Raises UserError, in a sentence, where it has no fixed graph."""
        raise UserError(
            f"{trained.config.app}: this model has no fixed graph; export --format safetensors or bundle"
        )

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

    def verbs(self) -> Mapping[str, Verb]:
        """Extra commands, by name."""
        return {}


AnyDomain = Domain[Any, Any, Any]
