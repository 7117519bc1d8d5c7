"""Which of the parts that kernels are compiled for stands for the GPU at hand."""

from __future__ import annotations

import torch

TARGETS = ("sm_90", "sm_80")


def part_of(device: torch.device) -> str | None:
    """ "sm_80", "sm_90", "interpreter" off a GPU; None for parts that nothing was compiled for.

    sm_90's need its shared memory (227 KiB), which the data-centre parts 9.0 and 10.x have. All others get sm_80's,
    which stay below the 99 KiB of the smallest parts since then (8.6, 8.9, 12.x). Parts before those, and other
    makers', have none.
    """
    if device.type != "cuda":
        return "interpreter"
    major, _ = torch.cuda.get_device_capability(device)
    if torch.version.hip is not None or major < 8:
        return None
    return "sm_90" if major in (9, 10) else "sm_80"
