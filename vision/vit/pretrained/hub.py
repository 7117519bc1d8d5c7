"""Folders in the Hugging Face hub's layout: config.json beside weights, written by timm or by transformers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from isoform.core.config.schema import BackboneConfig
from isoform.core.errors import UserError
from isoform.core.pretrained import Layout, hub, ignore, join, rename
from isoform.core.pretrained.settings import plain
from isoform.core.pretrained.source import Source
from isoform.vision.vit.pretrained.foreign_model import INCEPTION, Fields, ForeignModel
from isoform.vision.vit.pretrained.timm_source import create, from_timm

ACTIVATIONS = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "quick_gelu": "quick_gelu",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


def from_folder(source: Source) -> ForeignModel:
    """The model in a folder with config.json. Raises UserError for one that isn't a ViT of timm or transformers."""
    if "architecture" in source.config:
        return _from_timm(source)
    kind = source.config.get("model_type")
    if kind != "vit":
        raise UserError(
            f"{source.text}: config.json names no timm architecture, and its model type {kind!r} is not 'vit'"
        )
    return _from_transformers(source)


def _from_timm(source: Source) -> ForeignModel:
    config = source.config
    name, kwargs = str(config["architecture"]), dict(config.get("model_args") or {})
    if "num_classes" in config:
        kwargs.setdefault("num_classes", int(config["num_classes"]))
    cfg = dict(config.get("pretrained_cfg") or {})
    if config.get("label_names"):
        cfg["label_names"] = config["label_names"]
    if source.licence != "unknown":
        cfg["license"] = source.licence
    foreign = from_timm(name, state=source.state, kwargs=kwargs, cfg=cfg)
    pool = config.get("global_pool")
    if pool is not None and pool != create(name, meta=True, **kwargs).global_pool:
        raise UserError(
            f"{source.text}: config.json says global_pool = {pool!r} and its model_args build another model"
        )
    return foreign


def transformers_layout(backbone: BackboneConfig) -> Layout:
    """Rules for ViTForImageClassification (ViTModel has the same names without `vit.`)."""
    theirs, ours = "vit.encoder.layer.{i}", "backbone.blocks.{i}"
    projections = [f"{theirs}.attention.attention.{n}.{{p}}" for n in ("query", "key", "value")]
    rules = (
        rename("vit.embeddings.cls_token", "tokeniser.class_token"),
        rename("vit.embeddings.position_embeddings", "tokeniser.position"),
        rename("vit.embeddings.patch_embeddings.projection.{p}", "tokeniser.patch.{p}"),
        join(projections, f"{ours}.mixer.inner.qkv.{{p}}"),
        rename(f"{theirs}.attention.output.dense.{{p}}", f"{ours}.mixer.inner.proj.{{p}}"),
        rename(f"{theirs}.layernorm_before.{{p}}", f"{ours}.mixer.norm.{{p}}"),
        rename(f"{theirs}.layernorm_after.{{p}}", f"{ours}.channel.norm.{{p}}"),
        rename(f"{theirs}.intermediate.dense.{{p}}", f"{ours}.channel.inner.fc1.{{p}}"),
        rename(f"{theirs}.output.dense.{{p}}", f"{ours}.channel.inner.fc2.{{p}}"),
        rename("vit.layernorm.{p}", "backbone.norm.{p}"),
        rename("classifier.{p}", "head.linear.{p}"),
        ignore("vit.pooler.{*}", "the pooler of pretraining"),
        ignore("vit.embeddings.mask_token", "the mask token of pretraining"),
    )
    return Layout("transformers", rules)


def _from_transformers(source: Source) -> ForeignModel:
    state, config = source.state, source.config
    if "embeddings.cls_token" in state:
        state = {f"vit.{name}": tensor for name, tensor in state.items()}
    activation = str(config.get("hidden_act", "gelu"))
    if activation not in ACTIVATIONS:
        raise UserError(f"{source.text}: isoform's ViT has no activation {activation!r}")
    labels = config.get("id2label") or {}
    classes = tuple(str(labels[key]) for key in sorted(labels, key=int))
    dropout = float(config.get("hidden_dropout_prob", 0.0))
    tokeniser: Fields = {
        "image": plain(config.get("image_size", 224)),
        "patch": plain(config.get("patch_size", 16)),
        "channels": config.get("num_channels", 3),
        "position_resize": "mae",
        "dropout": dropout,
    }
    backbone: Fields = {
        "dim": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "mlp_dim": config["intermediate_size"],
        "eps": float(config.get("layer_norm_eps", 1e-12)),
        "channel": ACTIVATIONS[activation],
        "qkv_bias": bool(config.get("qkv_bias", True)),
        "dropout": dropout,
        "attention_dropout": float(config.get("attention_probs_dropout_prob", 0.0)),
    }
    outputs = state["classifier.bias"].shape[0] if "classifier.bias" in state else 0
    return ForeignModel(
        layout="transformers",
        rules=transformers_layout,
        state=state,
        known={
            "tokeniser": tokeniser,
            "backbone": backbone,
            "head": {"pool": "class", "outputs": outputs},
        },
        preprocessing=_preprocessing(source),
        licence=source.licence,
        classes=classes if len(classes) == outputs else (),
    )


def _preprocessing(source: Source) -> Fields:
    fields: Fields = {**INCEPTION, "crop_pct": 1.0, "resize": "squash", "interpolation": "bilinear"}
    path = None if source.folder is None else source.folder / "preprocessor_config.json"
    if path is None or not path.is_file():
        return fields
    prepared = hub.read_json(path, source.text)
    for key in ("mean", "std"):
        fields[key] = tuple(map(float, prepared.get(f"image_{key}", INCEPTION[key])))
    if prepared.get("resample") == 3:
        fields["interpolation"] = "bicubic"
    return fields | _geometry(prepared)


def _geometry(prepared: Mapping[str, Any]) -> Fields:
    """How an image comes to the model's size: both sides at once or the shorter one, then its centre where asked."""
    size, crop = prepared.get("size"), prepared.get("crop_size")
    sides = size if isinstance(size, Mapping) else {"height": size}
    centre = crop.get("height") if isinstance(crop, Mapping) else crop
    edge = sides.get("shortest_edge") or sides.get("height")
    found: Fields = {"resize": "crop" if "shortest_edge" in sides else "squash"}
    if prepared.get("do_center_crop") and edge and centre:
        found["crop_pct"] = min(1.0, float(centre) / float(edge))
    return found
