"""The split that a run keeps (split.json): what trained, validated and tested it, by name and content."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from isoform.core.errors import join_names

Mark = tuple[
    int, int, int
]  # size, time of change (ns) and inode of a file: equal ones mean an equal file
Key = tuple[str, int]  # a name, and how many samples of that name came before
Content = Callable[[int], tuple[str, str]]  # a sample's number -> its content and label, as digests
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

    def samples(self) -> list[tuple[str, int]]:
        """(split, number there) of every sample, split by split."""
        return [(split, i) for split, one in self.splits.items() for i in range(len(one.names))]

    def names(self) -> list[str]:
        """Of these samples."""
        return [name for one in self.splits.values() for name in one.names]

    def content(self, split: str, i: int) -> tuple[str, str]:
        """The digests of a sample and of its label."""
        return self.splits[split].contents[i], self.splits[split].labels[i]

    def rows_among(
        self, names: Sequence[str], content: Content | None = None
    ) -> dict[str, list[int]]:
        """{split: the rows of its samples}, in the run's order, among data whose rows have these names.

        content   of a row; asked for where several have one name, whose order says nothing: without it, it is trusted
        """
        rows: dict[str, list[int]] = {split: [] for split in self.splits}
        if content is None:
            row_of = {key: row for row, key in enumerate(numbered(names))}
            for key, (split, _) in self.keys().items():
                if key in row_of:
                    rows[split].append(row_of[key])
            return rows
        own = self.samples()
        found = match(self.names(), names, lambda k: self.content(*own[k]), content)
        for k, (split, _) in enumerate(own):
            if k in found:
                rows[split].append(found[k])
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


def match(
    then: Sequence[str], now: Sequence[str], content_then: Content, content_now: Content
) -> dict[int, int]:
    """Number of a sample then -> its number now, by their names; those of one name are told apart by what they hold.

    Of one name, equal content and label come first, then equal content; what is left has changed where as many are left
    on both sides, and else isn't found.
    """
    places: dict[str, tuple[list[int], list[int]]] = {}
    for side, names in enumerate((then, now)):
        for number, name in enumerate(names):
            places.setdefault(name, ([], []))[side].append(number)
    found: dict[int, int] = {}
    for mine, theirs in places.values():
        if len(mine) > 1 or len(theirs) > 1:
            for depth in (2, 1):
                pairs = _equal(
                    {k: content_then(k)[:depth] for k in mine},
                    {k: content_now(k)[:depth] for k in theirs},
                )
                found |= pairs
                mine = [k for k in mine if k not in pairs]
                theirs = [k for k in theirs if k not in set(pairs.values())]
        if len(mine) == len(theirs):
            found |= dict(zip(mine, theirs, strict=True))
    return found


def _equal(mine: Mapping[int, Hashable], theirs: Mapping[int, Hashable]) -> dict[int, int]:
    """Pairs of numbers with equal values, in their order; each is in one pair."""
    free: dict[Hashable, list[int]] = {}
    for k, value in theirs.items():
        free.setdefault(value, []).append(k)
    for numbers in free.values():
        numbers.reverse()
    return {k: free[value].pop() for k, value in mine.items() if free.get(value)}


def compare(then: KeptSplit, now: KeptSplit) -> Differences:
    """What became of the samples of `then`, and which others there are."""
    old, new = then.samples(), now.samples()
    names, others = then.names(), now.names()
    found = match(names, others, lambda k: then.content(*old[k]), lambda k: now.content(*new[k]))
    removed: dict[str, list[str]] = {}
    changed: dict[str, list[str]] = {}
    moved: list[str] = []
    for k, (split, _) in enumerate(old):
        if k not in found:
            removed.setdefault(split, []).append(names[k])
        elif then.content(*old[k]) != now.content(*new[found[k]]):
            changed.setdefault(split, []).append(names[k])
        elif new[found[k]][0] != split:
            moved.append(names[k])
    matched = set(found.values())
    added = [others[k] for k in range(len(new)) if k not in matched]
    named = len(then.rest) == then.rest_count
    known, before = set(numbered(then.rest)), then.keys()
    added += [
        key[0] for key in numbered(now.rest) if named and key not in known and key not in before
    ]
    unnamed = 0 if named else len(now.rest) - then.rest_count
    order = [found[k] for k in sorted(found)]
    reordered = not (added or removed or moved) and order != sorted(order)
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
