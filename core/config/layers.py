"""The tables `[DOMAIN.APP]` of the built-in apps.toml and of a user's own file, as layers that lie over one another."""

from __future__ import annotations

import importlib.resources
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import isoform.core.config.keys as keys
import isoform.core.config.toml as toml
from isoform.core.errors import UserError

BUILT_IN = "apps.toml"

# What an app's table says about that very app as measured: no app that extends or changes it may repeat the claim.
CLAIMS = ("status", "minutes", "expected", "spread", "published", "measured")
# Settings that leave the claim as it was: which seed, where the files are, how often something is written.
HARMLESS = {
    ("train", "seed"),
    ("data", "root"),
    ("data", "path"),
    ("data", "workers"),
    ("train", "log_every"),
    ("train", "checkpoint_every"),
    ("eval", "batch"),
}


@dataclass(frozen=True)
class Layer:
    """Tables of a file or of the command line: what they set, and what their errors are called."""

    label: str
    tree: Mapping[str, Any]
    file: bool = True  # False: set for one run only (`--set`, a flag)


@dataclass
class Apps:
    """All files that define apps, by the name that messages show, a later one over an earlier."""

    files: dict[str, toml.Tree] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    def tables(self, domain: str) -> dict[str, list[Layer]]:
        """App -> its layers, one for each file that has a table for it. What isn't a table goes to `errors`."""
        layers_of: dict[str, list[Layer]] = {}
        for name, tree in self.files.items():
            apps = tree.get(domain, {})
            if not isinstance(apps, dict):
                self.errors.append(
                    f"{name} [{domain}]: should hold tables [{domain}.APP] (got {toml.value(apps)})"
                )
                continue
            for app, table in apps.items():
                label = f"{name} [{domain}.{app}]"
                if isinstance(table, dict):
                    layers_of.setdefault(app, []).append(Layer(label, table))
                else:
                    self.errors.append(f"{label}: should be a table (got {toml.value(table)})")
        return layers_of


def built_in() -> str:
    """The text of the apps.toml that comes with isoform."""
    return (importlib.resources.files("isoform") / BUILT_IN).read_text("utf-8")


@lru_cache(maxsize=1)
def _parsed(text: str) -> toml.Tree:
    """The built-in apps, read once in a process: layers lie over them and never change them."""
    tree, mistakes = toml.parse(text)
    assert not mistakes, mistakes
    return tree


def read_apps(apps_file: str | Path | None, domain: str) -> Apps:
    """The built-in apps and those of the user's file, with the mistakes of syntax and the unknown domains in it."""
    apps = Apps({BUILT_IN: _parsed(built_in())})
    if apps_file is not None:
        name = str(apps_file)
        apps.files[name], mistakes = toml.parse(read_text(Path(apps_file)))
        apps.errors += syntax_errors(name, mistakes)
    domains = {*apps.files[BUILT_IN], domain}
    for wrong in apps.files[str(apps_file)] if apps_file is not None else ():
        if wrong not in domains:
            hint = (
                keys.suggest(wrong, domains) or f" (this release has {', '.join(sorted(domains))})"
            )
            apps.errors.append(f"{apps_file} [{wrong}]: unknown domain{hint}")
    return apps


def read_text(path: Path) -> str:
    """The text of a file. Raises UserError where it can't be read."""
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise UserError(
            f"{path}: can't be read ({error.strerror}); name an existing file"
        ) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: byte {error.start} isn't UTF-8; save the file as UTF-8 text"
        ) from None


def syntax_errors(name: str, mistakes: Iterable[tuple[int | None, str]]) -> list[str]:
    """`toml.parse`'s mistakes as lines for the user."""
    return [f"{name}{f' line {line}' if line else ''}: {message}" for line, message in mistakes]


def layers_of(
    app: str, tables: Mapping[str, Sequence[Layer]], errors: list[str], seen: tuple[str, ...] = ()
) -> list[Layer]:
    """The layers of an app, lowest first: those of the app that it extends, then its own."""
    below: list[Layer] = []
    base = next((layer for layer in reversed(tables[app]) if "extends" in layer.tree), None)
    if base is not None:
        name = base.tree["extends"]
        if not isinstance(name, str) or name not in tables:
            hint = keys.suggest(str(name), set(tables) - {app})
            errors.append(
                f"{base.label} extends: should name an app of the same domain (got {toml.value(name)}){hint}"
            )
        elif name in (*seen, app):
            errors.append(
                f"{base.label} extends: goes in a circle ({' -> '.join((*seen, app, name))})"
            )
        else:
            below = list(map(without_claims, layers_of(name, tables, errors, (*seen, app))))
    own = [
        Layer(layer.label, {k: v for k, v in layer.tree.items() if k != "extends"})
        for layer in tables[app]
    ]
    if any(changes_measurement(merge(own[:1]), layer) for layer in own[1:]):
        own[:1] = map(without_claims, own[:1])
    return below + own


def without_claims(layer: Layer) -> Layer:
    """The layer without what it says about itself as measured."""
    return Layer(layer.label, {k: v for k, v in layer.tree.items() if k not in CLAIMS}, layer.file)


def changes_measurement(under: Mapping[str, Any], layer: Layer) -> bool:
    """Whether a layer sets something else than what lies under it, such that its claims hold no longer."""
    return any(
        get(under, path) != value
        and path not in HARMLESS
        and path[0] not in (*CLAIMS, "summary", "extends")
        for path, value in keys.flatten(layer.tree)
    )


def merge(layers: Iterable[Layer]) -> toml.Tree:
    """The tables of all layers, later over earlier, key by key."""
    tree: toml.Tree = {}
    for layer in layers:
        tree = merge_trees(tree, layer.tree)
    return tree


def merge_trees(under: Mapping[str, Any], over: Mapping[str, Any]) -> toml.Tree:
    """A copy of `under` with the keys of `over` set, table by table."""
    merged = {
        key: merge_trees(value, {}) if isinstance(value, Mapping) else value
        for key, value in under.items()
    }
    for key, value in over.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = (
            merge_trees(merged[key] if both else {}, value) if isinstance(value, Mapping) else value
        )
    return merged


def get(tree: Any, path: Sequence[str]) -> Any:
    """The value at a path of nested tables; None where there is none."""
    for part in path:
        if not isinstance(tree, Mapping) or part not in tree:
            return None
        tree = tree[part]
    return tree
