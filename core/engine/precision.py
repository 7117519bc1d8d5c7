"""Which number format a model computes in. Weights, optimiser, losses and metrics are float32 in every case."""

from __future__ import annotations

import statistics
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import nn

_WORTH_BF16 = 100_000  # numbers in the median weight matrix


def native_bf16(device: torch.device) -> bool:
    """True where bfloat16 products run in hardware (AVX512-BF16, AMX, or a GPU from Ampere on)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu":
        able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
        return bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return False


def resolve(wanted: str, allowed: bool, model: nn.Module, device: torch.device) -> str:
    """ "fp32" or "bf16" for a `train.precision` of "auto", "fp32" or "bf16".

    "auto" is bf16 where it is `allowed` (the task says so), the hardware computes it and the model gains from it: on a
    CPU the casts around small matrices cost more than their products save (a ViT of width 128 is slower, one of width
    192 faster).
    """
    if wanted != "auto":
        return wanted
    if not allowed or not native_bf16(device):
        return "fp32"
    sizes = [p.numel() for p in model.parameters() if p.ndim > 1]
    large = bool(sizes) and statistics.median(sizes) >= _WORTH_BF16
    return "bf16" if large or device.type != "cpu" else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context that a model runs in: matrix products in bfloat16 for "bf16", nothing for "fp32"."""
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
