"""The backbone: a stack of blocks from one table, shared by every domain.

    block    = Wrap(Mixer(Project, Score)) and Wrap(ChannelMixer), in sequence or in parallel
    backbone = blocks one after the other (program.py), then a norm

B samples, N tokens (T packed), D features. What goes in and comes out is `Tokens`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from isoform.core.attention.bias import Bias, materialise
from isoform.core.config.schema import BackboneConfig
from isoform.core.edges import EdgeBlock, Edges
from isoform.core.ffn import make_channel_mixer
from isoform.core.mixers import MIXERS, Context, Traits
from isoform.core.norms import make_norm, normed
from isoform.core.program import run_stack
from isoform.core.score import make_score
from isoform.core.tokens import Tokens
from isoform.core.wrap import Together, Wrap, placed, stream_of

Streams = Tokens | Mapping[str, Tokens | Edges]


class Block(nn.Module):
    """x = x + mixer(x); [x = x + cross(x)]; x = x + channel(x), each branch wrapped as the table's `order` says.

    layout "parallel": x = x + both(x), one wrap around the sum of the two (Dehghani et al. 2023). `branches` > 1 puts
    copies of each wrapped branch side by side (Touvron et al. 2022).
    """

    def __init__(self, config: BackboneConfig, drop_path: float = 0.0) -> None:
        super().__init__()
        mixer_class, channel = MIXERS[config.mixer], make_channel_mixer(config)
        self.readd = config.position == "readd"

        def branch(kind: str) -> Wrap:
            is_channel = kind == "channel"
            inner: nn.Module | None
            if kind == "both":
                parts: dict[str, nn.Module] = {"mixer": mixer_class(config)}
                if channel is not None:
                    parts["channel"] = channel
                inner = Together(parts, {"mixer": True, "channel": False})
            elif is_channel:
                inner = make_channel_mixer(config)
            else:
                inner = mixer_class(config, cross=True) if kind == "cross" else mixer_class(config)
            assert inner is not None
            pre, post, _ = placed(config, kind)
            return Wrap(
                inner, config, pre=pre, post=post, layer_scale=config.layer_scale_mlp or not is_channel,
                drop_path=drop_path, takes_context=not is_channel,
            )  # fmt: skip

        if config.layout == "parallel":
            self.steps = ["both"]
        else:
            self.steps = ["mixer"] + ["cross"] * (config.memory == "cross") + ["channel"] * (channel is not None)
        for step in self.steps:
            module: nn.Module = branch(step)
            if config.branches > 1:
                names = [str(i) for i in range(config.branches)]
                copies: dict[str, nn.Module] = {names[0]: module, **{n: branch(step) for n in names[1:]}}
                module = Together(copies, dict.fromkeys(names, True))
            setattr(self, step, module)
        on_stream = [step for step in self.steps if placed(config, step)[2]]
        self.norms = nn.ModuleDict(
            {step: make_norm(config.norm, config.dim, config.eps, config.norm_bias) for step in on_stream}
        )

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """[B, N, D] (packed: [T, D]) -> the same shape; [B, first, D] where the context asks for no more."""
        if self.readd:
            assert context.tokens.pos is not None
            x = x + context.tokens.pos
        for step in self.steps:
            branch = getattr(self, step)
            if isinstance(branch, Wrap):
                x = branch.onto(x, context)
            else:
                y = branch(x, context)
                x = stream_of(x, y) + y
            if step in self.norms:
                x = normed(self.norms[step], x, context.tokens.valid)
        return x


class Backbone(nn.Module):
    """Tokens -> Tokens through `config.depth` blocks and, unless switched off, a final norm.

    `streams` names the streams that calls will hand in: "main", "memory" where the blocks cross-attend, and "edges"
    where the mixer declares them; anything else is refused here. `ordered` says whether the tokens have an order that a
    mixer may rely on. Raises ValueError, with the reason, for a table whose fillers don't fit each other.
    """

    def __init__(self, config: BackboneConfig, *, streams: Sequence[str] = (), ordered: bool = True) -> None:
        super().__init__()
        self.config = config
        refuse_illegal(config, streams, ordered)
        last = max(config.depth - 1, 1)
        self.streams = streams_of(config)
        self.blocks = nn.ModuleList(
            EdgeBlock(config) if "edges" in self.streams else Block(config, config.drop_path * i / last)
            for i in range(config.depth)
        )
        self.norm = make_norm(config.norm if config.final_norm else "none", config.dim, config.eps, config.norm_bias)
        self.score = make_score(config)
        if config.init == "xavier":
            self.apply(initialise)
        for module in self.modules():
            if isinstance(module, Wrap) and module.modulation is not None:
                nn.init.zeros_(module.modulation.weight)  # adaLN-Zero: every block starts as the identity

    def forward(
        self, tokens: Streams, taps: Sequence[int] = (), *, first: int | None = None, bias: Bias | None = None
    ) -> Tokens:
        """The main stream after all blocks and the final norm, with every other field as it came in.

        `first`: only so many leading tokens (padded layout), such as the class token; the last block then computes
        little else. `bias`: of the caller's own, added to that of the table's `score` in every block.
        """
        return self.tapped(tokens, taps, first=first, bias=bias)[0]

    def tapped(
        self, tokens: Streams, taps: Sequence[int] = (), *, first: int | None = None, bias: Bias | None = None
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
        self, tokens: Streams, taps: Sequence[int], first: int | None, bias: Bias | None, *, main_only: bool
    ) -> tuple[Tokens, Edges | None, list[Tensor]]:
        streams = dict(tokens) if isinstance(tokens, Mapping) else {"main": tokens}
        if streams.keys() != set(self.streams):
            raise ValueError(f"this backbone takes the streams {sorted(self.streams)}, got {sorted(streams)}")
        main, edges = streams.pop("main"), streams.pop("edges", None)
        assert isinstance(main, Tokens)
        others = {name: stream for name, stream in streams.items() if isinstance(stream, Tokens)}
        recompute = self.config.recompute if self.training else "none"
        context = Context(main, self._bias(main, bias), self._rotation(main), others, light=recompute == "light")
        narrow = first if first and self._narrows(main) and self.config.depth - 1 not in taps else None
        after: Edges | None = None
        if isinstance(edges, Edges):
            context.ends = edges.ends
            both = (main.x, edges.x)
            (x, e), seen = run_stack(self.blocks, both, context, taps, recompute, narrow, main_only=main_only)
            after = Edges(e, edges.ends)
        else:
            x, seen = run_stack(self.blocks, main.x, context, taps, recompute, narrow)
        x = normed(self.norm, x, main.valid)
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
            raise ValueError(f"a bias was given, and the {self.config.mixer!r} mixer has no scores to add it to")
        if main.packed:
            raise ValueError("score biases are built in the padded layout: call unpad() first")
        own = None if self.score is None else self.score(main)
        return materialise(own if given is None else given if own is None else own + given)

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


def refuse_illegal(config: BackboneConfig, streams: Sequence[str], ordered: bool) -> None:
    """Raises ValueError, saying why, for fillers that can't work together."""
    if config.mixer not in MIXERS:
        raise ValueError(f"backbone.mixer = {config.mixer!r} is not known; there are {', '.join(MIXERS)}")
    traits: Traits = MIXERS[config.mixer].traits
    name = f"the {config.mixer!r} mixer"
    rules = [
        (config.score != "none" and not traits.pair_bias,
         f"backbone.score = {config.score!r} adds a pair bias to attention scores, and {name} has no scores"),
        (config.causal and not traits.causal, f"backbone.causal is set, and {name} lets every token see every other"),
        (traits.needs_order and not ordered,
         f"{name} reads its tokens one after the other, and these tokens are a set without an order"),
        (config.memory == "cross" and not traits.reads_memory,
         f'backbone.memory = "cross" needs a mixer that attends to another stream, and {name} does not'),
        (config.position.startswith("rotary") and not traits.pair_bias,
         f"rotary positions turn queries and keys, and {name} has none"),
        (config.order != "pre" and config.layout == "parallel",
         'backbone.layout = "parallel" has one norm in front of both branches, so backbone.order must be "pre"'),
        (config.memory == "cross" and config.layout == "parallel",
         "cross-attention needs its own step, so the layout can't be parallel"),
        (config.condition == "adaln_zero" and config.order != "pre",
         'adaLN-Zero modulates the norm of a branch\'s input, so backbone.order must be "pre"'),
        (config.norm == "batch" and (config.mixer_norm or config.mlp_norm),
         "a batch norm inside a branch would count padding: backbone.mixer_norm and mlp_norm must be false"),
        (config.norm == "batch" and config.recompute != "none",
         'a batch norm counts each batch that it sees, so backbone.recompute must be "none"'),
    ]  # fmt: skip
    if traits.edges:
        plain = {"layout": "sequence", "branches": 1, "condition": "none", "position": "none", "drop_path": 0.0}
        rules += [
            (getattr(config, key) != value, f"{name} carries edges beside tokens, so backbone.{key} must be {value!r}")
            for key, value in plain.items()
        ]
    declared = streams_of(config)
    for stream in streams:
        rules.append(
            (stream not in declared, f"no block reads the stream {stream!r}; the streams are {sorted(declared)}")
        )
    for broken, why in rules:
        if broken:
            raise ValueError(why)
