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
from isoform.core.norms import apply_norm, norm_of
from isoform.core.residual import ResidualBranch, norm_positions
from isoform.core.tokens import Tokens


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

    `mixer` and `channel` are what the tokens get, `edge_mixer` and `edge_channel` what the edges get; norms stand
    where `order` puts them, in both streams alike.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.mixer = ResidualBranch(MIXERS[config.mixer](config), config, "mixer")
        self.edge_mixer = ResidualBranch(nn.Identity(), config, "mixer")
        mlp = make_channel_mixer(config)
        edge_mlp = make_channel_mixer(config)
        self.channel = None if mlp is None else ResidualBranch(mlp, config, "channel")
        self.edge_channel = (
            None if edge_mlp is None else ResidualBranch(edge_mlp, config, "channel")
        )
        steps = ["mixer"] if mlp is None else ["mixer", "channel"]
        on_stream = [step for step in steps if norm_positions(config, step).stream]
        names = [name for step in on_stream for name in (step, f"edge_{step}")]
        self.norms = nn.ModuleDict({name: norm_of(config) for name in names})

    def forward(self, streams: tuple[Tensor, Tensor], context: Context) -> tuple[Tensor, Tensor]:
        """([B, N, D] or [T, D], [U, D]) -> the same two shapes; the edges as they came where nobody reads on."""
        x, e = streams
        valid = context.tokens.valid
        beside = replace(context, tokens=Tokens(e))
        x_normed = self.mixer.pre_norm(x, valid=valid)
        e_normed = self.edge_mixer.pre_norm(e)
        y, f = self.mixer.inner(x_normed, e_normed, context)
        x = self._add("mixer", x, self.mixer.post_process(y, context.tokens), valid)
        if self.channel is not None:
            x = self._add("channel", x, self.channel(x, context), valid)
        if context.main_only:
            return x, e
        e = self._add("edge_mixer", e, self.edge_mixer.post_process(f, beside.tokens), None)
        if self.edge_channel is not None:
            e = self._add("edge_channel", e, self.edge_channel(e, beside), None)
        return x, e

    def _add(self, name: str, x: Tensor, y: Tensor, valid: Tensor | None) -> Tensor:
        total = x + y
        if name in self.norms:
            total = apply_norm(self.norms[name], total, valid)
        return total


torch.export.register_dataclass(Edges, serialized_type_name="isoform.Edges")
