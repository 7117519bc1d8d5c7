"""The contract that each domain fills: `Domain` wires a package to the command line, `Task` hands an app to the engine.

The engine and the command line receive these objects and never look a domain up, so core stays ignorant of what the
tokens mean.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    import numpy as np
    from torch import Tensor, nn

    from isoform.core.cli.console import Console
    from isoform.core.config import AppConfig

Batch = Any  # a pytree of tensors whose first axis is the sample, as Task.collate makes it


class Task(abc.ABC):
    """One app made concrete: its data, model, loss and metrics. What the engine's two loops need, and nothing else.

    Everything random is handed in. `rng` is a pure function of (seed, epoch, index), so that the number of loader
    workers never changes a run and a resumed run sees what the uninterrupted one would have seen.
    """

    config: AppConfig
    monitor: str = "loss"  # the validation metric that selects the best checkpoint
    monitor_mode: str = "min"  # "min" or "max"
    augments: bool = True  # False: `sample` draws nothing, and gets None for its generator in training too
    bf16_ok: bool = False  # True: precision "auto" may choose bf16 (classification trunks)
    trunk: tuple[str, ...] = ("backbone.", "tokeniser.")  # name prefixes: what `--freeze trunk` holds, `--init` fills

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

    def tally(self, split: str) -> Tally:
        """Where the predictions of one pass over `split` go: by default all are kept, and judged by `metrics`.

        A domain whose predictions of a whole split don't fit into memory returns one that sums as they come by.
        """
        from isoform.core.engine.evaluate import Collect

        return Collect(self, split)

    def calibrate(self, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the best checkpoint's outputs on validation (its tally's) teach about its uncertainty; nothing here.

        A task that overrides it is asked once, at the end of training and before the test split is evaluated. The
        arrays, of plain numbers, are written to the run's calibration.npz, and RunFolder.portable gives them back under
        "calibration".
        """
        return {}

    def parameter_groups(self, model: nn.Module) -> Mapping[str, int]:
        """Depth of each parameter for layer-wise learning-rate decay: 0 = input side; default from names `blocks.N`."""
        from isoform.core.engine.optim import depth_from_names

        return depth_from_names(model)

    def initial_weights(self, source: str) -> InitialWeights:
        """The weights named by `train.init`: a run folder or a .safetensors file in isoform's layout by default.

        A domain overrides it to read foreign checkpoints. Raises UserError for what can't be read.
        """
        from isoform.core.engine.warm_start import read

        return read(source)

    def adapt_weights(self, weights: Mapping[str, Tensor], model: nn.Module) -> Mapping[str, Tensor]:
        """Initial weights made to fit `model` (a position table of another grid is resized); unchanged by default."""
        return weights

    def baselines(self) -> dict[str, dict[str, dict[str, float]]]:
        """{NAME: {"val": metrics, "test": metrics}}, each fixed in code with its settings."""
        return {}

    def portable(self) -> dict[str, Any]:
        """JSON that predicting elsewhere needs (class names, scaler, units, data hash): the run's task.json.

        "calibration" is not for it to use: see `calibrate`.
        """
        return {}

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


class Tally(abc.ABC):
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


@dataclass(frozen=True)
class InitialWeights:
    """Weights to start from, in isoform's names. `domain`: whose they are ("" unknown); `licence` goes to card.md."""

    weights: Mapping[str, Tensor]
    source: str  # a name to show, never a path of this machine
    domain: str = ""
    licence: str = "unknown"


@dataclass(frozen=True)
class Figure:
    """One picture of a report: SVG (matplotlib) or an HTML table, already safe, and a caption that will be escaped."""

    caption: str
    svg: str = ""
    html: str = ""


class Predictor(abc.ABC):
    """A trained model on inputs from outside: what `isoform.load(RUN)` gives."""

    @abc.abstractmethod
    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """One row an input, in input order: input, prediction..., probability..., uncertainty, error."""

    @abc.abstractmethod
    def embed(self, inputs: Sequence[Any]) -> np.ndarray:
        """[inputs, features] of the frozen trunk."""


@dataclass(frozen=True, kw_only=True)
class Verb:
    """An extra command of a domain (`forecast`, `sample`): `run` speaks through the console and gives the exit code.

    What it puts into `console.result` is the object that --json prints.
    """

    help: str
    arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace, Console], int]


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The wiring of one domain; its functions import what they need when called, never before."""

    name: str
    summary: str
    schema: Callable[[], type[AppConfig]]  # the closed tables of its apps
    settle: Callable[[AppConfig], tuple[AppConfig, list[str]]]  # fills every "auto" from the data; notes to print
    task: Callable[[AppConfig], Task]  # reads the data
    predictor: Callable[[AppConfig, dict[str, Any], nn.Module], Predictor]  # config, RunFolder.portable(), loaded model
    rebuild: Callable[[AppConfig, dict[str, Any]], nn.Module]  # the model of a run, without its data
    check: Callable[[AppConfig | Path], CheckReport]
    expand_inputs: Callable[[Sequence[str]], list[Any]]  # command-line inputs to predictor inputs (folders, lists)
    import_weights: Callable[..., ImportedModel]  # (source, layout, app config or None) -> model in our layout
    export: Mapping[str, Callable[..., None]] = field(default_factory=dict)  # format -> (run folder, path, checkpoint=)
    verbs: Mapping[str, Verb] = field(default_factory=dict)
    describe: Callable[..., dict[str, Any]] | None = None  # (config, detail) -> rows that `apps` and `explain` add
    # The task of a finished run on its own (None) or on other data: class names and scalers are the run's portable()
    task_of_run: Callable[[AppConfig, dict[str, Any], Path | None], Task] | None = None


def lazily(package: str) -> Callable[[str], Callable[..., Any]]:
    """Gives, for a text "module:name", the function there below `package`, imported when it is called.

    So a domain's wiring costs no import of torch.
    """

    def later(path: str) -> Callable[..., Any]:
        module, name = path.split(":")

        def call(*args: Any, **keywords: Any) -> Any:
            return getattr(import_module(f"{package}.{module}"), name)(*args, **keywords)

        return call

    return later


@dataclass(frozen=True)
class ImportedModel:
    """A foreign checkpoint in isoform's layout: the app config that rebuilds it, its weights, its preprocessing."""

    config: AppConfig
    weights: Mapping[str, Tensor]
    portable: dict[str, Any]
    layout: str
    notes: Sequence[str] = ()
    licence: str = "unknown"


@dataclass
class CheckReport:
    """What `check` read: lines for a person, the same as JSON, and whether it should stop a training (leakage)."""

    lines: list[str]
    data: dict[str, Any]
    leakage: bool = False
    page: str | None = None  # HTML page of samples
