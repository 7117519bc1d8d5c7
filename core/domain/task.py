"""What the engine's two loops need of an app on its data: `Task`, and how the predictions of one pass add up."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from isoform.core.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import Tensor, nn

    from isoform.core.baselines import Baseline
    from isoform.core.config.schema import AppConfig
    from isoform.core.config.state import RunState
    from isoform.core.domain.kept_split import KeptSplit

Batch = Any  # a pytree of tensors whose first axis is the sample, as Task.collate makes it


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
    # Set while processes pass through each block together: no batch may pass more often than another.
    even_passes: bool = False
    items: str = "samples"  # what they are called in a sentence
    kept_items: str = ""  # those of `kept_split`, where they are others
    notes: Sequence[str] = ()  # of a result, for a person: console, results.json, report
    has_labels: bool = False  # True: `suspects` is asked about validation and test
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

    def sample_name(self, split: str, index: int) -> str:
        """What a person knows sample `index` of `split` by, such as its file; its number by default."""
        return str(index)

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
        yield self.loss(
            model,
            batch,
        )

    @abc.abstractmethod
    def predict(self, model: nn.Module, batch: Batch) -> Mapping[str, Tensor]:
        """Predictions and targets, first axis the sample: what `metrics` and predictions.* need."""

    @abc.abstractmethod
    def metrics(self, split: str, outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Named metrics over a whole split, `monitor` among them; `outputs` are predict's, joined in sample order."""

    def intervals(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> dict[str, tuple[float, float]]:
        """(low, high) of metrics: the middle 95 % over resamples (core/supervised/bootstrap.py); none by default.

        `outputs` are the accumulator's; metrics whose resampling would take long have none.
        """
        return {}

    def judged(self, split: str) -> str:
        """One line that says which samples an evaluation of `split` judges; it goes to console and --json."""
        return f"judged: {self.sizes()[split]:,} samples, split {split}"

    def accumulator(self, split: str) -> MetricAccumulator:
        """Where the predictions of one pass over `split` go: by default all are kept, and judged by `metrics`.

        A domain whose predictions of a whole split don't fit into memory returns one that sums as they come by.
        """
        return CollectAll(self, split)

    def groups(self, split: str) -> Sequence[str | None] | None:
        """The group (data.group) of each sample of a split, None of one without; None where there are no groups.

        A task that gives them has `metrics` of outputs whose first axis is the sample.
        """
        return None

    def group_metrics(
        self, split: str, outputs: Mapping[str, np.ndarray]
    ) -> Mapping[str, Mapping[str, float]] | None:
        """The number of `samples` and metrics of each group that the task itself adds up: the series of a panel.

        None (the default): `groups` says whose samples are which.
        """
        return None

    def digests(self, split: str) -> np.ndarray | None:
        """uint64 [N, D] of a split's samples (core/data/digests.py), each known again by any; None: never."""
        return None

    @property
    def calibrates(self) -> bool:
        """Whether `calibrate` has anything to learn, for it takes another pass over validation."""
        return type(self).calibrate is not Task.calibrate

    def kept_split(self, before: KeptSplit | None = None) -> KeptSplit | None:
        """Its samples by name and content, for the run to keep; None (the default) where they have neither.

        before   what a run kept of the same data: files that weren't touched since are not read again, and stretches
                 of series are looked at where that run has them
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

    def last_layer(self, model: nn.Module) -> LastLayer:
        """The linear layer behind the trunk of `model`, for train.probe. Raises UserError where there is none such."""
        raise UserError(
            "train.probe fits the one linear layer behind a trunk, and this model has none; leave it out"
        )

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

    def importance(self, model: nn.Module, split: str) -> dict[str, float]:
        """Share by which the error of `split` grows where a thing that the model reads is exchanged between samples.

        By the thing's name; goes to results.json and to the console. Empty by default, and where the model reads one
        thing alone.
        """
        return {}

    def suspects(self, split: str, outputs: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
        """Labels of `split` that the outputs find improbable; none by default. See supervised/suspects.py.

        A row each: "sample", its number in the split, and what suspected_labels.csv is to say of it.
        """
        return []

    def figures(self, model: nn.Module, outputs: Mapping[str, np.ndarray]) -> list[Figure]:
        """The domain's pictures for report.html, drawn from the test outputs."""
        return []


class MetricAccumulator(abc.ABC):
    """What one pass over a split adds up to: predictions go in batch by batch, metrics and what is kept come out."""

    @abc.abstractmethod
    def add(self, indices: Sequence[int], outputs: Mapping[str, np.ndarray]) -> None:
        """One batch: Task.predict's outputs, and the samples that they are of; each sample comes once, in any order."""

    def add_part(
        self, indices: Sequence[int], outputs: Mapping[str, np.ndarray], places: Sequence[int]
    ) -> None:
        """`add` of the samples at some places of a batch alone; for outputs without a row a sample a task says how."""
        kept = {name: value[list(places)] for name, value in outputs.items()}
        self.add([indices[place] for place in places], kept)

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
class LastLayer:
    """A model's last layer by itself: Task.loss and Task.predict take it in the model's place on a batch of features.

    features  [B, D] what the layer reads, of a batch; in evaluation mode
    name      the entry of a batch that the trunk reads, and that features take the place of
    """

    layer: nn.Linear
    features: Callable[[Batch], Tensor]
    name: str


@dataclass(frozen=True)
class InitialWeights:
    """Weights to start from, in isoform's names. `domain`: whose they are ("" unknown); `licence` goes to card.md."""

    weights: Mapping[str, Tensor]
    source: str  # a name to show, never a path of this machine
    domain: str = ""
    licence: str = "unknown"
    seen: np.ndarray | None = field(default=None, compare=False)  # digests of what it learned from


@dataclass(frozen=True)
class File:
    """A sample by its name among the data, with its file where it has one: a page links to it while it is there."""

    name: str
    path: Path | None = None


@dataclass(frozen=True)
class Figure:
    """One picture of a report: SVG (matplotlib) or an HTML table, already safe, and a caption that will be escaped.

    head, rows   a table below the picture, whose cells will be escaped too
    scene        what a reader turns, by its kind: points (core/report/points.py), balls joined by sticks (balls.py);
                 the SVG stands in for it where no script runs
    """

    caption: str
    svg: str = ""
    html: str = ""
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str | File]] = ()
    scene: Mapping[str, Any] | None = None
