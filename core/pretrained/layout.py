"""The name-map engine: one table of rules translates a foreign checkpoint to our parameters, and back, exactly.

A `Layout` is a list of rules. Every foreign tensor has to be used by one of them or ignored with a reason, and every
own parameter has to be set or expected to be fresh; whatever is left over, missing or misshapen is named in one error.

    >>> layout = Layout("toy", (
    ...     rename("patch_embed.{p}", "tokeniser.patch.{p}"),
    ...     join(("layers.{i}.q.{p}", "layers.{i}.k.{p}", "layers.{i}.v.{p}"), "blocks.{i}.qkv.{p}"),
    ...     split("layers.{i}.ada.{p}", ("blocks.{i}.mixer.modulation.{p}", "blocks.{i}.channel.modulation.{p}")),
    ...     rename("cls", "class_token", unsqueeze(0)),
    ...     ignore("decoder.{*}", "the decoder of pretraining has no place in a classifier"),
    ... ))
    >>> loaded = layout.read(checkpoint, model.state_dict())        # doctest: +SKIP
    >>> model.load_state_dict(loaded.weights)                       # doctest: +SKIP
    >>> layout.write(model.state_dict())                            # doctest: +SKIP

In a pattern `{i}` (or any other name) is a number, but `{p}` one part of a name such as weight or bias, and `{*}` any
rest. Both sides of a rule use the same placeholders. The first rule that fits a name is the one that counts. Rules only
move numbers about, so `write` is the exact inverse of `read`, and gradients go through `write` as weights do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from isoform.core.errors import UserError, join_names
from isoform.core.pretrained.unpickler import Placeholder

ZERO = "(zeros)"  # stands for a foreign tensor that doesn't exist and counts as zeros: the key bias of EVA

Names = Sequence[str]


@dataclass(frozen=True)
class Op:
    """A change of one tensor's shape on the way in, and the way back."""

    read: Callable[[Tensor], Tensor]
    write: Callable[[Tensor], Tensor]


def permute(*dims: int) -> Op:
    """Axes reordered as `Tensor.permute(dims)`."""
    inverse = [dims.index(axis) for axis in range(len(dims))]
    return Op(lambda t: t.permute(dims), lambda t: t.permute(inverse))


def squeeze(dim: int) -> Op:
    """An axis of length 1 removed: a convolution of width 1 is a linear layer."""
    return Op(lambda t: t.squeeze(dim), lambda t: t.unsqueeze(dim))


def unsqueeze(dim: int) -> Op:
    """An axis of length 1 added."""
    return Op(lambda t: t.unsqueeze(dim), lambda t: t.squeeze(dim))


def reshape(foreign: Sequence[int], own: Sequence[int]) -> Op:
    """The same numbers under another shape."""
    return Op(lambda t: t.reshape(tuple(own)), lambda t: t.reshape(tuple(foreign)))


transpose = permute(1, 0)
"""Matrices that the other side stores as [in, out]."""


@dataclass(frozen=True)
class Rule:
    """Foreign tensors, each through `ops`, concatenated along `dim` and cut along it into own ones.

    `sizes` are the lengths of the foreign parts along `dim`, needed only where they differ. Without own names the
    foreign tensors are ignored for `reason`.
    """

    foreign: tuple[str, ...]
    own: tuple[str, ...]
    ops: tuple[Op, ...] = ()
    dim: int = 0
    sizes: tuple[int, ...] | None = None
    reason: str = ""


def rename(foreign: str, own: str, *ops: Op) -> Rule:
    """One tensor to one parameter."""
    return Rule((foreign,), (own,), ops)


def join(
    foreign: Names, own: str, *ops: Op, dim: int = 0, sizes: Sequence[int] | None = None
) -> Rule:
    """Several tensors, concatenated, to one parameter; a part may be ZERO."""
    return Rule(tuple(foreign), (own,), ops, dim, tuple(sizes) if sizes else None)


def split(foreign: str, own: Names, *ops: Op, dim: int = 0) -> Rule:
    """One tensor, cut to the parameters' sizes, to several parameters."""
    return Rule((foreign,), tuple(own), ops, dim)


def regroup(
    foreign: Names, own: Names, *ops: Op, dim: int = 0, sizes: Sequence[int] | None = None
) -> Rule:
    """Several tensors, concatenated and cut anew, to several parameters."""
    return Rule(tuple(foreign), tuple(own), ops, dim, tuple(sizes) if sizes else None)


def ignore(foreign: str, reason: str) -> Rule:
    """A tensor that has no place here; the reason becomes a note."""
    return Rule((foreign,), (), reason=reason)


@dataclass(frozen=True)
class Loaded:
    """What `Layout.read` made: own weights, the ignored foreign tensors, and what a person should know."""

    weights: dict[str, Tensor]
    ignored: dict[str, Tensor] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The names and shapes of one code base's checkpoints beside ours."""

    name: str
    rules: tuple[Rule, ...]

    def knows(self, name: str) -> bool:
        """Whether a rule uses the foreign tensor of that name (for the part of a checkpoint that a layout is about)."""
        match = _Finder(self.rules, "foreign").find(name)
        return match is not None and bool(match.own)

    def read(
        self,
        foreign: Mapping[str, Tensor],
        own: Mapping[str, Tensor],
        *,
        fresh: Collection[str] = (),
        where: str = "",
    ) -> Loaded:
        """Own weights from a foreign state dict.

        `own` gives the names, shapes and types to fill (a state dict; tensors on the meta device will do) and `fresh`
        the patterns of those that may stay absent from the result. `where` names the source in errors. Raises UserError
        listing every foreign name that nothing uses, every own name that nothing sets and every shape that differs.
        """
        finder = _Finder(self.rules, "foreign")
        problems: list[str] = []
        weights: dict[str, Tensor] = {}
        ignored: dict[str, Tensor] = {}
        reasons: Counter[str] = Counter()
        used: set[str] = set()
        for name in foreign:
            if name in used:
                continue
            match = finder.find(name)
            if match is None:
                problems.append(f"{name} {list(foreign[name].shape)} is not known to this layout")
                continue
            used.update(match.foreign)
            missing = [n for n in match.foreign if n != ZERO and n not in foreign]
            if missing:
                problems.append(f"{name} is there without {', '.join(missing)}")
            elif match.own:
                _read_rule(match, foreign, own, weights, problems)
            else:
                ignored[name] = foreign[name]
                reasons[match.rule.reason] += 1
        allowed = [_compile(p) for p in fresh]
        for name, tensor in own.items():
            if name not in weights and not any(p.fullmatch(name) for p in allowed):
                problems.append(f"nothing sets our {name} {list(tensor.shape)}")
        if problems:
            raise _misfit(
                f"{where or 'the checkpoint'} does not fit the layout {self.name!r}", problems
            )
        notes = [
            f"{count} tensor{'s' * (count > 1)} left out: {reason}"
            for reason, count in reasons.items()
        ]
        return Loaded(weights, ignored, tuple(notes))

    def write(
        self,
        own: Mapping[str, Tensor],
        *,
        ignored: Mapping[str, Tensor] | None = None,
        check_zeros: bool = True,
    ) -> dict[str, Tensor]:
        """The foreign state dict that `read` would turn into `own`, bit for bit; `ignored` tensors are put back.

        Tensors that only change their name share memory with `own`.

        Raises UserError for an own tensor that the layout has no name for, and for one that must be zero there and
        isn't (`check_zeros` = False drops it: for gradients).
        """
        finder = _Finder(self.rules, "own")
        problems: list[str] = []
        foreign: dict[str, Tensor] = dict(ignored or {})
        used: set[str] = set()
        for name in own:
            if name in used:
                continue
            match = finder.find(name)
            if match is None:
                problems.append(f"our {name} has no name in this layout")
                continue
            used.update(match.own)
            missing = [n for n in match.own if n not in own]
            if missing:
                problems.append(f"our {name} is there without {', '.join(missing)}")
            else:
                _write_rule(match, own, foreign, problems, check_zeros)
        if problems:
            raise _misfit(f"this model can't be written in the layout {self.name!r}", problems)
        return foreign


@dataclass(frozen=True)
class _Match:
    """A rule that fits a name, with the names on both of its sides filled in."""

    rule: Rule
    foreign: Names
    own: Names


class _Finder:
    """Finds the rule for a name of one side ("foreign" or "own"): the first that fits."""

    def __init__(self, rules: Iterable[Rule], side: str) -> None:
        self.patterns = [
            (_compile(pattern), rule) for rule in rules for pattern in getattr(rule, side)
        ]

    def find(self, name: str) -> _Match | None:
        """None where no rule fits."""
        for pattern, rule in self.patterns:
            match = pattern.fullmatch(name)
            if match:
                values = match.groupdict()
                return _Match(
                    rule,
                    [_fill(p, values) for p in rule.foreign],
                    [_fill(p, values) for p in rule.own],
                )
        return None


def _read_rule(
    match: _Match,
    foreign: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    weights: dict[str, Tensor],
    problems: list[str],
) -> None:
    sources, targets = match.foreign, match.own
    absent = [t for t in targets if t not in own]
    if absent:
        first = f"{sources[0]} {list(foreign[sources[0]].shape)}"
        problems.append(f"{first} would be our {', '.join(absent)}, which this model doesn't have")
        return
    try:
        pieces = _pieces_to_own(match, foreign, own)
    except (RuntimeError, IndexError) as error:  # shapes that don't even concatenate or cut
        shapes = ", ".join(f"{s} {list(foreign[s].shape)}" for s in sources if s != ZERO)
        wanted = ", ".join(f"{t} {list(own[t].shape)}" for t in targets)
        problems.append(f"{shapes} can't become our {wanted} ({str(error).splitlines()[0]})")
        return
    for target, piece in zip(targets, pieces, strict=True):
        shape = list(own[target].shape)
        if list(piece.shape) != shape:
            problems.append(
                f"{' + '.join(sources)} has shape {list(piece.shape)}, our {target} has {shape}"
            )
        elif target in weights:
            problems.append(f"our {target} is set twice, the second time by {sources[0]}")
        else:
            weights[target] = piece.to(own[target].dtype).contiguous()


def _pieces_to_own(
    match: _Match, foreign: Mapping[str, Tensor], own: Mapping[str, Tensor]
) -> Sequence[Tensor]:
    """The foreign tensors of a rule, changed, joined and cut to the lengths of the own ones."""
    dim, sources = match.rule.dim, match.foreign
    parts = {
        s: _through(foreign[s], [op.read for op in match.rule.ops]) for s in sources if s != ZERO
    }
    lengths = [own[t].shape[dim] if own[t].dim() else 1 for t in match.own]
    if ZERO in sources:
        like = next(iter(parts.values()))
        lacking = sum(lengths) - sum(part.shape[dim] for part in parts.values())
        shape = list(like.shape)
        shape[dim] = lacking // sources.count(ZERO)
        parts[ZERO] = like.new_zeros(shape)
    whole = parts[sources[0]] if len(sources) == 1 else torch.cat([parts[s] for s in sources], dim)
    return [whole] if len(match.own) == 1 else whole.split(lengths, dim)


def _write_rule(
    match: _Match,
    own: Mapping[str, Tensor],
    foreign: dict[str, Tensor],
    problems: list[str],
    check_zeros: bool,
) -> None:
    rule, sources, targets = match.rule, match.own, match.foreign
    whole = own[sources[0]] if len(sources) == 1 else torch.cat([own[s] for s in sources], rule.dim)
    pieces: Sequence[Tensor] = [whole]
    if len(targets) > 1:
        length = whole.shape[rule.dim]
        if rule.sizes is None and length % len(targets):
            problems.append(
                f"our {sources[0]} {list(own[sources[0]].shape)} can't be cut into {len(targets)} equal parts"
            )
            return
        pieces = whole.split(list(rule.sizes or [length // len(targets)] * len(targets)), rule.dim)
    for target, piece in zip(targets, pieces, strict=True):
        if target == ZERO:
            if check_zeros and bool(piece.any()):
                problems.append(
                    f"a part of our {sources[0]} is not zero, and this layout has no place for it"
                )
        else:
            written = _through(piece, [op.write for op in reversed(rule.ops)]).contiguous()
            foreign[target] = written.clone() if len(targets) > 1 else written


def _through(tensor: Tensor, steps: Iterable[Callable[[Tensor], Tensor]]) -> Tensor:
    for step in steps:
        tensor = step(tensor)
    return tensor


def _compile(pattern: str) -> re.Pattern[str]:
    kinds = {"{p}": r"(?P<p>[^./]+)", "{*}": r"(?P<rest>.+)"}
    seen: set[str] = set()
    text = ""
    for part in re.split(r"(\{\*\}|\{\w+\})", pattern):
        name = "rest" if part == "{*}" else part[1:-1]
        if not part.startswith("{"):
            text += re.escape(part)
        elif part in seen:
            text += f"(?P={name})"
        else:
            text += kinds.get(part, rf"(?P<{name}>\d+)")
            seen.add(part)
    return re.compile(text)


def _fill(pattern: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        pattern = pattern.replace("{*}" if name == "rest" else f"{{{name}}}", value)
    return pattern


def _misfit(headline: str, problems: Sequence[str]) -> UserError:
    return UserError(f"{headline}: {join_names(problems, most=12, separator='; ')}")


def strip_prefix(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    """Names without the first of `prefixes` that all of them share (DataParallel's `module.`)."""
    for prefix in prefixes:
        if state and all(name.startswith(prefix) for name in state):
            return {name[len(prefix) :]: tensor for name, tensor in state.items()}
    return dict(state)


def state_dict_of(checkpoint: Mapping[str, Any], *keys: str, where: str = "") -> dict[str, Tensor]:
    """The state dict inside a checkpoint: under the first of `keys` that it has, or the checkpoint itself.

    `module.` in front of every name is dropped. Raises UserError where there are no tensors.
    """
    for key in keys:
        if isinstance(checkpoint.get(key), Mapping):
            checkpoint = checkpoint[key]
            break
    tensors = {str(name): value for name, value in checkpoint.items() if isinstance(value, Tensor)}
    if not tensors:
        places, names = ", ".join(keys) or "its top level", join_names(checkpoint, most=8)
        unread = any(isinstance(value, Placeholder) for value in checkpoint.values())
        why = "; its pickled objects are not built, which would run code of the file" * unread
        raise UserError(
            f"{where or 'the checkpoint'} holds no tensors under {places}; it has {names}{why}"
        )
    return strip_prefix(tensors, "module.")
