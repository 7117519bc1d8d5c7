"""`isoform vision check`: what a model would be trained on, and what is wrong with it."""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch.nn.functional as F
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from isoform.core.domain import CheckReport
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.data.dataset import spread
from isoform.vision.data.duplicates import exact_groups, fingerprint, near_pairs
from isoform.vision.data.images import open_image
from isoform.vision.data.records import FileImages, Records
from isoform.vision.data.sources import read_records
from isoform.vision.data.splits import split_rows, torn_groups
from isoform.vision.data.transforms import to_float
from isoform.vision.prepare import prepare_records

MOST_IMAGES = 20_000  # decoded; of more, that many evenly spaced
NAMED = 10  # of each kind of finding, in the text
SHOWN_CLASSES, SHOWN_EACH, SHOWN_PAIRS = 24, 6, 12  # on the page


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


def check(config: VisionApp) -> CheckReport:
    """Reads the data of an app and reports on them, and on what a training would say to them.

    Leakage is an image that is in two splits (equal pixels, or a near duplicate), or a group that is, unless
    data.allow_leakage. Raises UserError where there are no data to read.
    """
    records = read_records(config.data, config.head.task)
    refusal = _refusal(config, records)
    # Torn groups are a finding here, not the end of it.
    splits = split_rows(records, config.data.model_copy(update={"allow_leakage": True}))
    split_of = {int(row): split for split, rows in splits.items() for row in rows}
    seen = _look(records)
    names = records.images.names
    equal = [[seen.rows[i] for i in members] for members in exact_groups(seen.digests)]
    thumbs = np.stack(seen.thumbs) if seen.thumbs else np.zeros((0, 768), np.float32)
    together = {(a, b) for members in equal for a in members for b in members}
    near = [pair for i, j in near_pairs(seen.hashes, thumbs) if (pair := (seen.rows[i], seen.rows[j])) not in together]
    torn = torn_groups(records.group, splits) if records.group is not None else []
    leaks = [tuple(members) for members in equal if len({split_of.get(row) for row in members}) > 1]
    leaks += [pair for pair in near if split_of.get(pair[0]) != split_of.get(pair[1])]
    contradictory = [m for m in equal if len({repr(records.labels[row]) for row in m}) > 1]
    data: dict[str, Any] = {
        "origin": records.origin,
        "images": len(records),
        "read": len(seen.rows),
        "splits": {split: len(rows) for split, rows in splits.items()},
        "classes": _class_counts(records, splits),
        "sizes": _sizes(seen.shapes),
        "channels": {str(k): n for k, n in sorted(Counter(shape[0] for shape in seen.shapes).items())},
        "kinds": dict(seen.kinds.most_common()),
        "skipped": [{"file": file, "reason": reason} for file, reason in records.skipped],
        "unreadable": [{"file": file, "reason": reason} for file, reason in seen.unreadable.items()],
        "duplicates": [[names[row] for row in members] for members in equal],
        "near_duplicates": [[names[a], names[b]] for a, b in near],
        "contradictory_labels": [[names[row] for row in members] for members in contradictory],
        "leaks": [[f"{split_of.get(row, '-')}: {names[row]}" for row in members] for members in leaks],
        "torn_groups": [{"group": name, "splits": list(found)} for name, found in torn],
    }
    if records.kind == "regression":
        data["targets"] = _targets(records)
    lines = _lines(data, records)
    leakage = bool(leaks or torn) and not config.data.allow_leakage
    page = _page(str(records.origin), lines, leakage, _groups(records, seen, splits, leaks, near))
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


def _class_counts(records: Records, splits: Mapping[str, np.ndarray]) -> dict[str, dict[str, int]]:
    """{class: {split: images}}; nothing for regression."""
    if records.kind == "regression":
        return {}
    found: dict[str, dict[str, int]] = {name: dict.fromkeys(splits, 0) for name in records.classes}
    for split, rows in splits.items():
        for row in rows:
            label = records.labels[row]
            for name in [label] if isinstance(label, str) else label:
                found[name][split] += 1
    return found


def _targets(records: Records) -> dict[str, dict[str, float]]:
    values = np.asarray(records.labels, np.float64).reshape(len(records), -1)
    return {
        name: {"min": float(v.min()), "mean": float(v.mean()), "max": float(v.max()), "std": float(v.std())}
        for name, v in zip(records.classes, values.T, strict=True)
    }


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


def _lines(data: dict[str, Any], records: Records) -> list[str]:
    splits = ", ".join(f"{n} {split}" for split, n in data["splits"].items())
    lines = [f"{data['origin']}: {data['images']} images ({splits}), {data['read']} read"]
    if data["read"] + len(data["unreadable"]) < data["images"]:
        lines.append(f"only {data['read']} evenly spaced images were decoded; duplicates are looked for among these")
    if data["sizes"]:
        sizes = ", ".join(f"{name} {h} x {w}" for name, (h, w) in data["sizes"].items())
        lines.append(f"height x width in pixels: {sizes}")
        lines.append("kinds: " + ", ".join(f"{kind} ({n})" for kind, n in data["kinds"].items()))
    for name, t in data.get("targets", {}).items():
        lines.append(f"target {name}: {t['min']:.4g} to {t['max']:.4g}, mean {t['mean']:.4g}, deviation {t['std']:.4g}")
    counts = {name: sum(found.values()) for name, found in data["classes"].items()}
    if counts:
        lines.append(f"{len(counts)} classes of {min(counts.values())} to {max(counts.values())} images:")
        for name, found in list(data["classes"].items())[:100]:
            lines.append(f"  {name}: " + ", ".join(f"{n} {split}" for split, n in found.items()))
        if len(counts) > 100:
            lines.append(f"  and {len(counts) - 100} more")
        rare = [name for name, n in counts.items() if n < 10]
        if rare:
            lines.append(f"fewer than 10 images: {_some(rare)}")
        if min(counts.values()) * 10 < max(counts.values()):
            lines.append("classes are unbalanced by more than 10 to 1: consider data.balanced or data.class_weights")
    lines += _found("skipped", [f"{s['file']} ({s['reason']})" for s in data["skipped"]])
    lines += _found("unreadable", [u["reason"] for u in data["unreadable"]])
    lines += _found("sets of equal images", [" = ".join(m) for m in data["duplicates"]])
    lines += _found("pairs of nearly equal images", [" ~ ".join(pair) for pair in data["near_duplicates"]])
    lines += _found("equal images with different labels", [" = ".join(m) for m in data["contradictory_labels"]])
    lines += _found(
        "groups in several splits", [f"{t['group']} in {', '.join(t['splits'])}" for t in data["torn_groups"]]
    )
    lines += _found("LEAKAGE, images in several splits", [", ".join(m) for m in data["leaks"]])
    if not (data["leaks"] or data["torn_groups"]):
        lines.append("no leakage between splits found")
    return lines


def _found(what: str, items: Sequence[str]) -> list[str]:
    if not items:
        return []
    more = [f"  and {len(items) - NAMED} more"] if len(items) > NAMED else []
    return [f"{what}: {len(items)}", *(f"  {item}" for item in items[:NAMED]), *more]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")


def _groups(
    records: Records,
    seen: _Seen,
    splits: Mapping[str, np.ndarray],
    leaks: Iterable[Sequence[int]],
    near: Iterable[Sequence[int]],
) -> list[tuple[str, list[dict[str, str]]]]:
    """(heading, cells) of the page: samples of each class, then the images that are in two splits or nearly equal."""
    split_of = {int(row): split for split, rows in splits.items() for row in rows}

    def cell(row: int) -> dict[str, str]:
        caption = f"{split_of.get(row, '-')}: {records.images.names[row]}"
        return {"png": png(records.images.read(row, None)), "caption": caption}

    members: dict[str, list[int]] = {}
    for row in seen.rows:
        label = records.labels[row]
        names = [label] if isinstance(label, str) else ["images"] if isinstance(label, np.ndarray) else label
        for name in names:
            members.setdefault(name, []).append(row)
    classes = [name for name in (*records.classes, "images") if name in members][:SHOWN_CLASSES]
    found = [(name, [cell(row) for row in spread(np.array(members[name]), SHOWN_EACH).tolist()]) for name in classes]
    for heading, sets in (("In several splits", leaks), ("Nearly equal", near)):
        shown = [row for one in list(sets)[:SHOWN_PAIRS] for row in list(one)[:2]]
        if shown:
            found.append((heading, [cell(row) for row in shown]))
    return found


def png(image_CHW: Tensor, longest: int = 96) -> str:
    """A small PNG of an image with any number of channels, base64."""
    from PIL import Image

    from isoform.vision.figures import picture

    height, width = image_CHW.shape[1:]
    ratio = min(1.0, longest / max(height, width))
    size = (max(1, round(height * ratio)), max(1, round(width * ratio)))
    small = F.interpolate(to_float(image_CHW)[None], size, mode="bilinear", antialias=True, align_corners=False)[0]
    pixels = (picture(small.clamp(0, 1) if image_CHW.dtype.itemsize == 1 else small) * 255).round().astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _page(title: str, lines: list[str], leakage: bool, groups: list[tuple[str, list[dict[str, str]]]]) -> str:
    environment = Environment(
        loader=PackageLoader("isoform.vision.data", "."), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template("check.html.j2").render(title=title, lines=lines, leakage=leakage, groups=groups)
