"""Starting from other weights: foreign checkpoints, and tables and kernels of another size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from isoform.core.domain import ImportedModel, InitialWeights
from isoform.core.errors import UserError
from isoform.vision.config import VisionApp
from isoform.vision.state import VisionState
from isoform.vision.vit.resize import change_channels, resize_patch_kernel, resize_position_table

Imported = ImportedModel[VisionApp, VisionState]


def import_initial(source: str) -> Imported:
    """Whatever `isoform vision import` reads (timm:NAME, a checkpoint), with trained weights."""
    from isoform.vision.vit.pretrained import import_checkpoint

    return import_checkpoint(source, pretrained=True)


def holds_own_names(path: Path) -> bool:
    """Whether a .safetensors file has isoform's names, which tell nothing of the model's other settings."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safe_open(path, "pt") as weights:
            return any(name.startswith("backbone.") for name in weights.keys())  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not a readable .safetensors file ({error})") from error


def initial_weights(imported: Imported, source: str) -> InitialWeights:
    """The weights of an imported model, as the engine loads them."""
    name = source if ":" in source else Path(source).name  # never a path of this machine
    return InitialWeights(imported.weights, name, imported.config.domain, imported.licence)


def adapt_weights(weights: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """The position table carried to the model's grid, the patch kernel to its patch size and channels.

    Raises UserError for a table whose grid was not square, as its shape is not known then.
    """
    want = model.state_dict()
    found = dict(weights)
    tokeniser = getattr(model, "tokeniser", None)
    name = "tokeniser.position"
    if (
        tokeniser is not None
        and name in found
        and name in want
        and found[name].shape[1] != want[name].shape[1]
    ):
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
            found[name] = resize_position_table(
                found[name], (side, side), tokeniser.grid, prefix=prefix, mode=mode
            )
    name = "tokeniser.patch.weight"
    if name in found and name in want and found[name].dim() == 4:
        kernel = change_channels(found[name], want[name].shape[1])
        height, width = want[name].shape[2:]
        found[name] = resize_patch_kernel(kernel, (height, width))
    return found
