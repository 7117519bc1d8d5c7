"""The split that a run keeps (split.json): what trained, validated and tested it, by name and content."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isoform.core.errors import join_names

Mark = tuple[
    int, int, int
]  # size, time of change (ns) and inode of a file: equal ones mean an equal file
Key = tuple[str, int]  # a name, and how many samples of that name came before
NAMED = 5  # samples in a line for a person
MOST_REST = 10_000  # names of samples in no split that are kept; of more only their number


@dataclass(frozen=True)
class Samples:
    """Samples of one split, all lists alike: names, digests (hex) of what each holds and of its label, their files.

    marks   of the file of each sample, by which its digest need not be worked out again; None where they aren't files
    """

    names: Sequence[str] = ()
    contents: Sequence[str] = ()
    labels: Sequence[str] = ()
    marks: Sequence[Mark] | None = None


@dataclass(frozen=True)
class KeptSplit:
    """What a run keeps of its data.

    splits      split -> its samples, in the order that they are numbered in
    rest        names of samples in no split; `rest_count` of them, where there are too many to name
    parts       class, target or column -> digest of all that it holds, by which two that were exchanged are told
    spans       of series: id -> split -> first and last stamp, first row and row after the last
    """

    splits: Mapping[str, Samples]
    rest: Sequence[str] = ()
    rest_count: int = 0
    parts: Mapping[str, str] = field(default_factory=dict)
    spans: Mapping[str, Mapping[str, tuple[str, str, int, int]]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For split.json; what is empty is left out."""
        splits = {
            name: {key: list(value) for key, value in vars(one).items() if value}
            for name, one in self.splits.items()
        }
        count = max(self.rest_count, len(self.rest))
        rest = list(self.rest) if len(self.rest) == count <= MOST_REST else []
        about = {"rest": rest, "rest_count": count, "parts": self.parts, "spans": self.spans}
        return {"splits": splits, **{key: value for key, value in about.items() if value}}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> KeptSplit:
        """Raises TypeError, KeyError or AttributeError for what `to_json` never gave."""
        splits = {name: Samples(**one) for name, one in found["splits"].items()}
        return cls(**{**found, "splits": splits})

    def keys(self) -> dict[Key, tuple[str, int]]:
        """Every sample of a split -> (split, its number there)."""
        order = (
            (split, i, name)
            for split, one in self.splits.items()
            for i, name in enumerate(one.names)
        )
        places = list(order)
        keys = numbered(name for _, _, name in places)
        return {key: (split, i) for key, (split, i, _) in zip(keys, places, strict=True)}

    def rows_among(self, names: Sequence[str]) -> dict[str, list[int]]:
        """{split: the rows of its samples}, in the run's order, among data whose rows have these names."""
        row_of = {key: row for row, key in enumerate(numbered(names))}
        rows: dict[str, list[int]] = {split: [] for split in self.splits}
        for key, (split, _) in self.keys().items():
            if key in row_of:
                rows[split].append(row_of[key])
        return rows


@dataclass(frozen=True)
class Differences:
    """How data differ from those that a run keeps the split of; names by kind, and by split where they were in one.

    moved      are in another split now            exchanged   pairs of classes, targets or columns
    unnamed    more samples in no split, which aren't known by name
    """

    added: Sequence[str] = ()
    removed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    changed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    moved: Sequence[str] = ()
    exchanged: Sequence[tuple[str, str]] = ()
    reordered: bool = False
    unnamed: int = 0

    def __bool__(self) -> bool:
        lists = (self.added, self.removed, self.changed, self.moved, self.exchanged)
        return any(lists) or self.reordered or self.unnamed != 0

    def describe(self) -> str:
        """As a part of a sentence: "2 added (a, b), 1 changed (c); dark and light are exchanged"."""
        kinds = {
            "added": list(self.added),
            "removed": [name for names in self.removed.values() for name in names],
            "changed": [name for names in self.changed.values() for name in names],
            "in another split": list(self.moved),
        }
        said = [
            f"{len(names):,} {kind} ({join_names(names, NAMED)})"
            for kind, names in kinds.items()
            if names
        ]
        if self.unnamed:
            said.append(
                f"{abs(self.unnamed):,} {'more' if self.unnamed > 0 else 'fewer'} in no split"
            )
        if self.reordered and not said:
            said.append("they stand in another order")
        return ", ".join(said) + "".join(f"; {a} and {b} are exchanged" for a, b in self.exchanged)


def numbered(names: Iterable[str]) -> list[Key]:
    """Each name with how many equal ones came before."""
    before: dict[str, int] = {}
    keys = []
    for name in names:
        keys.append((name, before.get(name, 0)))
        before[name] = keys[-1][1] + 1
    return keys


def compare(then: KeptSplit, now: KeptSplit) -> Differences:
    """What became of the samples of `then`, and which others there are."""
    old, new = then.keys(), now.keys()
    removed: dict[str, list[str]] = {}
    changed: dict[str, list[str]] = {}
    moved: list[str] = []
    for key, (split, i) in old.items():
        if key not in new:
            removed.setdefault(split, []).append(key[0])
            continue
        there, k = new[key]
        mine, theirs = then.splits[split], now.splits[there]
        if (mine.contents[i], mine.labels[i]) != (theirs.contents[k], theirs.labels[k]):
            changed.setdefault(split, []).append(key[0])
        elif there != split:
            moved.append(key[0])
    added = [key[0] for key in new if key not in old]
    named = len(then.rest) == then.rest_count
    known = set(numbered(then.rest))
    added += [key[0] for key in numbered(now.rest) if named and key not in known and key not in old]
    unnamed = 0 if named else len(now.rest) - then.rest_count
    reordered = not (added or removed or moved) and list(old) != list(new)
    exchanged = find_exchanged(then.parts, now.parts)
    return Differences(added, removed, changed, moved, exchanged, reordered, unnamed)


def find_exchanged(then: Mapping[str, str], now: Mapping[str, str]) -> list[tuple[str, str]]:
    """Pairs of parts of which each holds what the other held."""
    other = {digest: name for name, digest in then.items()}
    pairs = []
    for name, digest in now.items():
        was = other.get(digest, name)  # whose content it is
        if name < was and then.get(name) != digest and now.get(was) == then.get(name):
            pairs.append((name, was))
    return pairs
