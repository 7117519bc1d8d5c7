"""Which keys each query sees: padding, causality and windows as one boolean value, cut out block by block.

B samples, N queries, M keys, R rows of a block.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

Rows = slice | Tensor  # of queries: a slice, or [R] indices
Samples = slice
Window = int | tuple[int | None, int | None]


class Visible(NamedTuple):
    """Key j is seen by query i if it is real and left <= place(j) - place(i) <= right (None: no limit).

    Places are counted from the end of each sample, so that the last query stands at the last key. `place_q_BN` and
    `place_kv_BM` count real tokens alone; where they are None, places are counted along the tensors.
    """

    n_q: int
    n_kv: int
    valid_kv_BM: Tensor | None = None
    left: int | None = None
    right: int | None = None
    place_q_BN: Tensor | None = None
    place_kv_BM: Tensor | None = None

    @property
    def limited(self) -> bool:
        """Whether a query's place matters (causal or window)."""
        return self.left is not None or self.right is not None

    @property
    def everything(self) -> bool:
        """Whether every query sees every key."""
        return self.valid_kv_BM is None and not self.limited

    @property
    def plainly_causal(self) -> bool:
        """Whether this is the square lower triangle and nothing else."""
        if self.left is not None or self.right != 0:
            return False  # before the lengths are compared, which are symbols in an export with any number of tokens
        return self.valid_kv_BM is None and self.place_q_BN is None and self.n_q == self.n_kv

    def block(
        self, device: torch.device, batch: slice = slice(None), rows: Rows = slice(None)
    ) -> Tensor | None:
        """[B or 1, 1, R or 1, M] bool of a block, True = seen; None where all is seen."""
        seen = None if self.valid_kv_BM is None else self.valid_kv_BM[batch, None, None, :]
        if not self.limited:
            return seen
        if self.place_q_BN is not None and self.place_kv_BM is not None:
            q_place = self.place_q_BN[batch][:, rows]
            kv_place = self.place_kv_BM[batch]
        else:
            q_place = torch.arange(-self.n_q, 0, device=device)[rows][None]
            kv_place = torch.arange(-self.n_kv, 0, device=device)[None]
        ahead = (kv_place[:, None, :] - q_place[:, :, None])[:, None]
        if self.left is not None:
            near = ahead >= self.left
            seen = near if seen is None else seen & near
        if self.right is not None:
            near = ahead <= self.right
            seen = near if seen is None else seen & near
        return seen


def place_from_end(valid_BN: Tensor) -> Tensor:
    """[B, N] the place of each real token among its sample's real tokens, counted from the end: -n_b .. -1."""
    count = valid_BN.long().cumsum(1)
    return count - 1 - count[:, -1:]


def visible(
    n_q: int,
    n_kv: int,
    valid_q: Tensor | None,
    valid_kv: Tensor | None,
    causal: bool,
    window: Window | None,
) -> Visible:
    """The keys that `attention`'s arguments leave visible."""
    left: int | None = None
    right: int | None = None
    if window is not None:
        before, after = (window, window) if isinstance(window, int) else window
        if (before is not None and before < 0) or (after is not None and after < 0):
            raise ValueError(
                f"window counts tokens to the left and right and can't be negative, got {window}"
            )
        left, right = None if before is None else -before, after
    if causal:
        right = 0
    place_q = place_kv = None
    # Tokens that share their padding are in the same order with or without it, so plain causality needs no counting.
    shared = valid_q is valid_kv and left is None and right == 0
    if (
        (left is not None or right is not None)
        and valid_q is not None
        and valid_kv is not None
        and not shared
    ):
        place_q, place_kv = place_from_end(valid_q), place_from_end(valid_kv)
    return Visible(n_q, n_kv, valid_kv, left, right, place_q, place_kv)
