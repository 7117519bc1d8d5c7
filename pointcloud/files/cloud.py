"""What a file of points holds.

N points, F faces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from isoform.core.errors import UserError

MAX_BYTES = 8 << 30  # that a file may ask for when it is unpacked
# A packed cloud is a third to a twentieth of itself. What grows beyond this and 300 times its size is no cloud.
SURELY_FINE = 2**26
MOST_RATIO = 300
AXES = ("x", "y", "z")


@dataclass
class Cloud:
    """Points as their file has them, row for row.

    xyz      float64 [N, 3] in the file's own frame; a point without coordinates is NaN, and stays in its place
    fields   [N] or [N, k] by the file's names and in its types: intensity, red, classification, ...
    faces    int64 [F, 3], of a mesh
    kind     "las", "ply", "pcd", "text", "array", "mesh"
    notes    what was found and chosen, a sentence each
    carrier  what writing the file again needs beside the points, as its kind keeps it
    """

    xyz: np.ndarray
    fields: Mapping[str, np.ndarray] = field(default_factory=dict)
    faces: np.ndarray | None = None
    kind: str = "array"
    notes: tuple[str, ...] = ()
    carrier: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.xyz)

    def usable(self) -> np.ndarray:
        """bool [N]: points with coordinates that are no empty return of a scanner; see `invalid_returns`."""
        found: np.ndarray = np.isfinite(self.xyz).all(1) & ~self.invalid_returns()
        return found

    def invalid_returns(self) -> np.ndarray:
        """bool [N]: exactly (0, 0, 0), in a scan whose other points don't lie there.

        Scanners write a ray that met nothing so. Nothing is invalid where the origin lies among the other points: not
        farther from the nearest than these lie from each other, judged by 1/1,000 of their extent.
        """
        at_origin: np.ndarray = (self.xyz == 0).all(1)
        others = self.xyz[~at_origin & np.isfinite(self.xyz).all(1)]
        if not at_origin.any() or not len(others):
            return np.zeros(len(self.xyz), bool)
        extent = float((others.max(0) - others.min(0)).max())
        nearest = float(np.sqrt(np.square(others).sum(1).min()))
        alone = at_origin.sum() > 1 and nearest > extent / 1000
        return at_origin if alone else np.zeros(len(self.xyz), bool)


def column(cloud: Cloud, name: str, where: str) -> np.ndarray:
    """A field [N]; its spelling may differ in case and in what stands for a blank. Raises UserError with the names."""
    plain = {_plain(known): known for known in cloud.fields}
    if _plain(name) not in plain:
        names = ", ".join(cloud.fields) or "none"
        raise UserError(f"{where}: has no field {name!r}; there are {names}")
    return np.asarray(cloud.fields[plain[_plain(name)]])


def _plain(name: str) -> str:
    return name.lower().replace(" ", "_").removeprefix("scalar_")


def refuse_size(wanted: int, path: Path) -> None:
    """Raises UserError for a file that would need more than MAX_BYTES, before anything of it is unpacked."""
    if wanted > MAX_BYTES:
        raise UserError(
            f"{path}: says it holds {wanted / 2**30:.1f} GiB of points, more than the {MAX_BYTES >> 30} GiB that are "
            "read; cut it into tiles"
        )


def refuse_growth(wanted: int, path: Path) -> None:
    """Raises UserError, as `refuse_size`, and for a packed file that would need far more than packing saves."""
    refuse_size(wanted, path)
    size = path.stat().st_size
    if wanted > max(SURELY_FINE, MOST_RATIO * size):
        raise UserError(f"{path}: its {size:,} bytes say they hold {wanted:,}: is it damaged?")


def split_axes(
    table: Mapping[str, np.ndarray], path: Path
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(float64 [N, 3] of the fields x, y, z in any case, all others). Raises UserError where one is missing."""
    names = {name.lower(): name for name in reversed(list(table))}
    missing = [axis for axis in AXES if axis not in names]
    if missing:
        raise UserError(
            f"{path}: has no field {' and no '.join(missing)}; it has {', '.join(table) or 'none'}"
        )
    lists = [axis for axis in AXES if np.ndim(table[names[axis]]) != 1]
    if lists:
        raise UserError(f"{path}: its field {lists[0]} holds more than one number a point")
    xyz = np.stack([np.asarray(table[names[axis]], np.float64) for axis in AXES], 1)
    used = {names[axis] for axis in AXES}
    return xyz, {name: values for name, values in table.items() if name not in used}


def usual_names(count: int) -> tuple[str, ...]:
    """Of columns that nobody names: x, y, z, column 4, column 5, ..."""
    return (*AXES, *(f"column {k}" for k in range(4, count + 1)))[:count]
