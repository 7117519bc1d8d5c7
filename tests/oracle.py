"""The backbone again, written as the papers' equations, dense and unoptimised: what every filler is compared with.

It reads a Backbone by its table and its weights' names and shares no code with it. B samples, N tokens, D features.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from isoform.core.backbone import Backbone
from isoform.core.tokens import Tokens


def run(backbone: Backbone, tokens: Tokens, memory: Tokens | None = None) -> Tensor:
    """[B, N, D] in the weights' dtype; dropout and stochastic depth are off."""
    c, w = backbone.config, dict(backbone.named_parameters())
    bias = score_bias(c, w, tokens)
    x = tokens.x

    def norm(name: str, y: Tensor) -> Tensor:
        return norm_by(c.norm, y, w.get(f"{name}.weight"), w.get(f"{name}.bias"), c.eps)

    def linear(name: str, y: Tensor) -> Tensor:
        out = y @ w[f"{name}.weight"].T
        return out + w[f"{name}.bias"] if f"{name}.bias" in w else out

    def mix(name: str, y: Tensor, cross: bool) -> Tensor:
        heads, kv = c.heads, c.kv_heads or c.heads
        size = c.head_dim or c.dim // heads
        source = memory.x if cross else y
        if cross:
            q, kv_rows = linear(f"{name}.q", y), linear(f"{name}.kv", source)
            k, v = kv_rows[..., : kv * size], kv_rows[..., kv * size :]
        else:
            rows = linear(f"{name}.qkv", y)
            q, k, v = rows.split([heads * size, kv * size, kv * size], dim=-1)
        valid = (memory if cross else tokens).mask()
        out = []
        for h in range(heads):
            g = h // (heads // kv)
            q_h, k_h, v_h = (
                q[..., h * size :][..., :size],
                k[..., g * size :][..., :size],
                v[..., g * size :][..., :size],
            )
            if c.qk_norm != "none":
                q_h, k_h = (
                    norm_by(c.qk_norm, t, w.get(f"{name}.{n}_norm.weight"), w.get(f"{name}.{n}_norm.bias"), c.eps)
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
                score = score.masked_fill(torch.ones_like(score[0], dtype=torch.bool).triu(1), -math.inf)
            out.append(score.softmax(-1) @ v_h)
        mixed = torch.cat(out, dim=-1)
        if c.mixer_norm:
            mixed = norm(f"{name}.norm", mixed)
        if c.gated:
            mixed = mixed * torch.sigmoid(linear(f"{name}.gate", y))
        return linear(f"{name}.proj", mixed)

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

    for i in range(c.depth):
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
    return norm("norm", x) if c.final_norm else x


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
    return torch.cat([z.real, z.imag], -1) if half else torch.stack([z.real, z.imag], -1).flatten(-2)


def score_bias(c, w: dict[str, Tensor], tokens: Tokens) -> Tensor | None:
    """[B, N, N, H], pair by pair."""
    if c.score == "none":
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

                if c.score == "dense":
                    out[b, i, j] = feature("bias") if known else 0
                elif c.score == "table":
                    out[b, i, j] = w["score.table"][int(feature("ids")) if known else 0]
                else:
                    distance = min(max(int(feature("distance")) if known else 0, 1), c.score_hops)
                    total = 0
                    for p in range(c.score_hops):
                        ids = feature("edges")[p].long() if known else torch.zeros(2, dtype=torch.long)
                        total = total + w["score.table"][ids].mean(0) @ w["score.hops"][p]
                    out[b, i, j] = total / distance
    return out
