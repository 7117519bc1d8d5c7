"""A training on a Ray cluster: each worker is one of the run's processes and calls what a launched process calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

from isoform.core.errors import UserError

_RETRIES = 3


def train_on_ray(
    work: Callable[[], object], workers: int, *, gpus: bool = False, notes: str | None = None
) -> None:
    """Does `work` in so many Ray workers that are connected as processes of one run, and again where one is lost.

        train_on_ray(partial(isoform.train, "vision/vit-mnist", run_dir="/shared/run", resume=True), 8, gpus=True)

    `work` trains with resume=True, so that it goes on after a loss, in a folder that every worker sees. It may be a
    function of a script, which is sent as it is, or of a module: workers look for modules where this process does, in
    the folders of its sys.path, and start in its folder. Both must be there on every machine, as isoform itself.

    Ray is started on this machine if it wasn't (`ray.init(address=...)` before names a cluster); a worker takes one
    processor, or one GPU. `notes`: a folder for what Ray writes of its own, which every machine must see as well
    (default: Ray's, ~/ray_results). Raises UserError where Ray isn't installed, and what Ray raises after 3 losses.
    """
    try:
        from ray import cloudpickle
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
    except ImportError as error:
        raise UserError("training on Ray needs it: pip install 'isoform[ray]'") from error

    # Ray starts its workers elsewhere, while paths and modules are meant from here. The work is opened in them when
    # they are at home: what Ray itself carries is opened before.
    here, modules, packed = os.getcwd(), list(sys.path), cloudpickle.dumps(work)

    def worker() -> None:
        os.chdir(here)
        sys.path[:] = [*modules, *(place for place in sys.path if place not in modules)]
        cloudpickle.loads(packed)()

    TorchTrainer(
        worker,
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
        run_config=RunConfig(
            storage_path=notes, failure_config=FailureConfig(max_failures=_RETRIES)
        ),
        torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if gpus else "gloo"),
    ).fit()
