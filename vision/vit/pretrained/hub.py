"""Folders in the Hugging Face hub's layout: config.json beside weights, written by timm or by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, hub, ignore, join, rename
from isoform.vision.vit.pretrained.found import INCEPTION, Fields, Found
from isoform.vision.vit.pretrained.timm_source import create, from_timm

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
               "relu": "relu", "silu": "silu", "swish": "silu"}  # fmt: skip


def from_hub(name: str) -> Found:
    """OWNER/NAME or OWNER/NAME@REVISION, from the local cache or the hub. Raises UserError where it can't be had."""
    return from_folder(hub.fetch(name), f"hf:{name}")


def from_folder(folder: Path, where: str) -> Found:
    """The model in a folder with config.json. Raises UserError for one that isn't a ViT of timm or transformers."""
    config = hub.read_json(folder / "config.json", where)
    licence = hub.licence_of(folder)
    if "architecture" in config:
        return _from_timm(config, folder, where, licence)
    kind = config.get("model_type")
    if kind != "vit":
        raise UserError(f"{where}: config.json names no timm architecture, and its model type {kind!r} is not 'vit'")
    return _from_transformers(config, folder, where, licence)


def _from_timm(config: Mapping[str, Any], folder: Path, where: str, licence: str) -> Found:
    name, kwargs = str(config["architecture"]), dict(config.get("model_args") or {})
    if "num_classes" in config:
        kwargs.setdefault("num_classes", int(config["num_classes"]))
    cfg = dict(config.get("pretrained_cfg") or {})
    if config.get("label_names"):
        cfg["label_names"] = config["label_names"]
    if licence != "unknown":
        cfg["license"] = licence
    found = from_timm(name, state=hub.read_weights(folder, where), kwargs=kwargs, cfg=cfg)
    pool = config.get("global_pool")
    if pool is not None and pool != create(name, meta=True, **kwargs).global_pool:
        raise UserError(f"{where}: config.json says global_pool = {pool!r} and its model_args build another model")
    return found


def transformers_layout(backbone: BackboneConfig) -> Layout:
    """Rules for ViTForImageClassification (ViTModel has the same names without `vit.`)."""
    theirs, ours = "vit.encoder.layer.{i}", "backbone.blocks.{i}"
    return Layout("transformers", (
        rename("vit.embeddings.cls_token", "tokeniser.class_token"),
        rename("vit.embeddings.position_embeddings", "tokeniser.position"),
        rename("vit.embeddings.patch_embeddings.projection.{p}", "tokeniser.patch.{p}"),
        join([f"{theirs}.attention.attention.{n}.{{p}}" for n in ("query", "key", "value")],
             f"{ours}.mixer.inner.qkv.{{p}}"),
        rename(f"{theirs}.attention.output.dense.{{p}}", f"{ours}.mixer.inner.proj.{{p}}"),
        rename(f"{theirs}.layernorm_before.{{p}}", f"{ours}.mixer.norm.{{p}}"),
        rename(f"{theirs}.layernorm_after.{{p}}", f"{ours}.channel.norm.{{p}}"),
        rename(f"{theirs}.intermediate.dense.{{p}}", f"{ours}.channel.inner.fc1.{{p}}"),
        rename(f"{theirs}.output.dense.{{p}}", f"{ours}.channel.inner.fc2.{{p}}"),
        rename("vit.layernorm.{p}", "backbone.norm.{p}"),
        rename("classifier.{p}", "head.linear.{p}"),
        ignore("vit.pooler.{*}", "the pooler of pretraining"),
        ignore("vit.embeddings.mask_token", "the mask token of pretraining"),
    ))  # fmt: skip


def _from_transformers(config: Mapping[str, Any], folder: Path, where: str, licence: str) -> Found:
    state = hub.read_weights(folder, where)
    if "embeddings.cls_token" in state:
        state = {f"vit.{name}": tensor for name, tensor in state.items()}
    if str(config.get("hidden_act", "gelu")) not in ACTIVATIONS:
        raise UserError(f"{where}: isoform's ViT has no activation {config['hidden_act']!r}")
    labels = config.get("id2label") or {}
    classes = tuple(str(labels[key]) for key in sorted(labels, key=int))
    image, patch = config.get("image_size", 224), config.get("patch_size", 16)
    tokeniser: Fields = {
        "image": tuple(image) if isinstance(image, list) else image,
        "patch": tuple(patch) if isinstance(patch, list) else patch,
        "channels": config.get("num_channels", 3), "position_resize": "mae",
        "dropout": float(config.get("hidden_dropout_prob", 0.0)),
    }  # fmt: skip
    backbone: Fields = {
        "dim": config["hidden_size"], "depth": config["num_hidden_layers"], "heads": config["num_attention_heads"],
        "mlp_dim": config["intermediate_size"], "eps": float(config.get("layer_norm_eps", 1e-12)),
        "channel": ACTIVATIONS[str(config.get("hidden_act", "gelu"))], "qkv_bias": bool(config.get("qkv_bias", True)),
        "dropout": float(config.get("hidden_dropout_prob", 0.0)),
        "attention_dropout": float(config.get("attention_probs_dropout_prob", 0.0)),
    }  # fmt: skip
    outputs = state["classifier.bias"].shape[0] if "classifier.bias" in state else 0
    return Found(
        layout="transformers",
        rules=transformers_layout,
        state=state,
        known={"tokeniser": tokeniser, "backbone": backbone, "head": {"pool": "class", "outputs": outputs}},
        preprocessing=_preprocessing(folder, where),
        licence=licence,
        classes=classes if len(classes) == outputs else (),
    )


def _preprocessing(folder: Path, where: str) -> Fields:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return {**INCEPTION, "crop_pct": 1.0, "resize": "squash", "interpolation": "bilinear"}
    found = hub.read_json(path, where)
    return {
        "mean": tuple(map(float, found.get("image_mean", INCEPTION["mean"]))),
        "std": tuple(map(float, found.get("image_std", INCEPTION["std"]))),
        "crop_pct": 1.0, "resize": "squash", "interpolation": "bicubic" if found.get("resample") == 3 else "bilinear",
    }  # fmt: skip
