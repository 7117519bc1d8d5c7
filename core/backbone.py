"""The backbone: a stack of blocks from one table, shared by every domain.

    block    = x + mixer(norm(x)), then x + mlp(norm(x)); or x + both(norm(x))
    backbone = blocks one after the other (program.py), then a norm

B samples, N tokens (T packed), D features. What goes in and comes out is `Tokens`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from torch import Tensor, nn

from isoform.core.attention.bias import Bias, materialise
from isoform.core.config.schema import BackboneConfig
from isoform.core.edges import EdgeBlock, Edges
from isoform.core.ffn import make_channel_mixer
from isoform.core.mixers import MIXERS, Context, Traits
from isoform.core.norms import apply_norm, norm_of
from isoform.core.program import run_stack
from isoform.core.residual import ResidualBranch, SumOf, norm_positions
from isoform.core.score import make_score
from isoform.core.tokens import Tokens

Streams = Tokens | Mapping[str, Tokens | Edges]


class Block(nn.Module):
    """x = x + mixer(norm(x)); [x = x + cross(norm(x))]; x = x + mlp(norm(x)), with norms where `order` says.

    layout "parallel": x = x + both(norm(x)), the sum of the two (Dehghani et al. 2023). `branches` > 1 puts copies of
    each branch side by side (Touvron et al. 2022).
    """

    def __init__(self, config: BackboneConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        self.readd = config.position == "readd"
        self.steps = steps_of(config)
        if config.layout == "sequence":
            make_channel_mixer(
                config
            )  # drawn and dropped, so that a seed gives the weights that it has always given
        for step in self.steps:
            branches = {
                str(i): ResidualBranch(make_inner(config, step), config, step, drop_path)
                for i in range(config.branches)
            }
            self.add_module(step, branches["0"] if config.branches == 1 else SumOf(branches))
        on_stream = [step for step in self.steps if norm_positions(config, step).stream]
        self.norms = nn.ModuleDict({step: norm_of(config) for step in on_stream})

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, N, D] (packed: [T, D]) -> the same shape; [B, first, D] where the context asks for no more."""
        if self.readd:
            assert context.tokens.pos is not None
            x = x + context.tokens.pos
        for step in self.steps:
            x = getattr(self, step).add_to(x, context)  # x + mixer(norm(x)), then x + mlp(norm(x))
            if step in self.norms:
                x = apply_norm(self.norms[step], x, context.tokens.valid)
        return x


def steps_of(config: BackboneConfig) -> list[str]:
    """The branches of a block, one after the other."""
    if config.layout == "parallel":
        return ["both"]
    return (
        ["mixer"]
        + ["cross"] * (config.memory == "cross")
        + ["channel"] * (config.channel != "none")
    )


def make_inner(config: BackboneConfig, step: str) -> nn.Module:
    """What the branch `step` computes between its norms."""
    mixer_class = MIXERS[config.mixer]
    if step == "mixer":
        return mixer_class(config)
    if step == "cross":
        return mixer_class(config, cross=True)
    channel = make_channel_mixer(config)
    if step == "channel":
        assert channel is not None
        return channel
    mixer = mixer_class(config)
    return SumOf({"mixer": mixer} if channel is None else {"mixer": mixer, "channel": channel})


class Backbone(nn.Module):
    """Tokens -> Tokens through `config.depth` blocks and, unless switched off, a final norm.

    streams  the streams that calls will hand in: "main", "memory" where the blocks cross-attend, and "edges" where the
             mixer declares them; anything else is refused here
    ordered  whether the tokens have an order that a mixer may rely on
    score    makes a score bias of the caller's own, a module Tokens -> Bias; called after the blocks have drawn theirs
    Raises ValueError, with the reason, for a table whose fillers don't fit each other.
    """

    def __init__(
        self,
        config: BackboneConfig,
        *,
        streams: Sequence[str] = (),
        ordered: bool = True,
        score: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        refuse_illegal(config, streams, ordered, own_score=score is not None)
        self.streams = streams_of(config)
        last = max(config.depth - 1, 1)
        self.blocks = nn.ModuleList(
            EdgeBlock(config)
            if "edges" in self.streams
            else Block(config, config.drop_path * i / last)
            for i in range(config.depth)
        )
        self.norm = norm_of(config, when=config.final_norm)
        self.score = make_score(config) if score is None else score()
        if config.init == "xavier":
            self.apply(initialise)
        for module in self.modules():
            if isinstance(module, ResidualBranch) and module.modulation is not None:
                nn.init.zeros_(
                    module.modulation.weight
                )  # adaLN-Zero: every block starts as the identity

    def forward(
        self,
        tokens: Streams,
        taps: Sequence[int] = (),
        *,
        first: int | None = None,
        bias: Bias | None = None,
    ) -> Tokens:
        """The main stream after all blocks and the final norm, with every other field as it came in.

        `first`: only so many leading tokens (padded layout), such as the class token; the last block then computes
        little else. `bias`: of the caller's own, added to that of the table's `score` in every block.
        """
        return self.tapped(tokens, taps, first=first, bias=bias)[0]

    def tapped(
        self,
        tokens: Streams,
        taps: Sequence[int] = (),
        *,
        first: int | None = None,
        bias: Bias | None = None,
    ) -> tuple[Tokens, list[Tensor]]:
        """The same, and the features after each block whose number is in `taps` (before the final norm)."""
        main, _, seen = self._run(tokens, taps, first, bias, main_only=True)
        return main, seen

    def both(self, tokens: Streams) -> tuple[Tokens, Edges]:
        """The main stream as `forward` gives it, and the edges behind the last block. Only for mixers with edges."""
        main, edges, _ = self._run(tokens, (), None, None, main_only=False)
        if edges is None:
            raise ValueError(f"backbone.mixer = {self.config.mixer!r} has no stream of edges")
        return main, edges

    def _run(
        self,
        tokens: Streams,
        taps: Sequence[int],
        first: int | None,
        bias: Bias | None,
        *,
        main_only: bool,
    ) -> tuple[Tokens, Edges | None, list[Tensor]]:
        streams = dict(tokens) if isinstance(tokens, Mapping) else {"main": tokens}
        if streams.keys() != set(self.streams):
            raise ValueError(
                f"this backbone takes the streams {sorted(self.streams)}, got {sorted(streams)}"
            )
        main, edges = streams.pop("main"), streams.pop("edges", None)
        assert isinstance(main, Tokens)
        others = {name: stream for name, stream in streams.items() if isinstance(stream, Tokens)}
        recompute = self.config.recompute if self.training else "none"
        context = Context(
            main, self._bias(main, bias), self._rotation(main), others, recompute=recompute
        )
        # Two fast paths of the last block: it answers for the leading tokens alone, and leaves unread edges alone.
        narrow = (
            first if first and self._narrows(main) and self.config.depth - 1 not in taps else None
        )
        after: Edges | None = None
        if isinstance(edges, Edges):
            context.ends = edges.ends
            both = (main.x, edges.x)
            (x, e), seen = run_stack(self.blocks, both, context, taps, recompute, narrow, main_only)
            after = Edges(e, edges.ends)
        else:
            x, seen = run_stack(self.blocks, main.x, context, taps, recompute, narrow)
        x = apply_norm(self.norm, x, main.valid)
        if first is not None:
            main, x = main.leading(first), x[:, :first]
        return main.with_x(x), after, seen

    def _narrows(self, main: Tokens) -> bool:
        """Whether the last block can answer for the leading tokens alone."""
        c = self.config
        per_token = main.cond is not None and main.cond.dim() == 3
        plain = c.layout == "sequence" and c.branches == 1 and not c.causal and c.norm != "batch"
        return MIXERS[c.mixer].traits.narrows and plain and not main.packed and not per_token

    def _bias(self, main: Tokens, given: Bias | None) -> Bias | None:
        if self.score is None and given is None:
            return None
        if not MIXERS[self.config.mixer].traits.pair_bias:
            raise ValueError(
                f"a bias was given, and the {self.config.mixer!r} mixer has no scores to add it to"
            )
        if main.packed:
            raise ValueError("score biases are built in the padded layout: call unpad() first")
        if self.score is not None:
            own: Bias = self.score(main)
            given = own if given is None else own + given
        return materialise(given)

    def _rotation(self, main: Tokens) -> tuple[Tensor, Tensor] | None:
        if self.config.position not in ("rotary", "rotary_half"):
            return None
        if main.pos is None:
            raise ValueError(
                f'backbone.position = "{self.config.position}" reads angles from Tokens.pos, which is not set'
            )
        angle = main.pos.unsqueeze(-2 if main.packed else 1)
        return angle.cos(), angle.sin()


def streams_of(config: BackboneConfig) -> tuple[str, ...]:
    """The streams that such a backbone is called with."""
    edges = config.mixer in MIXERS and MIXERS[config.mixer].traits.edges
    return ("main", *["memory"] * (config.memory == "cross"), *["edges"] * edges)


def initialise(module: nn.Module) -> None:
    """Xavier's uniform for every matrix, zero for every bias (Dosovitskiy et al. 2021): right for any width."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def refuse_illegal(
    config: BackboneConfig, streams: Sequence[str], ordered: bool, own_score: bool = False
) -> None:
    """Raises ValueError, saying why, for fillers that can't work together."""
    if config.mixer not in MIXERS:
        raise ValueError(
            f"backbone.mixer = {config.mixer!r} is not known; there are {', '.join(MIXERS)}"
        )
    traits: Traits = MIXERS[config.mixer].traits
    name = f"the {config.mixer!r} mixer"

    def refuse(broken: bool, why: str) -> None:
        if broken:
            raise ValueError(why)

    refuse(
        own_score and config.score != "none",
        f'backbone.score = {config.score!r} is set, and this model brings a score of its own: it must be "none"',
    )
    adds_bias = "this model" if own_score else f"backbone.score = {config.score!r}"
    refuse(
        (config.score != "none" or own_score) and not traits.pair_bias,
        f"{adds_bias} adds a pair bias to attention scores, and {name} has no scores",
    )
    refuse(
        config.score_ids is not None and config.score != "table",
        f'backbone.score_ids counts the rows of score = "table", and backbone.score is {config.score!r}: leave it out',
    )
    refuse(
        config.causal and not traits.causal,
        f"backbone.causal is set, and {name} lets every token see every other",
    )
    refuse(
        traits.needs_order and not ordered,
        f"{name} reads its tokens one after the other, and these tokens are a set without an order",
    )
    refuse(
        config.memory == "cross" and not traits.reads_memory,
        f'backbone.memory = "cross" needs a mixer that attends to another stream, and {name} does not',
    )
    refuse(
        config.position.startswith("rotary") and not traits.pair_bias,
        f"rotary positions turn queries and keys, and {name} has none",
    )
    refuse(
        config.order != "pre" and config.layout == "parallel",
        'backbone.layout = "parallel" has one norm in front of both branches, so backbone.order must be "pre"',
    )
    refuse(
        config.memory == "cross" and config.layout == "parallel",
        "cross-attention needs its own step, so the layout can't be parallel",
    )
    refuse(
        config.condition == "adaln_zero" and config.order != "pre",
        'adaLN-Zero modulates the norm of a branch\'s input, so backbone.order must be "pre"',
    )
    refuse(
        config.norm == "batch" and (config.mixer_norm or config.mlp_norm),
        "a batch norm inside a branch would count padding: backbone.mixer_norm and mlp_norm must be false",
    )
    refuse(
        config.norm == "batch" and config.recompute != "none",
        'a batch norm counts each batch that it sees, so backbone.recompute must be "none"',
    )
    if traits.edges:
        plain = {
            "layout": "sequence",
            "branches": 1,
            "condition": "none",
            "position": "none",
            "drop_path": 0.0,
        }
        for key, value in plain.items():
            refuse(
                getattr(config, key) != value,
                f"{name} carries edges beside tokens, so backbone.{key} must be {value!r}",
            )
    declared = streams_of(config)
    for stream in streams:
        refuse(
            stream not in declared,
            f"no block reads the stream {stream!r}; the streams are {sorted(declared)}",
        )
