"""What `check` calls leakage stops a training too, unless data.allow_leakage: then it is said."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from isoform.core.data.splits import Rows, torn_groups
from isoform.core.domain import Prepared
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.data.check import LOOKED_AT, How, find_doubles, look, looked_at
from isoform.vision.data.duplicates import Print, fingerprint
from isoform.vision.data.images import read_image
from isoform.vision.data.records import FileImages, Records
from isoform.vision.data.sources import read_records
from isoform.vision.prepare import VisionData, prepare_records


def prepare_without_leakage(config: VisionApp) -> Prepared[VisionApp, VisionData]:
    """See prepare.py; with a note where leakage is allowed. Raises UserError where it is not and there is some.

    Files are looked at while they are read for the training, so that none is opened twice.
    """
    records = read_records(config.data)
    how = How.of(config)
    looked: dict[int, Print] = {}
    wanted = set(looked_at(records).tolist())

    def watch(row: int, data: bytes) -> None:
        if row in wanted and row not in looked:
            with suppress(UserError):  # which reading it for the training says
                image = read_image(data, how.channels, at_least=LOOKED_AT, reading=how.reading)
                looked[row] = fingerprint(image)

    if isinstance(records.images, FileImages):
        records.images.watch = watch
    prepared = prepare_records(config, records)
    if isinstance(records.images, FileImages):
        records.images.watch = None
    images = prepared.data.images
    said = describe_leakage(records, how, images.rows, looked) if len(images.rows) > 1 else ""
    if said and not config.data.allow_leakage:
        raise UserError(
            f"{records.origin}: {said}; remove them (isoform vision check lists all), or set data.allow_leakage = true"
        )
    if not said:
        return prepared
    return replace(prepared, notes=[*prepared.notes, f"warning: {said} (data.allow_leakage)"])


def describe_leakage(records: Records, how: How, rows: Rows, looked: Mapping[int, Print]) -> str:
    """The images and groups that lie in several splits, as a part of a sentence; "" for none.

    looked   the fingerprints of rows that needn't be read for it
    """
    split_of = {int(row): split for split, members in rows.items() for row in members}
    used = find_doubles(records, look(records, how, looked), split_of).leaks
    leaks = [
        members for members in used if len({split_of[r] for r in members if r in split_of}) > 1
    ]
    parts = []
    if leaks:
        first = " = ".join(
            f"{records.images.names[row]} ({split_of.get(row, '-')})" for row in leaks[0][:2]
        )
        more = f" and {len(leaks) - 1:,} more" if len(leaks) > 1 else ""
        parts.append(f"equal or nearly equal images lie in several splits: {first}{more}")
    torn = torn_groups(records.group, rows) if records.group is not None else []
    if torn:
        parts.append(
            f'group "{torn[0][0]}" lies in {" and ".join(torn[0][1])} ({len(torn):,} such group(s))'
        )
    return "; ".join(parts)
