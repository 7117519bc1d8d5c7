"""data.features: what is known of a point beside its place, as channels behind x, y and z. No torch here.

    intensity/65535        a field of the file by its name, divided by a number
    red/255                of colours the number tells the depth: 255, 65535, or 1 for those from 0 to 1
    nx, ny, nz             a file's own normals (or normal_x, ...), which turn with the points
    normals                three channels: normals worked out from the points, upwards
    height_above_ground/5  worked out in float64, in the file's unit; see `height_above_ground`

N points, F features.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from isoform.core.errors import UserError, count
from isoform.pointcloud.files.cloud import Cloud, column

if TYPE_CHECKING:
    from isoform.pointcloud.config import DataConfig

HEIGHT, NORMALS = "height_above_ground", "normals"
OWN_NORMALS = (("nx", "ny", "nz"), ("normal_x", "normal_y", "normal_z"))
TURNED = {NORMALS, *OWN_NORMALS[0], *OWN_NORMALS[1]}
COLOURS = ("red", "green", "blue")
DEPTHS = {1.0: "numbers from 0 to 1", 255.0: "8 bits", 65535.0: "16 bits"}  # of colours
GROUND = 0.05  # share of the lowest points of a square above which the ground lies
NEIGHBOURS = 16  # of a point, from which its normal is worked out
LARGE = 100.0  # a channel of larger numbers drowns the others


class Feature(NamedTuple):
    """One entry of data.features."""

    name: str
    divisor: float = 1.0

    @property
    def width(self) -> int:
        """Channels."""
        return 3 if self.name == NORMALS else 1

    @property
    def computed(self) -> bool:
        """Worked out from the coordinates, and no field of the file."""
        return self.name in (HEIGHT, NORMALS)


def parse_features(names: Sequence[str]) -> tuple[Feature, ...]:
    """ "intensity/65535" as its name and divisor. Raises ValueError for what makes no sense, saying why."""
    found = []
    for text in names:
        name, slash, number = text.rpartition("/")
        divisor = _number(number) if slash else None
        one = Feature(text) if divisor is None else Feature(name, divisor)
        if one.name in COLOURS and (divisor is None or one.divisor not in DEPTHS):
            raise ValueError(
                f"{text}: colours of 8 bits are {one.name}/255, of 16 bits {one.name}/65535, and those from 0 to 1 "
                f"{one.name}/1"
            )
        if not 0 < one.divisor < math.inf or (divisor is not None and one.name in TURNED):
            raise ValueError(f"{text}: is divided by a number above 0; normals by none")
        found.append(one)
    plain = [one.name for one in found]
    if len(set(plain)) < len(plain):
        raise ValueError("a feature is named twice")
    if len({one.divisor for one in found if one.name in COLOURS}) > 1:
        raise ValueError("red, green and blue have one depth: divide them by one number")
    _refuse_normals(plain)
    return tuple(found)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None  # a field may have a slash in its name


def _refuse_normals(names: Sequence[str]) -> None:
    """Normals of which a part is missing couldn't be turned."""
    sets = [NORMALS] if NORMALS in names else []
    for triple in OWN_NORMALS:
        there = [k for k, name in enumerate(names) if name in triple]
        if there and tuple(names[there[0] : there[0] + 3]) != triple:
            raise ValueError(f"normals turn with the points: name {', '.join(triple)}")
        sets += [triple[0]] * bool(there)
    if len(sets) > 1:
        raise ValueError(f"{' and '.join(sets)}: one kind of normals at a time")


def count_channels(names: Sequence[str]) -> int:
    """Of a point: x, y, z, and its features."""
    return 3 + sum(one.width for one in parse_features(names))


def normal_columns(names: Sequence[str]) -> tuple[int, int] | None:
    """The first channel of normals and the one behind their last; None where there are none."""
    at = 3
    for one in parse_features(names):
        if one.name == NORMALS or one.name in (triple[0] for triple in OWN_NORMALS):
            return at, at + 3
        at += one.width
    return None


@dataclass
class FeatureReader:
    """The features of clouds, and what was noticed of those that were read."""

    data: DataConfig
    missing: dict[str, int] = field(default_factory=dict)  # feature -> values that are no numbers
    spans: dict[str, tuple[float, float]] = field(default_factory=dict)
    shallow: dict[str, float] = field(default_factory=dict)  # cloud -> depth of its colours

    def __post_init__(self) -> None:
        self.features = parse_features(self.data.features)

    @property
    def own(self) -> list[int]:
        """Which of the F channels the file tells; the others follow from the coordinates."""
        places = [one for one in self.features for _ in range(one.width)]
        return [k for k, one in enumerate(places) if not one.computed]

    def read(self, cloud: Cloud, where: str) -> np.ndarray:
        """float32 [N, F], N points that all have coordinates; a value that is no number becomes 0 and is counted.

        Raises UserError, naming the fields that there are, for one that is missing, and for colours beyond their depth.
        """
        if not self.features:
            return np.zeros((len(cloud), 0), np.float32)
        up = self._upright(cloud.xyz)
        found = np.concatenate([self._one(cloud, up, one, where) for one in self.features], 1)
        self._note_depth(cloud, where)
        normals = normal_columns(self.data.features)
        if normals is not None and NORMALS not in self.data.features:
            part = slice(normals[0] - 3, normals[1] - 3)
            found[:, part] = self._upright(found[:, part])
        return found

    def _upright(self, vectors: np.ndarray) -> np.ndarray:
        """[N, 3] of the file with z upwards."""
        if self.data.up == "z":
            return vectors
        from isoform.pointcloud.data.transforms import upright

        return upright(vectors, self.data.up)

    def _one(self, cloud: Cloud, up: np.ndarray, one: Feature, where: str) -> np.ndarray:
        """float32 [N, width]; `up` are the coordinates [N, 3] with z upwards."""
        if one.name == NORMALS:
            return upward_normals(up)
        if one.name == HEIGHT:
            values = height_above_ground(up, ground_cell(self.data), GROUND)
        else:
            values = self._field(cloud, one, where)
        known = np.isfinite(values)
        lost = len(values) - int(known.sum())
        if lost:
            values = np.where(known, values, 0)
            self.missing[one.name] = self.missing.get(one.name, 0) + lost
        values = values / one.divisor
        if len(values):
            low, high = self.spans.get(one.name, (np.inf, -np.inf))
            span = min(low, float(values.min())), max(high, float(values.max()))
            self.spans[one.name] = span
        return values.astype(np.float32)[:, None]

    def _field(self, cloud: Cloud, one: Feature, where: str) -> np.ndarray:
        """float64 [N] as the file has it."""
        stored = column(cloud, one.name, where)
        if stored.ndim != 1 or stored.dtype.kind not in "biuf":
            raise UserError(f"{where}: {one.name} holds no number a point (data.features)")
        return stored.astype(np.float64)

    def _note_depth(self, cloud: Cloud, where: str) -> None:
        """Numbers tell it: a file's type of colours may have room for more bits than these."""
        colours = [one for one in self.features if one.name in COLOURS]
        if not colours or not len(cloud):
            return
        stored = [column(cloud, one.name, where) for one in colours]
        brightest = max(float(np.nanmax(values, initial=0)) for values in stored)
        depth = next((depth for depth in DEPTHS if brightest <= depth), 65535.0)
        wanted = colours[0].divisor
        if depth > wanted:
            raise UserError(
                f"{where}: mixed colour depth: its colours go up to {brightest:,.6g}, as of {DEPTHS[depth]}, and "
                f"data.features divides by {wanted:g}"
            )
        if brightest > 0 and depth < wanted:
            self.shallow[where] = depth

    def notes(self) -> list[str]:
        """What was found, a line each."""
        lines = []
        if self.spans:
            parts = [f"{name} {low:.4g} to {high:.4g}" for name, (low, high) in self.spans.items()]
            lines.append(f"features, divided: {', '.join(parts)}")
        for name, (low, high) in self.spans.items():
            if max(-low, high) > LARGE:
                lines.append(
                    f"warning: {name} goes from {low:.4g} to {high:.4g}, which drowns the coordinates: divide it, "
                    f"data.features = {name}/{max(-low, high):.0f}"
                )
        if self.missing:
            parts = [f"{lost:,} of {name}" for name, lost in self.missing.items()]
            lines.append(f"values that are missing or no data, read as 0: {', '.join(parts)}")
        if self.shallow:
            where, depth = next(iter(self.shallow.items()))
            lines.append(
                f"warning: mixed colour depth: {count(len(self.shallow), 'file')}, such as {where}, with no colour "
                f"above {depth:g}, as of {DEPTHS[depth]}, where data.features divides by more"
            )
        return lines


def ground_cell(data: DataConfig) -> float | None:
    """Edge of the squares of which each has its ground: a scan's tile; a cloud is one square."""
    from isoform.pointcloud.data.sources import SCANS

    return data.tile if data.source in SCANS else None


def height_above_ground(
    xyz: np.ndarray, cell: float | None = 2.0, share: float = 0.0
) -> np.ndarray:
    """float64 [N]: height above the ground of the square of edge `cell` (in the file's unit) that a point lies in.

    The ground is the lowest point of the square; with a `share` of the points left out below it, which a few returns
    from under the ground don't move: these lie at less than 0. None: all points lie in one square.
    """
    if not len(xyz):
        return np.zeros(0)
    z = np.asarray(xyz[:, 2], np.float64)
    square = np.zeros(len(z), np.int64) if cell is None else _squares(xyz, cell)
    order = np.lexsort((z, square))
    first = np.flatnonzero(np.diff(square[order], prepend=-1))
    size = np.diff(first, append=len(z))
    ground = z[order[first + (share * (size - 1)).astype(np.int64)]]
    return z - ground[square]


def _squares(xyz: np.ndarray, cell: float) -> np.ndarray:
    """int64 [N]: numbers from 0 of the squares that hold points."""
    place = np.floor((xyz[:, :2] - xyz[:, :2].min(0)) / cell).astype(np.int64)
    code = place[:, 0] * (int(place[:, 1].max()) + 1) + place[:, 1]
    return np.unique(code, return_inverse=True)[1].reshape(-1)


def upward_normals(xyz: np.ndarray) -> np.ndarray:
    """float32 [N, 3]: normals from the 16 nearest points, turned so that z isn't below 0: a normal has no side.

    That choice turns with the points around z. 0 where neighbours don't spread.
    """
    import torch

    from isoform.pointcloud.ops import estimate_normals

    if not len(xyz):
        return np.zeros((0, 3), np.float32)
    own = np.asarray(xyz, np.float64)
    points = torch.from_numpy((own - own.mean(0)).astype(np.float32))[None]
    found = estimate_normals(points, neighbourhood_size=NEIGHBOURS)[0].numpy()
    return np.where(found[:, 2:] < 0, -found, found)
