"""The stream of edges: a list of directed edges with features, and the block that carries it beside the tokens.

U edges, N tokens in all, D features.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from isoform.core.config.schema import BackboneConfig
from isoform.core.ffn import make_channel_mixer
from isoform.core.mixers import MIXERS, Context
from isoform.core.norms import make_norm, normed
from isoform.core.tokens import Tokens
from isoform.core.wrap import Wrap, placed


@dataclass
class Edges:
    """Directed edges between the tokens of the main stream, of all samples in one list.

    x     [U, D] features
    ends  [U, 2] integer: from which token to which; tokens are numbered through the whole batch, as rows of the main
          stream with its leading axes flattened: b * N + i in the padded layout, offsets[b] + i in the packed one
    """

    x: Tensor
    ends: Tensor


class EdgeBlock(nn.Module):
    """A block of two streams: the mixer returns a value for the tokens and one for the edges, and each has its MLP.

    `mixer` and `channel` wrap what the tokens get, `edge_mixer` and `edge_channel` what the edges get; norms stand
    where `order` puts them, in both streams alike.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()

        def wrap(inner: nn.Module, step: str) -> Wrap:
            pre, post, _ = placed(config, step)
            scaled = config.layer_scale_mlp or step == "mixer"
            return Wrap(inner, config, pre=pre, post=post, layer_scale=scaled, drop_path=0.0, takes_context=False)

        self.mixer = wrap(MIXERS[config.mixer](config), "mixer")
        self.edge_mixer = wrap(nn.Identity(), "mixer")
        mlp, edge_mlp = make_channel_mixer(config), make_channel_mixer(config)
        self.channel = None if mlp is None else wrap(mlp, "channel")
        self.edge_channel = None if edge_mlp is None else wrap(edge_mlp, "channel")
        steps = ["mixer"] if mlp is None else ["mixer", "channel"]
        on_stream = [name for step in steps if placed(config, step)[2] for name in (step, f"edge_{step}")]
        self.norms = nn.ModuleDict(
            {name: make_norm(config.norm, config.dim, config.eps, config.norm_bias) for name in on_stream}
        )

    def forward(self, streams: tuple[Tensor, Tensor], context: Context) -> tuple[Tensor, Tensor]:
        """([B, N, D] or [T, D], [U, D]) -> the same two shapes; the edges as they came where nobody reads on."""
        x, e = streams
        valid, beside = context.tokens.valid, replace(context, tokens=Tokens(e))
        y, f = self.mixer.inner(self.mixer.enter(x, valid=valid), self.edge_mixer.enter(e), context)
        x = self._summed("mixer", x, self.mixer.leave(y, context.tokens), valid)
        if self.channel is not None:
            x = self._summed("channel", x, self.channel(x, context), valid)
        if context.main_only:
            return x, e
        e = self._summed("edge_mixer", e, self.edge_mixer.leave(f, beside.tokens), None)
        if self.edge_channel is not None:
            e = self._summed("edge_channel", e, self.edge_channel(e, beside), None)
        return x, e

    def _summed(self, name: str, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        return normed(self.norms[name], x + y, valid) if name in self.norms else x + y


torch.export.register_dataclass(Edges, serialized_type_name="isoform.Edges")
