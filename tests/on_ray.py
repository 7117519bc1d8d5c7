"""A user's script that trains on Ray: `python on_ray.py FOLDER`.

Prints READY when Ray's node is up on this machine. Exits with 3 where it can't be, and then says why.
"""

import functools
import os
import sys
from pathlib import Path

LOCAL = "127.0.0.1"
READY, UNABLE = "Ray's node is up", 3
# Neither a network nor a screen is needed, nor anything told to anybody; and fewer processes beside the workers.
QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_ENABLE_STATE_ACTOR_RECONCILIATION": "0",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.3",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "300",
    "GLOO_SOCKET_IFNAME": "lo",
    "ISOFORM_TIMEOUT": "60",
}


def run(folder: Path) -> None:
    """Of this script alone, as a user's function is."""
    import toy

    from isoform.core.engine.train import train
    from isoform.core.runs.folder import RunFolder

    assert os.environ["OMP_NUM_THREADS"] == "1", "two workers share two processors"
    train(toy.SteadyTask(toy.app(epochs=2)), RunFolder(folder), resume=True, progress=False)


def main() -> int:
    """Trains with 2 workers on a node of 2 processors."""
    os.environ |= QUIET
    sys.path.append(str(Path(__file__).parent / "core"))  # of `toy`, where Ray would not look
    import ray

    from isoform.core.engine.ray_train import train_on_ray

    try:
        ray.init(
            num_cpus=2,
            include_dashboard=False,
            object_store_memory=80 << 20,
            _node_ip_address=LOCAL,
        )
    except Exception as error:  # noqa: BLE001  whatever a machine without room or sockets raises
        print(f"{type(error).__name__}: {error}")
        return UNABLE
    print(READY, flush=True)
    folder = Path(sys.argv[1])
    train_on_ray(functools.partial(run, folder), 2, notes=str(folder.with_name("notes")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
