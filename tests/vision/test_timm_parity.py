"""Every ViT that timm registers beside ours, live: equal logits, a bitwise way back, or a refusal that says why.

Two blocks (timm forwards `depth`), an image of 2 x 3 patches, and random norms, biases, scales and tokens, so that a
forgotten or swapped term shows. Matrices of both models are views of one random buffer, which keeps the widest cheap.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("timm")

from isoform.vision.vit import coverage
from isoform.vision.vit.model import ViT, build_vit
from isoform.vision.vit.pretrained.timm_tables import Architecture

PAGE = coverage.parse((Path(__file__).parents[2] / "docs" / "timm.md").read_text(encoding="utf-8"))
NAMES = {name: module for module in coverage.MODULES for name in coverage.names(module)}
SMALL = 30_000_000
MATRICES = 0.03 * torch.randn(53_000_017, generator=torch.Generator().manual_seed(0))
VECTORS = MATRICES[:3_000_017] / 0.03


def fill(model: Any) -> None:
    """Memory and values for a timm model on the meta device."""
    for number, (name, parameter) in enumerate(model.named_parameters()):
        start, size, shape = number * 7919 % 99_991, parameter.numel(), parameter.shape
        if parameter.dim() > 1 and not name.endswith(("token", "pos_embed", "latent", "freqs")):
            values = MATRICES[start : start + size].view(shape)
        elif name.endswith(("weight", "gamma", "gamma_1", "gamma_2")):
            values = 1 + 0.3 * VECTORS[start : start + size].view(shape)
        else:
            values = 0.5 * VECTORS[start : start + size].view(shape)
        owner, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(owner), leaf, nn.Parameter(values, requires_grad=False))
    for module in model.modules():
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.empty_like(buffer, device="cpu"))
        if hasattr(module, "_init_buffers"):
            module._init_buffers()


def pair(theirs: Any, found: Architecture) -> tuple[ViT, dict[str, Tensor]]:
    """Our model with the weights of theirs, and theirs as our layout writes them back."""
    with torch.device("meta"):
        ours = build_vit(found.tokeniser, found.backbone, found.head)
    layout = found.names.layout(found.backbone)
    ours.load_state_dict(layout.read(theirs.state_dict(), ours.state_dict()).weights, assign=True)
    return ours.eval(), layout.write(ours.state_dict())


def compare(theirs: Any, found: Architecture) -> None:
    """Logits within 1e-5, large ones within 2e-6 of the largest, and every weight back in its place, bit for bit."""
    fill(theirs.eval())
    ours, back = pair(theirs, found)
    height, width = theirs.patch_embed.img_size
    images = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        want, got = theirs(images), ours(images)
    assert want.std() > 0.05 and not torch.allclose(
        want[0], want[1], atol=1e-3
    )  # the logits say something
    assert (got - want).abs().max() <= max(1e-5, 2e-6 * float(want.abs().max()))
    state = theirs.state_dict()
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def image_of(name: str) -> tuple[int, int]:
    """2 x 3 patches."""
    found = re.search(r"patch(\d+)", name)
    side = int(found[1]) if found else 16
    return 2 * side, 3 * side


@pytest.mark.parametrize("name", NAMES)
def test_two_blocks_and_all_of_a_small_model(name: str) -> None:
    settings = {"num_classes": 7, "img_size": image_of(name)}
    model = coverage.two_blocks(name, **settings)
    state, found = coverage.state(model)
    assert state == PAGE[name]
    if found is None:
        return
    compare(model, found)
    if found.backbone.dim <= 512:  # wider ones have more parameters than that at their depth
        whole = coverage.meta_model(name, **settings)
        if sum(parameter.numel() for parameter in whole.parameters()) < SMALL:
            found = coverage.state(whole)[1]
            assert found is not None
            compare(whole, found)


def test_the_page_lists_every_name() -> None:
    assert list(PAGE) == list(NAMES)


def test_most_of_vision_transformer_matches() -> None:
    for module, share in (("vision_transformer", 0.85), ("eva", 0.85)):
        states = [PAGE[name] for name, where in NAMES.items() if where == module]
        assert states.count("matches") >= share * len(states)


def test_the_comparison_sees_a_wrong_activation() -> None:
    model = coverage.two_blocks("vit_tiny_patch16_224", num_classes=7, img_size=(32, 48))
    _, found = coverage.state(model)
    assert found is not None
    wrong = found.backbone.model_copy(update={"channel": "gelu_tanh"})
    with pytest.raises(AssertionError):
        compare(model, Architecture(found.tokeniser, wrong, found.head, found.names))
