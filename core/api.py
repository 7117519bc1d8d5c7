"""What the command line and the Python API have in common: train an app, load a run, import a checkpoint.

Nothing here prints, but for `say`, which gets the lines that a person should see.
"""

from __future__ import annotations

import functools
import inspect
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isoform.core import config as configs
from isoform.core.config import toml
from isoform.core.config.keys import flatten
from isoform.core.domain import Domain, ImportedModel, Predictor
from isoform.core.engine import distributed, precision
from isoform.core.engine.evaluate import load_model, load_weights
from isoform.core.engine.train import train as run_engine
from isoform.core.errors import UserError
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs.checkpoint import Checkpoint
from isoform.core.runs.folder import RunFolder
from isoform.core.runs.results import reset_peak_memory, summarise_seeds

if TYPE_CHECKING:
    import numpy as np

    from isoform.core.config import AppConfig, Resolved

Say = Callable[[str], None]


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its results.json."""

    folder: Path
    results: Mapping[str, Any]
    domain: Domain = field(repr=False)

    @property
    def metrics(self) -> Mapping[str, Any]:
        """{"val": {name: value}, "test": {name: value}}; mean, std and values instead of a value for several seeds."""
        return dict(self.results.get("metrics", {}))

    def predictor(self, checkpoint: str = "best") -> Predictor:
        """The trained model, to predict and embed with."""
        return load_predictor(self.domain, self.folder, checkpoint)


@dataclass(frozen=True)
class Request:
    """What a training is asked for: an app of a domain, and what changes it."""

    domain: Domain
    app: str
    apps_file: str | None = None
    sets: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> Resolved:
        """The configuration, "auto" not yet settled. Raises ConfigError with every mistake."""
        return configs.resolve_layers(
            self.app, domain=self.domain, apps_file=self.apps_file, sets=self.sets, flags=self.flags,
            settings=self.settings,
        )  # fmt: skip

    def command(self) -> str:
        """The command line that asks for the same; where the run folder was is left out."""
        values = {**self.settings, **self.flags}
        sets = [*self.sets, *(f"{key}={toml.value(value)}" for key, value in values.items())]
        words = [
            "isoform",
            self.domain.name,
            "train",
            self.app,
            *(["--apps", self.apps_file] if self.apps_file else []),
        ]
        return shlex.join(words + [word for one in sets for word in ("--set", one)])


def train(
    request: Request, run_dir: str | Path | None = None, *, resume: bool = False, progress: bool = True, say: Say
) -> Run:
    """Trains one run; run_dir defaults to runs/APP-seedN.

    Raises UserError for a folder that holds a run, unless `resume`: then the run goes on with its own configuration,
    and what the request sets must agree with it.
    """
    reset_peak_memory()  # reading the data is a part of what this run takes
    domain = request.domain
    path = Path(run_dir) if run_dir is not None else _default_folder(request)
    run = RunFolder(path)
    started = (path / "config.toml").is_file()
    if not resume:
        _refuse_run(run)
    if started:
        config = _agreed(request, configs.load_run_config(path, domain))
    else:
        resolved, notes = configs.settle(request.resolve(), domain)
        config = resolved.config
        for note in notes:
            say(note)
    if started and run.results().get("status") == "finished":
        say(f"{path}: this run is finished")
        return Run(path, run.results(), domain)
    results = run_engine(domain.task(config), run, resume=resume, progress=progress, command=request.command(), say=say)
    return Run(path, results, domain)


def train_seeds(
    request: Request, seeds: int, run_dir: str | Path | None = None, *, resume: bool = False, progress: bool = True,
    say: Say,
) -> Run:  # fmt: skip
    """Trains with seeds 1 to `seeds` into RUN/seed-K; RUN/results.json gets mean, standard deviation and values."""
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: should be at least 1")
    path = Path(run_dir) if run_dir is not None else Path("runs") / f"{request.app}-seeds"
    group = RunFolder(path)
    if not resume:
        _refuse_run(group)
    runs = []
    for seed in range(1, seeds + 1):
        one = Request(**vars(request) | {"flags": {**request.flags, "train.seed": seed}})
        say(f"seed {seed} of {seeds}")
        runs.append(train(one, path / f"seed-{seed}", resume=resume, progress=progress, say=say))
    results = {
        "app": request.app, "domain": request.domain.name, "runs": [run.folder.name for run in runs],
        **summarise_seeds([run.results for run in runs]),
    }  # fmt: skip
    group.write_json("results.json", results)
    return Run(path, results, request.domain)


def runs_in(folder: str | Path) -> list[Path]:
    """The run itself, or the runs of a group that `train_seeds` made, by seed."""
    folder = Path(folder)
    seeds = sorted(folder.glob("seed-*/config.toml"), key=lambda path: (len(path.parent.name), path.parent.name))
    return [path.parent for path in seeds] if seeds and not (folder / "config.toml").exists() else [folder]


def _default_folder(request: Request) -> Path:
    return Path("runs") / f"{request.app}-seed{request.resolve().config.train.seed}"


def _refuse_run(run: RunFolder) -> None:
    if run.exists() or any(run.path.glob("seed-*/config.toml")):
        raise UserError(f"{run.path}: holds a run already; add --resume to go on with it, or name another --run-dir")
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path}: is a file; name a folder with --run-dir")


def _agreed(request: Request, stored: AppConfig) -> AppConfig:
    """The run's own configuration, if all that is asked for now agrees with it. Raises UserError with the diff."""
    if request.app != stored.app:
        raise UserError(f"the run is of {stored.app}, not of {request.app}; name another --run-dir")
    asked = dict(request.settings)
    if request.apps_file is not None:
        resolved = request.resolve()
        values = {".".join(path): value for path, value in flatten(configs.plain(resolved.config))}
        theirs = [key for key, layer in resolved.layers.items() if layer.startswith(f"{request.apps_file} ")]
        asked |= {key: values[key] for key in theirs if key in values}
    now = configs.override(stored, domain=request.domain, sets=request.sets, flags=request.flags, settings=asked)
    different = configs.diff(stored, now)
    if not different:
        return stored
    with suppress(UserError):  # the very command that started the run may say "auto" where the run has what came of it
        if not configs.diff(stored, configs.settle(request.resolve(), request.domain)[0].config):
            return stored
    raise UserError(
        "a resumed run keeps its settings, and these differ (the run's -> now asked for):\n  "
        + "\n  ".join(different)
        + "\nleave them out, or train into another --run-dir"
    )


class _InPrecision(Predictor):
    """A predictor in the number format that the run's stored metrics were measured in."""

    def __init__(self, inner: Predictor, precision_name: str) -> None:
        self.inner = inner
        self.name = precision_name

    def predict(self, inputs: Sequence[Any]) -> list[dict[str, Any]]:
        """See Predictor.predict."""
        with precision.autocast(self.name, distributed.this_process().device):
            return self.inner.predict(inputs)

    def embed(self, inputs: Sequence[Any]) -> np.ndarray:
        """See Predictor.embed."""
        with precision.autocast(self.name, distributed.this_process().device):
            return self.inner.embed(inputs)

    def __getattr__(self, name: str) -> Any:
        """What else a domain's predictor offers, such as `forecast`; its methods in the same number format."""
        if name == "inner":
            raise AttributeError(name)
        found = getattr(self.inner, name)
        if not inspect.ismethod(found):
            return found

        @functools.wraps(found)
        def call(*args: Any, **keywords: Any) -> Any:
            with precision.autocast(self.name, distributed.this_process().device):
                return found(*args, **keywords)

        return call


def load_predictor(domain: Domain, run_dir: str | Path, checkpoint: str = "best") -> Predictor:
    """The model of a run, to predict and embed with. Raises UserError where the folder isn't a run or is damaged."""
    config = configs.load_run_config(run_dir, domain)
    run = RunFolder(run_dir)
    model = load_model(domain, run, checkpoint=checkpoint)
    return _InPrecision(domain.predictor(config, run.portable(), model), run.precision())


def import_weights(
    domain: Domain, source: str, *, app: str | None = None, apps_file: str | None = None, sets: Sequence[str] = (),
    layout: str | None = None,
) -> ImportedModel:  # fmt: skip
    """A foreign checkpoint in isoform's layout, under the settings of an app and of `sets`."""
    config = None
    if app is not None:
        config = configs.resolve_app(app, domain=domain, apps_file=apps_file, sets=sets)
    elif sets:
        config = configs.bare(domain=domain, sets=sets)
    return domain.import_weights(source, layout, config)


def foreign_predictor(domain: Domain, imported: ImportedModel) -> Predictor:
    """The model of an imported checkpoint, to predict and embed with."""
    model = domain.rebuild(imported.config, imported.portable)
    load_weights(model, imported.weights, "the imported checkpoint")
    return domain.predictor(imported.config, imported.portable, model.eval())


def write_imported(imported: ImportedModel, domain: Domain, source: str, out: str | Path) -> Run:
    """Writes an imported checkpoint as a run folder, whole or not at all. Raises UserError where `out` is taken."""
    model = domain.rebuild(imported.config, imported.portable)
    load_weights(model, imported.weights, source)
    name = source if ":" in source else Path(source).name  # never a path of this machine
    results = {
        "app": imported.config.app, "domain": domain.name, "status": "imported",
        "parameters": sum(parameter.numel() for parameter in model.parameters()), "precision": "fp32",
        "source": name, "layout": imported.layout, "licence": imported.licence, "metrics": {}, "baselines": {},
    }  # fmt: skip
    with staged(out) as folder:
        run = RunFolder(folder)
        run.path.mkdir()
        run.write_text("config.toml", configs.dump_toml(configs.unclaimed(imported.config)))
        run.write_json("task.json", {**imported.portable, "licence": imported.licence})
        run.write_json("results.json", results)
        run.write_text("card.md", _card(imported, name))
        weights = Checkpoint(imported.weights, None, {}, {"place": {"step": 0, "best_step": 0}})
        checkpoints.write(run.checkpoints, 0, weights)
    return Run(Path(out), results, domain)


def export(domain: Domain, run_dir: str | Path, kind: str, out: str | Path, checkpoint: str = "best") -> None:
    """Writes a run's model in another format, whole or not at all. Raises UserError where `out` is taken."""
    configs.load_run_config(run_dir, domain)
    with staged(out) as path:
        domain.export[kind](Path(run_dir), path, checkpoint=checkpoint)


@contextmanager
def staged(out: str | Path) -> Iterator[Path]:
    """A path to write at; what is written there, and beside it, takes its place at the end if all went well.

    Raises UserError where something is in that place already, or nothing can be written.
    """
    final = Path(out)
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise UserError(f"{final}: exists already; name another --out")
    anchor = next(folder for folder in final.absolute().parents if folder.exists())
    try:
        with tempfile.TemporaryDirectory(dir=anchor, prefix=f".{final.name}.") as made:
            yield Path(made) / final.name
            final.parent.mkdir(parents=True, exist_ok=True)
            for written in Path(made).iterdir():
                written.replace(final.parent / written.name)
    except OSError as error:
        raise UserError(f"{final}: can't be written ({error.strerror}); name another --out") from error


def _card(imported: ImportedModel, source: str) -> str:
    notes = "".join(f"- {note}\n" for note in imported.notes)
    return (
        f"# {source}\n\nImported from the {imported.layout} layout; nothing was trained or measured here.\n\n"
        f"- licence of the weights: {imported.licence}\n{notes}"
    )
