"""Folders in the Hugging Face hub's layout: config.json beside weights, written by timm or by transformers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from isoform.core.domain import UserError
from isoform.core.pretrained import Layout, ignore, join, rename, state_dict_of
from isoform.core.restricted import read_checkpoint
from isoform.core.schema import BackboneConfig
from isoform.vision.vit.pretrained.found import INCEPTION, Fields, Found
from isoform.vision.vit.pretrained.timm_source import create, from_timm

NAME = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?")
WEIGHTS = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin")
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
               "relu": "relu", "silu": "silu", "swish": "silu"}  # fmt: skip
JSON_LIMIT = 16 << 20  # bytes


def from_hub(name: str) -> Found:
    """OWNER/NAME or OWNER/NAME@REVISION, from the local cache or the hub. Raises UserError where it can't be had."""
    found = NAME.fullmatch(name)
    if found is None or ".." in name:
        raise UserError(f"hf:{name}: write hf:OWNER/NAME or hf:OWNER/NAME@REVISION")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise UserError("huggingface_hub is not installed: pip install 'isoform[pretrained]'") from error
    patterns = [
        "config.json",
        "preprocessor_config.json",
        "README.md",
        "*.safetensors",
        "*.index.json",
        "pytorch_model.bin",
    ]
    try:
        folder = snapshot_download(found["repo"], revision=found["revision"], allow_patterns=patterns)
    except Exception as error:  # the client raises of every kind, from offline mode to HTTP
        raise UserError(f"hf:{name}: can't be fetched ({str(error).splitlines()[0]})") from error
    return from_folder(Path(folder), f"hf:{name}")


def from_folder(folder: Path, where: str) -> Found:
    """The model in a folder with config.json. Raises UserError for one that isn't a ViT of timm or transformers."""
    config = _json(folder / "config.json", where)
    licence = _licence(folder)
    if "architecture" in config:
        return _from_timm(config, folder, where, licence)
    kind = config.get("model_type")
    if kind != "vit":
        raise UserError(f"{where}: config.json names no timm architecture, and its model type {kind!r} is not 'vit'")
    return _from_transformers(config, folder, where, licence)


def _json(path: Path, where: str) -> dict[str, Any]:
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise UserError(f"{where}: {path.name} is larger than {JSON_LIMIT >> 20} MiB")
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{where}: {path.name} can't be read ({error.strerror})") from error
    except ValueError as error:
        raise UserError(f"{where}: {path.name} is not valid JSON ({error})") from error
    if not isinstance(found, dict):
        raise UserError(f"{where}: {path.name} does not hold an object")
    return found


def _weights(folder: Path, where: str) -> dict[str, Tensor]:
    for name in WEIGHTS:
        if (folder / name).is_file():
            return state_dict_of(read_checkpoint(folder / name), "state_dict", where=f"{where}: {name}")
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise UserError(f"{where}: has none of {', '.join(WEIGHTS)}")
    shards = sorted(set(map(str, _json(index, where).get("weight_map", {}).values())))
    if any(Path(shard).name != shard for shard in shards):
        raise UserError(f"{where}: {index.name} names files outside its folder")
    return {name: t for shard in shards for name, t in state_dict_of(read_checkpoint(folder / shard)).items()}


def _licence(folder: Path) -> str:
    card = folder / "README.md"
    if not card.is_file() or card.stat().st_size > JSON_LIMIT:
        return "unknown"
    found = re.search(r"\A---\n(?:.*\n)*?license:\s*(\S+)", card.read_text(encoding="utf-8", errors="replace"))
    return found[1] if found else "unknown"


def _from_timm(config: Mapping[str, Any], folder: Path, where: str, licence: str) -> Found:
    name, kwargs = str(config["architecture"]), dict(config.get("model_args") or {})
    if "num_classes" in config:
        kwargs.setdefault("num_classes", int(config["num_classes"]))
    cfg = dict(config.get("pretrained_cfg") or {})
    if config.get("label_names"):
        cfg["label_names"] = config["label_names"]
    if licence != "unknown":
        cfg["license"] = licence
    found = from_timm(name, state=_weights(folder, where), kwargs=kwargs, cfg=cfg)
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
    state = _weights(folder, where)
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
    found = _json(path, where)
    return {
        "mean": tuple(map(float, found.get("image_mean", INCEPTION["mean"]))),
        "std": tuple(map(float, found.get("image_std", INCEPTION["std"]))),
        "crop_pct": 1.0, "resize": "squash", "interpolation": "bicubic" if found.get("resample") == 3 else "bilinear",
    }  # fmt: skip
