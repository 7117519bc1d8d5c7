"""The command `sample`: its arguments alone. What it does is imported when it runs."""

from __future__ import annotations

import argparse

from isoform.core.domain import Speaker, Verb


def _arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder of an adit app")
    parser.add_argument("-n", type=int, required=True, metavar="N", dest="count", help="how many")
    parser.add_argument(
        "--kind",
        choices=["molecule", "crystal"],
        help="default: the one kind that the run was trained on",
    )
    parser.add_argument(
        "--out",
        required=True,
        metavar="FILE",
        help=".sdf, .xyz or .extxyz of molecules; .cif, .extxyz or .csv (a column cif) of crystals; "
        "beside it STEM.records.csv says of each record whether it is valid",
    )
    _what(parser)
    _how(parser)
    _judging(parser)


def _what(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--atoms",
        metavar="A|A-B",
        help="that many atoms, or so many at least and at most (default: as frequent as in training)",
    )
    parser.add_argument(
        "--spacegroup",
        type=int,
        default=0,
        metavar="G",
        help="of crystals, 1 to 230; told, not enforced",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="K",
        help="same seed and number, same item (default: 0)",
    )


def _how(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--guidance", type=float, metavar="W", help="scale of classifier-free guidance; 1: none"
    )
    parser.add_argument(
        "--steps",
        type=int,
        metavar="S",
        help="predictions from noise to an item (default: the run's)",
    )
    parser.add_argument(
        "--solver", choices=["euler", "multistep"], help="multistep needs fewer steps"
    )
    parser.add_argument(
        "--batch", type=int, default=128, metavar="B", help="items drawn at once (default: 128)"
    )
    parser.add_argument(
        "--checkpoint", default="best", metavar="WHICH", help="best, last or a step"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a FILE of other arguments"
    )


def _judging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--score",
        action="store_true",
        help="print the metrics beside the training data's own, and write them to STEM.metrics.json",
    )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="with --score: the training data, of any format that is read (default: the run's own)",
    )
    parser.add_argument(
        "--stability",
        choices=["chgnet"],
        help="with --score, of crystals: relaxed by this potential, against the hull of the reference; a proxy",
    )


def _run(args: argparse.Namespace, console: Speaker) -> int:
    from isoform.molecules.adit.sampling.command import run_sample

    return run_sample(args, console)


SAMPLE = Verb(
    help="draw molecules or crystals from a generative run into a file",
    arguments=_arguments,
    run=_run,
)
