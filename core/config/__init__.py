"""apps.toml to a validated, frozen `AppConfig`: the names that the rest of the suite uses.

schema.py           the closed tables           layers.py   apps.toml and what extends or overrides it
resolve.py          layers to one config        keys.py     dotted keys, did-you-mean
parameter_count.py  a trunk's size from its table alone     toml.py   reading and writing TOML
"""

from isoform.core.config.layers import CLAIMS, get, read_apps
from isoform.core.config.resolve import (
    ConfigError,
    Resolved,
    app_names,
    bare,
    changes,
    diff,
    dump_toml,
    load_run_config,
    members_of,
    override,
    plain,
    resolve_app,
    resolve_every_app,
    resolve_layers,
    run_domain,
    unclaimed,
)
from isoform.core.config.schema import AppConfig, BackboneConfig, EvalConfig, Table, TrainConfig

__all__ = [
    "CLAIMS",
    "AppConfig",
    "BackboneConfig",
    "ConfigError",
    "EvalConfig",
    "Resolved",
    "Table",
    "TrainConfig",
    "app_names",
    "bare",
    "changes",
    "diff",
    "dump_toml",
    "get",
    "load_run_config",
    "members_of",
    "override",
    "plain",
    "read_apps",
    "resolve_app",
    "resolve_every_app",
    "resolve_layers",
    "run_domain",
    "unclaimed",
]
