"""`torchvision:NAME`: an image classification set of torchvision.datasets, from data.root."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from isoform.core.errors import UserError
from isoform.vision.config import DataConfig
from isoform.vision.data.records import PillowImages, Records, sorted_classes
from isoform.vision.data.sources import TORCHVISION, folder_of


def read_torchvision(data: DataConfig) -> Records:
    """The train and test parts, found by the arguments `train` or `split` that the data set takes.

    It is downloaded only with data.download = true.
    """
    from torchvision import datasets

    name = data.source.removeprefix(TORCHVISION)
    made: Any = getattr(datasets, name, None)
    if datasets.VisionDataset not in getattr(made, "__mro__", ()):
        raise UserError(
            f'data.source = "{data.source}": torchvision.datasets has no data set "{name}"'
        )
    root = folder_of(data, data.source, must_exist=not data.download)
    takes = inspect.signature(made).parameters
    extra = {"download": data.download} if "download" in takes else {}
    members: list[tuple[Any, int]] = []  # (data set, place in it) of every row
    labels: list[str] = []
    split: list[str] = []
    problem = ""
    for part, arguments in _parts(set(takes)).items():
        try:
            one = made(str(root), **arguments, **extra)
        except (RuntimeError, ValueError, OSError, TypeError) as error:
            lines = str(error).strip().splitlines()
            problem = lines[0] if lines else type(error).__name__
            continue
        labels += _labels_of(one)
        members += [(one, place) for place in range(len(one))]
        split += [part] * len(one)
    if "train" not in split:
        raise UserError(
            f"{data.source}: torchvision cannot read it below {root} ({problem}); put its files there"
        )

    def image(row: int) -> Any:
        dataset, place = members[row]
        return dataset[place][0]

    names = [f"{name}/{part}/{place:06d}" for part, (_, place) in zip(split, members, strict=True)]
    given = np.array(split)
    if len(set(split)) == 1:
        given = np.array([""] * len(split))
    return Records(
        images=PillowImages(image, names),
        labels=labels,
        classes=sorted_classes(labels),
        kind="multiclass",
        split=given,
        origin=f"{data.source} in {root}",
    )


def _parts(takes: set[str]) -> dict[str, dict[str, Any]]:
    """split -> the arguments that ask for it."""
    if "train" in takes:
        return {"train": {"train": True}, "test": {"train": False}}
    if "split" in takes:
        return {part: {"split": part} for part in ("train", "val", "test")}
    return {"train": {}}


def _labels_of(dataset: Any) -> list[str]:
    """The class of every image; images are only opened where no attribute tells."""
    targets = next(
        (
            getattr(dataset, key)
            for key in ("targets", "labels", "_labels")
            if hasattr(dataset, key)
        ),
        None,
    )
    if targets is None:
        targets = [dataset[place][1] for place in range(len(dataset))]
    codes = [int(target) for target in targets]
    classes = [
        str(one[0] if isinstance(one, tuple) else one) for one in getattr(dataset, "classes", [])
    ]
    return [classes[code] if classes else str(code) for code in codes]
