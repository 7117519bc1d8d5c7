"""Small inputs of attention, no two axes alike."""

import torch

B, H, G, N, M, D = 2, 6, 3, 7, 11, 5


def inputs(n=N, m=M, *, dtype=torch.float64, grad=False, seed=0):
    """q [B, H, n, D], k and v [B, G, m, D]."""
    g = torch.Generator().manual_seed(seed)
    shapes = ((B, H, n, D), (B, G, m, D), (B, G, m, D))
    return [torch.randn(s, generator=g, dtype=dtype).requires_grad_(grad) for s in shapes]
