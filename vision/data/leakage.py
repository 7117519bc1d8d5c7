"""What `check` calls leakage stops a training too, unless data.allow_leakage: then it is said."""

from __future__ import annotations

from dataclasses import replace

from isoform.core.data.splits import Rows, torn_groups
from isoform.core.domain import Prepared
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.data.check import find_doubles, look
from isoform.vision.data.records import Records
from isoform.vision.prepare import VisionData


def without_leakage(prepared: Prepared[VisionApp, VisionData]) -> Prepared[VisionApp, VisionData]:
    """The same, with a note where leakage is allowed. Raises UserError where it is not and there is some."""
    images = prepared.data.images
    if len(images.rows) < 2:
        return prepared
    said = describe_leakage(images.records, images.rows)
    if said and not prepared.config.data.allow_leakage:
        raise UserError(
            f"{images.records.origin}: {said}; remove them (isoform vision check lists all), or set "
            "data.allow_leakage = true"
        )
    if not said:
        return prepared
    return replace(prepared, notes=[*prepared.notes, f"warning: {said} (data.allow_leakage)"])


def describe_leakage(records: Records, rows: Rows) -> str:
    """The images and groups that lie in several splits, as a part of a sentence; "" for none."""
    split_of = {int(row): split for split, members in rows.items() for row in members}
    used = find_doubles(records, look(records), split_of).leaks
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
