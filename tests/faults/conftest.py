"""What the fault tests share: the data and the undisturbed run of each domain, made once."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for `apps`
sys.path.insert(0, str(Path(__file__).parents[1] / "core"))  # for `toy`

import apps

import killed


class Whole:
    """A domain's data, the run that was left alone, and one stopped in the middle of its second epoch."""

    def __init__(self, domain: str, root: Path) -> None:
        self.domain, self.root = domain, root
        self.data = apps.write_data(domain, root / "data")
        self.run = root / "whole"
        apps.run(self.task(), self.run)

    def task(self, **changes):
        """The app anew."""
        return apps.task(self.domain, self.data, **changes)


@pytest.fixture(scope="session")
def wholes(tmp_path_factory):
    made: dict[str, Whole] = {}

    def of(domain: str) -> Whole:
        if domain not in made:
            made[domain] = Whole(domain, tmp_path_factory.mktemp(domain))
        return made[domain]

    return of


@pytest.fixture(params=apps.DOMAINS)
def whole(request, wholes):
    return wholes(request.param)


@pytest.fixture
def halfway(whole, tmp_path):
    """A run folder as a kill in front of step 5's checkpoint left it."""
    place = tmp_path / "half"
    half = whole.root / "half"
    if not half.exists():
        killed.in_child(lambda: apps.run(dying(whole.task(), 5), half))
    shutil.copytree(half, place)
    return place


def dying(task, step: int):
    """The task, whose process dies as the loss of an optimiser step is asked for."""
    calls, original = iter(range(1, 10_000)), task.loss
    first = (step - 1) * 3 + 1  # every step but an epoch's last has three micro-batches

    def loss(model, batch):
        if next(calls) == first:
            killed.die()
        return original(model, batch)

    task.loss = loss
    return task
