"""The arguments of every verb. Only argparse is imported here; a verb's module is imported when the verb runs."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from isoform.core.cli.context import Context
from isoform.core.domain import BASE_FORMATS
from isoform.core.errors import UserError
from isoform.core.version import __version__

if TYPE_CHECKING:
    from isoform.core.domain import AnyDomain, PredictOption

DESCRIPTION = "One transformer backbone, specialised into domains: train, evaluate and use it."
EPILOG = """exit codes: 0 done; 2 a mistake in what was asked (one sentence says how to mend it);
75 stopped, and --resume goes on; 1 anything else"""


class UsageError(Exception):
    """Arguments that don't parse, as one sentence."""


class _Parser(argparse.ArgumentParser):
    """argparse with mistakes as exceptions of one sentence, and no guessing of abbreviated options."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **options
        )

    def error(self, message: str) -> NoReturn:
        """Raises UsageError, with the nearest name where a choice was misspelt."""
        choice = re.fullmatch(
            r"argument .*?: invalid choice: '(.*?)' \(choose from (.*)\)", message, re.DOTALL
        )
        if choice:
            from difflib import get_close_matches

            known = re.findall(r"[\w-]+", choice[2])
            near = get_close_matches(choice[1], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"choose from {', '.join(known)}"
            message = f"unknown {choice[1]!r}; {hint}"
        raise UsageError(f"{self.prog}: {message} (see {self.prog} --help)")


def parse(
    argv: Sequence[str], domains: Mapping[str, Callable[[], AnyDomain]]
) -> argparse.Namespace:
    """The arguments; `.run` is the verb's function of a Context. Raises UsageError, SystemExit after --help."""
    words = [word for word in argv if not word.startswith("-")]
    parser = build(domains, words)
    args = parser.parse_args(argv)
    args.words = list(argv)
    if args.version:
        args.run = _version
    elif args.command is None:
        parser.error("name a COMMAND")
    elif not hasattr(args, "run"):
        parser.error(f"name a VERB, as in `isoform {args.command} train`")
    return args


def build(
    domains: Mapping[str, Callable[[], AnyDomain]], words: Sequence[str] | None = None
) -> argparse.ArgumentParser:
    """The parser for a command line of these words (None: for any, but for formats that only some domains export).

    The verbs of domains that the words don't name can't be asked for, so they aren't built.
    """
    parser = _Parser(prog="isoform", description=DESCRIPTION, epilog=EPILOG)
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    _apps(
        _verb(
            commands,
            "apps",
            "every app: data, model, parameters, status, expected metric and minutes",
            _run_apps,
        )
    )
    _explain(
        _verb(
            commands,
            "explain",
            "an app's settings and where each comes from; its model and memory",
            _run_explain,
        )
    )
    _report(
        _verb(
            commands, "report", "(re)write RUN/report.html; several runs side by side", _run_report
        )
    )
    _bench(_verb(commands, "bench", "the benchmarks, side by side with peers", _run_bench))
    _completion(
        _verb(
            commands,
            "completion",
            "print a script that completes isoform's words in a shell",
            _run_completion,
        )
    )
    named, verb = [*(words or ()), "", ""][:2]
    for name, load in domains.items():
        below = commands.add_parser(name, help=_summary(load))
        _globals(below, argparse.SUPPRESS)
        if name == named or (words is None and _is_there(load)):
            _domain(below, load(), verb)
    _globals(parser, False)
    return parser


def _summary(load: Callable[[], AnyDomain]) -> str:
    try:
        return load().summary
    except UserError as error:
        return str(error).partition(": ")[2]


def _is_there(load: Callable[[], AnyDomain]) -> bool:
    try:
        load()
    except UserError:
        return False
    return True


def _version(context: Context) -> int:
    context.console.say(f"isoform {__version__}")
    context.console.result = {"version": __version__}
    return 0


def _globals(parser: argparse.ArgumentParser, default: Any) -> None:
    """--json and --debug, wherever the user puts them: below the top, only a given flag sets anything."""
    parser.add_argument(
        "--json",
        action="store_true",
        default=default,
        help="one JSON object as the last line of stdout",
    )
    parser.add_argument("--debug", action="store_true", default=default, help="show tracebacks")


def _verb(
    verbs: Any, name: str, summary: str, run: Callable[[Context], int]
) -> argparse.ArgumentParser:
    """A parser whose arguments go to `run`."""
    description = summary[0].upper() + summary[1:] + "."
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=summary, description=description)
    parser.set_defaults(run=run)
    _globals(parser, argparse.SUPPRESS)
    return parser


def _domain(parser: argparse.ArgumentParser, domain: AnyDomain, verb: str) -> None:
    """The verbs of a domain; `verb` is the one that the command line names."""
    parser.description = domain.summary
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", parser_class=_Parser, required=True)
    _check(
        _verb(
            verbs,
            "check",
            "what was read, skipped and why; duplicates, leakage, a page of samples",
            _run_check,
        )
    )
    _train(
        _verb(
            verbs,
            "train",
            "train an app, then evaluate its best checkpoint once on test",
            _run_train,
        )
    )
    _eval(_verb(verbs, "eval", "evaluate a run", _run_eval))
    predict = _verb(verbs, "predict", "one row an input, in input order", _run_predict)
    _predict(predict, domain.predict_options)
    domain.predict_arguments(predict)
    _embed(_verb(verbs, "embed", "features of a frozen trunk", _run_embed))
    _import(_verb(verbs, "import", "turn a foreign checkpoint into a run folder", _run_import))
    export = _verb(verbs, "export", "write a run's model in another format", _run_export)
    more = domain.export_formats() if verb == "export" else ()  # what writes them imports torch
    _export(export, sorted({*BASE_FORMATS, *more}))
    for name, own in domain.verbs().items():
        extra = verbs.add_parser(name, help=own.help, description=own.help)
        own.arguments(extra)
        extra.set_defaults(run=lambda context, run=own.run: run(context.args, context.console))
        _globals(extra, argparse.SUPPRESS)


def _settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="sets",
        help="change one setting, such as train.lr=1e-3 (`isoform explain APP` lists them); may be repeated",
    )
    parser.add_argument("--apps", metavar="FILE", help="your own apps.toml, over the built-in one")


def _checkpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoint",
        default="best",
        metavar="best|last|STEP",
        help="which one to use (default: best)",
    )


def _apps(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("domain", nargs="?", metavar="DOMAIN", help="of this domain only")
    parser.add_argument("--apps", metavar="FILE", help="your own apps.toml, over the built-in one")


def _explain(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP", help="such as vit-mnist or vision/vit-mnist")
    _settings(parser)


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="run folder")
    parser.add_argument(
        "--out", metavar="FILE", help="the page (default: report.html in RUN, or beside several)"
    )


def _bench(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "name", nargs="?", metavar="NAME", help="which one (all are listed if left out)"
    )
    parser.add_argument(
        "rest", nargs=argparse.REMAINDER, metavar="...", help="arguments of the benchmark"
    )


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "shell", choices=["bash", "zsh", "fish"], metavar="bash|zsh|fish", help="whose script"
    )


def _check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target", metavar="APP|PATH", help="an app, or the folder or table of your data"
    )
    parser.add_argument(
        "--allow-leakage", action="store_true", help="exit 0 even if a sample is in two splits"
    )
    parser.add_argument(
        "--page",
        metavar="FILE",
        help="where the page of samples goes (default: runs/check-NAME.html)",
    )
    _settings(parser)


def _train(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("app", metavar="APP", help="`isoform apps` lists them")
    _settings(parser)
    parser.add_argument(
        "--run-dir", metavar="DIR", help="the run folder to write (default: runs/APP-seedN)"
    )
    parser.add_argument(
        "--init",
        metavar="RUN_OR_FILE",
        help="start from these weights: a run folder or a checkpoint file; with --folds also a folder of as many folds",
    )
    parser.add_argument("--freeze", choices=["trunk", "none"], help="trunk: only the head learns")
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run-dir")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit 2 where cells, rows or files of the data can't be used",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="passes over the training split")
    parser.add_argument(
        "--launch",
        type=int,
        metavar="N",
        help="train in N processes of this machine, on a GPU each where there are any; the global batch stays the same",
    )
    parser.add_argument(
        "--log",
        action="append",
        default=[],
        choices=["tensorboard", "mlflow", "wandb"],
        metavar="tensorboard|mlflow|wandb",
        help="also tell this tracker, without a network in RUN/trackers; may be repeated",
    )
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=int, metavar="N", help="of everything random")
    seeds.add_argument(
        "--seeds", type=int, metavar="N", help="train with seeds 1 to N; report mean and spread"
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="cross-validation: K runs, every sample (of a time series: every block but the first) tested on once",
    )


def _eval(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder")
    parser.add_argument("--split", default="test", help="train, val or test (default: test)")
    parser.add_argument("--data", metavar="PATH", help="other data than the run's own")
    parser.add_argument("--out", metavar="DIR", help="where predictions.* go (default: RUN)")
    _checkpoint(parser)


def _predict(parser: argparse.ArgumentParser, options: Sequence[PredictOption]) -> None:
    parser.add_argument(
        "run_dir", metavar="RUN", help="run folder, or its exported bundle or .safetensors"
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files or folders")
    parser.add_argument(
        "--out", metavar="FILE", help=".csv, .jsonl or .parquet (default: csv on stdout)"
    )
    parser.add_argument("--strict", action="store_true", help="exit 2 if any input failed")
    parser.set_defaults(draw=None, baseline=None, min_probability=None)  # where not offered
    if "draw" in options:
        parser.add_argument(
            "--draw", metavar="FILE.html", help="a page of the inputs, coloured by what contributes"
        )
    if "with" in options:
        parser.add_argument(
            "--with",
            dest="baseline",
            metavar="NAME",
            help="a baseline that the run stored, in its model's place, such as descriptor_boosting",
        )
    if "min-probability" in options:
        parser.add_argument(
            "--min-probability",
            type=float,
            metavar="P",
            help='a prediction whose top probability is lower says "undecided" '
            "(default: the run's eval.min_probability)",
        )
    parser.add_argument(
        "--engine",
        default="eager",
        choices=["eager", "packed", "openvino"],
        metavar="eager|packed|openvino",
        help="what computes: the model itself (default), a faster copy for a CPU, or OpenVINO",
    )
    _checkpoint(parser)


def _embed(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="RUN|timm:NAME|FILE",
        help="run folder, an export of it, or what `import` reads",
    )
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="files or folders")
    parser.add_argument("--out", required=True, metavar="FILE", help=".npz or .parquet")
    _checkpoint(parser)


def _import(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="timm:NAME, hf:OWNER/NAME[@REV], a checkpoint file, or an export of isoform",
    )
    parser.add_argument("--app", help="the app whose settings say what the checkpoint doesn't")
    _settings(parser)
    parser.add_argument("--layout", help="whose checkpoint it is, where it isn't recognised")
    parser.add_argument("--out", required=True, metavar="DIR", help="the run folder to write")


def _export(parser: argparse.ArgumentParser, formats: Sequence[str]) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder")
    parser.add_argument(
        "--format", required=True, choices=formats, metavar="FORMAT", help=", ".join(formats)
    )
    parser.add_argument("--out", required=True, metavar="PATH", help="file or folder to write")
    parser.add_argument(
        "--verify",
        nargs="+",
        default=[],
        metavar="INPUT",
        help="files or folders that the exported file, read back, must answer as the run does (one that is there "
        "already is only verified)",
    )
    _checkpoint(parser)


# The verbs, each imported when it runs --------------------------------------------------------------------------------


def _run_apps(context: Context) -> int:
    from isoform.core.cli.catalogue import apps

    return apps(context)


def _run_explain(context: Context) -> int:
    from isoform.core.cli.catalogue import explain

    return explain(context)


def _run_report(context: Context) -> int:
    from isoform.core.cli.catalogue import report

    return report(context)


def _run_bench(context: Context) -> int:
    from isoform.core.cli.catalogue import bench

    return bench(context)


def _run_completion(context: Context) -> int:
    from isoform.core.cli.completion import completion

    return completion(context, build(context.domains))


def _run_check(context: Context) -> int:
    from isoform.core.cli.check import check

    return check(context)


def _run_train(context: Context) -> int:
    from isoform.core.cli.train import train

    return train(context)


def _run_eval(context: Context) -> int:
    from isoform.core.cli.run_verbs import evaluate

    return evaluate(context)


def _run_predict(context: Context) -> int:
    from isoform.core.cli.run_verbs import predict

    return predict(context)


def _run_embed(context: Context) -> int:
    from isoform.core.cli.run_verbs import embed

    return embed(context)


def _run_import(context: Context) -> int:
    from isoform.core.cli.weights import import_

    return import_(context)


def _run_export(context: Context) -> int:
    from isoform.core.cli.weights import export

    return export(context)
