"""What every source of clouds gives: readable clouds, their labels, and what is known of their splits.

N points, F features of each.
"""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from isoform.core.data.digests import digests_of
from isoform.core.errors import UserError
from isoform.pointcloud.data.facts import Facts, facts_of
from isoform.pointcloud.files import Cloud, read_cloud
from isoform.pointcloud.ops import sample_surface

CODE = "code of a part"  # the field of a point's part, a channel behind all others


class Clouds(abc.ABC):
    """A sequence of clouds that can be read one at a time."""

    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    @functools.cached_property
    def facts(self) -> dict[int, Facts]:
        """Row -> what its file holds, of the rows that were read; see facts.py."""
        return {}

    @abc.abstractmethod
    def read(self, row: int) -> Cloud:
        """Points [N, 3] in their own frame that all have coordinates, N at least 1, and their fields [N].

        Raises UserError with the cloud's name.
        """


class HeldClouds(Clouds):
    """Clouds in memory, [N, 3] each, and fields: name -> [N] of each cloud."""

    def __init__(
        self,
        clouds: Sequence[np.ndarray],
        names: Sequence[str],
        fields: Mapping[str, Sequence[np.ndarray]] | None = None,
    ) -> None:
        self.clouds, self.names, self.fields = clouds, names, fields or {}

    def read(self, row: int) -> Cloud:
        """See Clouds.read."""
        own = {name: values[row] for name, values in self.fields.items()}
        cloud = Cloud(np.asarray(self.clouds[row], np.float64)[:, :3], own)
        self.facts[row] = facts_of(cloud)
        return cloud


class FileClouds(Clouds):
    """Files below `root`, named by their path relative to it; see `usable_cloud`."""

    def __init__(
        self, root: Path, names: Sequence[str], columns: Sequence[str], surface: int
    ) -> None:
        self.root, self.names = root, names
        self.columns, self.surface = tuple(columns), surface

    def read(self, row: int) -> Cloud:
        """See Clouds.read."""
        note = functools.partial(self._note, row)
        return usable_cloud(self.root / self.names[row], self.columns, self.surface, note)

    def _note(self, row: int, cloud: Cloud) -> None:
        self.facts[row] = facts_of(cloud)


def usable_cloud(
    path: Path,
    columns: Sequence[str],
    surface: int,
    note: Callable[[Cloud], None] = lambda cloud: None,
) -> Cloud:
    """A file's points that have coordinates; of a mesh `surface` points drawn evenly on its faces.

    Which these are depends on the mesh alone; numbers of its vertices are carried to them. `note` is told the whole
    file. Raises UserError where there is none.
    """
    cloud = read_cloud(path, columns)
    note(cloud)
    if cloud.faces is not None and len(cloud.faces):
        try:
            found, face, weights = sample_surface(
                cloud.xyz, cloud.faces, surface, np.random.default_rng(0)
            )
        except ValueError as error:
            raise UserError(f"{path}: {error}") from None
        corners = cloud.faces[face]
        fields = {
            name: (np.asarray(values, np.float64)[corners] * weights).sum(1)
            for name, values in cloud.fields.items()
            if values.ndim == 1 and values.dtype.kind in "biuf"
        }
        return Cloud(found, fields, kind=cloud.kind)
    usable = cloud.usable()
    if not usable.any():
        raise UserError(f"{path}: none of its {len(cloud):,} points has coordinates")
    return taken(cloud, usable)


def taken(cloud: Cloud, which: np.ndarray) -> Cloud:
    """The points `which` (bool [N] or numbers) of a cloud, and their fields."""
    if which.dtype == bool and which.all():
        return Cloud(cloud.xyz, cloud.fields, kind=cloud.kind)
    fields = {name: np.asarray(values)[which] for name, values in cloud.fields.items()}
    return Cloud(cloud.xyz[which], fields, kind=cloud.kind)


@dataclass
class Records:
    """The rows of a data set before it is split.

    labels    a class's name a row; None: nothing is known
    classes   every name that a label may have
    split     "train", "val", "test" or "" (not given) a row
    group     what must not be torn apart, a key a row, or None
    skipped   (file, reason) of what lies among the data and was not read
    findings  what was noticed or chosen while reading, a line each
    """

    clouds: Clouds
    labels: Sequence[str | None]
    classes: Sequence[str]
    split: np.ndarray
    origin: str
    licence: str = "unknown"
    skipped: list[tuple[str, str]] = field(default_factory=list)
    findings: list[str] = field(default_factory=list)
    group: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.clouds)


def digest_of(points: np.ndarray, features: np.ndarray | None = None) -> int:
    """Of a cloud's coordinates, and of what its file says of its points where that is read: float [N, F].

    The same points in the same order are the same cloud, whatever its file is called.
    """
    content = np.ascontiguousarray(points, np.float64).tobytes()
    if features is not None and features.size:
        content += np.ascontiguousarray(features, np.float32).tobytes()
    return int(digests_of([content])[0])


def strokes() -> Records:
    """MNIST-5k; see strokes.py."""
    from isoform.core.data.mnist5k import LICENCE, ORIGIN
    from isoform.pointcloud.data.strokes import read_strokes

    clouds, digits, split = read_strokes()
    names = [f"mnist5k/{row:04d}" for row in range(len(clouds))]
    return Records(
        HeldClouds(clouds, names),
        [str(digit) for digit in digits],
        [str(digit) for digit in range(10)],
        split,
        origin=f"strokes of {ORIGIN}",
        licence=LICENCE,
    )
