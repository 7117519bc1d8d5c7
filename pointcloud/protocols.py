"""The commands that judge a run as the field does, `svm` and `vote`, and options of `predict`: their arguments alone.

What they do is imported when they run.
"""

from __future__ import annotations

import argparse

from isoform.core.domain import Speaker, Verb


def _of_run(parser: argparse.ArgumentParser, data: str, name: str) -> None:
    parser.add_argument("run_dir", metavar="RUN", help="run folder")
    parser.add_argument("--data", metavar="PATH", help=data)
    parser.add_argument(
        "--checkpoint", default="best", metavar="WHICH", help="best, last or a step"
    )
    parser.add_argument(
        "--out", metavar="FILE", help=f"the figures as JSON (default: RUN/{name}.json)"
    )


def _svm_arguments(parser: argparse.ArgumentParser) -> None:
    _of_run(parser, "other labelled clouds: a folder of classes, or a .npz or .h5", "svm")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="data.KEY=VALUE",
        dest="sets",
        help="change how clouds are read, such as data.labels=0.1 or data.source=modelnet40; may be repeated",
    )


def _vote_arguments(parser: argparse.ArgumentParser) -> None:
    _of_run(parser, "other labelled clouds than the run's own", "votes")
    parser.add_argument("--split", default="test", help="train, val or test (default: test)")
    parser.add_argument(
        "--draws", type=int, default=10, metavar="N", help="draws of points in a vote (default: 10)"
    )
    parser.add_argument(
        "--best-of",
        type=int,
        metavar="N",
        help="also the best of N votes, chosen on the split itself (the field's 300): no score to compare",
    )


def predict_arguments(parser: argparse.ArgumentParser) -> None:
    """How many points of a cloud the model gets, and how often."""
    parser.add_argument(
        "--draws",
        type=int,
        default=1,
        metavar="N",
        help="average the logits over N draws of the points of a cloud that has more than the model was trained on",
    )
    parser.add_argument(
        "--points",
        default="trained",
        choices=["trained", "keep"],
        metavar="trained|keep",
        help="keep: the model gets all points of a cloud, not as many as in training at most",
    )


def _run_svm(args: argparse.Namespace, console: Speaker) -> int:
    from isoform.pointcloud.svm import run_svm

    return run_svm(args, console)


def _run_vote(args: argparse.Namespace, console: Speaker) -> int:
    from isoform.pointcloud.votes import run_vote

    return run_vote(args, console)


PROTOCOLS = {
    "svm": Verb(
        help="judge a frozen encoder by a linear SVM on its features",
        arguments=_svm_arguments,
        run=_run_svm,
    ),
    "vote": Verb(
        help="judge a classifier plainly, then by votes over draws of points",
        arguments=_vote_arguments,
        run=_run_vote,
    ),
}
