"""`isoform DOMAIN check`: what would be trained on, and whether a training could begin."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from isoform.core import config as configs
from isoform.core.cli.context import Context
from isoform.core.data import writers
from isoform.core.errors import UserError

if TYPE_CHECKING:
    from isoform.core.config import AppConfig
    from isoform.core.domain import AnyDomain, CheckReport

_NAME = re.compile(r"[\w-]+")  # anything else is a path, and apps.toml needn't be read
# Tables of which a model is made: those of isoform's apps don't contradict each other, and to build one takes torch.
OF_MODELS = ("backbone", "tokeniser", "decoder", "score", "head", "parts")


def check(context: Context) -> int:
    """Says what was read, skipped and why; 2 where training would refuse these data, or a sample is in two splits."""
    args, console, domain = context.args, context.console, context.domain
    config = _checked_app(domain, args.target, args.apps, args.sets)
    report = domain.check(config)
    console.say(*report.lines)
    console.result = {**report.data, "leakage": report.leakage}
    if report.page is not None:
        page = Path(args.page or f"runs/check-{Path(args.target).name}.html")
        writers.write_atomically(page, report.page)
        console.say(f"samples: {page}")
        console.result["page"] = str(page)
    refusal = report.refusal
    if args.apps or any(one.split(".")[0] in OF_MODELS for one in args.sets):
        refusal = refusal or _refusal_to_train(domain, report)
    if refusal is not None:
        raise UserError(refusal)
    if report.leakage and not args.allow_leakage:
        raise UserError(
            f"{args.target}: a sample is in two splits, or a column gives the answer away (above); "
            "remove it, or accept it with --allow-leakage"
        )
    return 0


def _refusal_to_train(domain: AnyDomain, report: CheckReport) -> str | None:
    from isoform.core.engine.refusals import refusal_of  # here, as it imports torch

    prepared = report.prepared
    return None if prepared is None else refusal_of(lambda: domain.task(prepared))


def _checked_app(
    domain: AnyDomain, target: str, apps_file: str | None, sets: list[str]
) -> AppConfig:
    """The app of that name, or else the one that a file or folder stands for, with `sets` over it."""
    named = _NAME.fullmatch(target) and target in configs.app_names(domain.name, apps_file)
    if not named and Path(target).exists():
        return configs.override(domain.app_of_path(Path(target)), domain=domain, sets=sets)
    app = target.removeprefix(f"{domain.name}/")
    return configs.resolve_app(app, domain=domain, apps_file=apps_file, sets=sets)
