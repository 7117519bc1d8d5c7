"""What a file says of its points before any are left out, and what a set of files mixes: units, depths of colours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from isoform.core.errors import count
from isoform.pointcloud.files.cloud import Cloud

COLOURS = ("red", "green", "blue")
DEPTHS = {"0 to 1": 1.0, "8 bits": 255.0, "16 bits": 65535.0}
# Times that a length in one unit is as large a number as in the other; what lies between is a difference in size.
UNITS = {"metres and millimetres": (300, 3000), "metres and centimetres": (50, 300)}


class Facts(NamedTuple):
    """Of one cloud.

    points   in the file
    missing  of them without coordinates (NaN, infinite)
    invalid  of them empty returns at the origin; see Cloud.invalid_returns
    extent   longest side of the others' box, in the file's unit
    depth    of its colours by their largest number, a key of DEPTHS; "" without colours
    """

    points: int
    missing: int
    invalid: int
    extent: float
    depth: str


def facts_of(cloud: Cloud) -> Facts:
    """See `Facts`."""
    finite = np.isfinite(cloud.xyz).all(1)
    invalid = cloud.invalid_returns()
    own = cloud.xyz[finite & ~invalid]
    extent = float(np.ptp(own, axis=0).max()) if len(own) else 0.0
    return Facts(len(cloud), int((~finite).sum()), int(invalid.sum()), extent, _depth(cloud))


def _depth(cloud: Cloud) -> str:
    stored = [
        np.asarray(values) for name, values in cloud.fields.items() if name.lower() in COLOURS
    ]
    stored = [values for values in stored if values.dtype.kind in "iuf" and values.size]
    if not stored:
        return ""
    brightest = max(float(np.nanmax(values, initial=0)) for values in stored)
    floats = all(values.dtype.kind == "f" for values in stored)
    likely = list(DEPTHS) if floats else list(DEPTHS)[1:]
    return next((name for name in likely if brightest <= DEPTHS[name]), likely[-1])


def mixed_units(lengths: Mapping[str, float]) -> tuple[str, list[str]] | None:
    """(the units that are mixed, the fewer names) of clouds whose lengths fall into two sizes; None if they don't.

    Two sizes: between them lies the widest gap, of at least 10 times, and their medians differ by what two units do.
    """
    names = sorted((name for name in lengths if lengths[name] > 0), key=lambda n: (lengths[n], n))
    if len(names) < 2:
        return None
    ordered = np.array([lengths[name] for name in names])
    gap = int((ordered[1:] / ordered[:-1]).argmax()) + 1
    ratio = float(np.median(ordered[gap:]) / np.median(ordered[:gap]))
    if ordered[gap] < 10 * ordered[gap - 1]:
        return None
    for units, (low, high) in UNITS.items():
        if low <= ratio < high:
            fewer = names[:gap] if gap <= len(names) - gap else names[gap:]
            return f"{units} (one is {ratio:,.0f} times as large as the other)", fewer
    return None


def mixed_depths(depths: Mapping[str, str]) -> dict[str, list[str]]:
    """Depth -> names of clouds with such colours, where there are several depths; else empty."""
    found: dict[str, list[str]] = {}
    for name, depth in depths.items():
        if depth:
            found.setdefault(depth, []).append(name)
    return found if len(found) > 1 else {}


def describe_depths(mixed: Mapping[str, Sequence[str]]) -> list[str]:
    """As a line; none where nothing is mixed."""
    if not mixed:
        return []
    parts = [
        f"{count(len(names), 'file')} of {depth}, such as {names[0]}"
        for depth, names in sorted(mixed.items())
    ]
    return [f"colours of mixed depth, which one divisor doesn't fit: {'; '.join(parts)}"]
