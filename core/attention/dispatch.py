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
from isoform.core.attention.native_build import native
from isoform.core.attention.tuning import MAX_DIM, why_missing

# Up to here the chunked path was the faster one (measured on AVX512-BF16, 24 and 64 features a head).
FEW_KEYS = 256
FULL = (torch.float32, torch.float64)
# Up to here keeping probabilities beside a bias adds at most half to what a layer keeps anyway (10 features a head).
KEPT_KEYS = 64
# Up to here that was faster than PyTorch's operators one by one (16 and 32 features a head, with dropout).
VERY_FEW_KEYS = 16
# Up to here compiled C was faster than PyTorch's fused kernel where no bias learns (at 197 and 512, AVX2).
NATIVE_KEYS = 256
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
    kinds: str = "none"  # of the bias's parts, as the kernels name them: "dense", "path+table", ...
    coords_gradient: bool = False  # of a distance's coordinates
    uneven: bool = False  # causal or windowed, with queries and keys padded differently
    packed: bool = False  # samples of several sizes one behind the other
    limited: bool = False  # causal or windowed
    traced: bool = False  # compiled, exported or otherwise followed, not computed


class Rule(NamedTuple):
    """A line of a table: `name` is taken `when` this holds, because of `why`."""

    name: str
    when: Callable[[Request], bool]
    why: str


def why_not_native(r: Request) -> str | None:
    """Why compiled C (`native.c`) can't serve the request, as the end of a sentence; None where it can."""
    reasons = (
        (r.device != "cpu", "it computes on a CPU alone"),
        (r.dtype != torch.float32, "it computes in float32 alone"),
        (r.traced, "torch.compile and export can't look into it"),
        (r.dropout, "it drops no probabilities"),
        (r.limited, "it knows neither causality nor windows"),
        (r.value_dim > 0, "it takes values as wide as keys"),
        (
            r.kinds != "table" and r.bias_bytes > biases.LIMIT_BYTES,
            "the bias is too large to be built at once",
        ),
    )
    found = next((reason for holds, reason in reasons if holds), None)
    # Last, since the first question compiles it.
    return found or native().why_not or None


AUTO = (
    Rule(
        "triton",
        lambda r: r.device == "cuda" and (r.bias or r.window or r.packed),
        "a score bias, a window or packed samples on a GPU: its kernels compute these from compact inputs, where "
        "PyTorch's fused kernels want a dense bias or mask, or padding",
    ),
    Rule(
        "sdpa",
        lambda r: True,
        "PyTorch's fused kernel, or isoform's own operators where that can't serve",
    ),
)

# How packed samples come to the operation, first match.
LAYOUTS = (
    Rule(
        "native",
        lambda r: not r.bias and r.keys <= NATIVE_KEYS and why_not_native(r) is None,
        "samples where they stand: compiled C finds each by its offsets",
    ),
    Rule(
        "by size",
        lambda r: r.device == "cpu" and not r.bias,
        "samples of one size together, so that work follows the pairs there are",
    ),
    Rule(
        "padded",
        lambda r: r.bias,
        "samples padded to the longest, for which the bias is laid out",
    ),
    Rule("padded", lambda r: True, "samples padded to the longest: one launch for all of them"),
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
        "native",
        lambda r: r.bias_gradient and why_not_native(r) is None,
        "a bias that wants its gradient: compiled C keeps a tile of scores near a core, computes them again in the "
        "backward pass, and sums a table's gradient as it goes",
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
        "chunked",
        lambda r: r.dropout,
        "PyTorch's fused kernels don't drop probabilities by a seed that is given, on a CPU not at all",
    ),
    Rule(
        "chunked",
        lambda r: r.bias_gradient,
        "PyTorch's fused kernels give a bias that is computed no gradient, and on a CPU none at all",
    ),
    Rule(
        "chunked",
        lambda r: r.value_dim > 0,
        "PyTorch's fused kernels take values only as wide as keys",
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
    if request.coords_gradient:
        return "its kernels give tables, bases and slopes a gradient, but not the coordinates of a distance"
    if request.device == "cuda":
        return why_missing(request.kinds, request.head_dim, request.dtype.itemsize)
    return None


def select_impl(request: Request) -> Rule:
    """The line of `AUTO` that "auto" goes by. Raises ValueError where nothing can serve."""
    for rule in AUTO:
        if rule.when(request) and unsupported_reason(rule.name, request) is None:
            return rule
    raise ValueError(f"attention can't serve this: {unsupported_reason('sdpa', request)}")


def layout_of(request: Request, impl: str = "auto") -> Rule:
    """How packed samples are laid out: "native", "by size" or "padded"."""
    own = impl in ("auto", "sdpa")  # whose operator "native" is
    return next(rule for rule in LAYOUTS if (own or rule.name != "native") and rule.when(request))


def sdpa_path(request: Request) -> Rule:
    """How `sdpa` serves the request: "fused", "native", "chunked", "stored" or "eager"."""
    return next(rule for rule in SDPA_PATHS if rule.when(request))


def explain_choice(request: Request) -> list[str]:
    """What "auto" takes, how it works and why, then whether the other implementations would serve; a line each."""
    chosen = select_impl(request)
    lines = [f"{chosen.name}: {chosen.why}"]
    if chosen.name == "sdpa":
        path = sdpa_path(request)
        if request.packed and layout_of(request).name == "native":
            path = layout_of(request)
        lines[0] = f"sdpa, {path.name}: {path.why}"
        bare = request.packed and not request.bias and request.keys <= NATIVE_KEYS
        if request.device == "cpu" and path.name != "native" and (bare or request.bias_gradient):
            lines.append(f"sdpa, native: can't serve, {why_not_native(request)}")
    for other in ("reference", "sdpa", "triton"):
        if other != chosen.name:
            why_not = unsupported_reason(other, request)
            lines.append(
                f"{other}: can serve if asked for"
                if why_not is None
                else f"{other}: can't serve, {why_not}"
            )
    return lines


def tabulate(request: Request, bias: str = "none") -> list[dict[str, str]]:
    """What "auto" takes for such attention on either device, in either precision, in training and without: a row each.

    `bias` names the kind of bias that the request has.
    """
    rows = []
    for device in ("cpu", "cuda"):
        for dtype in (torch.float32, torch.bfloat16):
            for backward in (True, False):
                asked = request._replace(
                    device=device,
                    dtype=dtype,
                    backward=backward,
                    bias_gradient=request.bias_gradient and backward,
                    dropout=request.dropout and backward,
                )
                rows.append(_row(asked, bias))
    return rows


def _row(request: Request, bias: str) -> dict[str, str]:
    chosen = [select_impl(request)]
    if chosen[0].name == "sdpa":
        chosen.append(sdpa_path(request))
    served = ", ".join(rule.name for rule in chosen)
    why = chosen[-1].why
    if request.packed:
        layout = layout_of(request)
        if layout.name == "native":
            served, why = f"{chosen[0].name}, native", layout.why
        else:
            served, why = f"{served}, {layout.name}", f"{why}; {layout.why}"
    return {
        "device": request.device,
        "precision": str(request.dtype).removeprefix("torch."),
        "for": "training" if request.backward else "inference",
        "bias": bias,
        "its gradient": "yes" if request.bias_gradient else "no",
        "packed": "yes" if request.packed else "no",
        "keys": str(request.keys or "any"),
        "served by": served,
        "because": why,
    }
