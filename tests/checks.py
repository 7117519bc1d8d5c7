"""What a model must hold, as assertions over functions of Tokens: `from checks import assert_padding_ignored`.

Each fails on a function that breaks the property, and test_checks.py shows that it does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from isoform.core.tokens import Tokens

Function = Callable[[Tokens], Tokens]


def assert_close_named(
    got: Mapping[str, Tensor],
    want: Mapping[str, Tensor],
    *,
    atol: float | Mapping[str, float] = 0.0,
    rtol: float = 0.0,
) -> None:
    """The same names, and for each |got - want| <= atol + rtol |want|; every disagreement in one message.

    `atol` is one number or one a name. Shapes must agree, integers and infinities exactly, and nothing may be NaN.
    """
    problems = [f"missing: {name}" for name in want if name not in got]
    problems += [f"unexpected: {name}" for name in got if name not in want]
    for name in [name for name in want if name in got]:
        a, b = got[name].detach().cpu(), want[name].detach().cpu()
        if a.shape != b.shape:
            problems.append(f"{name}: shape {tuple(a.shape)}, wanted {tuple(b.shape)}")
            continue
        a64, b64 = a.double(), b.double()
        allowed = atol if isinstance(atol, float | int) else atol[name]
        exact = not b.is_floating_point()
        bound = 0 if exact else allowed + rtol * b64.abs().where(b64.isfinite(), 0)
        error = torch.where(a64 == b64, 0.0, (a64 - b64).abs())  # inf - inf would be NaN
        wrong = ~(error <= bound)
        if wrong.any():
            problems.append(
                f"{name}: {int(wrong.sum())} of {wrong.numel()} differ, by at most {float(error.max()):.3g} "
                f"(allowed {float(allowed) if not exact else 0:.3g})"
            )
    assert not problems, "\n  ".join(["", *problems])


def assert_same_bits(got: Mapping[str, Tensor], want: Mapping[str, Tensor]) -> None:
    """The same names, types and shapes, and every byte equal (so -0.0 is not 0.0, and a NaN equals itself)."""
    assert list(sorted(got)) == list(sorted(want)), sorted(set(got) ^ set(want))
    different = []
    for name, b in want.items():
        a = got[name]
        same = a.dtype == b.dtype and a.shape == b.shape
        if not same or _bytes(a) != _bytes(b):
            different.append(name)
    assert not different, f"{len(different)} of {len(want)} differ: {different[:5]}"


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def assert_same_gradients(
    function: Callable[..., Tensor],
    oracle: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    *,
    atol: float,
) -> None:
    """Both give the same output on `inputs`, and the same gradient of a random projection of it to every input."""

    def run(f: Callable[..., Tensor]) -> dict[str, Tensor]:
        leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
        out = f(*leaves)
        weight = torch.randn(
            out.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
        ).to(out)
        wanted = [x for x in leaves if x.requires_grad]
        grads = torch.autograd.grad((out * weight).sum(), wanted)
        return {"output": out, **{f"gradient {i}": g for i, g in enumerate(grads)}}

    assert_close_named(run(function), run(oracle), atol=atol)


def assert_permutation_equivariant(
    function: Function, tokens: Tokens, *, atol: float = 1e-5
) -> None:
    """Reordering a sample's tokens (prefix and suffix stay) reorders the output and changes nothing else."""
    n_batch, n = tokens.x.shape[:2]
    start, end = tokens.prefix, n - tokens.suffix
    assert end - start > 1, "one token has no other order"
    generator = torch.Generator().manual_seed(1)
    index = torch.arange(n).repeat(n_batch, 1)
    for row in index:
        row[start:end] = start + torch.randperm(end - start, generator=generator).roll(1)

    def reorder(t: Tokens) -> Tokens:
        return replace(t.gather(index.to(t.x.device)), prefix=t.prefix, suffix=t.suffix)

    want, got = (
        reorder(function(replace(tokens, grid=None))),
        function(reorder(replace(tokens, grid=None))),
    )
    real = want.mask()
    assert_close_named({"x": got.x[real]}, {"x": want.x[real]}, atol=atol)


def assert_padding_ignored(
    function: Function, tokens: Tokens, *, extra: int = 3, atol: float = 1e-5
) -> None:
    """Padding tokens behind each sample change no real token, whatever they hold, and take no gradient from one."""
    assert tokens.suffix == 0, "padding goes behind the last token"
    n_batch, n = tokens.x.shape[:2]
    generator = torch.Generator().manual_seed(1)

    def junk(like: Tensor) -> Tensor:
        return (100 * torch.randn(like.shape, generator=generator, dtype=torch.float64)).to(like)

    padding = tokens.gather(torch.zeros(n_batch, extra, dtype=torch.long, device=tokens.x.device))
    padding = replace(
        padding,
        x=junk(padding.x),
        coords=None if padding.coords is None else junk(padding.coords),
        valid=torch.zeros(n_batch, extra, dtype=torch.bool, device=tokens.x.device),
    )
    longer = replace(Tokens.cat([tokens, padding]), suffix=0)
    x = longer.x.detach().clone().requires_grad_()
    got, want = function(replace(longer, x=x)), function(tokens)
    real = want.mask()
    assert_close_named({"x": got.x[:, :n][real]}, {"x": want.x[real]}, atol=atol)
    (grad,) = torch.autograd.grad(got.x[:, :n][real].square().sum(), x)
    assert float(grad[:, n:].abs().max()) == 0, "a real token depends on padding"


def assert_causal(function: Function, tokens: Tokens, *, atol: float = 1e-5) -> None:
    """A token's result depends on itself and on tokens before it, and on none behind it."""
    n = tokens.x.shape[1]
    place = n // 2
    changed = tokens.x.clone()
    changed[:, place:] += (
        torch.arange(tokens.x.shape[-1]).sin().to(changed)
    )  # a constant would vanish in a norm
    got, want = function(tokens.with_x(changed)).x, function(tokens).x
    assert_close_named({"before": got[:, :place]}, {"before": want[:, :place]}, atol=atol)
    assert not torch.allclose(got[:, place:], want[:, place:], atol=atol), (
        "the change reached nothing at all"
    )


def assert_layout_ignored(function: Function, tokens: Tokens, *, atol: float = 1e-5) -> None:
    """The packed and the padded layout of the same tokens give the same real tokens."""
    packed = function(tokens.pack())
    assert packed.packed, "the layout changed on the way"
    real = tokens.mask()
    assert_close_named({"x": packed.x}, {"x": function(tokens).x[real]}, atol=atol)
