"""Adapters of the point cloud kinds: a case in, an assertion out; `tmp_path` takes checkpoints for the importer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from checks import assert_same_bits
from golden.cases import Case
from isoform.core.config.schema import BackboneConfig
from isoform.core.domain import ImportedModel
from isoform.pointcloud.config import (
    PartConfig,
    PatchConfig,
    PointcloudApp,
    PointHeadConfig,
)
from isoform.pointcloud.losses import cloud_loss, part_loss, reconstruction_loss
from isoform.pointcloud.ops import (
    chamfer_l1,
    chamfer_l2,
    knn_points,
    sample_farthest_points,
)
from isoform.pointcloud.pointmae.model import PointClassifier, build_model
from isoform.pointcloud.pointmae.patches import cut_into_patches
from isoform.pointcloud.pointmae.pretrained import export_official, import_checkpoint

FILE = {  # kind -> as its official trainer saves the state dict
    "pointmae-partseg": lambda state: {"model_state_dict": state, "epoch": 3},
}


def operations(case: Case, tmp_path: Path) -> None:
    """Farthest points, neighbours, Chamfer distances and their gradients, by every implementation."""
    config, xyz = case.config, case.input["xyz"]
    for impl in ("reference", "compiled"):
        rule = {"origin_rule": config["origin_skip_sq"], "impl": impl}
        centres, chosen = sample_farthest_points(xyz, K=config["num_group"], **rule)
        near = knn_points(centres, xyz, K=config["group_size"], return_nn=True, impl=impl)
        a, b = (case.input[f"chamfer_{name}"].requires_grad_() for name in "ab")
        there, back = knn_points(a, b, impl=impl), knn_points(b, a, impl=impl)
        output = {
            "fps_idx": chosen,
            "fps_idx_no_origin_skip": sample_farthest_points(xyz, K=config["num_group"], impl=impl)[
                1
            ],
            "centers": centres,
            "knn_idx": near.idx,
            "neighborhood": near.knn - centres[:, :, None],
            "chamfer_dist_ab": there.dists[..., 0],
            "chamfer_idx_ab": there.idx[..., 0],
            "chamfer_dist_ba": back.dists[..., 0],
            "chamfer_idx_ba": back.idx[..., 0],
        }
        grad = {}
        for name, distance in (("chamfer_l1", chamfer_l1), ("chamfer_l2", chamfer_l2)):
            output[name] = distance(a, b, impl=impl)
            grad[f"{name}/a"], grad[f"{name}/b"] = torch.autograd.grad(output[name], (a, b))
        if "tie_xyz" in case.input:
            grid, count = case.input["tie_xyz"], case.output["tie_fps_idx"].shape[1]
            for name, ties in (("tie_fps_idx", "cuda"), ("tie_fps_idx_lowest_index", "lowest")):
                output[name] = sample_farthest_points(grid, K=count, ties=ties, **rule)[1]
        case.compare(output=output, grad=grad)


def settings(case: Case) -> PointcloudApp:
    """The case's hyper-parameters under our names: those that no tensor tells."""
    config = case.config
    tables: dict[str, Any] = {
        "tokeniser": PatchConfig(groups=config["num_group"], group_size=config["group_size"]),
        "backbone": BackboneConfig(heads=config["num_heads"]),
    }
    if "decoder_num_heads" in config:
        tables["decoder"] = BackboneConfig(heads=config["decoder_num_heads"])
    if "fetch_blocks" in config:
        tables["parts"] = PartConfig(blocks=tuple(config["fetch_blocks"]))
    if "cls_dim" in config and "fetch_blocks" not in config:
        tables["head"] = PointHeadConfig(outputs=config["cls_dim"])
    return PointcloudApp(domain="pointcloud", app="imported", **tables)


def recipe(case: Case) -> dict[str, Tensor]:
    """The weights of a case that stores only how they were drawn: see the README beside the cases."""
    config = PointcloudApp(
        domain="pointcloud",
        app="drawn",
        head=PointHeadConfig(outputs=case.config["cls_dim"]),
    )
    with torch.device("meta"):
        own = {name: torch.empty(t.shape) for name, t in build_model(config).state_dict().items()}
        names = export_official(config, own, layout="pointmae")
    weights = {}
    for i, name in enumerate(sorted(names)):
        rng = np.random.RandomState(case.json["seed"] + i)
        weights[name] = drawn(rng, name, tuple(names[name].shape))
    return weights


SMALL = ("second_conv.3.weight", "second_conv.3.bias", "pos_embed.2.weight", "pos_embed.2.bias")


def drawn(rng: np.random.RandomState, name: str, shape: tuple[int, ...]) -> Tensor:
    """One tensor of the recipe."""
    n = int(np.prod(shape))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(7)
    if name.endswith("running_var"):
        values = 0.5 + rng.random_sample(n)
    elif name.endswith(("running_mean", ".bias")):
        values = 0.1 * rng.standard_normal(n)
    elif len(shape) == 1:
        values = 0.5 + rng.random_sample(n)
    elif name.endswith("weight"):
        values = rng.standard_normal(n) / np.sqrt(np.prod(shape[1:]))
    else:
        values = 0.3 * rng.standard_normal(n)
    found = values.reshape(shape).astype(np.float32)
    if name.endswith((*SMALL, "cls_token", "cls_pos", "mask_token")):
        found = found * np.float32(0.05)
    return torch.from_numpy(found)


def imported(case: Case, tmp_path: Path) -> tuple[ImportedModel, nn.Module]:
    """The model from a file in the official form, after its weights came back bit for bit."""
    weights = case.weights or recipe(case)
    for name, first in case.json.get("weights_check", {}).items():
        assert weights[name].flatten()[: len(first)].tolist() == torch.tensor(first).tolist(), name
    file = tmp_path / "checkpoint.pth"
    form = FILE.get(
        case.kind,
        lambda state: {
            "base_model": {f"module.{name}": t for name, t in state.items()},
            "epoch": 3,
        },
    )
    torch.save(form(weights), file)
    found = import_checkpoint(file, None, settings(case))
    assert_same_bits(export_official(found.config, found.weights, found.state), weights)
    model = build_model(found.config)
    model.load_state_dict(dict(found.weights))
    return found, model.eval()


def gradients(found: ImportedModel, model: nn.Module) -> dict[str, Tensor]:
    """Of all parameters, under official names."""
    known = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    grads = {n: known.get(n, torch.zeros_like(t)) for n, t in model.state_dict().items()}
    return export_official(found.config, grads, found.state)


def classifier(case: Case, tmp_path: Path) -> None:
    """Patch tokens, states, features, logits, loss and gradients of either classifier."""
    found, model = imported(case, tmp_path)
    xyz = case.input["xyz"]
    patches = cut_into_patches(xyz, found.config.tokeniser)
    states = model.states(xyz)
    logits = model(xyz)
    smoothing = case.config.get("label_smoothing", 0.0)
    loss = cloud_loss(logits, case.input["label"], smoothing)
    loss.backward()
    output = {
        "group_tokens": model.tokeniser.encoder(patches.points),
        "tokens": states.x,
        "feature": model.features(xyz),
        "logits": logits,
        "loss": loss,
        "loss_smoothed": loss,
    }
    case.compare(output=output, grad=gradients(found, model))


def pretraining(case: Case, tmp_path: Path) -> None:
    """Every stage of the masked autoencoder, its loss and gradients, and its encoder inside the classifier."""
    found, model = imported(case, tmp_path)
    xyz, mask = case.input["xyz"], case.input["mask"].bool()
    patches = cut_into_patches(xyz, found.config.tokeniser)
    made = model.draw_masked(patches, mask)
    loss = reconstruction_loss(made, case.config["loss"])
    loss.backward()
    output = {
        "centers": patches.centres,
        "group_tokens": model.tokeniser.encoder(patches.points),
        "encoder_visible": made.visible,
        "decoder_masked": made.masked,
        "reconstruction": made.points.flatten(0, 1),
        "target": made.target.flatten(0, 1),
        "loss": loss,
        "finetune_feature": feature(case, found, model),
    }
    case.compare(output=output, grad=gradients(found, model))


def feature(case: Case, found: ImportedModel, model: nn.Module) -> Tensor:
    """[B, 2 D] in front of the head of a classifier that starts from the pretrained encoder."""
    tokeniser = found.config.tokeniser.model_copy(update={"class_token": True})
    fine = PointClassifier(found.config.model_copy(update={"tokeniser": tokeniser})).eval()
    start: Mapping[str, Tensor] = {
        name: t for name, t in model.state_dict().items() if name.startswith(("token", "backbone"))
    }
    token = {
        "tokeniser.class_token": case.input["finetune_cls_token"],
        "tokeniser.class_place": case.input["finetune_cls_pos"],
    }
    missing, unexpected = fine.load_state_dict({**start, **token}, strict=False)
    assert not unexpected and all(name.startswith("head.") for name in missing)
    return fine.features(case.input["xyz"])


def parts(case: Case, tmp_path: Path) -> None:
    """Three levels, propagated features, log-probabilities, loss and gradients."""
    found, model = imported(case, tmp_path)
    xyz, shape = case.input["xyz"], case.input["class_one_hot"].float()
    patches, levels = model.levels(xyz)
    propagated = model.propagation(xyz, patches.centres, levels)
    logits = model(xyz, shape)
    loss = part_loss(logits, case.input["label"])
    loss.backward()
    dim = found.config.backbone.dim
    split = [part.transpose(1, 2) for part in levels.split(dim, 2)]
    output = {
        "group_tokens": model.tokeniser.encoder(patches.points),
        "three_level_tokens": torch.cat(split, 1),
        "propagated": propagated.transpose(1, 2),
        "log_prob": logits.log_softmax(2),
        "loss": loss,
    }
    case.compare(output=output, grad=gradients(found, model))


KINDS = {
    "point-ops": operations,
    "pointmae-classifier": classifier,
    "pointbert-classifier": classifier,
    "pointmae-pretrain": pretraining,
    "pointmae-partseg": parts,
}
