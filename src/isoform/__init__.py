"""isoform: one transformer backbone, specialised into four domains.

    run = isoform.train("vision/vit-mnist-tiny", train__epochs=2)
    model = isoform.load(run.folder)
    model.predict(["digit.png"])
    model.embed(["digit.png"])
    trunk = isoform.create("vision/vit_small_patch16_224", features_only=True)

Nothing heavy is imported before one of these is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from isoform.core.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import nn

    from isoform.core.api import Run
    from isoform.core.domain import Predictor

__all__ = ["__version__", "create", "load", "train"]


def load(
    run: str | Path,
    checkpoint: str = "best",
    *,
    engine: Literal["eager", "packed", "openvino"] = "eager",
) -> Predictor:
    """The trained model of a run folder, or of an export of it: `.predict(inputs)` and `.embed(inputs)`.

    A text, a path or a DataFrame is one input; several come as a list.

    run          also the file that `export --format bundle` or `safetensors` wrote
    checkpoint   "best", "last" or a step; its averaged weights where it has them
    engine       "eager": as it was trained; "packed": a faster copy for a CPU, equal but for rounding; "openvino":
                 compiled by OpenVINO, predictions only

    Raises UserError where `run` isn't a run folder or is damaged, and for an engine that can't serve it.
    """
    from isoform.core.api import load_predictor
    from isoform.core.config import run_domain
    from isoform.core.runs.exported import as_run
    from isoform.registry import domain

    with as_run(run) as folder:
        return load_predictor(domain(run_domain(folder)), folder, checkpoint, engine)


def train(
    app: str, settings: Mapping[str, Any] | None = None, /, *, run_dir: str | Path | None = None, resume: bool = False,
    apps: str | Path | None = None, progress: bool = True, strict: bool = False,
    log: Sequence[str] = (), **keywords: Any,
) -> Run:  # fmt: skip
    """Trains an app such as "vision/vit-mnist" and returns its Run (`.folder`, `.results`, `.metrics`, `.predictor()`).

    Settings are dotted keys in `settings`, {"train.lr": 1e-3}, or keywords with two underscores for the dot,
    `train__lr=1e-3`; `isoform explain APP` lists them. `run_dir` defaults to runs/APP-seedN; `apps` is a file of your
    own apps; `log` names trackers that are told too: "tensorboard", "mlflow", "wandb". Raises ConfigError (a UserError)
    with every mistake in the settings at once; with `strict`, UserError that lists the cells, rows and files of the
    data that can't be used, before there is a run folder.
    """
    from isoform.core.api import Request
    from isoform.core.api import train as start
    from isoform.registry import named

    domain, name = named(app)
    changed = {
        **(settings or {}),
        **{key.replace("__", "."): value for key, value in keywords.items()},
    }
    request = Request(domain, name, str(apps) if apps is not None else None, settings=changed)
    return start(
        request,
        run_dir,
        resume=resume,
        progress=progress,
        strict=strict,
        log=log,
        say=print if progress else lambda line: None,
    )


def create(
    name: str, *, pretrained: bool | str = False, features_only: bool = False, layers: Sequence[int] | None = None,
    **options: Any,
) -> nn.Module:  # fmt: skip
    """A model by name, in evaluation mode, such as "vision/vit_small_patch16_224".

    pretrained     True: published weights of that name; a path: a run folder or a checkpoint
    features_only  the trunk alone, which gives vectors or feature maps; `layers`: after which blocks, where it has maps
    options        of a fresh model: a domain's README names them

    Raises UserError for a name that nobody knows and for weights that can't be had or don't fit.
    """
    from isoform.core.api import create as build
    from isoform.registry import named

    domain, model = named(name)
    return build(
        domain, model, pretrained=pretrained, features_only=features_only, layers=layers, **options
    )
