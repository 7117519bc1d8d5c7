"""A run's model, loaded for evaluating, predicting and exporting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from inspect import ismethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from isoform.core.config import load_run_config
from isoform.core.data.folds import is_fold
from isoform.core.data.writers import Unwritable
from isoform.core.domain import AnyDomain, Predictor, Prepared, Task, TrainedModel
from isoform.core.engine import distributed, precision
from isoform.core.engine.evaluate import evaluate, load_weights
from isoform.core.engine.groups import judge_groups
from isoform.core.engine.kept import OwnSplit, look_at_own, refuse_missing_place
from isoform.core.engine.seen import describe_unseen, evaluate_apart
from isoform.core.errors import UserError
from isoform.core.runs.folder import RunFolder, runs_in
from isoform.core.supervised.ensemble import Ensemble

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    import numpy as np


def load_trained(
    domain: AnyDomain, run_dir: str | Path, checkpoint: str | int = "best"
) -> TrainedModel[Any, Any]:
    """A run's model in evaluation mode, built without its data; the averaged weights where the run has them.

    Of a group of seeds or folds, all of them as one `Ensemble`. Raises UserError for a folder that isn't a run of this
    domain or is damaged, and for an unknown checkpoint.
    """
    runs = runs_in(run_dir)
    if len(runs) == 1:
        return _load_one(domain, runs[0], checkpoint)
    members = [_load_one(domain, run, checkpoint) for run in runs]
    first = members[0]
    if is_fold(first.config):
        state, models = domain.join_folds(members)
        state = state.model_copy(update={"seen": _seen_by_any(members)})
        ensemble = Ensemble(models, domain.outputs(first.config, state)).eval()
        return replace(first, state=state, model=ensemble, folder=Path(run_dir))
    for other in members[1:]:
        if other.state.to_json() != first.state.to_json():
            raise UserError(
                f"{other.folder} and {first.folder} learned from different data: predict with each by itself"
            )
    state = first.state.model_copy(update={"calibration": RunFolder(run_dir).calibration()})
    outputs = domain.outputs(first.config, first.state)
    model = Ensemble([member.model for member in members], outputs).eval()
    return replace(first, state=state, model=model, folder=Path(run_dir))


def _seen_by_any(members: Sequence[TrainedModel[Any, Any]]) -> np.ndarray | None:
    """Digests of what any of them was trained on; None where one doesn't know."""
    import numpy as np

    each = [member.state.seen for member in members]
    known = [seen for seen in each if seen is not None]
    return np.unique(np.concatenate(known)) if len(known) == len(each) else None


def _load_one(domain: AnyDomain, run_dir: Path, checkpoint: str | int) -> TrainedModel[Any, Any]:
    run = RunFolder(run_dir)
    config = load_run_config(run.path, domain)
    state = run.state(domain.state_schema())
    model = domain.build_from_run(config, state)
    load_weights(model, run.load_weights(checkpoint), f"{run.path} (checkpoint {checkpoint})")
    return TrainedModel(
        config, state, model.eval(), run.path, run.step_of(checkpoint), run.precision()
    )


def load_model(domain: AnyDomain, run_dir: str | Path, checkpoint: str | int = "best") -> nn.Module:
    """The model alone; see `load_trained`."""
    return load_trained(domain, run_dir, checkpoint).model


def evaluate_together(
    domain: AnyDomain, group: RunFolder, prepared: Prepared[Any, Any]
) -> dict[str, dict[str, float]]:
    """Metrics of a group's ensemble on validation and test; writes its calibration.npz and predictions.* there."""
    trained = load_trained(domain, group.path)
    task = domain.task(replace(prepared, config=trained.config))
    model = trained.model.to(distributed.this_process().device)
    metrics = {}
    for split in ("val", "test"):
        if not task.sizes().get(split):
            continue
        metrics[split], outputs = evaluate(task, model, split, precision_name=trained.precision)
        if split == "val":
            group.write_arrays("calibration.npz", task.calibrate(outputs))
        else:
            task.write_predictions(group.path, split, outputs)
    return metrics


def evaluate_run(
    domain: AnyDomain,
    run_dir: str | Path,
    *,
    split: str = "test",
    data: str | Path | None = None,
    checkpoint: str | int = "best",
    out: str | Path | None = None,
) -> dict[str, Any]:
    """Evaluates a run's checkpoint (its average where it has one) on `split` of its own data, or of the data at `data`.

    Its own split is the one that it keeps: what was added to the data since isn't judged, and what changed is said.
    Computes in the precision that the run's metrics were measured in, and writes predictions.* into the folder `out`,
    by default the run's (predictions.SPLIT.* of another split, with the name of other data behind it, or "changed"
    where content did); a run folder that can't be written is a note. Raises UserError for a folder that isn't a run, an
    unknown checkpoint, data that don't fit the run, samples of its split that are gone, or an `out` that can't be
    written.
    """
    trained = load_trained(domain, run_dir, checkpoint)
    kept = None
    if data is None:
        refuse_missing_place(trained.folder, trained.config)
        kept = RunFolder(runs_in(run_dir)[0]).split()
    state = trained.state.model_copy(update={"kept": kept})
    task = domain.task_from_run(trained.config, state, None if data is None else Path(data))
    own = look_at_own(task, kept, split) if data is None else OwnSplit()
    device = distributed.this_process().device
    known = trained.state.seen if data is not None or split == "test" else None
    metrics, outputs, unseen = evaluate_apart(
        task, trained.model.to(device), split, known, precision_name=trained.precision
    )
    stem = "predictions" if split == "test" else f"predictions.{split}"
    other = own.suffix if data is None else Path(data).stem
    stem = f"{stem}.{other}" if other else stem
    told = _keep_predictions(task, trained.folder, out, split, outputs, stem)
    if unseen is not None:
        told.append(describe_unseen(task, unseen, "the run"))
    groups = judge_groups(task, split, outputs)
    return {
        "app": trained.config.app,
        "domain": domain.name,
        "split": split,
        "checkpoint": trained.step,
        "samples": task.sizes()[split],
        "judged": task.judged(split),
        "notes": [*own.notes, *task.notes, *told],
        "metrics": metrics,
        "intervals": task.intervals(split, outputs),
        "unseen": None if unseen is None else unseen.to_json(),
        **({"groups": groups} if groups else {}),
    }


def _keep_predictions(
    task: Task,
    folder: Path,
    out: str | Path | None,
    split: str,
    outputs: Mapping[str, np.ndarray],
    stem: str,
) -> list[str]:
    """Writes predictions.* into `out`, or into the run's folder; says so where that can't be written."""
    place = folder if out is None else Path(out)
    try:
        place.mkdir(parents=True, exist_ok=True)
        task.write_predictions(place, split, outputs, stem)
    except (OSError, Unwritable) as error:
        why = f"{place}: can't be written" if isinstance(error, OSError) else str(error)
        if out is not None:
            raise UserError(f"{why.partition(';')[0]}; name a folder with --out") from error
        return [f"predictions are not kept, as {why.partition(';')[0]}; name a folder with --out"]
    return []


class Features(nn.Module):
    """A model's trunk alone: what its `features` gives for whatever the model takes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, *inputs: Any, **named: Any) -> Any:
        """See the model's `features`."""
        features: Any = self.model.features
        return features(*inputs, **named)


class PredictorInPrecision(Predictor):
    """A predictor in the number format that the run's stored metrics were measured in."""

    def __init__(self, inner: Predictor, precision_name: str) -> None:
        self.inner = inner
        self.precision_name = precision_name

    def predict(self, inputs: Any) -> list[dict[str, Any]]:
        """See Predictor.predict."""
        self.inner.speaker = self.speaker
        return self._in_precision(self.inner.predict)(inputs)

    def embed(self, inputs: Any) -> np.ndarray:
        """See Predictor.embed."""
        self.inner.speaker = self.speaker
        return self._in_precision(self.inner.embed)(inputs)

    def outputs(self, inputs: Any) -> np.ndarray:
        """See Predictor.outputs."""
        self.inner.speaker = self.speaker
        return self._in_precision(self.inner.outputs)(inputs)

    def draw(self, rows: Sequence[Mapping[str, Any]]) -> str:
        """See Predictor.draw."""
        return self._in_precision(self.inner.draw)(rows)

    def demand(self, probability: float) -> None:
        """See Predictor.demand."""
        self.inner.demand(probability)

    def adopt(self, options: argparse.Namespace) -> None:
        """See Predictor.adopt."""
        self.inner.adopt(options)

    def remarks(self, rows: Sequence[Mapping[str, Any]]) -> list[str]:
        """See Predictor.remarks."""
        return self.inner.remarks(rows)

    def expand(self, inputs: Any) -> Sequence[Any]:
        """See Predictor.expand."""
        self.inner.speaker = self.speaker
        return self.inner.expand(inputs)

    def cells_of(self, item: Any) -> Mapping[str, Any]:
        """See Predictor.cells_of."""
        return self.inner.cells_of(item)

    def __getattr__(self, name: str) -> Any:
        """What else a domain's predictor offers, such as `forecast`; its methods in the same number format."""
        if name == "inner":
            raise AttributeError(name)
        offered = getattr(self.inner, name)
        return self._in_precision(offered) if ismethod(offered) else offered

    def _in_precision(self, method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def call(*args: Any, **keywords: Any) -> Any:
            with precision.autocast(self.precision_name, distributed.this_process().device):
                return method(*args, **keywords)

        return call
