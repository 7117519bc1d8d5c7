"""Position tables and patch kernels against the stored results of the official code, and what holds for all of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from isoform.vision.vit.resize import MODES, resize_patch_kernel, resize_position_table

CASES = [
    ("resize_timm", "output/grid_", (6, 6), "timm"),
    ("resize_mae", "output/grid_", (6, 6), "mae"),
    ("resize_dinov2", "output/offset01_", (7, 7), "dinov2"),
    ("resize_dinov2", "output/offset0_antialias_", (7, 7), "dinov2_registers"),
]


@pytest.mark.parametrize(("case", "prefix", "grid", "mode"), CASES)
def test_stored_tables(
    golden_dir: Path, case: str, prefix: str, grid: tuple[int, int], mode: str
) -> None:
    stored = load_file(golden_dir / "posembed" / f"{case}.safetensors")
    names = [name for name in stored if name.startswith(prefix)]
    assert names
    for name in names:
        rows, columns = map(int, re.findall(r"\d+", name.removeprefix(prefix)))
        got = resize_position_table(
            stored["input/table"], grid, (rows, columns), prefix=1, mode=mode
        )
        torch.testing.assert_close(got, stored[name], atol=1e-6, rtol=0)


def test_stored_kernels(golden_dir: Path) -> None:
    stored = load_file(golden_dir / "posembed" / "resize_patch_kernel.safetensors")
    for name in (name for name in stored if name.startswith("output/")):
        rows, columns = map(int, re.findall(r"\d+", name))
        got = resize_patch_kernel(stored["input/kernel"], (rows, columns))
        torch.testing.assert_close(got, stored[name], atol=5e-5, rtol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_prefix_is_copied_constants_stay_and_axes_keep_their_order(mode: str) -> None:
    old, new = (5, 7), (11, 3)
    ramp = torch.arange(5.0)[:, None].expand(old).reshape(1, -1, 1)
    table = torch.cat(
        [torch.full((1, 2, 2), 9.0), torch.cat([ramp, torch.ones(1, 35, 1)], dim=2)], dim=1
    )
    got = resize_position_table(table, old, new, prefix=2, mode=mode)
    assert got.shape == (1, 2 + 33, 2) and torch.equal(got[:, :2], table[:, :2])
    body = got[0, 2:].unflatten(0, new)
    torch.testing.assert_close(body[..., 1], torch.ones(new))
    assert (body[1:, :, 0] >= body[:-1, :, 0] - 1e-5).all()  # rows ascend, columns agree
    torch.testing.assert_close(body[:, :1, 0].expand(new), body[..., 0])


def test_modes_differ_and_half_is_computed_in_float() -> None:
    table = torch.randn(1, 1 + 49, 3)
    results = [resize_position_table(table, (7, 7), (5, 4), prefix=1, mode=mode) for mode in MODES]
    differing = [(a - b).abs().max() > 1e-3 for i, a in enumerate(results) for b in results[:i]]
    assert differing.count(False) == 1  # timm's way and that of DINOv2 with registers are one
    got = resize_position_table(table.bfloat16(), (7, 7), (5, 4), prefix=1)
    want = resize_position_table(table.bfloat16().float(), (7, 7), (5, 4), prefix=1)
    assert got.dtype == torch.bfloat16 and torch.equal(got, want.bfloat16())


def test_wrong_tables_and_modes_are_named() -> None:
    with pytest.raises(ValueError, match="bicubic-ish"):
        resize_position_table(torch.zeros(1, 5, 2), (2, 2), (3, 3), prefix=1, mode="bicubic-ish")
    with pytest.raises(ValueError, match=r"shape \[1, 5, D\], got \[1, 4, 2\]"):
        resize_position_table(torch.zeros(1, 4, 2), (2, 2), (3, 3), prefix=1)


def test_a_resized_kernel_sees_a_resized_patch_as_before() -> None:
    kernel, patch = torch.randn(4, 3, 5, 7), torch.randn(1, 3, 5, 7)
    larger = F.interpolate(patch, size=(11, 13), mode="bicubic", antialias=True)
    got = (resize_patch_kernel(kernel, (11, 13)) * larger).sum((1, 2, 3))
    torch.testing.assert_close(got, (kernel * patch).sum((1, 2, 3)), atol=1e-3, rtol=1e-3)
    assert resize_patch_kernel(kernel, (5, 7)) is kernel
