"""`isoform apps | explain | report | bench`: the commands that belong to no single domain."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import isoform.core
from isoform.core import config
from isoform.core.cli.context import Context
from isoform.core.config import keys, toml
from isoform.core.domain import Task
from isoform.core.errors import UserError

if TYPE_CHECKING:
    from types import ModuleType

    from isoform.core.config import AppConfig
    from isoform.core.domain import AnyDomain, Prepared
    from isoform.core.runs.folder import RunFolder

BENCHMARKS = Path(isoform.core.__file__).resolve().parent.parent / "benchmarks"
# What Domain.describe may tell of an app, beside the rows that only `explain` prints.
_DESCRIBED = ("data", "model", "parameters", "source")


def apps(context: Context) -> int:
    """Every app in a table: what it is, what it reached, and where its data comes from."""
    args, console = context.args, context.console
    if args.domain is not None and args.domain not in context.domains:
        hint = (
            keys.suggest(args.domain, context.domains)
            or f"; domains are {', '.join(context.domains)}"
        )
        raise UserError(f"{args.domain}: unknown domain{hint}")
    rows = []
    for name, load in context.domains.items():
        if args.domain not in (None, name):
            continue
        files = config.read_apps(args.apps, name)
        if files.errors or files.tables(name):
            domain = load()
            rows += [_about(domain, app) for app in config.resolve_every_app(files, domain)]
    if args.domain is not None and not rows:
        context.domains[args.domain]()  # says so where the domain isn't there at all
    columns = [
        "app",
        "data",
        "model",
        "parameters",
        "status",
        "expected",
        "minutes",
        "published",
        "source",
    ]
    console.table(columns, [[_cell(name, row[name]) for name in columns] for row in rows])
    console.result = {"apps": rows}
    return 0


def _about(domain: AnyDomain, app: AppConfig) -> dict[str, Any]:
    try:
        described = domain.describe(app, detail=False)
    except UserError:  # its size depends on data that isn't named yet
        described = {}
    return {
        "app": f"{app.domain}/{app.app}",
        "summary": app.summary,
        "status": app.status,
        "minutes": app.minutes,
        "expected": app.expected,
        "spread": app.spread,
        "published": app.published,
        "measured": app.measured,
        **{name: described.get(name) for name in _DESCRIBED},
    }


def _cell(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return ", ".join(f"{metric} {number:.4g}" for metric, number in value.items()) or None
    return f"{value:,}" if name == "parameters" and isinstance(value, int) else value


def explain(context: Context) -> int:
    """Every setting of an app with its layer and meaning; then its model, attention path and memory."""
    from isoform.core import api

    args, console = context.args, context.console
    domain = _domain_of(context, args.app)
    app = args.app.removeprefix(f"{domain.name}/")
    resolved = config.resolve_layers(app, domain=domain, apps_file=args.apps, sets=args.sets)
    notes: list[str] = []
    prepared = None
    try:
        resolved, prepared = api.prepare(resolved, domain)
        notes = list(prepared.notes)
    except UserError as error:
        notes = [f"nothing is chosen from the data: {error}"]
    values = dict(keys.flatten(config.plain(resolved.config)))
    rows, settings = [], {}
    for path, field in keys.leaves(type(resolved.config)).items():
        key = ".".join(path)
        if key in ("domain", "app"):
            continue
        layer = next(
            (name for k, name in resolved.layers.items() if k == key or k.startswith(f"{key}.")),
            "default",
        )
        value = config.get(resolved.config.model_dump(mode="json"), path)
        shown = "unset" if path not in values and value is None else toml.value(value)
        meaning = f"{field.description or ''} [{keys.names_of(field.annotation)}]".lstrip()
        rows.append([key, shown, layer, meaning])
        settings[key] = {"value": value, "layer": layer, "description": field.description or ""}
    console.table(
        ["setting", "value", "set by", "meaning [type]"], rows, title=f"{domain.name}/{app}"
    )
    described: dict[str, Any] = {}
    try:
        described |= domain.describe(resolved.config)
        described["optimiser"] = _describe_optimiser(domain, resolved.config, prepared)
    except UserError as error:
        notes = [*notes, str(error)]
    if described:
        lines = {name: value for name, value in described.items() if not isinstance(value, list)}
        console.table(["", ""], [[name, _cell(name, value)] for name, value in lines.items()])
        for name, rows in described.items():
            if name not in lines:
                console.table(list(rows[0]), [list(row.values()) for row in rows], title=name)
    console.say(*notes)
    console.result = {
        "app": f"{domain.name}/{app}",
        "settings": settings,
        "model": described,
        "notes": notes,
    }
    return 0


def _describe_optimiser(
    domain: AnyDomain, settings: AppConfig, prepared: Prepared[Any, Any] | None
) -> str:
    """Which parameters of an app's model decay, and their learning rates; without data, of a model known by name."""
    from isoform.core.engine.optim import describe_groups
    from isoform.core.ops.shapes import shapes_alone

    task = None if prepared is None else domain.task(prepared)
    state = None if task else domain.app_of_model(settings.app)[1]
    with shapes_alone():
        model = task.build() if task else domain.build_from_run(settings, state)
    held = settings.train.freeze == "trunk" or settings.train.probe
    frozen = Task.trunk if held else ()
    return describe_groups(model, settings.train, frozen)


def _domain_of(context: Context, app: str) -> AnyDomain:
    """The domain of "DOMAIN/APP", or of an APP whose name only one domain has."""
    named, slash, _ = app.partition("/")
    if slash:
        if named not in context.domains:
            hint = (
                keys.suggest(named, context.domains)
                or f"; domains are {', '.join(context.domains)}"
            )
            raise UserError(f"{app}: unknown domain {named}{hint}")
        return context.domains[named]()
    everywhere = {name: config.app_names(name, context.args.apps) for name in context.domains}
    holders = [name for name, apps_of in everywhere.items() if app in apps_of]
    if len(holders) > 1:
        raise UserError(f"{app}: is an app of {' and of '.join(holders)}; write {holders[0]}/{app}")
    if not holders:
        known = [one for apps_of in everywhere.values() for one in apps_of]
        raise UserError(
            f"{app}: unknown app{keys.suggest(app, known) or '; `isoform apps` lists them all'}"
        )
    return context.domains[holders[0]]()


def report(context: Context) -> int:
    """Says what runs reached and (re)writes RUN/report.html; of several runs, one page with all of them."""
    from isoform.core.report.page import write_report
    from isoform.core.runs.folder import RunFolder, runs_in

    args, console = context.args, context.console
    runs = [folder for run in args.runs for folder in runs_in(run)]
    for run in runs:
        config.run_domain(run)
    reached = [_reached(RunFolder(run)) for run in runs]
    console.result = {"runs": [str(run) for run in runs], "report": None}
    page = None
    try:
        page = write_report(runs, args.out)
    except OSError as error:
        why = f"{args.out or error.filename or runs[0]}: can't be written ({error.strerror})"
        if args.out is not None:
            raise UserError(f"{why}; name another --out") from error
        console.warn(f"{why}; name a place for the page with --out FILE.html")
    console.table(["run", "status", "metric", "value", "best baseline", "its value"], reached)
    if page is not None:
        console.say(f"{page}")
        console.result["report"] = str(page)
    return 0


def _reached(run: RunFolder) -> list[Any]:
    """A run's headline as a row."""
    from isoform.core.report.page import status_of
    from isoform.core.runs.results import headline

    results = run.results()
    best = headline(results) if results else None
    row = [run.path, status_of(run, results) if results else None]
    if best is None:
        return [*row, None, None, None, None]
    metric = f"{best.split} {best.metric}"
    return [*row, metric, best.value, best.baseline, best.baseline_value]


def bench(context: Context) -> int:
    """Runs `main(arguments) -> exit code` of benchmarks/NAME.py, which only the source tree has."""
    args, console = context.args, context.console
    known = {path.stem: path for path in sorted(BENCHMARKS.glob("[a-z]*.py"))}
    if not known:
        raise UserError(
            "bench: the benchmarks are part of the source tree only; run it from a clone of isoform"
        )
    if args.name is None:
        console.say(*(f"{name}: {_first_line(path)}" for name, path in known.items()))
        console.result = {"benchmarks": list(known)}
        return 0
    if args.name not in known:
        hint = keys.suggest(args.name, known) or f"; there are {', '.join(known)}"
        raise UserError(f"{args.name}: unknown benchmark{hint}")
    main: Callable[[list[str]], int | None] | None = getattr(_load(known[args.name]), "main", None)
    if main is None:
        raise UserError(f"{args.name}: is a part of other benchmarks and can't be run by itself")
    return int(main(args.rest) or 0)


def _load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"isoform_benchmarks_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # a dataclass looks its own module up
    spec.loader.exec_module(module)
    return module


def _first_line(path: Path) -> str:
    import ast

    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
