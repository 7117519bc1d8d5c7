"""Which implementation serves which attention: why not as a sentence, and the table by which "auto" chooses.

The table is data, so that `isoform explain` prints what the operation itself goes by.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import NamedTuple

import torch

import isoform.core.attention.bias as biases
from isoform.core.attention.tuning import MAX_DIM

# Up to here the chunked path was the faster one (measured on AVX512-BF16, 24 and 64 features a head).
FEW_KEYS = 256
FULL = (torch.float32, torch.float64)
# Up to here keeping probabilities beside a bias adds at most half to what a layer keeps anyway (10 features a head).
KEPT_KEYS = 64
# Up to here that was faster than PyTorch's operators one by one (16 and 32 features a head, with dropout).
VERY_FEW_KEYS = 16
BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


class Request(NamedTuple):
    """What a choice depends on. `explain` makes one from an app's configuration, `attention` from its tensors."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32
    head_dim: int = 64
    value_dim: int = 0  # features of a value; 0: as many as a head's
    bias: bool = False
    bias_gradient: bool = False
    bias_bytes: int = 0  # of a structured bias once it is dense; 0 for one that is given dense
    mask_bytes: int = (
        0  # of bias and limits in one tensor, where a fused kernel doesn't take them as they are
    )
    dropout: bool = False
    window: bool = False
    backward: bool = False  # a gradient will be wanted
    keys: int = 0
    score_bytes: int = 0  # of one layer's probabilities
    uneven: bool = False  # causal or windowed, with queries and keys padded differently


class Rule(NamedTuple):
    """A line of a table: `name` is taken `when` this holds, because of `why`."""

    name: str
    when: Callable[[Request], bool]
    why: str


AUTO = (
    Rule(
        "triton",
        lambda r: r.device == "cuda" and r.bias,
        "a score bias on a GPU: there PyTorch's fused kernels take no float32 bias beside 16-bit inputs",
    ),
    Rule(
        "sdpa",
        lambda r: True,
        "PyTorch's fused kernel, or isoform's own operators where that can't serve",
    ),
)

# How `sdpa` works, first match.
SDPA_PATHS = (
    Rule(
        "stored",
        lambda r: (
            r.dropout
            and r.backward
            and not r.bias
            and 0 < r.keys <= VERY_FEW_KEYS
            and r.device == "cpu"
            and r.dtype in FULL
            and max(r.mask_bytes, r.score_bytes) <= biases.LIMIT_BYTES
        ),
        "so few keys that the number of operators counts: probabilities are kept, and every step is one operator",
    ),
    Rule(
        "eager",
        lambda r: (
            (r.dropout or r.value_dim > 0)
            and not r.bias
            and 0 < r.keys <= (r.value_dim or r.head_dim)
            and r.device == "cpu"
            and r.dtype in FULL
            and r.mask_bytes <= biases.LIMIT_BYTES
        ),
        "so few keys that their probabilities take less memory than what they mix: they are kept, not computed again",
    ),
    Rule(
        "stored",
        lambda r: (
            r.bias_gradient
            and r.backward
            and 0 < r.keys <= KEPT_KEYS
            and r.device == "cpu"
            and r.dtype in FULL
            and max(r.bias_bytes, r.mask_bytes, r.score_bytes) <= biases.LIMIT_BYTES
        ),
        "a bias that wants its gradient, and few keys: probabilities are kept, since computing them twice takes longer",
    ),
    Rule(
        "chunked", lambda r: r.dropout, "PyTorch's fused kernel on a CPU doesn't drop probabilities"
    ),
    Rule(
        "chunked",
        lambda r: r.bias_gradient,
        "PyTorch's fused kernel on a CPU gives the bias no gradient",
    ),
    Rule(
        "chunked",
        lambda r: r.value_dim > 0,
        "PyTorch's fused kernel on a CPU takes values only as wide as keys",
    ),
    Rule(
        "chunked",
        lambda r: max(r.bias_bytes, r.mask_bytes) > biases.LIMIT_BYTES,
        "the bias or mask is too large to be built at once",
    ),
    Rule(
        "chunked",
        lambda r: (
            r.device == "cuda"
            and (r.dtype == torch.float64 or (r.bias and r.dtype != torch.float32))
        ),
        "no fused kernel on a GPU takes float64, nor a float32 bias beside 16-bit inputs",
    ),
    Rule(
        "chunked",
        lambda r: (
            r.device == "cpu"
            and r.dtype == torch.bfloat16
            and r.backward
            and 0 < r.keys <= FEW_KEYS
            and BF16
        ),
        "few keys: PyTorch's fused kernel on a CPU is up to three times slower in its bfloat16 backward pass",
    ),
    Rule("fused", lambda r: True, "one call of PyTorch's fused kernel"),
)


def unsupported_reason(impl: str, request: Request) -> str | None:
    """Why `impl` can't serve the request, as the end of a sentence; None where it can."""
    if not request.dtype.is_floating_point:
        return f"attention needs floating-point inputs, got {request.dtype}"
    if impl != "triton":
        return None
    if find_spec("triton") is None:
        return "the package triton isn't installed"
    if request.device != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        return f"its kernels run on a GPU and the tensors are on {request.device} (TRITON_INTERPRET=1 interprets them)"
    if request.dtype == torch.float64:
        return "its kernels compute in float32, and the inputs are float64"
    if request.head_dim > MAX_DIM:
        return f"its kernels take at most {MAX_DIM} features a head, got {request.head_dim}"
    if request.value_dim:
        return (
            f"its kernels take values as wide as keys, and these have {request.value_dim} features"
        )
    if request.dropout:
        return "its kernels don't drop probabilities"
    if request.window:
        return "its kernels know no window"
    if request.uneven:
        return (
            "its kernels don't know causality between queries and keys that are padded differently"
        )
    if request.bias_bytes > biases.LIMIT_BYTES:
        return f"the dense bias of {request.bias_bytes >> 20} MiB is over the limit of {biases.LIMIT_BYTES >> 20} MiB"
    return None


def select_impl(request: Request) -> Rule:
    """The line of `AUTO` that "auto" goes by. Raises ValueError where nothing can serve."""
    for rule in AUTO:
        if rule.when(request) and unsupported_reason(rule.name, request) is None:
            return rule
    raise ValueError(f"attention can't serve this: {unsupported_reason('sdpa', request)}")


def sdpa_path(request: Request) -> Rule:
    """How `sdpa` serves the request: "fused", "chunked", "stored" or "eager"."""
    return next(rule for rule in SDPA_PATHS if rule.when(request))


def explain_choice(request: Request) -> list[str]:
    """What "auto" takes, how it works and why, then whether the other implementations would serve; a line each."""
    chosen = select_impl(request)
    lines = [f"{chosen.name}: {chosen.why}"]
    if chosen.name == "sdpa":
        path = sdpa_path(request)
        lines[0] = f"sdpa, {path.name}: {path.why}"
    for other in ("reference", "sdpa", "triton"):
        if other != chosen.name:
            why_not = unsupported_reason(other, request)
            lines.append(
                f"{other}: can serve if asked for"
                if why_not is None
                else f"{other}: can't serve, {why_not}"
            )
    return lines
