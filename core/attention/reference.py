"""What attention means: eager, unbounded, for any floating-point type, differentiable twice.

B samples, H query heads, G key/value heads (H / G query heads share one), N queries, M keys, R chosen rows, D
features a head, E features of a value.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from isoform.core.attention.bias import Bias
from isoform.core.attention.mask import Rows, Visible
from isoform.core.ops.dropout import LEVELS, keep_mask


def working_dtype(q: Tensor) -> torch.dtype:
    """The type of scores, bias and softmax: float32, or float64 for float64 inputs."""
    return torch.float64 if q.dtype == torch.float64 else torch.float32


def probabilities(
    q_BHRD: Tensor,
    k_BGMD: Tensor,
    *,
    bias: Bias | None,
    visible: Visible,
    scale: float,
    rows: Rows | None = None,
) -> Tensor:
    """[B, H, R, M] softmax(scale q k^T + bias) over the visible keys; 0 in a row without any.

    q_BHRD holds the queries of `rows` alone; all where that is None.
    """
    dtype = working_dtype(q_BHRD)
    n_groups = k_BGMD.shape[1]
    q_BGSRD = q_BHRD.to(dtype).unflatten(1, (n_groups, -1))
    k_BGMD = k_BGMD.to(dtype)
    with torch.autocast(q_BHRD.device.type, enabled=False):
        scores = (q_BGSRD @ k_BGMD[:, :, None].mT).flatten(1, 2) * scale
    seen = visible.block(scores.device, rows=slice(None) if rows is None else rows)
    if bias is None and seen is None:
        return scores.softmax(-1)
    if bias is not None:
        scores = scores + bias.slice(rows).to_dense().to(dtype)
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    # Softmax over nothing is 0/0: such rows are given any finite scores, and 0 for their result.
    empty = (scores == -torch.inf).all(-1, keepdim=True)
    return scores.masked_fill(empty, 0.0).softmax(-1).masked_fill(empty, 0.0)


class Dropout:
    """The same random choice of probabilities to keep for every implementation and every way to cut them into chunks.

    Numbers come from a generator of the seed's own, row after row of each sample: the chunks must be asked for in that
    order. Without a seed, one is drawn from torch's global generator. p is rounded to 1 / 65536.
    """

    def __init__(self, p: float, seed: int | None, device: torch.device) -> None:
        self.seed = int(torch.randint(2**62, ())) if seed is None else seed
        self.generator = torch.Generator(device).manual_seed(self.seed)
        self.dropped = min(round(p * LEVELS), LEVELS - 1)

    def next(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        """[b, h, r, m] factors of the next block: 0 with probability p, else 1 / (1 - p)."""
        b, h, r, m = shape
        # Four 16-bit numbers from each of the generator's, which is what takes the time.
        words = torch.empty((b, r, -(-h * m // 4)), dtype=torch.int64, device=self.generator.device)
        words.random_(-(2**63), None, generator=self.generator)
        mask = keep_mask(words, self.dropped)[..., : h * m].unflatten(2, (h, m))
        factor = mask.transpose(1, 2).to(dtype, memory_format=torch.contiguous_format)
        return factor.mul_(LEVELS / (LEVELS - self.dropped))


def attention_reference(
    q_BHND: Tensor,
    k_BGMD: Tensor,
    v_BGME: Tensor,
    *,
    bias: Bias | None,
    visible: Visible,
    scale: float,
    dropout: float = 0.0,
    seed: int | None = None,
) -> Tensor:
    """[B, H, N, E]; see `isoform.core.attention.attention`."""
    p_BHNM = probabilities(q_BHND, k_BGMD, bias=bias, visible=visible, scale=scale)
    if dropout > 0:
        p_BHNM = p_BHNM * Dropout(dropout, seed, q_BHND.device).next(p_BHNM.shape, p_BHNM.dtype)
    p_BGSNM = p_BHNM.unflatten(1, (k_BGMD.shape[1], -1))
    with torch.autocast(q_BHND.device.type, enabled=False):
        out = (p_BGSNM @ v_BGME.to(p_BHNM.dtype)[:, :, None]).flatten(1, 2)
    return out.to(q_BHND.dtype)
