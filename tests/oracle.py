"""The backbone again, written as the papers' equations, dense and unoptimised: what every filler is compared with.

It reads a Backbone by its table and its weights' names and shares no code with it. B samples, N tokens, D features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.backbone import Backbone
from isoform.core.edges import Edges
from isoform.core.tokens import Tokens

PairBias = Callable[[dict[str, Tensor], Callable[[str], Tensor] | None], Tensor]


def run(
    backbone: Backbone,
    tokens: Tokens,
    memory: Tokens | None = None,
    edges: Edges | None = None,
    pair_bias: PairBias | None = None,
) -> tuple[Tensor, Tensor | None]:
    """[B, N, D] in the weights' dtype, and [U, D] of edges; dropout and stochastic depth are off.

    `pair_bias`: the bias of a pair by a score that was handed in, from the weights and the pair's features (None where
    either token has none).
    """
    c, w = backbone.config, dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    bias = score_bias(c, w, tokens, pair_bias)
    x = tokens.x

    def norm(name: str, y: Tensor) -> Tensor:
        if c.norm == "batch":
            y = (y - w[f"{name}.running_mean"]) / torch.sqrt(w[f"{name}.running_var"] + c.eps)
            return y * w[f"{name}.weight"] + w[f"{name}.bias"]
        return norm_by(c.norm, y, w.get(f"{name}.weight"), w.get(f"{name}.bias"), c.eps)

    def linear(name: str, y: Tensor) -> Tensor:
        out = y @ w[f"{name}.weight"].T
        return out + w[f"{name}.bias"] if f"{name}.bias" in w else out

    def mix(name: str, y: Tensor, cross: bool) -> Tensor:
        heads, kv = c.heads, c.kv_heads or c.heads
        size = c.head_dim or c.dim // heads
        wide = c.value_dim or size
        source = memory.x if cross else y
        if cross:
            q, kv_rows = linear(f"{name}.q", y), linear(f"{name}.kv", source)
            k, v = kv_rows[..., : kv * size], kv_rows[..., kv * size :]
        else:
            rows = linear(f"{name}.qkv", y)
            q, k, v = rows.split([heads * size, kv * size, kv * wide], dim=-1)
        valid = (memory if cross else tokens).mask()
        out = []
        for h in range(heads):
            g = h // (heads // kv)
            q_h, k_h, v_h = (
                q[..., h * size :][..., :size],
                k[..., g * size :][..., :size],
                v[..., g * wide :][..., :wide],
            )
            if c.qk_norm != "none":
                q_h, k_h = (
                    norm_by(
                        c.qk_norm,
                        t,
                        w.get(f"{name}.{n}_norm.weight"),
                        w.get(f"{name}.{n}_norm.bias"),
                        c.eps,
                    )
                    for t, n in ((q_h, "q"), (k_h, "k"))
                )
            if c.position.startswith("rotary") and not cross:
                angle = tokens.pos
                if c.position == "rotary_learned":
                    angle = tokens.pos @ w[f"{name}.frequencies"][:, h]
                q_h, k_h = (turn(t, angle, c.position == "rotary_half") for t in (q_h, k_h))
            score = q_h @ k_h.transpose(1, 2) / math.sqrt(size)
            if bias is not None and not cross:
                score = score + bias[..., h]
            score = score.masked_fill(~valid[:, None], -math.inf)
            if c.causal and not cross:
                score = score.masked_fill(
                    torch.ones_like(score[0], dtype=torch.bool).triu(1), -math.inf
                )
            out.append(score.softmax(-1) @ v_h)
        mixed = torch.cat(out, dim=-1)
        if c.mixer_norm:
            mixed = norm(f"{name}.norm", mixed)
        if c.gated:
            mixed = mixed * torch.sigmoid(linear(f"{name}.gate", y))
        return linear(f"{name}.proj", mixed) if c.proj else mixed

    def mix_neighbours(name: str, y: Tensor, e: Tensor) -> tuple[Tensor, Tensor]:
        """Token by token over the edges that lead to it."""
        size = c.head_dim or c.dim // c.heads
        q, k, v = linear(f"{name}.qkv", y.flatten(0, 1)).chunk(3, dim=-1)
        gate = linear(f"{name}.edge", e)
        mixed, scores = torch.zeros_like(q), torch.zeros_like(gate)
        for h in range(c.heads):
            part = slice(h * size, (h + 1) * size)
            for i in range(len(q)):
                top, bottom = torch.zeros_like(q[i, part]), 1e-6
                for u in (edges.ends[:, 1] == i).nonzero()[:, 0].tolist():
                    j = int(edges.ends[u, 0])
                    score = q[i, part] * k[j, part] / math.sqrt(size) * gate[u, part]
                    weight = torch.exp(score.sum().clamp(-5, 5))
                    top, bottom = top + weight * v[j, part], bottom + weight
                    scores = scores.index_put(
                        (torch.tensor(u), torch.arange(c.heads * size)[part]), score
                    )
                mixed = mixed.index_put(
                    (torch.tensor(i), torch.arange(c.heads * size)[part]), top / bottom
                )
        return linear(f"{name}.proj", mixed).view(y.shape), linear(f"{name}.edge_proj", scores)

    def channel(name: str, y: Tensor) -> Tensor:
        hidden = linear(f"{name}.fc1", y)
        if c.channel in ("swiglu", "geglu"):
            half = hidden.shape[-1] // 2
            gate = F.silu(hidden[..., :half]) if c.channel == "swiglu" else gelu(hidden[..., :half])
            hidden = gate * hidden[..., half:]
        else:
            hidden = {
                "gelu": gelu,
                "gelu_tanh": lambda t: F.gelu(t, approximate="tanh"),
                "quick_gelu": lambda t: t * torch.sigmoid(1.702 * t),
                "relu": lambda t: t.clamp(min=0),
                "silu": lambda t: t * torch.sigmoid(t),
            }[c.channel](hidden)
        if c.mlp_norm:
            hidden = norm(f"{name}.norm", hidden)
        return linear(f"{name}.fc2", hidden)

    def wrapped(name: str, y: Tensor, step: str) -> Tensor:
        h = y
        if c.order in ("pre", "cct") and not (step == "channel" and c.order == "cct"):
            h = norm(f"{name}.norm", h)
        gate = None
        if c.condition == "adaln_zero":
            values = linear(f"{name}.modulation", F.silu(tokens.cond))
            shift, scale, gate = (values if values.dim() == 3 else values[:, None]).chunk(3, dim=-1)
            h = h * (1 + scale) + shift
        match step:
            case "both":
                h = mix(f"{name}.inner.parts.mixer", h, False) + (
                    channel(f"{name}.inner.parts.channel", h) if c.channel != "none" else 0
                )
            case "channel":
                h = channel(f"{name}.inner", h)
            case _:
                h = mix(f"{name}.inner", h, step == "cross")
        if c.order == "res_post":
            h = norm(f"{name}.norm_out", h)
        if f"{name}.scale" in w:
            h = h * w[f"{name}.scale"]
        return h if gate is None else h * gate

    e = None if edges is None else edges.x
    for i in range(c.depth) if e is not None else ():
        block = f"blocks.{i}"

        def placed(
            name: str, y: Tensor, step: str, value: Callable[[Tensor], Tensor], block: str = block
        ) -> Tensor:
            """The stream after a branch: its norms, scale and sum."""
            pre = c.order == "pre" or (c.order == "cct" and step == "mixer")
            z = value(norm(f"{block}.{name}.norm", y) if pre else y)
            z = norm(f"{block}.{name}.norm_out", z) if c.order == "res_post" else z
            y = y + z * w.get(f"{block}.{name}.scale", 1)
            after = c.order == "post" or (c.order == "cct" and step == "mixer")
            return norm(f"{block}.norms.{name}", y) if after else y

        inputs = [(norm(f"{block}.{n}.norm", t) if c.order in ("pre", "cct") else t)
                  for n, t in (("mixer", x), ("edge_mixer", e))]  # fmt: skip
        y, f = mix_neighbours(f"{block}.mixer.inner", *inputs)
        x, e = (
            placed("mixer", x, "mixer", lambda _, y=y: y),
            placed("edge_mixer", e, "mixer", lambda _, f=f: f),
        )
        if c.channel != "none":
            x = placed("channel", x, "channel", lambda t, b=block: channel(f"{b}.channel.inner", t))
            e = placed(
                "edge_channel",
                e,
                "channel",
                lambda t, b=block: channel(f"{b}.edge_channel.inner", t),
            )
    for i in range(c.depth) if e is None else ():
        if c.position == "readd":
            x = x + tokens.pos
        steps = ["mixer"] + ["cross"] * (c.memory == "cross") + ["channel"] * (c.channel != "none")
        for step in ["both"] if c.layout == "parallel" else steps:
            name = f"blocks.{i}.{step}"
            if c.branches == 1:
                x = x + wrapped(name, x, step)
            else:
                x = x + sum(wrapped(f"{name}.parts.{j}", x, step) for j in range(c.branches))
            if c.order == "post" or (c.order == "cct" and step == "mixer"):
                x = norm(f"blocks.{i}.norms.{step}", x)
    return norm("norm", x) if c.final_norm else x, e


def gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))


def norm_by(kind: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float) -> Tensor:
    if kind == "none":
        return x
    centred = x if kind == "rms" else x - x.mean(-1, keepdim=True)
    y = centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def turn(x: Tensor, angle: Tensor, half: bool) -> Tensor:
    """Each pair of features as a complex number, multiplied by exp(i angle)."""
    n = x.shape[-1] // 2
    a, b = (x[..., :n], x[..., n:]) if half else (x[..., ::2], x[..., 1::2])
    z = torch.complex(a, b) * torch.polar(torch.ones_like(angle), angle)
    return (
        torch.cat([z.real, z.imag], -1) if half else torch.stack([z.real, z.imag], -1).flatten(-2)
    )


def score_bias(
    c, w: dict[str, Tensor], tokens: Tokens, pair_bias: PairBias | None
) -> Tensor | None:
    """[B, N, N, H], pair by pair."""
    if c.score == "none" and pair_bias is None:
        return None
    n_batch, n, _ = tokens.x.shape
    out = tokens.x.new_zeros(n_batch, n, n, c.heads)
    for b in range(n_batch):
        for i in range(n):
            for j in range(n):
                if c.score == "distance":
                    d = (tokens.coords[b, i] - tokens.coords[b, j]).norm()
                    z = (d - w["score.centres"]) / w["score.widths"]
                    out[b, i, j] = torch.exp(-(z**2) / 2) @ w["score.weight"]
                    continue
                at = [int(tokens.pair.index[b, k]) for k in (i, j)]
                known = min(at) >= 0

                def feature(name: str, at: list[int] = at, b: int = b) -> Tensor:
                    return tokens.pair.features[name][b, at[0], at[1]]

                if pair_bias is not None:
                    out[b, i, j] = pair_bias(w, feature if known else None)
                elif c.score == "dense":
                    out[b, i, j] = feature("bias") if known else 0
                else:
                    out[b, i, j] = w["score.table"][int(feature("ids")) if known else 0]
    return out
