"""Small tasks on folders and tables of images, their batches, and a model that answers one thing."""

import torch
from torch import nn

from isoform.core.baselines import QUIET
from isoform.core.engine import loader

from .pictures import app, picture, table


def folder_app(folder, **tables):
    """A small app on class folders."""
    return app(**{**tables, "data": {"root": str(folder), **tables.get("data", {})}})


def table_app(tmp_path, columns, rows, **tables):
    """A small app on a table of as many images as rows."""
    for i in range(len(rows)):
        picture(i, level=20 + 3 * i).save(tmp_path / f"{i}.png")
    path = table(
        tmp_path / "t.csv", ["path", *columns], [[f"{i}.png", *row] for i, row in enumerate(rows)]
    )
    return app(**{**tables, "data": {"table": str(path), **tables.get("data", {})}})


def fitted(task):
    """Metrics of every baseline that the data allow, by name."""
    return {one.name: one.fit(QUIET) for one in task.baselines() if not one.left_out}


class Fixed(nn.Module):
    """Answers the same for every image."""

    def __init__(self, *output):
        super().__init__()
        self.output = nn.Parameter(torch.tensor(output))

    def forward(self, images):
        return self.output.expand(len(images), -1)


def batch(task, split="train", n=5, seed=None):
    """The first n samples of a split, changed at random where there is a seed."""
    samples = [
        task.sample(split, i, None if seed is None else loader.generator(seed, 0, i, 1))
        for i in range(n)
    ]
    return task.collate(samples)
