"""`isoform vision check`: what a model would be trained on, and what is wrong with it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from isoform.core.data.splits import torn_groups
from isoform.core.domain import CheckReport
from isoform.core.errors import UserError, join_names
from isoform.core.report.check_page import Group, Picture, render_check_page
from isoform.vision.config import VisionApp
from isoform.vision.data.dataset import spread
from isoform.vision.data.duplicates import exact_groups, fingerprint, near_pairs
from isoform.vision.data.images import open_image
from isoform.vision.data.records import FileImages, Records
from isoform.vision.data.sources import read_records
from isoform.vision.data.splits import split_rows
from isoform.vision.data.transforms import to_float
from isoform.vision.prepare import prepare_records

MOST_IMAGES = 20_000  # decoded; of more, that many evenly spaced
NAMED = 10  # of each kind of finding, in the text
NAMED_CLASSES = 100
RARE = 10  # images of a class, below which it is named
UNBALANCED = 10  # of the largest class to the smallest, above which it is said
SHOWN_CLASSES, SHOWN_EACH, SHOWN_PAIRS = 24, 6, 12  # on the page
LEAKS = "The same image or group is in two splits: a score on them would be too good."

Rows = Sequence[int]


@dataclass
class _Seen:
    """What was found in the images that could be read; all lists run alike."""

    rows: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    hashes: list[int] = field(default_factory=list)
    thumbs: list[np.ndarray] = field(default_factory=list)
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    unreadable: dict[str, str] = field(default_factory=dict)


@dataclass
class _Doubles:
    """Sets of rows whose images are equal, or nearly so.

    leaks          those with images in several splits
    contradictory  equal images with different labels
    """

    equal: list[Rows]
    near: list[Rows]
    leaks: list[Rows]
    contradictory: list[Rows]


def check(config: VisionApp) -> CheckReport:
    """Reads the data of an app and reports on them, and on what a training would say to them.

    Leakage is an image that is in two splits (equal pixels, or a near duplicate), or a group that is, unless
    data.allow_leakage. Raises UserError where there are no data to read.
    """
    records = read_records(config.data)
    refusal = _refusal(config, records)
    # Torn groups are a finding here, not the end of it.
    splits = split_rows(records, config.data.model_copy(update={"allow_leakage": True}))
    split_of = {int(row): split for split, rows in splits.items() for row in rows}
    seen = _look(records)
    doubles = _find_doubles(records, seen, split_of)
    torn = torn_groups(records.group, splits) if records.group is not None else []
    data = _describe(records, splits, seen)
    data |= _describe_doubles(records.images.names, doubles, split_of)
    data["torn_groups"] = [{"group": name, "splits": list(found)} for name, found in torn]
    data["findings"] = records.findings
    if records.kind == "regression":
        data["targets"] = _targets(records)
    lines = _lines(data)
    leakage = bool(doubles.leaks or torn) and not config.data.allow_leakage
    groups = _groups(records, seen, split_of, doubles)
    page = render_check_page(str(records.origin), lines, LEAKS if leakage else "", groups)
    return CheckReport(lines, data, leakage, page, refusal)


def _refusal(config: VisionApp, records: Records) -> str | None:
    """With which sentence a training on these records would end before its first step."""
    try:
        prepare_records(config, records)
    except UserError as error:
        return str(error)
    return None


def _look(records: Records) -> _Seen:
    seen = _Seen()
    for row in spread(np.arange(len(records)), MOST_IMAGES).tolist():
        try:
            image = records.images.read(row, None)
        except UserError as error:
            seen.unreadable[records.images.names[row]] = str(error)
            continue
        digest, code, thumb = fingerprint(image)
        seen.rows.append(row)
        seen.digests.append(digest)
        seen.hashes.append(code)
        seen.thumbs.append(thumb)
        seen.shapes.append(tuple(image.shape))
        seen.kinds[_kind(records, row, image)] += 1
    return seen


def _kind(records: Records, row: int, image: Tensor) -> str:
    """Format and mode, such as "PNG P" or "npy float32"."""
    depth = str(image.dtype).removeprefix("torch.")
    if not isinstance(records.images, FileImages):
        return depth
    path = records.images.path(row)
    if path.suffix == ".npy":
        return f"npy {depth}"
    header = open_image(path)
    return f"{header.format} {header.mode}"


def _find_doubles(
    records: Records,
    seen: _Seen,
    split_of: Mapping[int, str],
) -> _Doubles:
    equal: list[Rows] = [[seen.rows[i] for i in members] for members in exact_groups(seen.digests)]
    together = {(a, b) for members in equal for a in members for b in members}
    thumbs = np.stack(seen.thumbs) if seen.thumbs else np.zeros((0, 768), np.float32)
    near: list[Rows] = []
    for i, j in near_pairs(seen.hashes, thumbs):
        pair = (seen.rows[i], seen.rows[j])
        if pair not in together:
            near.append(pair)
    leaks = [
        members for members in (*equal, *near) if len({split_of.get(row) for row in members}) > 1
    ]
    contradictory = [
        members for members in equal if len({repr(records.labels[row]) for row in members}) > 1
    ]
    return _Doubles(equal, near, leaks, contradictory)


def _describe(
    records: Records,
    splits: Mapping[str, np.ndarray],
    seen: _Seen,
) -> dict[str, Any]:
    """What the report's JSON says of sizes, kinds and classes."""
    channels = Counter(shape[0] for shape in seen.shapes)
    return {
        "origin": records.origin,
        "images": len(records),
        "read": len(seen.rows),
        "splits": {split: len(rows) for split, rows in splits.items()},
        "classes": _class_counts(records, splits),
        "sizes": _sizes(seen.shapes),
        "channels": {str(count): images for count, images in sorted(channels.items())},
        "kinds": dict(seen.kinds.most_common()),
        "skipped": [{"file": file, "reason": reason} for file, reason in records.skipped],
        "unreadable": [
            {"file": file, "reason": reason} for file, reason in seen.unreadable.items()
        ],
    }


def _describe_doubles(
    names: Sequence[str],
    doubles: _Doubles,
    split_of: Mapping[int, str],
) -> dict[str, Any]:
    def name_all(sets: Sequence[Rows]) -> list[list[str]]:
        return [[names[row] for row in members] for members in sets]

    return {
        "duplicates": name_all(doubles.equal),
        "near_duplicates": name_all(doubles.near),
        "contradictory_labels": name_all(doubles.contradictory),
        "leaks": [[_caption(row, names, split_of) for row in members] for members in doubles.leaks],
    }


def _caption(row: int, names: Sequence[str], split_of: Mapping[int, str]) -> str:
    return f"{split_of.get(row, '-')}: {names[row]}"


def _class_counts(records: Records, splits: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """{class: {split: images}}; nothing for regression."""
    if records.kind == "regression":
        return {}
    counts: dict[str, dict[str, int]] = {name: dict.fromkeys(splits, 0) for name in records.classes}
    for split, rows in splits.items():
        for row in rows.tolist():
            for name in records.names_of(row):
                counts[name][split] += 1
    return counts


def _targets(records: Records) -> dict[str, dict[str, float]]:
    values_NK = np.asarray(records.labels, np.float64).reshape(len(records), -1)
    targets = {}
    for name, column in zip(records.classes, values_NK.T, strict=True):
        known = column[np.isfinite(column)]
        targets[name] = {
            "min": float(known.min()),
            "mean": float(known.mean()),
            "max": float(known.max()),
            "std": float(known.std()),
        }
    return targets


def _sizes(shapes: Sequence[tuple[int, ...]]) -> dict[str, list[int]]:
    """Smallest, median and largest height and width, pixels."""
    if not shapes:
        return {}
    sides = np.array([shape[1:] for shape in shapes])
    return {
        "smallest": sides.min(0).tolist(),
        "median": np.median(sides, axis=0).astype(int).tolist(),
        "largest": sides.max(0).tolist(),
    }


def _lines(data: dict[str, Any]) -> list[str]:
    """The report for a person."""
    splits = ", ".join(f"{n} {split}" for split, n in data["splits"].items())
    lines = [
        f"{data['origin']}: {data['images']} images ({splits}), {data['read']} read",
        *data["findings"],
    ]
    if data["read"] + len(data["unreadable"]) < data["images"]:
        lines.append(
            f"only {data['read']} evenly spaced images were decoded; duplicates are looked for among these"
        )
    if data["sizes"]:
        sizes = ", ".join(f"{name} {h} x {w}" for name, (h, w) in data["sizes"].items())
        lines.append(f"height x width in pixels: {sizes}")
        lines.append("kinds: " + ", ".join(f"{kind} ({n})" for kind, n in data["kinds"].items()))
    for name, t in data.get("targets", {}).items():
        lines.append(
            f"target {name}: {t['min']:.4g} to {t['max']:.4g}, mean {t['mean']:.4g}, deviation {t['std']:.4g}"
        )
    if data["classes"]:
        lines += _class_lines(data["classes"])
    lines += _list("skipped", [f"{one['file']} ({one['reason']})" for one in data["skipped"]])
    lines += _list("unreadable", [one["reason"] for one in data["unreadable"]])
    lines += _list("sets of equal images", [" = ".join(names) for names in data["duplicates"]])
    lines += _list(
        "pairs of nearly equal images", [" ~ ".join(names) for names in data["near_duplicates"]]
    )
    lines += _list(
        "equal images with different labels",
        [" = ".join(names) for names in data["contradictory_labels"]],
    )
    torn = [f"{one['group']} in {', '.join(one['splits'])}" for one in data["torn_groups"]]
    lines += _list("groups in several splits", torn)
    lines += _list(
        "LEAKAGE, images in several splits", [", ".join(names) for names in data["leaks"]]
    )
    if not (data["leaks"] or torn):
        lines.append("no leakage between splits found")
    return lines


def _class_lines(classes: Mapping[str, Mapping[str, int]]) -> list[str]:
    counts = {name: sum(each.values()) for name, each in classes.items()}
    least, most = min(counts.values()), max(counts.values())
    lines = [f"{len(counts)} classes of {least} to {most} images:"]
    for name, each in list(classes.items())[:NAMED_CLASSES]:
        lines.append(f"  {name}: " + ", ".join(f"{n} {split}" for split, n in each.items()))
    if len(counts) > NAMED_CLASSES:
        lines.append(f"  and {len(counts) - NAMED_CLASSES} more")
    rare = [name for name, n in counts.items() if n < RARE]
    if rare:
        lines.append(f"fewer than {RARE} images: {join_names(rare, NAMED)}")
    if least * UNBALANCED < most:
        lines.append(
            "classes are unbalanced by more than 10 to 1: consider data.balanced or data.class_weights"
        )
    return lines


def _list(what: str, items: Sequence[str]) -> list[str]:
    """A heading with the number of items, the first of them, and how many more there are."""
    if not items:
        return []
    lines = [f"{what}: {len(items)}", *(f"  {item}" for item in items[:NAMED])]
    if len(items) > NAMED:
        lines.append(f"  and {len(items) - NAMED} more")
    return lines


def _groups(
    records: Records,
    seen: _Seen,
    split_of: Mapping[int, str],
    doubles: _Doubles,
) -> list[Group]:
    """Pictures of the page: samples of each class, then the images that are in two splits or nearly equal."""
    names = records.images.names

    def pictures(rows: Rows) -> list[Picture]:
        return [
            Picture(_caption(row, names, split_of), png=png(records.images.read(row, None)))
            for row in rows
        ]

    members: dict[str, list[int]] = {}
    for row in seen.rows:
        labels = ("images",) if records.kind == "regression" else records.names_of(row)
        for name in labels:
            members.setdefault(name, []).append(row)
    groups = []
    for name in [name for name in (*records.classes, "images") if name in members][:SHOWN_CLASSES]:
        chosen = spread(np.array(members[name]), SHOWN_EACH).tolist()
        groups.append(Group(name, pictures(chosen), "thumbnails"))
    for heading, sets in (("In several splits", doubles.leaks), ("Nearly equal", doubles.near)):
        shown = [row for rows in sets[:SHOWN_PAIRS] for row in rows[:2]]
        if shown:
            groups.append(Group(heading, pictures(shown), "thumbnails"))
    return groups


def png(image_CHW: Tensor, longest: int = 96) -> str:
    """A small PNG of an image with any number of channels, base64."""
    from PIL import Image

    from isoform.vision.figures import picture

    height, width = image_CHW.shape[1:]
    ratio = min(1.0, longest / max(height, width))
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    small = F.interpolate(
        to_float(image_CHW)[None], size, mode="bilinear", antialias=True, align_corners=False
    )[0]
    if image_CHW.dtype.itemsize == 1:
        small = small.clamp(0, 1)
    pixels = (picture(small) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")
