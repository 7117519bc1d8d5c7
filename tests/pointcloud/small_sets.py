"""Balls, discs and rods in one file, and runs on them that take seconds."""

import io
import json
from contextlib import redirect_stdout

import numpy as np

from commands import exit_code
from isoform.core.config import resolve_app
from isoform.pointcloud import DOMAIN

CLASSES = ("ball", "disc", "rod")
SMALL = {
    "data.source": "set", "data.points": 61, "tokeniser.groups": 7, "tokeniser.group_size": 5,
    "tokeniser.widths": [3, 5, 7], "tokeniser.position_hidden": 3, "backbone.dim": 12, "backbone.depth": 1,
    "backbone.heads": 2, "train.batch": 8, "eval.baselines": [],
}  # fmt: skip
DECODER = {
    "decoder.dim": 12, "decoder.heads": 2, "decoder.depth": 1, "decoder.qkv_bias": False, "decoder.eps": 1e-5,
    "decoder.position": "readd",
}  # fmt: skip


def write_set(path, each=31, points=83, seed=0):
    """Balls, discs and rods, as many of each, in one .npz."""
    rng = np.random.default_rng(seed)
    clouds = rng.normal(size=(3 * each, points, 3))
    clouds[each : 2 * each, :, 2] *= 0.1
    clouds[2 * each :, :, 1:] *= 0.1
    np.savez(path, points=clouds, labels=np.repeat(CLASSES, each))
    return path


def prepared(data, **settings):
    app = resolve_app(
        "pointmae-own", domain=DOMAIN, settings={**SMALL, "data.path": str(data), **settings}
    )
    return DOMAIN.prepare(app)


def run_cli(*words):
    """(exit code, its object) of a command."""
    out = io.StringIO()
    with redirect_stdout(out):
        code = exit_code("--json", "pointcloud", *words)
    return code, json.loads(out.getvalue().splitlines()[-1])


def label(*words):
    """Exit code of `isoform pointcloud label WORDS`."""
    return exit_code("pointcloud", "label", *words)
