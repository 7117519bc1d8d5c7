"""The split of a run on clouds: kept by names and contents, and found again; and clouds that lie in several splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isoform.core.data.digests import content_digest, set_digest
from isoform.core.data.splits import Rows, torn_groups
from isoform.core.domain.kept_split import KeptSplit, Samples
from isoform.core.errors import printable
from isoform.pointcloud.data.dataset import CloudData
from isoform.pointcloud.data.records import Records

NAMED = 3  # sets of equal clouds in a sentence


def keep_split(data: CloudData, more: Sequence[str] = ()) -> KeptSplit:
    """What a run on these clouds keeps: coordinates as they were read, whatever the files are called.

    more    what a cloud's label holds beside its class, a text a row
    """
    names = [printable(name) for name in data.records.clouds.names]
    contents = [f"{digest:016x}" for digest in data.digests_N.tolist()]
    beside = more or [""] * len(names)
    labels = [
        content_digest((label or "") + other)[:16]
        for label, other in zip(data.records.labels, beside, strict=True)
    ]
    splits = {
        split: Samples(
            [names[row] for row in rows.tolist()],
            [contents[row] for row in rows.tolist()],
            [labels[row] for row in rows.tolist()],
        )
        for split, rows in data.rows.items()
    }
    used = set(np.concatenate([*data.rows.values()]).tolist())
    rest = [names[row] for row in range(len(names)) if row not in used]
    parts: dict[str, list[str]] = {}
    for label, content in zip(data.records.labels, contents, strict=True):
        parts.setdefault(label or "", []).append(content)
    digests = {label: set_digest(members) for label, members in parts.items() if label}
    return KeptSplit(splits, rest, len(rest), digests)


def find_split(records: Records, kept: KeptSplit) -> Rows:
    """The rows of a run's own clouds, in its order; those that are gone are in no split."""
    found = kept.rows_among([printable(name) for name in records.clouds.names])
    return {split: np.array(rows, np.int64) for split, rows in found.items() if rows}


def find_doubles(data: CloudData) -> list[list[int]]:
    """Rows of readable clouds that are equal, point for point, a list for each set of at least two."""
    rows: dict[int, list[int]] = {}
    for row, digest in enumerate(data.digests_N.tolist()):
        if data.clouds[row] is not None:
            rows.setdefault(digest, []).append(row)
    return [found for found in rows.values() if len(found) > 1]


def find_leaks(data: CloudData) -> list[list[int]]:
    """Of the equal clouds those that lie in several splits."""
    split_of = splits_by_row(data)
    return [
        rows
        for rows in find_doubles(data)
        if len({split_of[row] for row in rows if row in split_of}) > 1
    ]


def splits_by_row(data: CloudData) -> Mapping[int, str]:
    """Row -> its split."""
    return {int(row): split for split, rows in data.rows.items() for row in rows}


def describe_leaks(data: CloudData) -> str:
    """The equal clouds and the groups in several splits as a part of a sentence; "" for none."""
    leaks, split_of = find_leaks(data), splits_by_row(data)
    parts = []
    if leaks:
        names = data.records.clouds.names
        shown = [
            " = ".join(f"{names[row]} ({split_of.get(row, '-')})" for row in rows[:2])
            for rows in leaks[:NAMED]
        ]
        more = f" and {len(leaks) - NAMED:,} more" if len(leaks) > NAMED else ""
        parts.append(f"equal clouds lie in several splits: {', '.join(shown)}{more}")
    torn = torn_groups(data.group, data.rows) if data.group is not None else []
    if torn:
        name, places = torn[0]
        parts.append(f'group "{name}" lies in {" and ".join(places)} ({len(torn):,} such group(s))')
    return "; ".join(parts)
