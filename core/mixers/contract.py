"""What a mixer declares of itself, and what it is given beside its input."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from isoform.core.attention.bias import Bias
from isoform.core.tokens import Tokens


@dataclass(frozen=True)
class Traits:
    """Facts about a mixer; the backbone refuses what they rule out and one property test checks them all."""

    causal: bool = False  # can be made causal
    equivariant: bool = False  # permuting the tokens permutes the result
    needs_order: bool = False  # meaningless on an unordered set
    pair_bias: bool = False  # has scores that a pair bias can be added to
    ragged: bool = False  # understands the packed layout
    reads_memory: bool = False  # can attend to the stream "memory"
    narrows: bool = False  # can answer for the leading tokens alone (Context.first)
    edges: bool = False  # reads the stream "edges" and gives it back changed


@dataclass
class Context:
    """What the blocks of one forward share beside the features that flow through them."""

    tokens: Tokens  # the main stream as it came in: validity, layout, positions, condition
    bias: Bias | None = None  # score bias, built once for all blocks
    rotation: tuple[Tensor, Tensor] | None = None  # cos and sin of the rotary angles
    streams: dict[str, Tokens] | None = None  # every other stream by name
    ends: Tensor | None = None  # of the stream "edges": [U, 2] from which token to which, see Edges
    first: int | None = (
        None  # of a block whose other tokens nobody reads: how many leading ones to answer for
    )
    main_only: bool = False  # of a block whose edges nobody reads
    recompute: str = "none"  # backbone.recompute; "elementwise" and "light" are done inside a block

    @property
    def memory(self) -> Tokens:
        """The stream "memory". Raises ValueError where the caller gave none."""
        if not self.streams or "memory" not in self.streams:
            raise ValueError(
                'this backbone cross-attends: call it with {"main": ..., "memory": ...}'
            )
        return self.streams["memory"]
