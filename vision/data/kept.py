"""The split of a run on images: kept by names and contents, and found again among the images that there are now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from isoform.core.data.digests import content_digest, set_digest
from isoform.core.data.splits import Rows
from isoform.core.domain.kept_split import KeptSplit, Mark, Samples
from isoform.core.errors import printable
from isoform.vision.data.records import Records


def keep_split(records: Records, rows: Rows, contents: Sequence[str]) -> KeptSplit:
    """What a run on these rows keeps; `contents` of every row of the records."""
    names, labels, marks = records.images.names, records.label_texts(), records.images.marks()
    splits = {}
    for split, members in rows.items():
        some = members.tolist()
        splits[split] = Samples(
            [printable(names[row]) for row in some],
            [contents[row] for row in some],
            [content_digest(labels[row])[:16] for row in some],
            None if marks is None else [marks[row] for row in some],
        )
    used = np.concatenate([*rows.values()]).tolist() if rows else []
    rest = sorted(set(range(len(records))) - set(used))
    left_out = [printable(names[row]) for row in rest]
    return KeptSplit(splits, left_out, len(rest), _parts(records, contents))


def _parts(records: Records, contents: Sequence[str]) -> dict[str, str]:
    """By class or label the images that have it, by target its values."""
    parts: dict[str, list[str]] = {name: [] for name in records.classes}
    for row in range(len(records)):
        if records.kind == "regression":
            for name, value in zip(records.classes, np.ravel(records.labels[row]), strict=True):
                parts[name].append(f"{contents[row]} {value!r}")
        for name in records.names_of(row):
            parts[name].append(contents[row])
    return {name: set_digest(members) for name, members in parts.items() if members}


def find_split(records: Records, kept: KeptSplit) -> Rows:
    """The rows of a run's own samples, in its order; those that are gone are in no split."""
    found = kept.rows_among([printable(name) for name in records.images.names])
    return {split: np.array(rows, np.int64) for split, rows in found.items() if rows}


def known_contents(kept: KeptSplit | None) -> Mapping[tuple[str, Mark], str]:
    """The digests of the files that a run keeps, by name and mark."""
    return {
        (name, (mark[0], mark[1], mark[2])): content
        for one in (kept.splits.values() if kept is not None else ())
        for name, mark, content in zip(one.names, one.marks or (), one.contents, strict=False)
    }
