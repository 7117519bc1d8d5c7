"""apps.toml to a validated, frozen `AppConfig`, with the layer that set each key and every mistake at once.

The layers, each over the one before: the schema's defaults, the app that this one `extends`, the app in the built-in
apps.toml, the same in the user's own file (`--apps`), `--set`, the command line's own flags, and what a domain fills
in from the data ("auto").
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

import isoform.core.config.keys as keys
import isoform.core.config.toml as toml
from isoform.core.config.layers import (
    CLAIMS,
    Apps,
    Layer,
    changes_measurement,
    get,
    layers_of,
    merge,
    merge_trees,
    read_apps,
    read_text,
    syntax_errors,
)
from isoform.core.config.schema import AppConfig
from isoform.core.errors import UserError, printable
from isoform.core.version import __version__

_TOLD = 200  # mistakes of one table; each is looked up among all settings

if TYPE_CHECKING:
    from isoform.core.domain import AnyDomain


class ConfigError(UserError):
    """All mistakes of a configuration, one a line."""

    def __init__(self, errors: Sequence[str]) -> None:
        self.errors = tuple(dict.fromkeys(errors))
        super().__init__("\n".join(self.errors))


@dataclass(frozen=True)
class Resolved:
    """A configuration and where each of its keys came from (dotted key -> layer; a key not named is a default)."""

    config: AppConfig
    layers: Mapping[str, str]


def app_names(domain: str, apps_file: str | Path | None = None) -> list[str]:
    """Every app of a domain, in the order of the files."""
    apps = read_apps(
        apps_file,
        domain,
    )
    names = list(apps.tables(domain))
    if apps.errors:
        raise ConfigError(apps.errors)
    return names


def resolve_every_app(apps: Apps, domain: AnyDomain) -> list[AppConfig]:
    """Every app of a domain, in the order of the files, which are read already. Raises ConfigError."""
    tables = apps.tables(domain.name)
    errors = apps.errors
    found = []
    for app in tables:
        layers = layers_of(
            app,
            tables,
            errors,
        )
        resolved, wrong = _validate(domain, app, layers)
        errors += wrong
        found += [] if resolved is None else [resolved.config]
    if errors:
        raise ConfigError(errors)
    return found


def resolve_app(
    app: str,
    *,
    domain: AnyDomain,
    apps_file: str | Path | None = None,
    sets: Sequence[str] = (),
    settings: Mapping[str, Any] | None = None,
) -> AppConfig:
    """The configuration of an app; see `resolve_layers`."""
    return resolve_layers(
        app, domain=domain, apps_file=apps_file, sets=sets, settings=settings
    ).config


def resolve_layers(
    app: str,
    *,
    domain: AnyDomain,
    apps_file: str | Path | None = None,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Resolved:
    """The configuration of an app and the layer that set each key.

    `sets`: texts KEY=VALUE; `flags`: dotted key -> value of the command-line flag named like its last part; `settings`:
    dotted key -> value from Python. The user's file is checked as a whole. Raises ConfigError with one line a mistake.
    """
    apps = read_apps(
        apps_file,
        domain.name,
    )
    tables = apps.tables(domain.name)
    errors = apps.errors
    if app not in tables:
        hint = keys.suggest(app, tables) or f"; `isoform apps {domain.name}` lists them all"
        errors.append(f"{app}: unknown {domain.name} app{hint}")
    for other in (
        apps.files.get(str(apps_file), {}).get(domain.name, {}) if apps_file is not None else ()
    ):
        if other != app and other in tables:
            _, wrong = _validate(domain, other, layers_of(other, tables, errors), in_use=False)
            errors += wrong
    base = layers_of(app, tables, errors) if app in tables else []
    own = _run_layers(domain, base, sets, flags or {}, settings or {}, errors)
    resolved, wrong = None, []
    if app in tables:
        resolved, wrong = _validate(domain, app, [*base, *own])
    if errors or wrong or resolved is None:
        raise ConfigError([*errors, *wrong])
    return resolved


def _run_layers(
    domain: AnyDomain,
    base: Sequence[Layer],
    sets: Sequence[str],
    flags: Mapping[str, Any],
    settings: Mapping[str, Any],
    errors: list[str],
) -> list[Layer]:
    """What the command line, or Python, sets for one run of the app whose layers are `base`."""
    schema: type[AppConfig] = domain.schema_of(merge(base))
    leaves = keys.leaves(schema)
    given: dict[str, Any] = {}
    for text in sets:
        key, equals, raw = text.partition("=")
        path = tuple(part.strip() for part in key.split("."))
        if not equals or not all(path):
            errors.append(f"--set {text}: should be KEY=VALUE, such as train.lr=1e-3")
            continue
        given[".".join(path)] = keys.from_text(leaves.get(path), raw)
    for key, value in flags.items():
        if key in given and given[key] != value:
            errors.append(
                f"--set {key}={given[key]}: disagrees with {_flag(key)} {value}; give one of them"
            )
    for key, value in {**given, **flags, **settings}.items():
        if isinstance(value, str) and value != printable(value):
            errors.append(
                f"{key}: the name {value} isn't UTF-8, which no config.toml can hold; rename it"
            )
    by_flag = [(_flag(key), {key: value}) for key, value in flags.items()]
    named = [("--set", given), *by_flag, ("settings", settings)]
    return [Layer(label, _nested(dotted), file=False) for label, dotted in named if dotted]


def _flag(key: str) -> str:
    return f"--{key.rpartition('.')[2]}"


def _nested(dotted: Mapping[str, Any]) -> toml.Tree:
    tree: toml.Tree = {}
    for key, value in dotted.items():
        nested: Any = str(value) if isinstance(value, Path) else value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        tree = merge_trees(tree, nested)
    return tree


def _validate(
    domain: AnyDomain, app: str, layers: Sequence[Layer], *, in_use: bool = True
) -> tuple[Resolved | None, list[str]]:
    """The configuration that the layers make, or one line for each key that is wrong.

    in_use=False passes over what only an app in use must fulfil (a path that `--set` will give).
    """
    origin = {path: layer.label for layer in layers for path, _ in keys.flatten(layer.tree)}
    tree = merge(layers)
    errors = [
        f"{_origin(origin, (key,))} {key}: unknown key" for key in ("domain", "app") if key in tree
    ]
    schema = domain.schema_of(tree)
    config, wrong = _build(schema, tree | {"domain": domain.name, "app": app}, in_use=in_use)
    table = next((layer.label for layer in reversed(layers) if layer.file), "")
    errors += [f"{_origin(origin, path) or table} {message}" for path, message in wrong[:_TOLD]]
    if len(wrong) > _TOLD:
        errors.append(f"{table} and {len(wrong) - _TOLD:,} more such mistakes")
    if config is None or errors:
        return None, errors
    base = merge(layer for layer in layers if layer.file)
    if any(changes_measurement(base, layer) for layer in layers if not layer.file):
        config = unclaimed(config)
        origin = {path: label for path, label in origin.items() if path[0] not in CLAIMS}
    return Resolved(config, {".".join(path): label for path, label in origin.items()}), []


def _origin(origin: Mapping[tuple[str, ...], str], path: tuple[str, ...]) -> str | None:
    """The layer that last set `path`, something in it, or the table around it."""
    last = list(origin.items())[::-1]
    within = next((label for key, label in last if key[: len(path)] == path), None)
    return within or next((label for key, label in last if key == path[: len(key)]), None)


def _build(
    schema: type[AppConfig], tree: toml.Tree, *, in_use: bool = True
) -> tuple[AppConfig | None, list[tuple[tuple[str, ...], str]]]:
    """The validated configuration, or (key, message) of each key that is wrong."""
    tree = merge_trees(tree, {})
    for path, leaf in keys.every(schema).items():
        if get(tree, path) == "none" and keys.unsettable(leaf):
            get(tree, path[:-1])[path[-1]] = None
    try:
        return schema.model_validate_json(keys.to_json(tree)), []
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_context=False)
    said: dict[
        tuple[str, ...], list[str]
    ] = {}  # by key: a union complains once for each of its branches
    for one in mistakes:
        path = keys.key_of(schema, one["loc"])
        message = re.sub(r"^(Input|Value error,) ", "", one["msg"])
        if one["type"] == "extra_forbidden":
            message = "unknown key"
            if len(said) < toml.MOST_MISTAKES:  # each is compared with every key that there is
                message += keys.suggest_key(schema, path)
        if (in_use or one["type"] != "value_error") and message not in said.setdefault(path, []):
            said[path].append(message)
    return None, [
        (path, _message(tree, path, messages)) for path, messages in said.items() if messages
    ]


def _message(tree: toml.Tree, path: tuple[str, ...], messages: Sequence[str]) -> str:
    value = get(tree, path) if path else None
    got = "" if value is None or messages[0].startswith("unknown") else f" (got {_short(value)})"
    return f"{'.'.join(path)}: {' or '.join(messages)}{got}".removeprefix(": ")


def _short(value: Any) -> str:
    text = "unset" if value is None else toml.value(value)
    return text if len(text) <= 80 else text[:77] + "..."


def override(
    config: AppConfig,
    *,
    domain: AnyDomain,
    sets: Sequence[str] = (),
    flags: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> AppConfig:
    """A finished configuration with `--set`, flags or settings over it. Raises ConfigError with one line a mistake."""
    errors: list[str] = []
    tree = {
        key: value
        for key, value in plain(config, only_set=True).items()
        if key not in ("domain", "app")
    }
    base = [Layer("config.toml", tree)]
    own = _run_layers(domain, base, sets, flags or {}, settings or {}, errors)
    resolved, wrong = _validate(domain, config.app, [*base, *own])
    if errors or wrong or resolved is None:
        raise ConfigError([*errors, *wrong])
    return resolved.config


def unclaimed(config: AppConfig) -> AppConfig:
    """The configuration without what its app claims as measured."""
    return config.model_copy(update={key: _default(AppConfig.model_fields[key]) for key in CLAIMS})


def bare(*, domain: AnyDomain, sets: Sequence[str], app: str = "imported") -> AppConfig:
    """The settings of no app but of the command line alone; `model_fields_set` tells which they are."""
    errors: list[str] = []
    own = _run_layers(domain, [], sets, {}, {}, errors)
    resolved, wrong = _validate(domain, app, own)
    if errors or wrong or resolved is None:
        raise ConfigError([*errors, *wrong])
    return resolved.config


def plain(table: BaseModel, *, only_set: bool = False) -> toml.Tree:
    """A table as TOML can hold it: an unset value is left out, or the word "none" where its default isn't unset.

    only_set: without the keys that nobody set, which an `auto` app may still choose.
    """
    tree: toml.Tree = {}
    dumped = table.model_dump(mode="json")
    for name, field in type(table).model_fields.items():
        if only_set and name not in table.model_fields_set:
            continue
        value = getattr(table, name)
        if isinstance(value, BaseModel):
            tree[name] = plain(value, only_set=only_set)
        elif value is not None:
            tree[name] = dumped[name]
        elif _default(field) is not None:
            tree[name] = "none"
    return tree


def _default(field: FieldInfo) -> Any:
    return field.get_default(call_default_factory=True)


def dump_toml(config: AppConfig, *, threads: int | None = None) -> str:
    """The fully resolved configuration as text that reads back exactly; isoform's version, seed and threads on top."""
    count = f", threads {threads}" if threads is not None else ""
    return f"# isoform {__version__}, seed {config.train.seed}{count}\n{toml.dumps(plain(config))}"


def members_of(group: Path) -> list[Path]:
    """The runs that `--seeds` or `--folds` wrote into a folder, by number; none of another folder."""
    found = [
        path.parent for kind in ("seed", "fold") for path in group.glob(f"{kind}-*/config.toml")
    ]
    return sorted(found, key=lambda run: (len(run.name), run.name))


def run_domain(run: str | Path) -> str:
    """Name of the domain whose run, or group of seeds, a folder holds. Raises UserError where it holds none."""
    first = Path(run)
    if not (first / "config.toml").is_file():
        first = next(iter(members_of(first)), first)
    name = _run_tree(first).get("domain")
    if not isinstance(name, str):
        raise UserError(
            f"{run}/config.toml: names no domain; name a folder that `isoform DOMAIN train` wrote"
        )
    return name


def load_run_config(run: str | Path, domain: AnyDomain) -> AppConfig:
    """The configuration of a run. Raises UserError where the folder isn't a run of this domain, or is damaged."""
    tree = _run_tree(Path(run))
    other = run_domain(run)
    if other != domain.name:
        raise UserError(f"{run}: is a run of {other}, not of {domain.name}; use `isoform {other}`")
    config, wrong = _build(domain.schema_of(tree), tree)
    if config is None:
        raise ConfigError([f"{run}/config.toml {message}" for _, message in wrong])
    return config


def _run_tree(run: Path) -> toml.Tree:
    path = run / "config.toml"
    if not path.is_file():
        if several := members_of(run):
            what = several[0].name.partition("-")[0]
            raise UserError(f"{run}: holds several {what}s; name one of them, such as {several[0]}")
        reason = "isn't a run folder (it has no config.toml)" if run.exists() else "doesn't exist"
        raise UserError(f"{run}: {reason}; name a folder that `isoform DOMAIN train` wrote")
    tree, mistakes = toml.parse(read_text(path))
    if mistakes:
        raise ConfigError(syntax_errors(str(path), mistakes))
    return tree


def changes(old: AppConfig, new: AppConfig) -> list[tuple[str, Any, Any]]:
    """(dotted key, old value, new value) of every setting that differs; None stands for unset.

    What an app claims as measured is no setting.
    """
    before, after = dict(keys.flatten(plain(old))), dict(keys.flatten(plain(new)))
    settings = [key for key in dict.fromkeys([*before, *after]) if key[0] not in CLAIMS]
    return [
        (".".join(key), before.get(key), after.get(key))
        for key in settings
        if before.get(key) != after.get(key)
    ]


def diff(old: AppConfig, new: AppConfig) -> list[str]:
    """One line for every setting that differs: `train.lr: 0.001 -> 0.01`."""
    return [f"{key}: {_short(was)} -> {_short(now)}" for key, was, now in changes(old, new)]
