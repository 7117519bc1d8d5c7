"""Adapters of the vision kinds: a case in, an assertion out; `tmp_path` is where checkpoints for the importer go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from checks import assert_same_bits
from golden.cases import Case
from golden.losses import of_model, vision_loss
from golden.official_settings import mae_settings
from isoform.core.domain import ImportedModel
from isoform.vision import DOMAIN
from isoform.vision.vit.model import ViT
from isoform.vision.vit.pretrained import export_official, import_checkpoint, layout_of
from isoform.vision.vit.resize import resize_patch_kernel, resize_position_table


def size_of(name: str) -> tuple[int, int]:
    """(9, 8) of "grid_9x8"."""
    rows, columns = name.rpartition("_")[2].split("x")
    return int(rows), int(columns)


def resize_table(mode_of: Callable[[str], str]) -> Callable[[Case, Path], None]:
    """A position table carried to every stored grid."""

    def run(case: Case, tmp_path: Path) -> None:
        table = case.input["table"]
        old = tuple(case.config["old_grid"])
        prefix = case.config.get("num_prefix_tokens", 1)
        got: dict[str, Tensor] = {}
        for name in case.output:
            got[name] = resize_position_table(
                table, old, size_of(name), prefix=prefix, mode=mode_of(name)
            )
        case.compare(output=got)

    return run


def resize_kernel(case: Case, tmp_path: Path) -> None:
    """A patch kernel carried to every stored patch size."""
    case.compare(
        output={
            name: resize_patch_kernel(case.input["kernel"], size_of(name)) for name in case.output
        }
    )


def rebuilt(imported: ImportedModel, case: Case) -> ViT:
    """The imported model, after its weights came back from export bit for bit."""
    exported = export_official(imported.config, imported.weights, imported.state)
    assert_same_bits({name: exported[name] for name in case.weights}, case.weights)
    model: ViT = DOMAIN.build_from_run(imported.config, imported.state)
    model.load_state_dict(dict(imported.weights))
    return model.eval()


def mae_finetune(case: Case, tmp_path: Path) -> None:
    """MAE's fine-tuned ViT from a file as its trainer saves it, {"model": weights}."""
    file = tmp_path / "checkpoint.pth"
    torch.save({"model": case.weights}, file)
    imported = import_checkpoint(file, "mae", mae_settings(of_model(case)))
    model = rebuilt(imported, case)
    logits = model(case.input["image"])
    loss = vision_loss(case, imported.config, model)
    loss.backward()
    grads = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    foreign = layout_of(imported.config, "mae", imported.state).write(grads, check_zeros=False)
    output = {"feature": model.features(case.input["image"]), "logits": logits, "loss": loss}
    case.compare(output=output, grad=foreign)


def timm_model(case: Case, tmp_path: Path) -> None:
    """A state dict in timm's names, and timm's architecture by name."""
    file = tmp_path / "model.safetensors"
    save_file(case.weights, file)
    imported = import_checkpoint(
        file, f"timm:{case.config['name']}", kwargs=case.config.get("kwargs", {})
    )
    with torch.inference_mode():
        case.compare(output={"logits": rebuilt(imported, case)(case.input["images"])})


KINDS = {
    "mae-finetune": mae_finetune,
    "timm": timm_model,
    "resize-timm": resize_table(lambda name: "timm"),
    "resize-mae": resize_table(lambda name: "mae"),
    "resize-dinov2": resize_table(
        lambda name: "dinov2" if "offset01" in name else "dinov2_registers"
    ),
    "resize-patch-kernel": resize_kernel,
}
