"""What the command line and the Python API have in common: train an app, load a run, import a checkpoint.

Nothing here prints, but for `say`, which gets the lines that a person should see.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import nn

from isoform.core import config as configs
from isoform.core.config import AppConfig, Resolved, load_run_config, toml
from isoform.core.config.keys import PLACES, flatten
from isoform.core.data.writers import staged
from isoform.core.domain import AnyDomain, Export, ImportedModel, Predictor, Prepared, TrainedModel
from isoform.core.engine.distributed import Process, deal_out, joined, restarted, this_process
from isoform.core.engine.evaluate import load_weights
from isoform.core.engine.finish import accept_data, write_missing_report
from isoform.core.engine.trackers import require
from isoform.core.engine.train import train as train_task
from isoform.core.errors import UserError, join_names
from isoform.core.inference import verify as verification
from isoform.core.inference.engines import with_engine
from isoform.core.inference.export import base_formats, is_written, warn_of_licence
from isoform.core.inference.run_model import (
    Features,
    PredictorInPrecision,
    evaluate_together,
    load_model,
    load_trained,
)
from isoform.core.runs import checkpoint as checkpoints
from isoform.core.runs.checkpoint import Checkpoint
from isoform.core.runs.exported import as_run, is_exported
from isoform.core.runs.folder import BASELINES, RunFolder, runs_in
from isoform.core.runs.results import reset_peak_memory, summarise_seeds

Say = Callable[[str], None]
FROM_DATA = "chosen from the data"


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its results.json."""

    folder: Path
    results: Mapping[str, Any]
    domain: AnyDomain = field(repr=False)

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

    domain: AnyDomain
    app: str
    apps_file: str | None = None
    sets: Sequence[str] = ()
    flags: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def resolve(self) -> Resolved:
        """The configuration, "auto" still in it. Raises ConfigError with every mistake."""
        return configs.resolve_layers(
            self.app,
            domain=self.domain,
            apps_file=self.apps_file,
            sets=self.sets,
            flags=self.flags,
            settings=self.settings,
        )

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
    request: Request,
    run_dir: str | Path | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    strict: bool = False,
    log: Sequence[str] = (),
    say: Say,
    said: set[str] | None = None,
) -> Run:
    """Trains one run; run_dir defaults to runs/APP-seedN. What was found in the data is said, whatever was left open.

    `said`: lines of other folds that need not be said again. Raises UserError for a folder that holds a run, unless
    `resume`: then the run goes on with its own configuration, and what the request sets must agree with it; with
    `strict`, for data of which something couldn't be used; for a tracker in `log` whose library isn't there
    (engine/trackers.py).
    """
    require(log)
    path = Path(run_dir) if run_dir is not None else _default_folder(request)
    with joined() as process:
        said = set() if said is None else said
        shared = _Shared(strict, process.aloud(say), tuple(log), said)
        return _train(request, path, shared, process, resume=resume, progress=progress)


def train_seeds(
    request: Request,
    seeds: int,
    run_dir: str | Path | None = None,
    *,
    resume: bool = False,
    progress: bool = True,
    strict: bool = False,
    log: Sequence[str] = (),
    say: Say,
) -> Run:
    """Trains with seeds 1 to `seeds` into RUN/seed-K; RUN/results.json gets mean, standard deviation and values.

    The data are read and the baselines fitted once for all seeds. Of several, the ensemble is calibrated and judged too
    ("ensemble" in results.json): RUN is then a run to predict with. Each seed is a run of its own to the trackers.
    """
    require(log)
    if seeds < 1:
        raise UserError(f"--seeds {seeds}: should be at least 1")
    path = Path(run_dir) if run_dir is not None else Path("runs") / f"{request.app}-seeds"
    group = RunFolder(path)
    if not resume:
        refuse_run(group)
    shared = _Shared(strict, say, tuple(log))
    runs = []
    for seed in range(1, seeds + 1):
        one = replace(request, flags={**request.flags, "train.seed": seed})
        say(f"seed {seed} of {seeds}")
        place = path / f"seed-{seed}"
        runs.append(_train(one, place, shared, this_process(), resume=resume, progress=progress))
    together = _judge_together(request.domain, group, shared) if seeds > 1 else None
    results = {
        "app": request.app,
        "domain": request.domain.name,
        "runs": [run.folder.name for run in runs],
        **summarise_seeds([run.results for run in runs]),
        **({"ensemble": together} if together else {}),
    }
    group.write_json("results.json", results)
    return Run(path, results, request.domain)


@dataclass
class _Shared:
    """What the seeds of one training have in common: the data, of which the notes are said once, and the baselines."""

    strict: bool
    say: Say
    log: tuple[str, ...] = ()  # names of trackers
    said: set[str] = field(default_factory=set)
    prepared: Prepared[Any, Any] | None = None
    baselines: Mapping[str, Any] | None = None

    def prepare(self, domain: AnyDomain, config: AppConfig) -> Prepared[Any, Any]:
        """The data of `config`, read the first time."""
        if self.prepared is None:
            self.prepared = domain.prepare(config)
            return self.prepared
        seeded = self.prepared.config.train.model_copy(update={"seed": config.train.seed})
        return replace(
            self.prepared, config=self.prepared.config.model_copy(update={"train": seeded})
        )

    def tell(self, prepared: Prepared[Any, Any]) -> None:
        """Says what was found and chosen, once. Raises UserError with `strict` where something of the data was lost."""
        if self.strict and prepared.lost:
            raise UserError(
                "--strict, and not all of the data can be used:\n  "
                + "\n  ".join(prepared.lost)
                + "\nmend them, or train without --strict"
            )
        for note in prepared.notes:
            if note not in self.said:
                self.say(note)
        self.said.update(prepared.notes)


def _train(
    request: Request,
    path: Path,
    shared: _Shared,
    process: Process,
    *,
    resume: bool,
    progress: bool,
) -> Run:
    reset_peak_memory()  # reading the data is a part of what this run takes
    domain, run = request.domain, RunFolder(path)
    resume = resume or restarted()
    if not resume:
        refuse_run(run)
    before = load_run_config(path, domain) if (path / "config.toml").is_file() else None
    stored = None if before is None else _with_new_place(request, before, shared)
    if stored is not None and run.results().get("status") == "finished":
        if stored is not before:
            for line in accept_data(run, domain.task(shared.prepare(domain, stored))):
                shared.say(line)
        process.on_main(lambda: write_missing_report(run))
        shared.say(f"{path}: this run is finished")
    else:
        asked = stored
        if asked is None:
            asked, dealt = deal_out(request.resolve().config, process.size)
            if dealt:
                shared.say(dealt)
        with process.together():
            prepared = shared.prepare(domain, asked)
        shared.tell(prepared)
        if stored is not None:
            prepared = replace(prepared, config=stored)
        train_task(
            domain.task(prepared),
            run,
            resume=resume,
            progress=progress,
            command=request.command(),
            say=shared.say,
            baselines=shared.baselines,
            log=shared.log,
        )
    results = run.results()
    shared.baselines = results.get("baselines")
    return Run(path, results, domain)


def _judge_together(
    domain: AnyDomain, group: RunFolder, shared: _Shared
) -> dict[str, dict[str, float]]:
    """Metrics of the seeds' average; those of before where nothing was trained since."""
    before, runs = group.results(), [run.name for run in runs_in(group.path)]
    if shared.prepared is None and before.get("ensemble") and before.get("runs") == runs:
        return dict(before["ensemble"])
    config = load_run_config(runs_in(group.path)[0], domain)
    return evaluate_together(domain, group, shared.prepare(domain, config))


def _default_folder(request: Request) -> Path:
    return Path("runs") / f"{request.app}-seed{request.resolve().config.train.seed}"


def refuse_run(run: RunFolder) -> None:
    """Raises UserError where a folder holds a run, or a group of runs, or is a file."""
    if run.exists() or configs.members_of(run.path):
        raise UserError(
            f"{run.path}: holds a run already; add --resume to go on with it, or name another --run-dir"
        )
    if run.path.exists() and not run.path.is_dir():
        raise UserError(f"{run.path}: is a file; name a folder with --run-dir")


def _with_new_place(request: Request, stored: AppConfig, shared: _Shared) -> AppConfig:
    """The run's own configuration, or the same with its data at another place where that is asked for.

    Raises UserError with the diff where anything else that is asked for now disagrees with it.
    """
    if request.app != stored.app:
        raise UserError(f"the run is of {stored.app}, not of {request.app}; name another --run-dir")
    asked = dict(request.settings)
    if request.apps_file is not None:
        resolved = request.resolve()
        values = {".".join(path): value for path, value in flatten(configs.plain(resolved.config))}
        theirs = [
            key
            for key, layer in resolved.layers.items()
            if layer.startswith(f"{request.apps_file} ")
        ]
        asked |= {key: values[key] for key in theirs if key in values}
    now = configs.override(
        stored, domain=request.domain, sets=request.sets, flags=request.flags, settings=asked
    )
    different = configs.changes(stored, now)
    if not different:
        return stored
    if all(key in PLACES for key, _, _ in different):
        return now
    # The very command that started the run may say "auto" where the run has what came of it.
    with suppress(UserError):
        asked_now, _ = deal_out(request.resolve().config, stored.train.accumulate)
        again = shared.prepare(request.domain, asked_now).config
        different = configs.changes(stored, again)
        if all(key in PLACES for key, _, _ in different):
            return again if different else stored
    raise UserError(
        "a resumed run keeps its settings, and these differ (the run's -> now asked for):\n  "
        + "\n  ".join(configs.diff(stored, now))
        + "\nleave them out, or train into another --run-dir"
    )


def load_predictor(
    domain: AnyDomain, run_dir: str | Path, checkpoint: str | int = "best", engine: str = "eager"
) -> Predictor:
    """The model of a run, of a group of seeds together, or of an exported file, to predict and embed with.

    See inference/engines.py for the engines. Raises UserError where the folder isn't a run or is damaged, and for an
    engine that can't serve it.
    """
    with as_run(run_dir) as folder:
        trained = load_trained(domain, folder, checkpoint)
    trained = with_engine(domain, trained, engine)
    return PredictorInPrecision(domain.predictor(trained), trained.precision)


def load_baseline(
    domain: AnyDomain, run_dir: str | Path, name: str, checkpoint: str | int = "best"
) -> Predictor:
    """A baseline that was stored with a run, or with the first of a group of seeds, to predict with.

    Raises UserError where there is none of that name.
    """
    first = runs_in(run_dir)[0]
    trained = load_trained(domain, first, checkpoint)
    known = RunFolder(first).stored_baselines()
    if name not in known:
        has = f"it has {join_names(known)}" if known else "it has none"
        raise UserError(f"{run_dir}: stored no baseline {name!r}; {has}")
    return domain.baseline(trained, first / BASELINES, name)


def prepare(resolved: Resolved, domain: AnyDomain) -> tuple[Resolved, Prepared[Any, Any]]:
    """Reads the data and fills every "auto" from them; the resolved configuration says which keys came of it."""
    prepared = domain.prepare(resolved.config)
    chosen = {key: FROM_DATA for key, _, _ in configs.changes(resolved.config, prepared.config)}
    return Resolved(prepared.config, {**resolved.layers, **chosen}), prepared


def create(
    domain: AnyDomain,
    name: str,
    *,
    pretrained: bool | str = False,
    features_only: bool = False,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:
    """A model by name, in evaluation mode; see `isoform.create`."""
    if isinstance(pretrained, str) and pretrained and (Path(pretrained) / "config.toml").is_file():
        model = load_model(domain, pretrained)
    elif pretrained:
        source = domain.published_source(name) if pretrained is True else pretrained
        model = build_imported(domain, domain.import_named(name, source), source)
    else:
        model = domain.build_from_run(*domain.app_of_model(name, **options))
    model.eval()
    if not features_only:
        return model
    return domain.features(model, layers) or Features(model)


def import_weights(
    domain: AnyDomain,
    source: str,
    *,
    app: str | None = None,
    apps_file: str | None = None,
    sets: Sequence[str] = (),
    layout: str | None = None,
) -> ImportedModel[Any, Any]:
    """A foreign checkpoint in isoform's layout, under the settings of an app and of `sets`; or isoform's own export."""
    if is_exported(source):
        return _import_own(domain, source, {"--app": app, "--set": sets, "--layout": layout})
    config = None
    if app is not None:
        config = configs.resolve_app(app, domain=domain, apps_file=apps_file, sets=sets)
    elif sets:
        config = configs.bare(domain=domain, sets=sets)
    return domain.import_weights(source, layout, config)


def _import_own(
    domain: AnyDomain, source: str, given: Mapping[str, Any]
) -> ImportedModel[Any, Any]:
    for option, value in given.items():
        if value:
            raise UserError(
                f"{source}: an export of isoform holds its own settings; leave {option} out"
            )
    with as_run(source) as folder:
        trained = load_trained(domain, folder)
    licence, precision = trained.licence or "unknown", trained.precision
    return ImportedModel(
        trained.config, trained.weights(), trained.state, "isoform", (), licence, precision
    )


def build_imported(domain: AnyDomain, imported: ImportedModel[Any, Any], source: str) -> nn.Module:
    """The model of an imported checkpoint, with its weights, in evaluation mode."""
    model = domain.build_from_run(imported.config, imported.state)
    load_weights(model, imported.weights, source)
    return model.eval()


def foreign_predictor(domain: AnyDomain, imported: ImportedModel[Any, Any]) -> Predictor:
    """The model of an imported checkpoint, to predict and embed with."""
    model = build_imported(domain, imported, "the imported checkpoint")
    predictor = domain.predictor(
        TrainedModel(imported.config, imported.state, model, Path(imported.layout), 0)
    )
    return PredictorInPrecision(predictor, imported.precision)


def write_imported(
    imported: ImportedModel[Any, Any], domain: AnyDomain, source: str, out: str | Path
) -> Run:
    """Writes an imported checkpoint as a run folder, whole or not at all. Raises UserError where `out` is taken."""
    model = build_imported(domain, imported, source)
    name = source if ":" in source else Path(source).name  # never a path of this machine
    results = {
        "app": imported.config.app,
        "domain": domain.name,
        "status": "imported",
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "precision": imported.precision,
        "source": name,
        "layout": imported.layout,
        "licence": imported.licence,
        "metrics": {},
        "baselines": {},
    }
    state = imported.state.model_copy(update={"licence": imported.licence})
    with staged(out) as folder:
        run = RunFolder(folder)
        run.path.mkdir()
        run.write_text("config.toml", configs.dump_toml(configs.unclaimed(imported.config)))
        run.write_json("task.json", state.to_json())
        run.write_json("results.json", results)
        run.write_arrays("calibration.npz", state.calibration or {})
        run.write_seen(state.seen)
        run.write_text("card.md", _card(imported, name))
        weights = Checkpoint(imported.weights, None, {}, {"place": {"step": 0, "best_step": 0}})
        checkpoints.write(run.checkpoints, 0, weights)
    return Run(Path(out), results, domain)


def formats_of(domain: AnyDomain) -> Mapping[str, Export]:
    """What a domain's runs can be exported to, by name: what core writes for every domain, and its own."""
    return {**base_formats(domain), **domain.export_formats()}


def export(
    domain: AnyDomain,
    run_dir: str | Path,
    kind: str,
    out: str | Path,
    checkpoint: str = "best",
    verify: Sequence[str] = (),
) -> verification.Agreement | None:
    """Writes a run's model in another format, whole or not at all; with inputs to `verify` only what answers alike.

    With these a file that is there already is verified as it is, and nothing is written. Warns of a NonCommercial
    licence of the weights that the run started from. Raises UserError where `out` is taken, or answers differently.
    """
    if len(several := runs_in(run_dir)) > 1:
        what = several[0].name.partition("-")[0]
        raise UserError(
            f"{run_dir}: holds several {what}s; export one of them, such as {several[0]}"
        )
    trained = load_trained(domain, run_dir, checkpoint)
    warn_of_licence(trained)
    if verify and is_written(Path(out)):
        return verification.verify(domain, trained, kind, Path(out), verify)
    with staged(out) as path:
        formats_of(domain)[kind](trained, path)
        return verification.verify(domain, trained, kind, path, verify) if verify else None


def _card(imported: ImportedModel[Any, Any], source: str) -> str:
    notes = "".join(f"- {note}\n" for note in imported.notes)
    return (
        f"# {source}\n\nImported from the {imported.layout} layout; nothing was trained or measured here.\n\n"
        f"- licence of the weights: {imported.licence}\n{notes}"
    )
