"""Starting from other weights: foreign checkpoints, and tables and kernels of another size."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.engine import warm_start
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.vit.resize import change_channels, resize_patch_kernel, resize_position_table


def initial_weights(source: str, config: VisionApp) -> InitialWeights:
    """A run folder, a file in isoform's names, or whatever `isoform vision import` reads (timm:NAME, a checkpoint)."""
    path = Path(source)
    if path.is_dir():
        return warm_start.read(source)
    if path.suffix == ".safetensors" and path.is_file():
        found = warm_start.read(source)
        if any(name.startswith("backbone.") for name in found.weights):
            return found
    imported = foreign(source)
    name = source if ":" in source else path.name  # never a path of this machine
    return InitialWeights(imported.weights, name, config.domain, imported.licence)


@functools.lru_cache(maxsize=1)
def foreign(source: str) -> ImportedModel:
    """What `isoform vision import` reads, with trained weights; kept, as settling an app asks before training does."""
    from isoform.vision.vit.pretrained import import_checkpoint

    return import_checkpoint(source, pretrained=True)


def adapt_weights(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The position table carried to the model's grid, the patch kernel to its patch size and channels.

    Raises UserError for a table whose grid was not square, as its shape is not known then.
    """
    want = model.state_dict()
    found = dict(weights)
    tokeniser = getattr(model, "tokeniser", None)
    name = "tokeniser.position"
    if tokeniser is not None and name in found and name in want and found[name].shape[1] != want[name].shape[1]:
        if name not in dict(model.named_parameters()):
            del found[name]  # computed, not learned: the model has its own
        else:
            prefix = tokeniser.prefix if tokeniser.config.position_prefix else 0
            side = math.isqrt(max(found[name].shape[1] - prefix, 0))
            if side * side != found[name].shape[1] - prefix:
                raise UserError(
                    f"the initial position table has {found[name].shape[1]} rows, which is no square grid and "
                    f"{prefix} special token(s): set tokeniser.class_token and tokeniser.registers as in its model"
                )
            mode = tokeniser.config.position_resize
            found[name] = resize_position_table(found[name], (side, side), tokeniser.grid, prefix=prefix, mode=mode)
    name = "tokeniser.patch.weight"
    if name in found and name in want and found[name].dim() == 4:
        kernel = change_channels(found[name], want[name].shape[1])
        height, width = want[name].shape[2:]
        found[name] = resize_patch_kernel(kernel, (height, width))
    return found
